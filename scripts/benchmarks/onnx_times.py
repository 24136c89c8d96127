#!/usr/bin/env python3
"""The time of a prompt of 128 tokens and of single tokens behind it, in onnxruntime and in LiteRT: the same plan, one thread, round by round in turn.

And of attention alone, in both ways that an ONNX graph can have it: GroupQueryAttention over one memory for old and new rows, and old rows and new
ones put together, then products and a softmax.
"""

import shutil
import statistics
import time
from pathlib import Path

import numpy as np
from measure_process import MIB, arguments, publish, table

TARGETS = ("tflite-xnnpack", "onnx-cpu")
PROMPT, TOKENS = 128, 16
HEADS, KV_HEADS, HEAD_DIM, LENGTH = 9, 3, 64, 1280  # SmolLM2's


def measured(work: Path, checkpoint: str | Path, plan: str, rounds: int) -> list[dict]:
    """Medians in milliseconds, and bytes, by target."""
    from firsttoken.bundle.manifest import read_manifest
    from firsttoken.pipeline import export
    from firsttoken.run.open import open_runner

    out = work / "exports" / "onnx-times"
    shutil.rmtree(out, ignore_errors=True)
    bundles = export(checkpoint, out, plan, TARGETS, prove=False)
    runners = [open_runner(bundle, threads=1) for bundle in bundles]
    tokens = np.random.default_rng(1).integers(0, runners[0].manifest.tokenizer.vocab_size, PROMPT)
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in runners]
    for turn in range(rounds + 1):
        for runner, (prompts, singles) in zip(runners, times, strict=True):
            runner.reset()
            began = time.perf_counter()
            runner.prefill(tokens)
            ended = time.perf_counter()
            for token in tokens[:TOKENS]:
                runner.decode(int(token))
            if turn:  # the first one warms up
                prompts.append(ended - began)
                singles.append((time.perf_counter() - ended) / TOKENS)
    found = []
    for bundle, runner, (prompts, singles) in zip(bundles, runners, times, strict=True):
        manifest = read_manifest(bundle)
        runner.close()
        found.append(
            {
                "target": manifest.target.name,
                "bytes": manifest.size(manifest.cpu),
                "prompt_ms": [1e3 * t for t in prompts],
                "token_ms": [1e3 * t for t in singles],
            }
        )
    shutil.rmtree(out)
    return found


def grouped(graph) -> None:
    """Attention as the exporter writes it."""
    given = ["q", "k", "v", "pk", "pv", "before", "total"]
    attributes = {"num_heads": HEADS, "kv_num_heads": KV_HEADS, "scale": 1.0}
    graph.node_of("GroupQueryAttention", given, ["y", "nk", "nv"], "core", "com.microsoft", **attributes)


def put_together(graph) -> None:
    """Attention of standard operators, for one token, which needs no mask."""

    def by_head(x: str, heads: list[int]) -> str:
        split = graph.reshaped(x, heads)
        return graph.node("Transpose", [split], perm=[0, 2, 1, 3] if len(heads) == 2 else [0, 2, 3, 1, 4])

    for new, old, out in (("k", "pk", "nk"), ("v", "pv", "nv")):
        graph.node_of("Concat", [old, by_head(new, [KV_HEADS, HEAD_DIM])], [out], axis=2)
    axis = graph.constant([2], "int64")
    keys, values = (graph.node("Unsqueeze", [x, axis]) for x in ("nk", "nv"))
    query = by_head("q", [KV_HEADS, HEADS // KV_HEADS, HEAD_DIM])
    weights = graph.node("Softmax", [graph.node("FusedMatMul", [query, keys], domain="com.microsoft", transB=1)], axis=-1)
    mixed = graph.node("Transpose", [graph.node("MatMul", [weights, values])], perm=[0, 3, 1, 2, 4])
    graph.node_of("Identity", [graph.reshaped(mixed, [HEADS * HEAD_DIM])], ["y"])


def core_time(build, past: int, rounds: int) -> tuple[float, np.ndarray]:
    """Milliseconds of one token's attention over ``past`` rows, and what it gives."""
    import onnxruntime
    from onnx import helper

    from firsttoken.backends.onnx.graph import IR_VERSION, MICROSOFT, OPSET
    from firsttoken.backends.onnx.session import options
    from firsttoken.backends.onnx.values import ValueGraph

    graph, generator = ValueGraph("", None), np.random.default_rng(2)
    shared = build is grouped
    shapes = {"q": [1, 1, HEADS * HEAD_DIM], "k": [1, 1, KV_HEADS * HEAD_DIM], "v": [1, 1, KV_HEADS * HEAD_DIM]}
    arrays = {name: generator.standard_normal(shape, np.float32) * 0.2 for name, shape in shapes.items()}
    for name in ("pk", "pv"):
        arrays[name] = np.zeros((1, KV_HEADS, LENGTH if shared else past, HEAD_DIM), np.float32)
        arrays[name][:, :, :past] = generator.standard_normal((1, KV_HEADS, past, HEAD_DIM), np.float32)
        shapes[name] = [1, KV_HEADS, "past", HEAD_DIM]
    for name, shape in shapes.items():
        graph.input(name, "float32", shape)
    if shared:
        graph.input("before", "int32", [1])
        graph.input("total", "int32", [1])
    build(graph)
    outputs = {"y": [1, 1, HEADS * HEAD_DIM], "nk": [1, KV_HEADS, "rows", HEAD_DIM], "nv": [1, KV_HEADS, "rows", HEAD_DIM]}
    for name, shape in outputs.items():
        graph.output(name, "float32", shape)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph.finish("core"), opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()
    session = onnxruntime.InferenceSession(model, options(1), providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    if shared:
        arrays |= {"before": np.array([past], np.int32), "total": np.array([past + 1], np.int32)}
    result = np.zeros(outputs["y"], np.float32)
    new = (
        {"nk": arrays["pk"], "nv": arrays["pv"]}
        if shared
        else {n: np.zeros((1, KV_HEADS, past + 1, HEAD_DIM), np.float32) for n in ("nk", "nv")}
    )
    for name, array in arrays.items():
        binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    for name, array in ({"y": result} | new).items():
        binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        session.run_with_iobinding(binding)
        taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken), result


def main():
    from firsttoken.demo import checkpoint_path

    parser = arguments(__doc__)
    parser.add_argument("--checkpoints", nargs="+", default=["demo", "smollm2"], metavar="NAME|FOLDER")
    parser.add_argument("--plans", nargs="+", default=["fp32", "int8", "int4"], metavar="PLAN")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rows, data = [], {}
    for past in (128, 1024):
        one, other = core_time(grouped, past, 200), core_time(put_together, past, 200)
        apart = float(np.abs(one[1] - other[1]).max())
        print(
            f"attention of one token over {past} rows: GroupQueryAttention {one[0]:.3f} ms, put together {other[0]:.3f} ms, apart {apart:.1g}"
        )
        data[f"attention {past}"] = {"grouped_ms": one[0], "put_together_ms": other[0], "apart": apart}
    for name in options.checkpoints:
        for plan in options.plans:
            found = measured(options.work, checkpoint_path() if name == "demo" else name, plan, options.rounds)
            data[f"{name} {plan}"] = found
            for each in found:
                cells = [
                    f"{statistics.median(each[key]):.2f} ({min(each[key]):.2f}-{max(each[key]):.2f})" for key in ("prompt_ms", "token_ms")
                ]
                rows.append([Path(name).name, plan, each["target"], f"{each['bytes'] / MIB:.1f}", *cells])
    publish(options.work, "onnx-times", [table(["model", "plan", "target", "MiB", f"prompt of {PROMPT}, ms", "token, ms"], rows)], data)


if __name__ == "__main__":
    main()
