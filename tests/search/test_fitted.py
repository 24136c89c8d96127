"""Times of layers out of times of bundles whose truth is known."""

import pytest
from generated_measurements import make_bundle, make_measurement, make_result, make_run
from search_subjects import subject_of

from firsttoken.backends.registry import find_backend, resolve
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.quant.plan import load_plan
from firsttoken.search.candidates import Candidate, candidates
from firsttoken.search.fitted import Observed, distinct, fit, from_files
from firsttoken.search.times import Shape
from firsttoken.targets.target import load_target

# nanoseconds for a weight: of a prompt of 64 tokens, of a token
TRUTH = {"int8": (2.0, 0.5), "fp16": (9.0, 1.0), "int4": (3.0, 0.3)}


def measured(subject, plan, length=64, wrong=1.0, **more):
    chosen = load_plan(plan)
    precisions = resolve(chosen, subject.decoder, load_target("tflite-xnnpack"))
    layers = [layer for layer in plan_layers(subject.decoder) if layer.kind == "linear"]
    sizes = {layer.name: layer.shape[0] * layer.shape[1] for layer in layers}
    prefill = sum(size * TRUTH[precisions[name]][0] / (length if name == "head" else 1) for name, size in sizes.items())
    decode = sum(size * TRUTH[precisions[name]][1] for name, size in sizes.items())
    runs = [
        make_run(length, prefill=int(prefill * factor * wrong), tokenize=0, sample=0, detokenize=0, decode=(10, int(10 * decode * factor)))
        for factor in (0.99, 1.0, 1.01)
    ]
    bundle = make_bundle(plan, fingerprint=subject.source.fingerprint(), **more)
    return make_measurement([make_result(bundle, runs)])


def written(tmp_path, *measurements):
    paths = []
    for number, one in enumerate(measurements):
        paths.append(tmp_path / f"{number}.measurement.json")
        one.write(paths[-1])
    return paths


def test_what_a_weight_takes_is_found_again(tiny_model, tmp_path):
    subject = subject_of(tiny_model)
    found = from_files(subject, written(tmp_path, *(measured(subject, plan) for plan in ("int8", "fp16", "int4"))), 128)
    assert found.prompt == 64
    for precision, group in (("int8", 64), ("fp16", 64), ("int4", 32)):
        time = found.time(Shape(100, 64, precision, group))
        assert time.prefill == pytest.approx(6400 * TRUTH[precision][0], rel=0.01)
        assert time.decode == pytest.approx(6400 * TRUTH[precision][1], rel=0.01)


def test_mixtures_tell_precisions_apart_too(tiny_model, tmp_path):
    subject = subject_of(tiny_model)
    found = from_files(subject, written(tmp_path, *(measured(subject, plan) for plan in ("int8", "fp16-attention", "int4-mlp"))), 64)
    assert found.time(Shape(1, 1000, "fp16", 1000)).prefill == pytest.approx(9000, rel=0.05)


def test_too_few_bundles_and_others(tiny_model, tmp_path):
    subject = subject_of(tiny_model)
    with pytest.raises(FirstTokenError, match="1 bundles .* do not tell apart what weights take in int8/row, fp16/row|fp16/row, int8/row"):
        from_files(subject, written(tmp_path, measured(subject, "fp16-attention")), 64)
    found = from_files(subject, written(tmp_path, measured(subject, "int8")), 64)
    with pytest.raises(FirstTokenError, match="no bundle has layers in int4 in groups of 32; measure one that has"):
        found.time(Shape(64, 64, "int4", 32))
    other = measured(subject, "int8")
    other.results[0].bundle.fingerprint = "0" * 64
    with pytest.raises(FirstTokenError, match="is a bundle of demo for tflite, expected one of this checkpoint for tflite"):
        from_files(subject, written(tmp_path, other), 64)
    with pytest.raises(FirstTokenError, match="no prompt length in common"):
        from_files(subject, written(tmp_path, measured(subject, "int8"), measured(subject, "fp16", 32)), 64)
    with pytest.raises(FirstTokenError, match="plan 'mine' is unknown"):
        renamed = measured(subject, "int8")
        renamed.results[0].bundle.plan = "mine"
        from_files(subject, written(tmp_path, renamed), 64)


def test_no_weight_takes_less_than_nothing():
    shapes = {"layers.0.mlp.up": Shape(10, 10, "int8", 10)}
    other = {"layers.0.mlp.up": Shape(10, 10, "fp16", 10)}
    mixed = {"layers.0.mlp.up": Shape(10, 10, "int8", 10), "layers.0.mlp.down": Shape(10, 10, "fp16", 10)}
    found = fit([Observed("a", shapes, 100, 10), Observed("b", other, 10, 10), Observed("c", mixed, 90, 20)], 8)
    assert all(time.prefill >= 0 and time.decode >= 0 for time in found.each.values())


def test_one_bundle_for_every_kind_that_has_a_time_of_its_own(tiny_model):
    decoder = open_decoder(Checkpoint(tiny_model))
    labels = [one.label for one in distinct(candidates(decoder, find_backend("tflite-xnnpack")))]
    assert labels == ["fp16", "int8", "int8 apart", "int4/32 gptq", "int4/row gptq"]
    assert Candidate("int8", "gptq").label not in labels
