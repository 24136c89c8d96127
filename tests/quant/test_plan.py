"""Plans: every built-in one loads and resolves, the first match wins, and nothing is skipped silently."""

import pytest
from families_on_disk import random_model, save

from firsttoken.backends.registry import find_backend, resolve
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.quant.plan import Plan, load_plan, plan_names
from firsttoken.targets.target import load_target, target_names

GATE = {"mean_kld": 1, "p99_kld": 1, "same_top": 0.5, "magnitude": 0.5}


@pytest.fixture(scope="module")
def decoder():
    return open_decoder(Checkpoint(checkpoint_path()))


def plan(*rules, **more):
    return Plan(
        name="mine", summary="test", rule=[{"match": match, "precision": precision} for match, precision in rules], gate=GATE, **more
    )


def test_the_built_in_plans():
    assert {"fp32", "fp16", "int8", "fp16-attention", "fp16-attention-core", "int4", "int4-mlp"} <= set(plan_names())


@pytest.mark.parametrize("target", target_names())
@pytest.mark.parametrize("name", plan_names())
def test_every_plan_resolves_on_every_target_or_says_what_is_not_possible(name, target, decoder):
    chosen = load_plan(name)
    assert chosen.name == name and chosen.summary
    try:
        resolved = resolve(chosen, decoder, load_target(target))
    except FirstTokenError as error:
        if target.startswith("tflite-hexagon"):  # FP16, INT8, and INT4 with one scale a row are all there is
            beside_a_gpu = ("fp16",) if "gpu" in target else ()  # whose table is not in FP16
            assert name in ("fp32", "int8", "int8-apart", "int4", "int4-mlp", "int4-gptq", "as-stored", *beside_a_gpu)
            assert (
                "fp32 is not possible" in str(error)
                or (name in beside_a_gpu and "embedding" in str(error))
                or 'put group = "row"' in str(error)
            )
        elif target in ("litertlm-gpu", "tflite-gpu"):  # no int4 in groups, no table in FP16, no outliers apart
            refused = {"fp16": "embedding", "int8-apart": "outliers"} | dict.fromkeys(
                ("int4", "int4-mlp", "int4-gptq"), 'put group = "row"'
            )
            assert refused[name] in str(error)
        elif target == "gguf":  # int4 has one scale for 32 columns there
            assert {"int8-apart": "cannot keep the outliers", "int4-npu": "nearest: group = 32"}[name] in str(error)
        elif target == "onnx-cpu":
            assert name == "int8-apart" and "outliers" in str(error)
        elif load_target(target).npu is not None:  # FP16 and INT8
            assert name in ("fp32", "int8", "int8-apart", "int4", "int4-mlp", "int4-gptq", "int4-npu", "as-stored")
            assert "fp32 is not possible" in str(error) or ("int4 is not possible" in str(error) and "nearest: int8" in str(error))
        else:
            assert (
                target in ("tflite-compat", "tflite-interpreter") and "int4 is not possible" in str(error) and "nearest: int8" in str(error)
            )
    else:
        assert list(resolved) == [layer.name for layer in plan_layers(decoder)]


def test_the_default_plan_gives_attention_fp16_and_the_rest_int8(decoder):
    for name, precision in resolve(load_plan("fp16-attention"), decoder, load_target("tflite-xnnpack")).items():
        assert precision == ("fp16" if ".attention." in name else "int8")


def test_the_first_match_wins(decoder):
    rules = ("layers.0.mlp.up", "fp32"), ("layers.0.*", "fp16"), ("*.core", "fp32"), ("*", "int8")
    resolved = resolve(plan(*rules), decoder, load_target("tflite-xnnpack"))
    assert (
        resolved["layers.0.mlp.up"],
        resolved["layers.0.mlp.down"],
        resolved["layers.0.attention.core"],
        resolved["layers.1.attention.core"],
        resolved["head"],
    ) == (
        "fp32",
        "fp16",
        "fp16",
        "fp32",
        "int8",
    )


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ((("layers.*.atention.*", "fp16"), ("*", "fp16")), "'layers.*.atention.*' matches no layer"),
        ((("layers.0.attention.qq", "fp16"), ("*", "fp16")), "did you mean 'layers.0.attention.q'"),
        ((("layers.*", "fp16"),), "no rule matches layer 'embedding'"),
        ((("*", "int8"),), "int8 is not possible for 'layers.0.attention.core'"),
    ],
)
def test_what_would_be_skipped_is_an_error(decoder, rules, said):
    with pytest.raises(FirstTokenError) as caught:
        resolve(plan(*rules), decoder, load_target("tflite-xnnpack"))
    assert said in str(caught.value)


def test_int4_needs_rows_that_divide(tmp_path):
    narrow = open_decoder(Checkpoint(save(random_model("llama3"), tmp_path)))  # rows of 64 and of 96
    with pytest.raises(FirstTokenError, match='groups of 64.*layers.0.mlp.down.*96 columns.*with group = 32 or "row", or with int8'):
        resolve(plan(("layers.*.core", "fp32"), ("embedding", "int8"), ("*", "int4"), group_size=64), narrow, load_target("tflite-xnnpack"))


def grouped(**groups):
    rules = [{"match": "layers.*.core", "precision": "fp32"}]
    rules += [{"match": f"layers.*.{name}", "precision": "int4", "group": group} for name, group in groups.items()]
    rest = [{"match": "embedding", "precision": "int8"}, {"match": "head", "precision": "int8"}, {"match": "*", "precision": "int4"}]
    return Plan.model_validate({"name": "mine", "summary": "test", "group_size": 64, "rule": [*rules, *rest], "gate": GATE})


def test_groups_of_layers(decoder):
    chosen = grouped(q="row", down=128)
    written = chosen.written(plan_layers(decoder), resolve(chosen, decoder, load_target("tflite-xnnpack")))
    assert [written[f"layers.0.{name}"] for name in ("attention.q", "attention.k", "mlp.down", "attention.core")] == [
        "int4/row",
        "int4/64",
        "int4/128",
        "fp32",
    ]
    assert written["head"] == "int8" and chosen.group("head", 256) == 256 and chosen.group("layers.0.attention.q", 256) == 256
    assert chosen.group("layers.1.mlp.down", 768) == 128 and chosen.group("layers.1.mlp.up", 256) == 64


def test_a_target_of_one_scale_a_row(decoder):
    backend = find_backend("tflite-xnnpack")
    with pytest.raises(
        FirstTokenError, match=r"target 't' takes int4 with one scale a row only.*'layers.0.attention.k'.*64 columns; put group = \"row\""
    ):
        grouped(q="row").resolve(plan_layers(decoder), "t", backend.precisions, group_scales=False)
    rows = Plan.model_validate({"name": "mine", "summary": "t", "rule": [{"match": "layers.*.core", "precision": "fp32"}, {"match": "embedding", "precision": "int8"}, {"match": "*", "precision": "int4", "group": "row"}], "gate": GATE})  # fmt: skip
    assert rows.resolve(plan_layers(decoder), "t", backend.precisions, group_scales=False)["head"] == "int4"
    assert not find_backend("tflite-hexagon").group_scales and not find_backend("executorch-hexagon").group_scales


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"precision": "int4", "group": 16}, "Input should be 'row', 32, 64, 128 or 256"),
        ({"precision": "int4", "group": "rows"}, "Input should be 'row', 32, 64, 128 or 256"),
        ({"precision": "int8", "group": "row"}, "group is for int4, int8 has always one scale a row; leave group out"),
        ({"precision": "fp16", "group": 32}, "group is for int4, fp16 has no scales; leave group out"),
    ],
)
def test_groups_that_mean_nothing(rule, said):
    with pytest.raises(ValueError, match=said):
        Plan.model_validate({"summary": "test", "rule": [{"match": "*", **rule}], "gate": GATE})


@pytest.mark.parametrize(
    "change",
    [
        {"group_size": 16},
        {"group_size": 33},
        {"group_size": 96},
        {"smooth": 1},
        {"smooth": "yes"},
        {"surprise": 1},
        {"gate": {**GATE, "mean_kld": 0}},
        {"rule": []},
    ],
)
def test_fields_out_of_bounds(change):
    values = {"summary": "test", "rule": [{"match": "*", "precision": "int8"}], "gate": GATE, **change}
    with pytest.raises(ValueError):
        Plan.model_validate(values)
