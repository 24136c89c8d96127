#!/usr/bin/env python3
"""INT2 rows on Hexagon, an experiment: what LiteRT's compiler makes of them, and what the demo checkpoint is then worth on the HTP backend.

    scripts/benchmarks/hexagon_low_bits.py

INT2 is no precision of firsttoken's. Some of the plan ``int4-npu``'s INT4 layers get two bits a weight instead, of which the integers are
chosen by the same GPTQ; the rest goes through export and proof as it always does. "none" in the first column is the plan itself.
"""

import os
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from unittest.mock import patch

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from measure_process import MIB, arguments, publish, table

from firsttoken.backends.tflite import weights
from firsttoken.backends.tflite.graph import Graph
from firsttoken.backends.tflite_hexagon import source
from firsttoken.bundle.manifest import read_manifest
from firsttoken.calibration import blocks
from firsttoken.demo import checkpoint_path
from firsttoken.pipeline import export
from firsttoken.prove.on_npu import prove_on_npu

PLAN = "int4-npu"
CHOICES = {
    "none": (),
    "mlp.gate": ("layers.*.mlp.gate",),
    "all that are INT4": ("layers.*",),
}


def takes(patterns: tuple[str, ...], layer: str) -> bool:
    """Whether a layer, INT4 by the plan, gets two bits."""
    return any(fnmatchcase(layer, pattern) for pattern in patterns)


class Halved:
    """A file in which a weight gets half the bytes that four bits would take."""

    def __init__(self, file) -> None:
        self.file = file

    def stream(self, name: str, size: int, chunks) -> int:
        return self.file.stream(name, size // 2, chunks)


def two_bit_weight(patterns: tuple[str, ...]) -> type[weights.Weight]:
    """The weights of a file, of which some are written as INT2: four values a byte, the earliest one in the lowest bits."""

    class Weight(weights.Weight):
        @property
        def narrow(self) -> bool:
            return self.precision == "int4" and takes(patterns, self.layer.name)

        def __init__(self, file, checkpoint, layer, precision, group=None) -> None:
            narrow = precision == "int4" and takes(patterns, layer.name)
            super().__init__(Halved(file) if narrow else file, checkpoint, layer, precision, group)
            self.file = file

        def _chunks(self) -> Iterator[np.ndarray]:
            if not self.narrow:
                yield from super()._chunks()
                return
            self.scales[:] = self.checkpoint.scales(self.source, 0, self.rows)[:, 0]
            values = np.rint(self.checkpoint.rows(self.source, 0, self.rows) / self.scales[:, None])
            assert values.min() >= -2 and values.max() <= 1, "chosen among the four that two bits hold"
            bits = values.astype(np.int8).view(np.uint8) & 3
            yield bits[:, 0::4] | (bits[:, 1::4] << 2) | (bits[:, 2::4] << 4) | (bits[:, 3::4] << 6)

        def tensor(self, graph: Graph) -> int:
            index = super().tensor(graph)
            if self.narrow:
                graph.subgraph.tensors[index].type = schema.TensorType.INT2
            return index

    return Weight


def two_bit_reader(patterns: tuple[str, ...]):
    """Reads the weights for the NPU's graphs; the CPU artifact, whose check takes no INT2, holds the same integers as INT4."""
    read, narrow = source.read_weights, two_bit_weight(patterns)

    def reader(*arguments, **options):
        with patch.object(weights, "Weight", narrow):
            return read(*arguments, **options)

    return reader


def two_bit_calibration(patterns: tuple[str, ...]) -> type[blocks.Calibration]:
    """GPTQ that chooses among four values in the layers that get two bits."""

    class Calibration(blocks.Calibration):
        def __init__(self, checkpoint, decoder, wanted, files) -> None:
            wanted = {name: (2 if bits == 4 and takes(patterns, name) else bits, group) for name, (bits, group) in wanted.items()}
            super().__init__(checkpoint, decoder, wanted, files)

    return Calibration


def measured(patterns: tuple[str, ...], target: str, positions: int | None) -> dict:
    """Exports and proves with those layers in two bits; the integers go into a cache folder of their own."""
    with (
        tempfile.TemporaryDirectory(prefix="firsttoken-low-bits-") as folder,
        patch.dict(os.environ, {"XDG_CACHE_HOME": folder}),
        patch.object(source, "read_weights", two_bit_reader(patterns)),
        patch.object(blocks, "Calibration", two_bit_calibration(patterns)),
    ):
        [bundle] = export(checkpoint_path(), Path(folder) / "out", PLAN, (target,), prove=False)
        manifest = read_manifest(bundle)
        summary = prove_on_npu(bundle, checkpoint_path(), most=(1024, positions) if positions else None, say=print).summary
        artifact = manifest.npu_artifact
        assert artifact is not None and artifact.npu is not None, "made for an NPU"
        graphs = artifact.npu.graphs
        return {
            "bytes": manifest.facts(artifact).bytes, "offloaded": sum(graph.offloaded for graph in graphs),
            "operators": sum(graph.operators for graph in graphs), "parts": max(graph.partitions for graph in graphs),
            "seconds": artifact.npu.compile_seconds, "npu": summary.all.model_dump(), "twin": summary.twin.model_dump() if summary.twin else None,
        }  # fmt: skip


def main():
    parser = arguments(__doc__)
    parser.add_argument("--target", default="tflite-hexagon-sm8550")
    parser.add_argument(
        "--choices", nargs="+", default=list(CHOICES), choices=list(CHOICES), help="what gets two bits (default: each in turn)"
    )
    parser.add_argument("--positions", type=int, help="most positions to compare (default: what `firsttoken export` takes)")
    options = parser.parse_args()
    rows, data = [], {}
    for name in options.choices:
        found = data[name] = measured(CHOICES[name], options.target, options.positions)
        npu, twin = found["npu"], found["twin"]
        rows.append([
            name, f"{npu['mean_kld']:.3g}", f"{npu['same_top']:.2%}", npu["tokens"], f"{twin['mean_kld']:.2g}" if twin else "", f"{twin['allowed_kld']:.2g}" if twin else "",
            f"{found['bytes'] / MIB:.2f}", f"{found['offloaded']} of {found['operators']}", found["parts"], f"{found['seconds']:.1f}",
        ])  # fmt: skip
        print(" | ".join(map(str, rows[-1])), flush=True)
    header = ["in two bits", "mean KLD, HTP", "same top", "positions", "from its twin", "rounding explains", "model.npu.tflite, MiB", "operators on the NPU", "parts", "compile s"]  # fmt: skip
    publish(options.work, "hexagon-low-bits", [table(header, rows)], {"low_bits": data})


if __name__ == "__main__":
    main()
