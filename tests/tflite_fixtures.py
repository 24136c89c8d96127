"""Fixtures for tests that lower a small random decoder to .tflite and run it."""

import numpy as np
import pytest
import torch

# Relative root-mean-square error of the logits that each plan may have on a random model, where every weight matters.
BOUNDS = {
    "fp32": 1e-5,
    "fp16": 5e-3,
    "int8": 0.06,
    "int8-apart": 0.06,
    "fp16-attention": 0.06,
    "fp16-attention-core": 0.06,
    "int4-mlp": 0.4,
    "int4": 0.6,
    "int4-gptq": 0.6,
    "int4-npu": 0.6,
    "as-stored": 0.06,
}


def relative_error(logits, expected) -> float:
    return float(np.sqrt(np.mean((logits - expected) ** 2)) / expected.std())


def random_qwen2(folder, *, tied, vocab=320, hidden=64, layers=2, heads=4, kv_heads=2, mlp=128, positions=512, seed=0):
    """A small Qwen2 checkpoint with nothing left at its initial value, so that a dropped bias or norm shows."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=mlp,
        max_position_embeddings=positions,
        tie_word_embeddings=tied,
        rope_theta=10000.0,
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.3 if "norm" in name else 0.08
            parameter.copy_(torch.randn_like(parameter) * scale + (1 if "norm" in name else 0))
    model.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def untied_checkpoint(tmp_path_factory):
    return random_qwen2(tmp_path_factory.mktemp("untied"), tied=False)


@pytest.fixture(scope="session")
def tied_checkpoint(tmp_path_factory):
    return random_qwen2(tmp_path_factory.mktemp("tied"), tied=True)


@pytest.fixture(scope="session")
def tokens():
    return np.random.default_rng(7).integers(0, 320, 200).tolist()


@pytest.fixture(scope="session")
def reference_logits(tied_checkpoint, tokens):
    """FP32 logits of transformers for every position of ``tokens``, [200, 320]."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tied_checkpoint, dtype=torch.float32)
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


def open_lowered(checkpoint, path, plan_name, target_name, **lengths):
    """Opens the .tflite at ``path`` (lowering it first if absent) with a manifest of what a runner reads of it."""
    from lowering_jobs import lowering_job

    from firsttoken.backends.tflite.lower import describe_graphs, lower_decoder
    from firsttoken.backends.tflite.runner import TfliteRunner
    from firsttoken.backends.tflite.verify import verify
    from firsttoken.bundle.manifest import CheckpointIdentity, Manifest
    from firsttoken.checkpoint import Checkpoint

    with Checkpoint(checkpoint) as source:
        job = lowering_job(source, plan_name, target_name, **lengths)
        [artifact] = [describe_graphs(job)[1]] if path.exists() else lower_decoder(job, path).artifacts
    manifest = Manifest.model_construct(
        plan=job.plan,
        target=job.target,
        checkpoint=CheckpointIdentity.model_construct(vocab_size=job.decoder.vocab_size),
        artifacts=[artifact],
    )
    verify(path, artifact.methods)  # as whoever opens a bundle does
    runner = TfliteRunner(path, manifest, threads=2, weight_cache=False)
    runner.path = path
    return runner


@pytest.fixture
def lowered_runner(tmp_path):
    """Returns a function that lowers a checkpoint and opens the written file: ``(checkpoint, plan, target) -> runner``."""
    opened = []

    def make(checkpoint, plan_name="fp32", target_name="tflite-xnnpack", **lengths):
        opened.append(
            open_lowered(checkpoint, tmp_path / f"{len(opened)}.{plan_name}.{target_name}.tflite", plan_name, target_name, **lengths)
        )
        return opened[-1]

    yield make
    for runner in opened:
        runner.close()
