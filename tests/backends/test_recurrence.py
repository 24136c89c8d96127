"""What a delta rule remembers: across chunks, decode, reset and tokens taken back, where one token repeats, and that its faults are seen."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families_on_disk import random_model, save
from lowering_jobs import lowered_artifact

from firsttoken.backends.executorch import delta_rule as rule
from firsttoken.backends.recurrence import CHUNK, block_sizes
from firsttoken.backends.registry import find_backend
from firsttoken.backends.tflite import delta_rule as tflite_rule
from firsttoken.backends.tflite.audit import LoadedGraph, executed_outside_delegate, read_header
from firsttoken.backends.tflite.graph import Graph
from firsttoken.checkpoint import Checkpoint
from firsttoken.errors import FirstTokenError
from firsttoken.prove.reference import reference_logits

BOUND, PROMPT = 1e-4, 150  # two chunks of 64 and one of 22
CASE = "qwen3_5-ends-recurrent"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    model = random_model(CASE)
    return model, save(model, tmp_path_factory.mktemp("checkpoint"))


def lowered(folder, path, plan, target):
    return lowered_artifact(folder, path, plan, target, cache_length=256)


def opened(folder, path, target):
    job, manifest, artifact = lowered(folder, path, "fp32", target)
    return find_backend(job.target.cpu_backend).open_runner(path, manifest, artifact, threads=1, kept=False)


@pytest.mark.parametrize("target", ["tflite-xnnpack", "tflite-compat", pytest.param("executorch-xnnpack", marks=pytest.mark.slow)])
def test_every_order_of_calls(target, checkpoint, tmp_path):
    model, folder = checkpoint
    runner = opened(folder, tmp_path, target)
    tokens = np.random.default_rng(5).integers(0, 131, 200).tolist()
    same = [7] * 200
    with torch.no_grad():
        expected, repeated = (model(torch.tensor([these])).logits[0].numpy() for these in (tokens, same))

    def check(logits, position, wanted=expected):
        assert np.abs(logits - wanted[position]).max() < BOUND, position

    assert runner.prefill_chunk == CHUNK
    check(runner.prefill(tokens[:PROMPT]), PROMPT - 1)
    for position in range(PROMPT, PROMPT + 20):
        check(runner.decode(tokens[position]), position)
    check(runner.prefill(tokens[170:200]), 199)
    runner.reset()
    for position in range(3):  # from position 0 by decode alone
        check(runner.decode(tokens[position]), position)
    for count in (1, 2, 3, 5, 8, 33, 64):  # every number of blocks
        position = runner.position
        check(runner.prefill(tokens[position : position + count]), position + count - 1)
    assert runner.keep_prefix([*tokens[: runner.position], 1, 2]) == runner.position  # all that is there goes on
    assert runner.keep_prefix([*tokens[:20], 1]) == 0 == runner.position  # of its past a state has no positions
    check(runner.prefill(same), 199, repeated)  # where powers of the matrix would be huge
    assert runner.keep_prefix([99, 98]) == 0
    check(runner.decode(tokens[0]), 0)
    runner.close()


@pytest.mark.parametrize("size", [1, 2, 3, 31, 64, 100])
def test_the_matrix_is_inverted_where_all_keys_are_one(size):
    """Strength 1 and no forgetting: the inverse is 1 on the diagonal and -1 below it, while powers of the matrix reach 10^17."""
    shared = rule.Triangles(torch.arange(37, 37 + size))
    met = torch.ones(2, size, size)
    expected = torch.eye(size) - torch.diag(torch.ones(size - 1), -1) if size > 1 else torch.eye(1)
    assert (rule.inverted(met, shared) - expected).abs().max() < 1e-5
    random = torch.rand(2, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    exact = torch.linalg.inv(torch.eye(size).double() + random.double().tril(-1))
    assert ((rule.inverted(random, shared) - exact).abs().amax((1, 2)) / exact.abs().amax((1, 2))).max() < 1e-4


def test_blocks_cover_all_rows_and_no_more():
    assert [block_sizes(n) for n in (1, 2, 3, 4, 5, 64)] == [[1], [1], [1, 2], [1, 2], [1, 2, 4], [1, 2, 4, 8, 16, 32]]


def test_the_manifest_says_what_is_replaced(checkpoint, tmp_path):
    _, manifest, artifact = lowered(checkpoint[1], tmp_path, "int8", "tflite-xnnpack")
    kinds = [(state.layer, state.kind, state.advances) for state in artifact.states]
    both = [("convolution", "replace"), ("recurrent", "replace")]
    assert kinds == [(n, *kind) for n in range(8) for kind in (both if n % 2 else [("key_value", "append")])]
    memory = next(state for state in artifact.states if state.kind == "recurrent")
    assert (memory.shape, memory.dtype, memory.held_by) == ([3, 8, 12], "float32", "host")
    methods = {method.name: method for method in artifact.methods}
    assert not any(t.name.startswith("recurrent") for t in methods["first"].inputs)  # at position 0 it is zeros
    assert all(any(t.name == "recurrent.1" for t in method.outputs) for method in methods.values())
    assert manifest.target.prefill_chunk == CHUNK


@pytest.mark.parametrize("case", ["qwen3_5", CASE])
def test_xnnpack_takes_the_rule_with_lengths_of_run_time(case, tmp_path):
    """Outside it: lookups, the last token's rows, which inputs a convolution remembers, and slices where queries, keys and values are no four equal parts."""
    lowered(save(random_model(case), tmp_path / "checkpoint"), tmp_path, "fp32", "tflite-xnnpack")
    path = tmp_path / "model.tflite"
    model, header = read_header(path)
    for signature in model.signatureDefs:
        graph = LoadedGraph(model, signature.subgraphIndex, executed_outside_delegate(path, header, model, signature))
        kinds = Counter(graph.kind(n) for n in graph.undelegated)
        assert set(kinds) <= {
            "GATHER",
            "ADD",
            "FULLY_CONNECTED",
            "SLICE",
        }  # FULLY_CONNECTED: decode's attention, whose weight is the host's slot
        assert kinds["SLICE"] == (0 if case == "qwen3_5" or graph.name == "decode" else 12)
        assert kinds["GATHER"] <= 1 + 4 + 4 + 1


def differs(folder, model, path):
    """How far the logits of 20 tokens in two calls and one step are from transformers'."""
    tokens = np.random.default_rng(5).integers(0, 131, 21).tolist()
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0].numpy()
    runner = opened(folder, path, "tflite-xnnpack")
    runner.prefill(tokens[:12])
    found = [(runner.prefill(tokens[12:20]) - expected[19]).copy(), runner.decode(tokens[20]) - expected[20]]
    runner.close()
    return max(np.abs(one).max() for one in found)


FAULTS = {
    "one block size less": (tflite_rule, "block_sizes", lambda tokens: [1, 2, 4]),
    "forgetting by a square": (tflite_rule.DeltaGraph, "_softplus", lambda self, x: Graph.multiply(self, x, x)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_shows(fault, checkpoint, tmp_path, monkeypatch):
    model, folder = checkpoint
    assert differs(folder, model, tmp_path) < BOUND
    monkeypatch.setattr(*FAULTS[fault])
    assert differs(folder, model, tmp_path) > 100 * BOUND


@pytest.mark.parametrize("part", ["gate of attention", "norms stored whole", "rule's decay", "gate and queries changed about"])
def test_a_part_that_is_read_wrongly_shows(part, checkpoint):
    """In the proof's reference, against transformers."""
    from dataclasses import replace

    from firsttoken.decoder.walk import open_decoder

    model, folder = checkpoint
    tokens = np.random.default_rng(5).integers(0, 131, 40)
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens)[None]).logits[0].numpy()
    with Checkpoint(folder) as source:
        decoder = open_decoder(source)

        def wrong(block):
            attention, delta = block.attention, block.delta
            if attention and part == "gate of attention":
                return replace(block, attention=replace(attention, gate=None))
            if attention and part == "gate and queries changed about":
                return replace(block, attention=replace(attention, gate=attention.q, q=attention.gate))
            if delta and part == "norms stored whole":
                return replace(block, delta=replace(delta, norm=replace(delta.norm, weight=replace(delta.norm.weight, add=1.0))))
            if delta and part == "rule's decay":
                return replace(block, delta=replace(delta, rule=replace(delta.rule, decay=replace(delta.rule.decay, scale=0.5))))
            return block

        for tree, right in ((decoder, True), (replace(decoder, layers=tuple(map(wrong, decoder.layers))), False)):
            [found] = reference_logits(source, tree, [tokens], [np.arange(40)])
            assert (np.abs(found - expected).max() < BOUND) == right


def test_a_checkpoint_itself_takes_nothing_back(checkpoint):
    from firsttoken.backends.pytorch.runner import CheckpointRunner
    from firsttoken.decoder.walk import open_decoder

    model, folder = checkpoint
    source = Checkpoint(folder)
    lengths = SimpleNamespace(cache_length=64, prefill_chunk=37)
    facts = SimpleNamespace(checkpoint=SimpleNamespace(name="x", vocab_size=131), target=lengths, tokenizer=None, chat=None)
    runner = CheckpointRunner(source, open_decoder(source), facts)
    tokens = np.random.default_rng(5).integers(0, 131, 60).tolist()
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0].numpy()
    runner.prefill(tokens[:40])
    assert runner.keep_prefix(tokens[:20]) == 0
    assert np.abs(runner.prefill(tokens[:50]) - expected[49]).max() < BOUND


@pytest.mark.parametrize("target", ["tflite-xnnpack", "tflite-compat", pytest.param("executorch-xnnpack", marks=pytest.mark.slow)])
def test_a_longer_call_is_an_error(target, checkpoint, tmp_path):
    """More rows than blocks are made for would be inverted wrongly."""
    runner = opened(checkpoint[1], tmp_path, target)
    runner._prefill(np.zeros(64, np.int32))
    with pytest.raises(
        FirstTokenError, match="running 65 tokens at position 0 failed" if target == "executorch-xnnpack" else "out of bounds|fail"
    ):
        runner._prefill(np.zeros(65, np.int32))
    runner.close()
