"""numpy on the CPU. Weights are stored in FP32 or FP16 and computed in FP32; it has no norms of query and key heads."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from firsttoken.backends.interface import Backend, Estimate, LoweringJob
from firsttoken.backends.lowering_result import Lowered, key_value_states
from firsttoken.backends.runner import Runner
from firsttoken.backends.stored import stored_bytes
from firsttoken.bundle.manifest import Artifact, AuditRow, Manifest, Method, Needs, Tensor
from firsttoken.decoder import forward
from firsttoken.decoder.families import describe
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import Named, norms, plan_layers, states
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.targets.target import Target
from firsttoken_numpy.ops import NumpyOps

STORED = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16)}
CONFIG = "config.json"  # travels in the artifact: the tree is described from it again
PRECISION_OF = {dtype: name for name, dtype in STORED.items()}


class NumpyBlas(Backend):
    name, runtime, delegate = "numpy-blas", "numpy", None
    artifact_file = "model.npz"
    package = "numpy"
    precisions = {"linear": ("fp32", "fp16"), "embedding": ("fp32", "fp16"), "core": ("fp32",)}  # noqa: RUF012
    features = frozenset({"rotary positions", "silu in a gated MLP"})
    native_fp16 = False

    def estimate(self, decoder: Decoder, precisions: Mapping[str, str], target: Target, prove: bool) -> Estimate:
        weights, _ = stored_bytes(plan_layers(decoder), precisions, shares_tied=False)
        return Estimate(self.runtime_memory + 2 * weights, weights)

    def lower(self, job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
        arrays = {name: job.checkpoint.vector(norm.weight) for name, norm in norms(job.decoder)}
        for layer in plan_layers(job.decoder):
            if layer.weight is not None:
                arrays[layer.name] = job.checkpoint.matrix(layer.weight).astype(STORED[job.precisions[layer.name]])
            if layer.bias is not None:
                arrays[f"{layer.name}.bias"] = job.checkpoint.vector(layer.bias)
        arrays[CONFIG] = np.frombuffer(json.dumps(job.checkpoint.config).encode(), np.uint8)
        np.savez(path, **arrays)
        tokens = Tensor(name="tokens", shape=["tokens"], dtype="int32")
        logits = Tensor(name="logits", shape=[job.decoder.vocab_size], dtype="float32")
        length = job.target.cache_length
        artifact = Artifact(
            file=path.name,
            backend=self.name,
            needs=Needs(runtime=self.runtime, min_runtime=job.target.min_runtime),
            methods=[Method(name="forward", inputs=[tokens], outputs=[logits])],
            states=key_value_states(job.decoder, "host", lambda s: [2, length, s.kv_heads, s.head_dim], 1, lambda _: "float32", length),
        )
        return Lowered([artifact])

    def audit(self, path: Path, decoder: Decoder, precisions: Mapping[str, str]) -> list[AuditRow]:
        arrays = read_arrays(path)
        stored = {layer.name: "fp32" if layer.weight is None else PRECISION_OF[arrays[layer.name].dtype] for layer in plan_layers(decoder)}
        return [
            AuditRow(layer=name, asked=precisions[name], stored=kept, computed="fp32", delegated=False) for name, kept in stored.items()
        ]

    def open_runner(self, folder: Path, manifest: Manifest, artifact: Artifact, threads: int | None = None, kept: bool = True) -> Runner:
        return NumpyRunner(read_arrays(folder / artifact.file), manifest)


class NumpyRunner(Runner):
    """Weights in FP32 in memory. numpy has its own number of threads."""

    def __init__(self, arrays: dict[str, np.ndarray], manifest: Manifest):
        super().__init__(manifest)
        self.decoder = describe(json.loads(arrays.pop(CONFIG).tobytes()))
        self.weights = {name: array.astype(np.float32) for name, array in arrays.items()}
        self.cache = {
            state.name: np.zeros((2, self.cache_length, state.kv_heads, state.head_dim), np.float32) for state in states(self.decoder)
        }

    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        return forward.logits(NumpyOps(self.weights, self.cache, tokens, self.position), Named(self.decoder))[-1]

    def _decode(self, token: int) -> np.ndarray:
        return self._prefill(np.array([token]))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of an artifact. Raises `FirstTokenError` for a file that is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise FirstTokenError(f"{path}: not an .npz that can be read ({error}); export the checkpoint again") from None
