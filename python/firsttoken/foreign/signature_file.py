""".tflite and .litertlm files: what they say of themselves, where their graphs lie, what they are made of."""

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken.backends.runner import Runner
from firsttoken.backends.tflite.section import Section, section_of
from firsttoken.errors import FirstTokenError
from firsttoken.foreign.facts import CHUNK, Offered, Subject
from firsttoken.foreign.signatures import Offer, read_offer
from firsttoken.foreign.structure import Structure
from firsttoken.safe_text import visible

if TYPE_CHECKING:
    from litert_lm_builder.runtime.proto.llm_metadata_pb2 import LlmMetadata

LARGEST_METADATA = 16 << 20  # bytes; templates are text


def graphs(path: Path) -> Section:
    """Where the .tflite with the graphs lies. Raises `FirstTokenError`."""
    from firsttoken.backends.litertlm.container import graphs_of, is_container

    return graphs_of(path) if is_container(path) else section_of(path)


def offer_of(path: Path) -> tuple[Section, Offer]:
    """Where the graphs lie and their signatures; read once while the file stays as it is. Raises `FirstTokenError`."""
    facts = os.stat(path)
    return _offer_of(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(1)
def _offer_of(path: Path, size: int, changed: int) -> tuple[Section, Offer]:
    section = graphs(path)
    return section, read_offer(section)[0]


def metadata_of(path: Path) -> "LlmMetadata | None":
    """A .litertlm's ``LlmMetadata``; None for a .tflite, or a container without it. Raises `FirstTokenError` for a damaged one."""
    from firsttoken.backends.litertlm.container import METADATA, is_container, read_sections

    section = read_sections(path).get(METADATA) if is_container(path) else None
    if section is None:
        return None
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from litert_lm_builder.runtime.proto.llm_metadata_pb2 import LlmMetadata

    if section.size > LARGEST_METADATA:
        raise FirstTokenError(f"{path}: its LlmMetadata has {section.size} bytes; expected {LARGEST_METADATA} at most, the file is damaged")
    try:
        return LlmMetadata.FromString(section.read(0, section.size))
    except DecodeError as error:
        raise FirstTokenError(f"{path}: its LlmMetadata is damaged ({visible(error)}); copy or export it again") from None


def offered(path: Path) -> Offered:
    """What the file says of itself. Raises `FirstTokenError` for a file without the signatures, or a damaged one."""
    _, offer = offer_of(path)
    metadata = metadata_of(path)
    length, whence = offer.rows, "the shape of its mask"
    if length is None:
        whence = "LlmMetadata.max_num_tokens"
        length = (metadata.max_num_tokens or None) if metadata is not None else None
    elif metadata is not None and 0 < metadata.max_num_tokens < length:
        length, whence = metadata.max_num_tokens, f"LlmMetadata.max_num_tokens, under a mask over {length}"
    return Offered(
        vocab_size=offer.vocab_size,
        cache_length=length,
        looked_for=whence if length is not None or metadata is not None else "a mask of fixed length, and LlmMetadata of a .litertlm",
        fixed=offer.rows is not None,
        chunk=offer.lengths[-1] if offer.lengths else CHUNK,
        names_words=metadata is not None,
        begin=begin_of(metadata),
        runtime="litert",
    )


def begin_of(metadata: "LlmMetadata | None") -> int | str | None:
    """The token that every prompt begins with, as a number or a text."""
    if metadata is None or not metadata.HasField("start_token"):
        return None
    token = metadata.start_token
    return token.token_str or None if token.HasField("token_str") else next(iter(token.token_ids.ids), None)


def structure(path: Path) -> Structure:
    """What it is made of. Raises `FirstTokenError`."""
    from firsttoken.foreign.signature_audit import look_into

    return look_into(graphs(path))


def open_runner(path: Path, subject: Subject, threads: int | None, kept: bool) -> Runner:
    """Loads it. Raises `FirstTokenError`."""
    from firsttoken.backends.litertlm.runner import LitertlmRunner
    from firsttoken.foreign.open import hash_of

    section, offer = offer_of(path)
    offer.check_memory(path, subject.target.cache_length)
    packed = (hash_of(path), os.stat(path).st_size) if kept else None
    runner = LitertlmRunner(subject, section, offer.signatures.values(), threads, packed)
    runner.prefill_chunk = runner.cache_length  # pieces are chosen there, as LiteRT-LM does, with one decode step at the end of all
    return runner


def preload() -> None:
    """Imports what running takes."""
    import firsttoken.backends.litertlm.container
    import firsttoken.backends.litertlm.runner
    import firsttoken.foreign.signature_audit  # noqa: F401
