"""From a plan with a method to files that hold its integers, on both runtimes, and a proof that notices where they do not."""

import hashlib
import re
import shutil

import numpy as np
import pytest
from families_on_disk import random_model, save
from lowering_jobs import lowering_job

from firsttoken.backends.executorch.quantize import read_quantized
from firsttoken.backends.tflite import weights as tflite_weights
from firsttoken.backends.tflite.model_file import ModelFile
from firsttoken.bundle.integer_facts import CalibrationFacts
from firsttoken.bundle.manifest import read_manifest
from firsttoken.calibration import integers as calibrated
from firsttoken.calibration.integers import chosen_layers, facts_of, with_integers
from firsttoken.calibration.rounded import RoundedCheckpoint
from firsttoken.calibration.text import BUILT_IN, CalibrationText, read_text, windows_of
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError, GateError
from firsttoken.pipeline import export
from firsttoken.prove.prove import prove
from firsttoken.quant.plan import load_plan

PLAN = """
summary = "{groups}"
group_size = {group}
[[rule]]
match = "layers.*.attention.core"
precision = "fp32"
[[rule]]
match = "layers.*.down"
precision = "int8"
method = "gptq"
[[rule]]
match = "layers.*"
precision = "int4"
method = "gptq"
[[rule]]
match = "{head}"
precision = "int4"
method = "gptq"
[[rule]]
match = "*"
precision = "int8"
[gate]
mean_kld = 5
p99_kld = 50
same_top = 0.01
magnitude = 0.5
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def plan_file(tmp_path, group=32, head="no such"):
    text = PLAN.format(groups=f"groups of {group}", group=group, head=head)
    if head == "no such":
        text = text.replace('[[rule]]\nmatch = "no such"\nprecision = "int4"\nmethod = "gptq"\n', "")
    path = tmp_path / "chosen.toml"
    path.write_text(text)
    return path


def rounded(folder, plan):
    checkpoint = Checkpoint(folder)
    decoder, chosen, text = open_decoder(checkpoint), load_plan(plan), read_text(None)
    job = lowering_job(checkpoint, chosen, "tflite-xnnpack")
    facts = facts_of(chosen, decoder, job.precisions, text)
    return with_integers(checkpoint, decoder, chosen, job.precisions, facts, text), decoder, job.precisions


def test_both_runtimes_store_the_integers_as_they_are(tiny_checkpoint, tmp_path):
    made, decoder, precisions = rounded(tiny_checkpoint, plan_file(tmp_path))
    assert isinstance(made, RoundedCheckpoint) and made.original.folder == tiny_checkpoint
    layers = {layer.name: layer for layer in plan_layers(decoder)}
    for name in ("layers.0.attention.k", "layers.1.mlp.gate", "layers.1.mlp.down"):
        source = layers[name].matrix[0]
        integers, scales = np.rint(made.rows(source).reshape(len(made.rows(source)), -1)), made.scales(source)
        assert scales.shape[1] == (1 if name.endswith("down") else layers[name].shape[1] // 32)
        grouped = integers * 0 + np.rint(made.rows(source).reshape(*scales.shape, -1) / scales[:, :, None]).reshape(integers.shape)
        values, kept = read_quantized(made, layers[name], precisions[name], 32 if precisions[name] == "int4" else None)
        assert np.array_equal(values.numpy(), grouped) and np.array_equal(kept.numpy(), scales)
        weight = tflite_weights.Weight(ModelFile("x"), made, layers[name], precisions[name], 32)
        stored = np.concatenate(list(weight._chunks()))
        if precisions[name] == "int4":
            halves = np.stack((stored & 15, stored >> 4), 2).reshape(grouped.shape).astype(np.int8)
            stored, kept = np.where(halves > 7, halves - 16, halves), weight.group_scales.astype(np.float32)
        else:
            kept = weight.scales[:, None]
        assert np.array_equal(stored, grouped) and np.array_equal(kept, scales), name


@pytest.mark.slow
def test_exported_proven_and_proven_again(tiny_checkpoint, tmp_path):
    said = []
    [folder] = export(tiny_checkpoint, tmp_path / "out", plan_file(tmp_path), witness=False, say=said.append)
    manifest = read_manifest(folder)
    assert manifest.cpu.proof.passed and manifest.cpu.proof.twin is not None
    assert manifest.calibration.sha256 == hashlib.sha256(BUILT_IN.read_bytes()).hexdigest()
    assert any("integers are chosen on firsttoken's calibration text" in line for line in said)
    again, _ = prove(folder, tiny_checkpoint)
    assert again.passed and again.all.mean_kld == manifest.cpu.proof.all.mean_kld
    shutil.rmtree(tmp_path / "cache")  # the built-in text is at hand: chosen anew, and the same
    anew, _ = prove(folder, tiny_checkpoint)
    assert anew.twin.mean_kld == again.twin.mean_kld


@pytest.mark.slow
def test_a_file_with_other_scales_than_the_plans_is_not_its_twin(tiny_checkpoint, tmp_path, monkeypatch):
    """As a converter does that rounds once more: every weight moves by up to half a step."""
    plain = tflite_weights.quantize_int4
    monkeypatch.setattr(tflite_weights, "quantize_int4", lambda rows, group, scales=None: plain(rows, group))
    with pytest.raises(GateError, match="not built as the plan says"):
        export(tiny_checkpoint, tmp_path / "out", plan_file(tmp_path), witness=False)


@pytest.mark.slow
def test_a_text_of_ones_own(tiny_checkpoint, tmp_path):
    text = tmp_path / "mine.txt"
    text.write_text("".join(f"The {n}th value is {n * n + 7}.\n" for n in range(900)))
    [folder] = export(tiny_checkpoint, tmp_path / "out", plan_file(tmp_path), witness=False, calibration=text)
    assert read_manifest(folder).calibration.text == "mine.txt"
    assert prove(folder, tiny_checkpoint)[0].passed  # what was chosen is kept
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(
        FirstTokenError,
        match="chosen on mine.txt .* no longer in the cache folder; give the same export again, with that text as --calibration",
    ):
        prove(folder, tiny_checkpoint)


def test_a_text_for_a_plan_without_a_method_is_refused(tiny_checkpoint, tmp_path):
    with pytest.raises(FirstTokenError, match="plan 'int8' chooses no integers on a text"):
        export(tiny_checkpoint, tmp_path / "out", "int8", calibration=BUILT_IN)


def test_the_proofs_text_is_refused_before_any_work(tiny_checkpoint, tmp_path):
    from firsttoken.demo import held_out_text

    mine = tmp_path / "mine.txt"
    mine.write_text(held_out_text())
    with pytest.raises(FirstTokenError, match="mine.txt: shares 13 words in a row with the demo checkpoint's held-out text"):
        export(tiny_checkpoint, tmp_path / "out", plan_file(tmp_path), calibration=mine)
    assert not (tmp_path / "out").exists() and not (tmp_path / "cache" / "firsttoken" / "integers").exists()


def test_a_head_that_is_the_embedding(tiny_checkpoint, tmp_path):
    tied = Checkpoint(tiny_checkpoint)
    plan = load_plan(plan_file(tmp_path, head="head"))
    precisions = {layer.name: "int4" for layer in plan_layers(open_decoder(tied))}
    with pytest.raises(FirstTokenError, match="the head of this model is the embedding's own table"):
        chosen_layers(plan, open_decoder(tied), precisions)


def test_a_head_of_its_own(tmp_path):
    folder = save(random_model("qwen2-untied", vocab_size=4096, max_position_embeddings=2048), tmp_path / "model")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        from firsttoken.demo import checkpoint_path

        shutil.copy(checkpoint_path() / file, folder / file)
    made, decoder, _ = rounded(folder, plan_file(tmp_path, head="head"))
    weight = made.original.matrix(decoder.head.weight)
    ours, nearest = made.rows(decoder.head.weight), np.abs(made.rows(decoder.head.weight) - weight)
    assert made.scales(decoder.head.weight).shape == (4096, 2) and ours.shape == weight.shape
    assert np.linalg.norm(nearest) < 0.2 * np.linalg.norm(weight)
    assert np.array_equal(made.rows(decoder.head.weight, 100, 140), ours[100:140])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('match = "embedding"\nprecision = "int8"\nmethod = "gptq"', "'embedding' is no linear layer"),
        ('match = "layers.*.core"\nprecision = "fp32"\nmethod = "gptq"', "'layers.0.attention.core' is no linear layer"),
        ('match = "layers.*.q"\nprecision = "fp16"\nmethod = "gptq"', "fp16 has no integers to choose"),
        ('match = "layers.*.q"\nprecision = "int8"\nmethod = "gtpq"', "rule.0.method is 'gtpq'.*did you mean 'gptq'"),
    ],
)
def test_rules_that_mean_nothing(rule, message, tiny_checkpoint, tmp_path):
    path = plan_file(tmp_path)
    path.write_text(path.read_text().replace("[[rule]]", f"[[rule]]\n{rule}\n[[rule]]", 1))
    with pytest.raises(FirstTokenError, match=message):
        export(tiny_checkpoint, tmp_path / "out", path)


def test_how_much_of_the_text_is_taken_decides_too(tiny_checkpoint, tmp_path, monkeypatch):
    checkpoint = Checkpoint(tiny_checkpoint)
    decoder, plan = open_decoder(checkpoint), load_plan(plan_file(tmp_path))
    facts = facts_of(plan, decoder, lowering_job(checkpoint, plan, "tflite-xnnpack").precisions, read_text(None))
    before = calibrated.folder_of(checkpoint, {"layers.0.mlp.up": (4, 32)}, facts)
    monkeypatch.setattr(calibrated, "TOKENS", 2048)
    assert calibrated.folder_of(checkpoint, {"layers.0.mlp.up": (4, 32)}, facts) != before


def test_the_text_decides_where_the_integers_are_kept(tiny_checkpoint, tmp_path):
    checkpoint, texts = Checkpoint(tiny_checkpoint), [read_text(None), CalibrationText("other", "x")]
    decoder, plan = open_decoder(checkpoint), load_plan(plan_file(tmp_path))
    job = lowering_job(checkpoint, plan, "tflite-xnnpack")
    wanted = {"layers.0.mlp.up": (4, 32)}
    folders = {calibrated.folder_of(checkpoint, wanted, facts_of(plan, decoder, job.precisions, text)) for text in texts}
    assert len(folders) == 2 and all(re.fullmatch("[0-9a-f]{32}", folder.name) for folder in folders)


def test_a_tokenizer_of_another_checkpoint_is_refused_before_any_work(tmp_path):
    from firsttoken.demo import checkpoint_path

    folder = save(random_model("qwen2", vocab_size=1024), tmp_path / "model")  # the demo's tokenizer knows 4096 tokens
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint_path() / file, folder / file)
    with pytest.raises(
        FirstTokenError, match="token ids up to 4095, but config.json says vocab_size 1024; the tokenizer belongs to another checkpoint"
    ):
        export(folder, tmp_path / "out", plan_file(tmp_path), cache_length=64)
    assert not (tmp_path / "cache" / "firsttoken" / "integers").exists()


@pytest.mark.parametrize("damage", ["scales cut short", "integers empty", "one bit of the integers", "no checksum"])
def test_damaged_integers_are_chosen_again(damage, tiny_checkpoint, tmp_path):
    plan = plan_file(tmp_path)
    rounded(tiny_checkpoint, plan)
    folder = next((tmp_path / "cache" / "firsttoken" / "integers").iterdir())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    file = sorted(folder.glob("*.scales.npy" if "scales" in damage else "*.sha256" if "sum" in damage else "*.integers.npy"))[0]
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes({"s": content[:-9], "i": b"", "o": content, "n": b""}[damage[0]])
    rounded(tiny_checkpoint, plan)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_tokenizer_decides_where_the_integers_are_kept(tiny_checkpoint, tmp_path):
    other = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    (other / "tokenizer.json").write_text((other / "tokenizer.json").read_text() + "\n")
    facts = CalibrationFacts(text="t", sha256="0" * 64)
    one, two = (calibrated.folder_of(Checkpoint(folder), {"head": (4, 32)}, facts) for folder in (tiny_checkpoint, other))
    assert one != two


def test_text_that_is_none_is_refused(tiny_checkpoint, tmp_path):
    (tmp_path / "the.txt").write_text("the " * 4000)
    with pytest.raises(FirstTokenError, match=r"the.txt: has \d different tokens; expected at least 8"):
        export(tiny_checkpoint, tmp_path / "out", plan_file(tmp_path), witness=False, calibration=tmp_path / "the.txt")


def test_another_models_tokenizer_is_noticed(tmp_path, monkeypatch):
    shuffled = np.random.default_rng(0).permutation(4096)
    monkeypatch.setattr(calibrated, "windows_of", lambda *asked: [shuffled[window] for window in windows_of(*asked)])
    with pytest.raises(FirstTokenError, match="less likely than by chance"):
        export(checkpoint_path(), tmp_path / "out", "int4-gptq", witness=False, prove=False)
    assert not list((tmp_path / "cache" / "firsttoken" / "integers").glob("*/*.npy"))


def test_layers_for_which_a_text_says_too_little_are_named(tiny_checkpoint, tmp_path, monkeypatch):
    from firsttoken.calibration import gptq

    monkeypatch.setattr(gptq, "DAMPING", (0.5,))  # as if less had not been enough
    checkpoint, said = Checkpoint(tiny_checkpoint), []
    decoder, plan, text = open_decoder(checkpoint), load_plan(plan_file(tmp_path)), read_text(None)
    precisions = lowering_job(checkpoint, plan, "tflite-xnnpack").precisions
    with_integers(checkpoint, decoder, plan, precisions, facts_of(plan, decoder, precisions, text), text, say=said.append)
    [line] = said
    assert re.match("the inputs of 14 layers on firsttoken's calibration text are too much alike .*damped by up to 0.5 of their mean", line)
