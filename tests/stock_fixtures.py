"""Files that litert-torch's export_hf and ExecuTorch's export_llm wrote, and faults planted in copies of them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmarks" / "stock_files.py"
LENGTHS, CACHE = (16, 64), 128


def export(form: str, checkpoint: Path, file: Path, *options: str) -> Path:
    command = [sys.executable, SCRIPT, form, checkpoint, file, "--cache-length", CACHE, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stderr[-3000:]
    return file


@pytest.fixture(scope="session")
def half_demo(tmp_path_factory) -> Path:
    """The demo checkpoint's first two layers: trained weights, and half the export."""
    from safetensors.torch import load_file, save_file

    from firsttoken.demo import checkpoint_path

    folder = Path(shutil.copytree(checkpoint_path(), tmp_path_factory.mktemp("half") / "half"))
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in tensors.items() if ".layers.2." not in name and ".layers.3." not in name},
        folder / "model.safetensors",
    )
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    return folder


@pytest.fixture(scope="session")
def stock_litertlm(half_demo, tmp_path_factory) -> Path:
    """`half_demo` by export_hf's default recipe: INT8, static lengths."""
    lengths = ",".join(map(str, LENGTHS))
    return export("litertlm", half_demo, tmp_path_factory.mktemp("stock") / "model.litertlm", "--prefill", lengths)


@pytest.fixture(scope="session")
def stock_pte(tiny_model, tmp_path_factory) -> Path:
    """A random two-layer Qwen2 by export_llm, in FP32."""
    return export("pte", tiny_model, tmp_path_factory.mktemp("stock") / "model.pte")


@pytest.fixture(scope="session")
def own_litertlm(demo_bundle, tmp_path_factory) -> Path:
    """firsttoken's own file with run-time lengths, out of its bundle."""
    path = tmp_path_factory.mktemp("own") / "alone.litertlm"
    path.write_bytes((demo_bundle("litertlm-cpu") / "model.litertlm").read_bytes())
    return path


def changed(path: Path, folder: Path, old: bytes, new: bytes) -> Path:
    """A copy in which ``old`` is ``new`` wherever it stands."""
    content = path.read_bytes()
    assert old in content and old != new and len(old) == len(new)
    copy = folder / path.name
    copy.write_bytes(content.replace(old, new))
    return copy


def scaled_weight(path: Path, folder: Path) -> Path:
    """One matrix times 1.05: its scales, in every graph that has it."""
    scales = next(scales for scales in matrix_scales(path) if len(scales) == 640)  # a gate of the demo's
    return changed(path, folder, scales.tobytes(), (scales * np.float32(1.05)).tobytes())


def dropped_bias(path: Path, folder: Path) -> Path:
    return change_constant(path, folder, lambda values: values.shape == (256,) and values.min() < 0, np.zeros_like)


def other_rope_base(path: Path, folder: Path) -> Path:
    def angles(base: float) -> np.ndarray:
        return (base ** (-np.arange(0, 64, 2) / 64)).astype(np.float32)

    return change_constant(
        path,
        folder,
        lambda values: values.size == 32 and np.allclose(values, angles(1e4), rtol=1e-4),
        lambda values: angles(8e3).reshape(values.shape),
    )


FAULTS: dict[str, Callable[[Path, Path], Path]] = {
    "one weight scaled by 1.05": scaled_weight, "a bias dropped": dropped_bias, "another rope base": other_rope_base,
}  # fmt: skip


def opened(path: Path):
    """The section with the graphs, and the model."""
    from firsttoken.backends.tflite.audit import read_header
    from firsttoken.foreign.signature_file import graphs

    section = graphs(path)
    return section, read_header(section)[0]


def matrix_scales(path: Path) -> list[np.ndarray]:
    _, model = opened(path)
    found = [tensor.quantization.scale for tensor in model.subgraphs[-1 if len(model.subgraphs) == 1 else 0].tensors if tensor.quantization]
    return [np.asarray(scales, np.float32) for scales in found if scales is not None and len(scales) > 1]


def change_constant(path: Path, folder: Path, chosen, change) -> Path:
    """A copy in which the first float32 constant that is ``chosen`` is another, at its own place."""
    from ai_edge_litert import schema_py_generated as schema

    section, model = opened(path)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            buffer = model.buffers[tensor.buffer]
            if tensor.type != schema.TensorType.FLOAT32 or (buffer.data is None and buffer.offset <= 1) or tensor.shape is None:
                continue
            raw = section.read(buffer.offset, buffer.size) if buffer.offset > 1 else np.asarray(buffer.data, np.uint8).tobytes()
            values = np.frombuffer(raw, np.float32).reshape(tensor.shape)
            if chosen(values):
                return changed(path, folder, raw, change(values).astype(np.float32).tobytes())
    raise AssertionError("no such constant")
