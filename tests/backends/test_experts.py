"""Experts chosen per token in written files: equal scores, who computes the choice, and what the proof says of rounded plans."""

import json
import shutil

import numpy as np
import pytest
import torch
from families_on_disk import random_model, save
from lowering_jobs import lowered_artifact, lowering_job
from safetensors.torch import load_file, save_file

from firsttoken.backends.executorch.build import build_module
from firsttoken.backends.pytorch.ops import TorchOps
from firsttoken.backends.pytorch.weights import TorchWeights
from firsttoken.backends.registry import find_backend
from firsttoken.backends.tflite.audit import LoadedGraph, executed_outside_delegate, read_header
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.forward import logits
from firsttoken.decoder.walk import Named, open_decoder
from firsttoken.demo import checkpoint_path
from firsttoken.pipeline import export
from firsttoken.prove.prove import prove
from firsttoken.prove.reference import reference_logits
from firsttoken.prove.twin import NOT_BUILT

CASES = ["qwen3_moe", "lfm2_moe"]


def lowered(folder, path, plan, target):
    job, manifest, artifact = lowered_artifact(folder, path, plan, target, cache_length=128)
    return find_backend(job.target.cpu_backend).open_runner(path, manifest, artifact, threads=1, kept=False)


@pytest.mark.parametrize("case", CASES)
def test_of_equal_scores_the_lower_numbers_are_chosen(case, tmp_path):
    """Experts 1, 3 and 4 have router rows of zeros and one bias, so that which of them is chosen is decided by their numbers alone, by everyone
    alike. (Rows that are equal but not zero give scores that differ in the last bit, by their place in a kernel's block.)"""
    folder = save(random_model(case), tmp_path / "checkpoint")
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if name.endswith(("mlp.gate.weight", "feed_forward.gate.weight", "expert_bias")):
            tensor[[1, 3, 4]] = 0.1 if name.endswith("bias") else 0.0
    save_file(tensors, folder / "model.safetensors")
    window = np.random.default_rng(1).integers(0, 131, 90)
    with Checkpoint(folder) as checkpoint:
        decoder = open_decoder(checkpoint)
        [expected] = reference_logits(checkpoint, decoder, [window], [np.arange(90)])
        with torch.no_grad():
            plain = logits(TorchOps(TorchWeights(checkpoint, decoder, 128), torch.tensor(window), 0), Named(decoder)).view(-1)
            module = build_module(lowering_job(checkpoint, "fp32", "executorch-xnnpack", cache_length=128))
            traced = module(torch.tensor(window)[None], torch.arange(90)).view(-1)
    runner = lowered(folder, tmp_path, "fp32", "tflite-xnnpack")
    for found in (plain.numpy(), traced.numpy(), runner.prefill(window.tolist())):
        assert np.abs(found - expected[-1]).max() < 1e-4


def test_the_choice_is_the_delegates(tmp_path):
    folder = save(random_model("lfm2_moe"), tmp_path / "checkpoint")
    lowered(folder, tmp_path, "fp16-attention", "tflite-xnnpack")
    path = tmp_path / "model.tflite"
    model, header = read_header(path)
    for signature in model.signatureDefs:
        graph = LoadedGraph(model, signature.subgraphIndex, executed_outside_delegate(path, header, model, signature))
        choosing = [n for scope, operators in graph.scopes.items() if scope.endswith("mlp.router") for n in operators]
        assert len(choosing) > 8 * 15 and not graph.undelegated & set(choosing)


def with_words(case, folder, **changes):
    """A random checkpoint of a case with the demo's words."""
    demo = checkpoint_path()
    vocabulary = json.loads((demo / "config.json").read_text())["vocab_size"]
    save(random_model(case, vocab_size=vocabulary, max_position_embeddings=512, **changes), folder)
    for path in demo.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            shutil.copy(path, folder / path.name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "plan", "target"),
    [(case, plan, "tflite-xnnpack") for case in CASES for plan in ("int8", "fp16-attention")]
    + [("qwen3_moe", "int8", "executorch-xnnpack"), ("lfm2_moe", "fp16-attention", "executorch-xnnpack")],
)
def test_a_rounded_plan_is_built_as_it_says(case, plan, target, tmp_path):
    """A random router's scores are near each other, so rounded weights send tokens to other experts, and the plan's bounds against the
    checkpoint, made for trained models, are missed. Measured on .tflite, int8: same top token at 86 % (qwen3_moe), 90 % with all experts chosen,
    92 % in a dense qwen3 of as many layers; lfm2_moe 65 %, lfm2 85 %. The twin goes the same ways: the file is as near to it as anywhere."""
    folder = with_words(case, tmp_path / "checkpoint")
    [bundle] = export(folder, tmp_path / "out", plan=plan, targets=(target,), prove=False, cache_length=512)
    proof, _ = prove(bundle, folder)
    assert not [miss for miss in proof.misses if NOT_BUILT in miss]


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["int8", "fp16-attention"])
def test_where_all_are_chosen_no_rounding_carries_far(plan, tmp_path):
    """No choice can turn out otherwise, and the divergence is within the plan's bounds; of the top tokens 90 % are the same, as in a dense model."""
    folder = with_words("qwen3_moe", tmp_path / "checkpoint", num_experts_per_tok=6)
    [bundle] = export(folder, tmp_path / "out", plan=plan, targets=("tflite-xnnpack",), prove=False, cache_length=512)
    proof, _ = prove(bundle, folder)
    assert not [miss for miss in proof.misses if "same top token" not in miss]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"routed_scaling_factor": 1.3}, {"num_experts_per_tok": 3}, {"norm_topk_prob": False}], ids=lambda change: next(iter(change))
)
def test_another_choice_is_not_built_as_the_plan_says(change, tmp_path):
    """A bundle of another configuration that claims to be of this one."""
    folder = with_words("lfm2_moe", tmp_path / "checkpoint")
    other = shutil.copytree(folder, tmp_path / "other")
    values = json.loads((other / "config.json").read_text())
    assert set(change) <= set(values) and values != {**values, **change}
    (other / "config.json").write_text(json.dumps({**values, **change}))
    [bundle] = export(other, tmp_path / "out", plan="int8", targets=("tflite-xnnpack",), prove=False, cache_length=512)
    manifest = read_manifest(bundle)
    manifest.checkpoint.fingerprint = Checkpoint(folder).fingerprint()
    manifest.write(bundle)
    proof, _ = prove(bundle, folder)
    assert [miss for miss in proof.misses if NOT_BUILT in miss]
