"""Writing a decoder checkpoint as one GGUF file, tensor by tensor, and holding what was written against what was meant."""

import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from firsttoken.backends.gguf.families import Written, check_family
from firsttoken.backends.gguf.metadata import describe
from firsttoken.backends.gguf.probes import composes, different
from firsttoken.backends.gguf.tensors import ROPE_FREQUENCIES, Tensor, bytes_of, stored, tensors
from firsttoken.backends.gguf.vocabulary import vocabulary
from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.lowering_result import Lowered, key_value_states
from firsttoken.backends.registry import find_backend
from firsttoken.bundle.manifest import Artifact, Method, Needs
from firsttoken.bundle.manifest import Tensor as Described
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.extras import missing
from firsttoken.gguf_file.header import read_header
from firsttoken.gguf_file.vocabulary import Vocabulary
from firsttoken.progress import Report, silent
from firsttoken.tokenizer import Tokenizer

CACHE = {"fp32": "float32", "fp16": "float16"}
FLAGS = {"fp32": "f32", "fp16": "f16"}  # of llama.cpp's --cache-type-k and --cache-type-v
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7}  # llama_ftype, by the type that most values have
WORD_KEYS = ("bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id", "unknown_token_id", "padding_token_id", "add_bos_token", "add_eos_token", "add_space_prefix")  # fmt: skip
CACHE_KEY = "firsttoken.cache_type"
RENAMED = "(?i)phi-?3|modern-bert"
"""A model so named llama.cpp cuts text for by other rules, and needs tokens such as </s> (llama-vocab.cpp)."""


def lower_decoder(job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
    """Writes ``path`` and returns what the manifest says of it. Raises `FirstTokenError` for what llama.cpp has no place for, before anything is
    written, and for damaged weights; ``path`` is then incomplete and the caller's to remove."""
    if not job.ends:
        raise FirstTokenError(
            f"target {job.target.name!r}: no token ends an answer, and llama.cpp takes token 11 or 2 for one where a GGUF file names none; give --end-token, or another target"
        )
    whole = open_decoder(job.checkpoint)  # with the windows that the target's cache never leaves; others may use the file with a longer one
    written = check_family(whole, job.target.cache_length)
    keys, turned = describe(whole, job.checkpoint.config, written)
    words = vocabulary(job.checkpoint.folder, whole.vocab_size, job.begin, job.ends, path)
    found = tensors(whole, job.precisions, written)
    cache = {job.precisions[name] for name in job.precisions if name.endswith(".core")}.pop()
    values = {f"{written.architecture}.{key}": value for key, value in keys.items()} | general(job, found, cache)
    write(path, written, values, words, found, job.checkpoint, turned.divisors, report)
    check_written(path, found, turned.divisors)
    return Lowered([describe_artifact(job, cache)], notes(job, path, cache))


def describe_artifact(job: LoweringJob, cache: str) -> Artifact:
    inputs = [Described(name="tokens", shape=["tokens"], dtype="int32")]
    outputs = [Described(name="logits", shape=[job.decoder.vocab_size], dtype="float32")]
    kept = key_value_states(
        job.decoder, "artifact", lambda state: [job.target.cache_length, state.kv_heads, state.head_dim], 0, lambda state: CACHE[cache],
        job.target.cache_length, advances="in_place",
    )  # fmt: skip
    backend = find_backend(job.target.backend)
    needs = Needs(runtime=job.target.runtime, min_runtime=job.target.min_runtime)
    return Artifact(
        file=backend.artifact_file,
        backend=backend.name,
        needs=needs,
        methods=[Method(name="decode", inputs=inputs, outputs=outputs)],
        states=kept,
    )


def general(job: LoweringJob, found: list[Tensor], cache: str) -> dict[str, Any]:
    """What the file says of itself. ``firsttoken.cache_type`` is a hint: llama.cpp takes the KV cache's precision when it runs, from whoever runs it."""
    sizes: dict[str, int] = {}
    for tensor in found:
        sizes[tensor.kind] = sizes.get(tensor.kind, 0) + int(np.prod(tensor.shape))
    return {
        "general.name": re.sub(RENAMED, "model", job.checkpoint.name),
        "general.file_type": FILE_TYPES[max(sizes, key=lambda kind: sizes[kind])],
        "general.quantization_version": 2,
        "firsttoken.version": version("firsttoken"),
        "firsttoken.plan": job.plan.name,
        "firsttoken.checkpoint": job.checkpoint.fingerprint(),
        CACHE_KEY: FLAGS[cache],
    }


def write(
    path: Path,
    written: Written,
    values: dict[str, Any],
    words: Vocabulary,
    found: list[Tensor],
    checkpoint: Checkpoint,
    divisors: np.ndarray | None,
    report: Report,
) -> None:
    """Writes the whole file; at most one tensor is in memory, as its blocks."""
    from gguf import GGMLQuantizationType, GGUFWriter

    writer = GGUFWriter(path, written.architecture)
    try:
        for key, value in values.items():
            add(writer, key, value)
        for key, value in word_values(words):
            add(writer, key, value)
        for tensor in found:
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), bytes_of(tensor), GGMLQuantizationType[tensor.kind])
        if divisors is not None:
            writer.add_tensor_info(ROPE_FREQUENCIES, divisors.shape, np.dtype(np.float32), divisors.nbytes)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for number, tensor in enumerate(found):
            report("writing", number, len(found), "tensors")
            raw = np.empty(bytes_of(tensor), np.uint8)
            at = 0
            for piece in stored(checkpoint, tensor):
                raw[at : at + len(piece)] = piece
                at += len(piece)
            assert at == len(raw), f"{tensor.name} has {at} bytes, expected {len(raw)}"
            writer.write_tensor_data(raw)
        if divisors is not None:
            writer.write_tensor_data(divisors)
        report("writing", len(found), len(found), "tensors")
    finally:
        writer.close()


def word_values(words: Vocabulary) -> Iterator[tuple[str, Any]]:
    """The tokenizer's keys with their values, as llama.cpp names them."""
    start = "tokenizer.ggml."
    yield f"{start}model", words.model
    yield f"{start}pre", words.pre
    yield f"{start}tokens", words.tokens
    yield f"{start}token_type", [int(kind) for kind in words.kinds]
    if words.merges:
        yield f"{start}merges", words.merges
    if len(words.scores):
        yield f"{start}scores", [float(score) for score in words.scores]
    yield from ((f"{start}{key}", words.settings[key]) for key in WORD_KEYS if key in words.settings)
    if words.chat_template is not None:
        yield "tokenizer.chat_template", words.chat_template


def add(writer: Any, key: str, value: Any) -> None:
    """Adds metadata in the type that llama.cpp reads it as: whole numbers unsigned, but for the kinds of tokens."""
    from gguf import GGUFValueType as Kind

    if isinstance(value, list):
        inside = {bool: Kind.BOOL, int: Kind.INT32, float: Kind.FLOAT32, str: Kind.STRING}[type(value[0])]
        writer.add_key_value(key, value, Kind.ARRAY, inside)
        return
    writer.add_key_value(key, value, {bool: Kind.BOOL, int: Kind.UINT32, float: Kind.FLOAT32, str: Kind.STRING}[type(value)])


def check_written(path: Path, found: list[Tensor], divisors: np.ndarray | None) -> None:
    """Raises `FirstTokenError` unless the file, read again, has the tensors that were meant, in their types and shapes."""
    meant = {tensor.name: (tensor.kind, tensor.shape) for tensor in found}
    meant |= {} if divisors is None else {ROPE_FREQUENCIES: ("F32", divisors.shape)}
    read = {name: (blocks.dtype, blocks.shape) for name, blocks in read_header(path).tensors.items()}
    if read != meant:
        name = min(name for name in meant.keys() | read.keys() if meant.get(name) != read.get(name))
        raise FirstTokenError(
            f"{path}: tensor {name!r} was written as {read.get(name)}, meant was {meant.get(name)}; report it with this checkpoint"
        )


def notes(job: LoweringJob, path: Path, cache: str) -> list[str]:
    """What a user should know who runs the file. Raises `FirstTokenError` where llama.cpp itself cuts text otherwise than the tokenizer."""
    tokenizer = Tokenizer(job.checkpoint.folder)
    said = [
        f"the KV cache's precision is no part of a GGUF file: llama.cpp's programs take --cache-type-k {FLAGS[cache]} --cache-type-v {FLAGS[cache]} for what the plan asks"
    ]
    if composes(tokenizer):
        said.append(
            "llama.cpp does not join accents with their letters (NFC), which this tokenizer does: text with accents of their own is cut otherwise there"
        )
    if len(job.ends) > len(ENDS_HELD):
        said.append(f"a GGUF file names three end tokens at most; {len(job.ends) - len(ENDS_HELD)} of {len(job.ends)} are left out")
    if missing("gguf-run"):
        said.append(
            "its tokenizer was held against the original as a reader rebuilds it, not in llama.cpp itself, which is not installed: pip install 'firsttoken[gguf-run]'"
        )
        return said
    from firsttoken.backends.gguf.llamacpp import tokenizing

    with tokenizing(path) as encode:
        other = different(tokenizer, encode)
    if other is not None:
        raise FirstTokenError(f"llama.cpp cuts text otherwise than {tokenizer.folder / 'tokenizer.json'}: {other}; no GGUF file is written")
    return said


ENDS_HELD = ("eos_token_id", "eot_token_id", "eom_token_id")
