"""What every layer of a written GGUF file is stored in, read from the file itself."""

from collections.abc import Mapping
from pathlib import Path

from firsttoken.backends.gguf.families import written
from firsttoken.backends.gguf.storage import BLOCK, PRECISIONS
from firsttoken.backends.gguf.tensors import file_name
from firsttoken.bundle.manifest import AuditRow
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file.header import read_header
from firsttoken.precisions import without_group

FLAGS = {"f32": "fp32", "f16": "fp16"}


def audit(path: Path, decoder: Decoder, precisions: Mapping[str, str]) -> list[AuditRow]:
    """One row a layer, in the plan's order; llama.cpp computes a layer in what its tensor's type says. A core's is the file's hint to whoever runs it.

    Raises `FirstTokenError` for a file that cannot be read, or lacks a layer.
    """
    header, names = read_header(path), written(decoder)
    rows = []
    for layer in plan_layers(decoder):
        if layer.kind == "core":
            found = FLAGS.get(str(header.metadata.get("firsttoken.cache_type")), "unsaid")
            rows.append(AuditRow(layer=layer.name, asked=precisions[layer.name], stored=found, computed=found, delegated=False))
            continue
        name = f"{file_name(layer.name, names)}.weight"
        if name not in header.tensors and layer.name == "head" and decoder.tied_head:
            name = "token_embd.weight"  # llama.cpp takes it where there is no other
        if name not in header.tensors:
            raise FirstTokenError(f"{path}: has no tensor {name!r} for layer {layer.name!r}; export again")
        precision = PRECISIONS.get(header.tensors[name].dtype, header.tensors[name].dtype)
        group = f"/{BLOCK}" if precision == "int4" else ""
        rows.append(
            AuditRow(
                layer=layer.name,
                asked=precisions[layer.name],
                stored=f"{precision}{group}",
                computed=without_group(precision),
                delegated=False,
            )
        )
    return rows
