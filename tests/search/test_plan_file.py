"""A choice written as a plan is read back as that choice."""

import random
import tomllib

import pytest
from families_on_disk import random_model, save

from firsttoken.backends.registry import find_backend
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.quant.plan import Gate, Plan, load_plan
from firsttoken.search.candidates import candidates
from firsttoken.search.choice import Cost, Costs
from firsttoken.search.plan_file import kind_of, plan_text, rules_of

GATE = Gate(mean_kld=0.0123, p99_kld=0.1, same_top=0.9, magnitude=0.01)


@pytest.mark.parametrize("case", ["llama3", "gemma4", "qwen3_5", "smollm"])
@pytest.mark.parametrize("seed", range(4))
def test_the_plan_gives_every_layer_what_was_chosen(tmp_path, case, seed):
    checkpoint = Checkpoint(save(random_model(case), tmp_path / "model"))
    decoder, backend = open_decoder(checkpoint), find_backend("tflite-xnnpack")
    offered, numbers = candidates(decoder, backend), random.Random(seed)
    usual = {kind_of(name): numbers.choice(own) for name, own in offered.items()}
    choice = {
        name: usual[kind_of(name)] if usual[kind_of(name)] in own and numbers.random() < 0.7 else numbers.choice(own)
        for name, own in offered.items()
    }
    costs = Costs({name: {one: Cost(1e-4, 100) for one in own} for name, own in offered.items()}, Cost(0, 0))
    path = tmp_path / "found.toml"
    path.write_text(plan_text(choice, costs, 'a "quoted" name', GATE, ["a note"]))
    plan = load_plan(path)
    resolved = plan.resolve(plan_layers(decoder), "here", backend.precisions)
    assert resolved == {name: one.precision for name, one in choice.items()}
    for name, one in choice.items():
        assert plan.method(name) == one.method
        if one.precision == "int4":
            assert (plan.rule(name).group or plan.group_size) == one.group
        assert plan.rule(name).outliers == one.outliers
    assert plan.gate == GATE
    assert plan.summary == 'a "quoted" name'
    assert sum(len(names) for _, _, names in rules_of(choice)) == len(choice)


def test_a_uniform_choice_is_one_rule_for_linear_layers(tmp_path):
    checkpoint = Checkpoint(save(random_model("llama3"), tmp_path))
    offered = candidates(open_decoder(checkpoint), find_backend("tflite-xnnpack"))
    choice = {name: next((one for one in own if one.label == "int8"), own[0]) for name, own in offered.items()}
    assert [(match, one.label) for match, one, _ in rules_of(choice)] == [("layers.*.attention.core", "fp32"), ("*", "int8")]


def test_every_rule_says_why(tmp_path):
    checkpoint = Checkpoint(save(random_model("llama3"), tmp_path))
    offered = candidates(open_decoder(checkpoint), find_backend("tflite-xnnpack"))
    labels = {"fp16": Cost(1e-7, 2048), "int8": Cost(3e-4, 1024)}
    table = {name: {one: labels.get(one.label, Cost(1, 512)) for one in own} for name, own in offered.items()}
    choice = {
        name: next(one for one in own if one.label == ("fp16" if ".down" in name else "int8")) if ".core" not in name else own[0]
        for name, own in offered.items()
    }
    text = plan_text(choice, Costs(table, Cost(0, 0)), "found", GATE, [])
    assert Plan.model_validate(tomllib.loads(text))
    reasons = dict(
        zip(
            [line for line in text.splitlines() if line.startswith("match")],
            [line for line in text.splitlines() if line.startswith("# ")],
            strict=False,
        )
    )
    assert reasons['match = "layers.*.mlp.down"'] == "# 2 layers, 4 KiB, 2e-07 of 2 nats; int8 would save 2 KiB and add 0.0006 nats"
