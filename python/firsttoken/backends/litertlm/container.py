"""A .litertlm file: sections (metadata, tokenizer, graphs) behind a header, written and read with Google's own package.

Format: https://github.com/google-ai-edge/LiteRT-LM, schema/core/litertlm_header_schema.fbs.
"""

import os
import struct
from pathlib import Path
from typing import Any, Literal

from firsttoken.backends.tflite.section import Section, section_of
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need
from firsttoken.plain_file import open_plain, why

MAGIC = b"LITERTLM"
VERSION_AT, HEADER_END_AT, HEADER_AT = 8, 24, 32  # the versions as three uint32, then where the header ends as uint64
MAJOR = 1
LARGEST_HEADER = 16 << 20
GRAPHS, METADATA, TOKENIZER = "TFLiteModel", "LlmMetadataProto", "HF_Tokenizer_Zlib"
MAIN = "tf_lite_prefill_decode"


def is_container(path: Path) -> bool:
    """Whether a file begins as a .litertlm does. Raises `OSError`."""
    with open_plain(path) as stream:
        return stream.read(len(MAGIC)) == MAGIC


def read_sections(path: Path) -> dict[str, Section]:
    """The sections by the name of their kind; of several graphs the main ones. Raises `FirstTokenError` for a file that is no such container."""
    need("litertlm", f"reading {path}")
    from litert_lm_builder import litertlm_header_schema_py_generated as schema

    kinds = {value: name for name, value in vars(schema.AnySectionDataType).items() if isinstance(value, int)}
    try:
        with open_plain(path) as stream:
            size, start = os.fstat(stream.fileno()).st_size, stream.read(HEADER_AT)
            if start[: len(MAGIC)] != MAGIC:
                raise FirstTokenError(f"{path}: is no .litertlm file (it begins {start[:8]!r}, expected {MAGIC!r})")
            [major], [end] = struct.unpack_from("<I", start, VERSION_AT), struct.unpack_from("<Q", start, HEADER_END_AT)
            if major != MAJOR:
                raise FirstTokenError(f"{path}: .litertlm version {major}; expected {MAJOR}, which the installed litert-lm-builder writes")
            if not HEADER_AT < end <= min(size, LARGEST_HEADER):
                raise FirstTokenError(f"{path}: its header ends at byte {end} of {size}; the file is damaged, copy or export it again")
            header = schema.LiteRTLMMetaData.GetRootAs(stream.read(end - HEADER_AT), 0)
        found: dict[str, Section] = {}
        sections = header.SectionMetadata()
        for entry in (sections.Objects(n) for n in range(sections.ObjectsLength())):
            kind, begin, last = kinds.get(entry.DataType(), ""), entry.BeginOffset(), entry.EndOffset()
            if not HEADER_AT < begin <= last <= size:
                raise FirstTokenError(f"{path}: a section ends at byte {last} of {size}; the file is damaged, copy or export it again")
            if kind != GRAPHS or _facts(entry).get("model_type", MAIN).lower() == MAIN:
                found.setdefault(kind, Section(path, begin, last - begin))
    except OSError as error:
        raise FirstTokenError(f"{path}: cannot be read ({why(error)})") from None
    except (struct.error, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise FirstTokenError(f"{path}: its header is damaged ({type(error).__name__}); copy or export it again") from None
    return found


def _facts(table: Any) -> dict[str, str]:
    """The texts that a section's metadata holds, by their keys."""
    from litert_lm_builder import litertlm_header_schema_py_generated as schema

    found = {}
    for item in (table.Items(n) for n in range(table.ItemsLength())):
        if item.ValueType() == schema.VData.StringValue:
            value = schema.StringValue()
            value.Init(item.Value().Bytes, item.Value().Pos)
            found[_text(item.Key())] = _text(value.Value())
    return found


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


def graphs_of(path: Path) -> Section:
    """Where the .tflite with prefill and decode lies. Raises `FirstTokenError` for a file without one."""
    sections = read_sections(path)
    if GRAPHS not in sections:
        raise FirstTokenError(f"{path}: holds no graphs for prefill and decode, only {', '.join(sorted(sections)) or 'nothing'}")
    return sections[GRAPHS]


def graphs_in(path: Path) -> Section:
    """The graphs of a .litertlm, or a .tflite as a whole. Raises `FirstTokenError` for a container without graphs, `OSError` for no file."""
    return graphs_of(path) if is_container(path) else section_of(path)


def pack(
    path: Path, graphs: Path, metadata: bytes, tokenizer: Path, facts: dict[str, str], only: Literal["cpu", "gpu"] | None = "cpu"
) -> None:
    """Writes ``path`` from the .tflite, the serialized ``LlmMetadata`` and a ``tokenizer.json``; ``facts`` go into the header, readable by all.

    The graphs are marked as for ``only`` one kind of processor: without it apps offer the GPU, which cannot run run-time lengths. Raises `OSError`.
    """
    import litert_lm_builder as builder

    metadata_file = graphs.with_name(graphs.name + ".metadata")
    metadata_file.write_bytes(metadata)
    try:
        made = builder.LitertLmFileBuilder()
        for key, value in facts.items():
            made.add_system_metadata(builder.Metadata(key=key, value=value, dtype=builder.DType.STRING))
        made.add_llm_metadata(str(metadata_file))
        made.add_hf_tokenizer(str(tokenizer))
        made.add_tflite_model(str(graphs), builder.TfLiteModelType.PREFILL_DECODE, backend_constraint=only)
        with open(path, "wb") as stream:
            made.build(stream)
            stream.flush()
            os.fsync(stream.fileno())
    finally:
        metadata_file.unlink(missing_ok=True)
