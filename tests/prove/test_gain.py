"""The line that says what a plan could gain: held against what the other plan's own export measures."""

import re

import numpy as np
import pytest

from firsttoken.backends.registry import find_backend
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.demo import checkpoint_path
from firsttoken.pipeline import export
from firsttoken.prove.gain import TOKENS, Gain, apart, fewer, say_if_much
from firsttoken.prove.windows import Window
from firsttoken.quant.plan import load_plan

APART = """
summary = "apart"
[[rule]]
match = "layers.*.attention.core"
precision = "fp32"
[[rule]]
match = "embedding"
precision = "int8"
[[rule]]
match = "*"
precision = "int8"
outliers = "apart"
[gate]
mean_kld = 0.05
p99_kld = 0.2
same_top = 0.8
magnitude = 0.05
"""
REST = """
[[rule]]
match = "*"
precision = "int8"
"""


def exported(plan, folder, targets=("tflite-xnnpack",)) -> tuple[list[str], float]:
    """What export said of outliers, and the mean KL divergence of its proof."""
    lines: list[str] = []
    [bundle] = export(checkpoint_path(), folder, plan, targets, say=lines.append, witness=False)
    return [line for line in lines if "apart" in line], read_manifest(bundle).need_proof().all.mean_kld


def test_the_export_says_what_the_other_plan_then_measures(tmp_path):
    [line], plain = exported("int8", tmp_path / "plain")
    (tmp_path / "apart.toml").write_text(APART)
    silent, measured = exported(tmp_path / "apart.toml", tmp_path / "apart")
    assert not silent, "there is nothing left to gain"
    found = re.search(r"would be ([\d.]+) times .* over (\d+) positions", line)
    assert found is not None, line
    assert line.startswith("tflite-xnnpack: ")
    assert float(found[1]) == pytest.approx(measured / plain, rel=0.35)
    assert int(found[2]) >= 50


@pytest.mark.parametrize(("plan", "backend"), [("fp32", "tflite-xnnpack"), ("fp16", "tflite-xnnpack"), ("int8", "tflite-hexagon")])
def test_nothing_is_asked_where_nothing_would_change(plan, backend):
    with Checkpoint(checkpoint_path()) as source:
        decoder = open_decoder(source)
    own = find_backend(backend)
    precisions = {layer.name: load_plan(plan).rule(layer.name).precision for layer in plan_layers(decoder)}
    assert apart(decoder, load_plan(plan), precisions, own) is None


def test_a_plan_that_has_some_apart_is_left_alone(tmp_path):
    """As plan search writes them: the head's apart, the others' weighed and left."""
    (tmp_path / "found.toml").write_text(APART.replace('match = "*"', 'match = "head"') + REST)
    chosen, own = load_plan(tmp_path / "found.toml"), find_backend("tflite-xnnpack")
    with Checkpoint(checkpoint_path()) as source:
        decoder = open_decoder(source)
    precisions = {layer.name: chosen.rule(layer.name).precision for layer in plan_layers(decoder)}
    assert chosen.apart("head") and not chosen.apart("layers.0.mlp.up")
    assert apart(decoder, chosen, precisions, own) is None
    assert apart(decoder, load_plan("int8"), precisions, own) is not None, "the same without any apart is asked"


def test_only_much_is_said():
    said: list[str] = []
    plain = load_plan("int8")
    say_if_much(None, plain, said.append)
    say_if_much(Gain(1e-3, 6.1e-4, 90), plain, said.append)
    say_if_much(Gain(0.0, 0.0, 90), plain, said.append)
    assert not said
    say_if_much(Gain(1e-3, 3e-4, 90), plain, said.append)
    assert len(said) == 1
    assert "0.30 times" in said[0] and "firsttoken plan search weighs that" in said[0]
    say_if_much(Gain(1e-3, 3e-4, 90), load_plan("as-stored"), said.append)
    assert "plan search" not in said[1] and 'beside method = "stored"' in said[1]


def test_the_shortest_windows_are_taken(windows_of_lengths):
    windows = windows_of_lengths([500, 60, 90, 80])
    assert fewer(windows, [0, 1, 2, 3]) == [1, 3]
    assert fewer(windows, [0]) == [0], f"one of more than {TOKENS} tokens is better than none"
    assert fewer(windows, [0, 2]) == [2]


@pytest.fixture
def windows_of_lengths():
    return lambda lengths: [Window(np.zeros(count, np.int32), ((count - 1,),), 0) for count in lengths]
