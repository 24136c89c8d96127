"""What a convolution remembers: across chunks shorter and longer than itself, decode, reset and tokens taken back; on every runtime that has it."""

from collections import Counter

import numpy as np
import pytest
import torch
from families_on_disk import random_model, save
from lowering_jobs import lowered_artifact

from firsttoken.backends.registry import find_backend
from firsttoken.backends.tflite.audit import LoadedGraph, executed_outside_delegate, read_header
from firsttoken.checkpoint import Checkpoint

BOUND, CHUNK, PROMPT = 1e-4, 37, 150  # 150 tokens are four chunks of 37 and one of 2, fewer than a kernel of 4 remembers
CASE = "lfm2-ends-attentive"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    model = random_model(CASE)
    return model, save(model, tmp_path_factory.mktemp("checkpoint"))


def lowered(folder, path, plan, target):
    return lowered_artifact(folder, path, plan, target, cache_length=192, prefill_chunk=CHUNK)


@pytest.mark.parametrize("target", ["tflite-xnnpack", "tflite-compat", pytest.param("executorch-xnnpack", marks=pytest.mark.slow)])
def test_every_order_of_calls(target, checkpoint, tmp_path):
    model, folder = checkpoint
    job, manifest, artifact = lowered(folder, tmp_path, "fp32", target)
    runner = find_backend(job.target.cpu_backend).open_runner(tmp_path, manifest, artifact, threads=1, kept=False)
    tokens = np.random.default_rng(5).integers(0, 131, 192).tolist()
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0].numpy()

    def check(logits, position):
        assert np.abs(logits - expected[position]).max() < BOUND, position

    check(runner.prefill(tokens[:PROMPT]), PROMPT - 1)
    for position in range(PROMPT, PROMPT + 20):
        check(runner.decode(tokens[position]), position)
    check(runner.prefill(tokens[170:192]), 191)  # a later chunk, up to the last row
    runner.reset()
    for position in range(6):  # from position 0 by decode alone
        check(runner.decode(tokens[position]), position)
    check(runner.prefill(tokens[6:7]), 6)
    check(runner.prefill(tokens[7:9]), 8)
    assert runner.keep_prefix([*tokens[:9], 1, 2]) == 9  # all that is there goes on
    check(runner.prefill(tokens[9:30]), 29)
    assert runner.keep_prefix([*tokens[:20], 1]) == 0 == runner.position  # of its past a convolution has the last inputs alone
    check(runner.prefill(tokens[:1]), 0)
    check(runner.decode(tokens[1]), 1)
    assert runner.keep_prefix([99, 98]) == 0
    check(runner.decode(tokens[0]), 0)
    runner.close()


def test_the_manifest_says_what_is_replaced(checkpoint, tmp_path):
    _, _, artifact = lowered(checkpoint[1], tmp_path, "int8", "tflite-xnnpack")
    kinds = [(state.layer, state.kind, state.advances) for state in artifact.states]
    assert kinds == [(n, "key_value", "append") if n % 2 else (n, "convolution", "replace") for n in range(8)]
    first = artifact.states[0]
    assert (first.shape, first.length, first.dtype, first.held_by) == ([3, 64], 3, "float32", "host")
    methods = {method.name: method for method in artifact.methods}
    for name in ("extend", "decode"):
        assert next(t.shape for t in methods[name].inputs if t.name == "convolution.0") == [3, 64]
    assert not any(t.name.startswith("convolution") for t in methods["first"].inputs)  # at position 0 it is zeros
    assert all(any(t.name == "convolution.0" for t in method.outputs) for method in methods.values())


def test_xnnpack_takes_the_whole_convolution_with_lengths_of_run_time(checkpoint, tmp_path):
    """Outside it: the lookup of the embedding, the last token's rows in the last layer, and which rows are remembered, which nothing waits for."""
    lowered(checkpoint[1], tmp_path, "fp32", "tflite-xnnpack")
    path = tmp_path / "model.tflite"
    model, header = read_header(path)
    for signature in model.signatureDefs:
        graph = LoadedGraph(model, signature.subgraphIndex, executed_outside_delegate(path, header, model, signature))
        kinds = Counter(graph.kind(n) for n in graph.undelegated)
        assert Counter(graph.kind(n) for n in range(len(graph.graph.operators)))["DEPTHWISE_CONV_2D"] == 4
        assert set(kinds) <= {"GATHER", "ADD", "FULLY_CONNECTED"}  # the last: decode's attention, whose weight is the host's slot
        assert kinds["GATHER"] <= 1 + 4 + 4


def test_a_checkpoint_itself_takes_nothing_back(checkpoint):
    from types import SimpleNamespace

    from firsttoken.backends.pytorch.runner import CheckpointRunner
    from firsttoken.decoder.walk import open_decoder

    model, folder = checkpoint
    source = Checkpoint(folder)
    lengths = SimpleNamespace(cache_length=64, prefill_chunk=CHUNK)
    facts = SimpleNamespace(checkpoint=SimpleNamespace(name="x", vocab_size=131), target=lengths, tokenizer=None, chat=None)
    runner = CheckpointRunner(source, open_decoder(source), facts)
    tokens = np.random.default_rng(5).integers(0, 131, 60).tolist()
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0].numpy()
    runner.prefill(tokens[:40])
    assert runner.keep_prefix(tokens[:20]) == 0
    assert np.abs(runner.prefill(tokens[:50]) - expected[49]).max() < BOUND
