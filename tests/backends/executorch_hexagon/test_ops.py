"""The graphs for ExecuTorch's Qualcomm backend: what the host feeds is what it feeds LiteRT's, and the numbers are the model's."""

import numpy as np
import pytest
import torch
from families_on_disk import random_model, save
from lowering_jobs import lowering_job

from firsttoken.backends.executorch_hexagon.ops import build_graphs
from firsttoken.backends.runner import MASKED
from firsttoken.backends.tflite_hexagon.source import describe_source
from firsttoken.checkpoint import Checkpoint
from firsttoken.demo import checkpoint_path
from firsttoken.targets.target import load_target

TARGET = load_target("executorch-hexagon-sm8550")
LENGTHS = TARGET.model_copy(update={"cache_length": 48, "npu": TARGET.npu.model_copy(update={"prefill_lengths": (8, 16)})})


def built(checkpoint, plan_name, target=LENGTHS):
    job = lowering_job(checkpoint, plan_name, target)
    with torch.no_grad():
        return job.decoder, job.precisions, build_graphs(job)


def test_the_interface_is_that_of_the_other_route():
    with Checkpoint(checkpoint_path()) as checkpoint:
        _, _, graphs = built(checkpoint, "fp16-attention", TARGET)
        methods = describe_source(lowering_job(checkpoint, "fp16-attention", "tflite-hexagon-sm8550"))[1]
    assert [graphs[method.name].described(method.name) for method in methods] == methods and list(graphs) == [
        method.name for method in methods
    ]


def run_text(config, graphs, tokens, embedding):
    """A padded prompt, a padded later piece and single steps over a cache that the host keeps; yields each call's logits."""
    kv, dim = config.layers[0].attention.core.kv_heads, config.layers[0].attention.core.head_dim
    cache = {f"{part}.{n}": torch.zeros(kv, 1, 48, dim) for n in range(len(config.layers)) for part in ("key", "value")}
    frequencies = torch.tensor(config.layers[0].attention.rotation.inverse_frequencies)
    for name, start, stop in (("first_8", 0, 5), ("extend_16", 5, 18), ("decode", 18, 19), ("decode", 19, 20)):
        graph = graphs[name]
        count, length = stop - start, graph.tokens
        angles = torch.arange(start, start + length)[:, None] * frequencies
        cos, sin = torch.cos(angles), torch.sin(angles)
        rows = torch.zeros(length, config.hidden_size)
        rows[:count] = embedding[tokens[start:stop]]
        mask = torch.full((1, 48), MASKED)
        mask[0, :start] = 0
        feeds = {"embedding": rows, "cos": torch.cat([cos, cos], 1)[:, None], "sin": torch.cat([-sin, sin], 1)[:, None],
                 "last": torch.tensor([count - 1], dtype=torch.int32), "cache_mask": mask, **cache}  # fmt: skip
        method = graph.described(name)
        outputs = dict(zip((t.name for t in method.outputs), graph(*(feeds[t.name] for t in method.inputs)), strict=True))
        for tensor in method.outputs:
            assert list(outputs[tensor.name].shape) == tensor.shape and outputs[tensor.name].dtype == torch.float32
        for part, rows_kept in cache.items():
            rows_kept[:, :, start:stop] = outputs[part][:, :, :count]
        yield stop - 1, outputs["logits"][0]


@pytest.mark.parametrize("case", ["qwen2", "qwen3", "llama3", "nemotron", "smollm3", "hunyuan", "phi4-mini", "granite-tied"])
@pytest.mark.parametrize(("plan", "bound"), [("fp16", 0.01), ("fp16-attention", 0.08), ("fp16-attention-core", 0.08)])
def test_the_numbers_are_the_models(case, plan, bound, tmp_path):
    """Against transformers in FP32, over every kind of call; the bounds are those of the CPU's .pte."""
    model = random_model(case)
    tokens = torch.tensor(np.random.default_rng(5).integers(0, model.config.vocab_size, 20))
    with Checkpoint(save(model, tmp_path / "model")) as checkpoint, torch.no_grad():
        config, _, graphs = built(checkpoint, plan)
        expected = model(tokens[None]).logits[0]
        embedding = torch.from_numpy(checkpoint.matrix(config.embedding.weight).copy())
        for position, logits in run_text(config, graphs, tokens, embedding):
            wanted = expected[position]
            error = float(torch.sqrt(torch.mean((logits - wanted) ** 2)) / wanted.std())
            assert error < bound, (position, error)
            assert abs(float(logits.norm() / wanted.norm()) - 1) < bound


def test_weights_are_the_cpu_artifacts(tmp_path):
    """int8 rows and scales as torchao makes them, in one set that all graphs share."""
    with Checkpoint(save(random_model("qwen2"), tmp_path / "model")) as checkpoint:
        _, precisions, graphs = built(checkpoint, "fp16-attention")
    assert len({graph.module.head.rows.data_ptr() for graph in graphs.values()}) == 1
    state = {name.removeprefix("module."): weight for name, weight in graphs["decode"].state_dict().items()}
    for name, precision in precisions.items():
        if name.endswith(("core", "embedding")):
            continue
        stored = state[f"{name}.rows" if precision == "int8" else f"{name}.weight"]
        assert stored.dtype == (torch.int8 if precision == "int8" else torch.float16), name
