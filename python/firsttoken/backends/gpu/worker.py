"""The process that holds the GPU, for `firsttoken.backends.gpu.runner`: BUNDLE GRAPHS METHOD…, then requests as `backends.remote` has them."""

import sys
from pathlib import Path

from firsttoken.backends.gpu.model import GpuLitertlmRunner
from firsttoken.backends.remote import serve
from firsttoken.backends.runner import Runner
from firsttoken.backends.tflite.section import section_of
from firsttoken.bundle.manifest import read_manifest


def opened(bundle: Path, graphs: Path, names: list[str]) -> Runner:
    manifest = read_manifest(bundle)
    methods = [method for method in (manifest.gpu_artifact or manifest.cpu).methods if method.name in names]
    return GpuLitertlmRunner(manifest, section_of(graphs), methods, 1)


if __name__ == "__main__":
    serve(lambda: opened(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
