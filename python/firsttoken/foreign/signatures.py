"""What a .tflite offers: LiteRT-LM's signatures, as litert-torch's export_hf writes them, of static or of run-time lengths.

``prefill`` (or ``prefill_N`` …) and ``decode``: ``tokens`` [1, S], ``input_pos`` [S], ``mask`` [1, 1, S, C], and ``kv_cache_k_0``, ``kv_cache_v_0`` …,
which go in and out; ``decode`` gives ``logits`` [1, 1, V].
"""

import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from firsttoken.backends.tflite.audit import read_header
from firsttoken.backends.tflite.section import Section
from firsttoken.backends.tflite.verify import check_model, refuse, text, type_names
from firsttoken.errors import FirstTokenError
from firsttoken.machine import available_memory
from firsttoken.safe_text import visible
from firsttoken.units import readable

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

DECODE, PREFILL = "decode", "prefill"
STATIC = re.compile(r"prefill_([1-9]\d{0,6})")
CACHE = re.compile(r"kv_cache_[kv]_\d{1,4}")
TYPES = {"FLOAT32": "float32", "FLOAT16": "float16", "INT32": "int32", "INT64": "int64", "INT8": "int8", "BOOL": "bool"}
INTEGERS, MASKS, STATES = ("int32", "int64"), ("float32", "float16", "bool"), ("float32", "float16", "int8")
EXPECTED = "expected decode and prefill or prefill_N, with tokens, input_pos, mask and kv_cache_k_0, kv_cache_v_0 …, as litert-torch export_hf writes them"
OURS = {"first", "extend", "decode"}
DAMAGED = (struct.error, IndexError, TypeError, ValueError, AttributeError, OverflowError, UnicodeDecodeError, RecursionError, KeyError)
LISTED = 12  # names that a message repeats
ROWS = "cached"


@dataclass(frozen=True)
class Tensor:
    """A signature's input or output. A dimension is a number, or the name of one that is chosen at run time: "tokens" or "cached"."""

    name: str
    shape: list[int | str]
    dtype: str


@dataclass(frozen=True)
class Signature:
    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]


@dataclass(frozen=True)
class Offer:
    """The signatures by name. ``lengths`` are those of static prefill, ascending; empty where lengths are chosen at run time."""

    signatures: dict[str, Signature]
    lengths: list[int]

    @property
    def decode(self) -> Signature:
        return self.signatures[DECODE]

    @property
    def states(self) -> list[Tensor]:
        """The cache's tensors."""
        return [tensor for tensor in self.decode.inputs if CACHE.fullmatch(tensor.name)]

    @property
    def rows(self) -> int | None:
        """The cache's length in rows; None where it is chosen at run time."""
        [mask] = [tensor for tensor in self.decode.inputs if tensor.name == "mask"]
        return mask.shape[3] if isinstance(mask.shape[3], int) else None

    @property
    def vocab_size(self) -> int:
        [logits] = [tensor for tensor in self.decode.outputs if tensor.name == "logits"]
        return int(logits.shape[-1])

    def check_memory(self, path: Path, rows: int) -> None:
        """Raises `FirstTokenError` where a cache of ``rows`` rows, and the masks over it, would not fit this machine's memory."""
        items = {"float32": 4, "float16": 2, "int8": 1, "bool": 1}
        masks = [max(self.lengths, default=512) * rows * 4]
        needed = sum(masks + [math.prod(n if isinstance(n, int) else rows for n in each.shape) * items[each.dtype] for each in self.states])
        if needed > available_memory():
            raise FirstTokenError(
                f"{path}: a cache of {rows} rows takes {readable(needed)}, {readable(available_memory())} are available; give a shorter --cache-length if the file allows one"
            )


def read_offer(artifact: Section) -> tuple[Offer, "schema.ModelT", int]:
    """Returns the signatures, the model object and its length in bytes, having checked that the file hangs together.

    Raises `FirstTokenError` for a damaged file and for one without these signatures, saying which it has.
    """
    try:
        model, size = read_header(artifact)
        check_model(artifact, model, ())
        found = {text(entry.signatureKey): signature_of(artifact, model, entry) for entry in model.signatureDefs}
    except DAMAGED as error:
        refuse(artifact, f"its flatbuffer is damaged ({type(error).__name__})")
    return chosen(artifact.path, found), model, size


def signature_of(artifact: Section, model: "schema.ModelT", entry: "schema.SignatureDefT") -> Signature:
    graph = model.subgraphs[entry.subgraphIndex]

    def tensors(maps: Sequence["schema.TensorMapT"]) -> list[Tensor]:
        made = []
        for one in maps or []:
            if not 0 <= one.tensorIndex < len(graph.tensors):
                refuse(artifact, f"tensor {one.tensorIndex} of signature {text(entry.signatureKey)!r} is not there")
            tensor, name = graph.tensors[one.tensorIndex], text(one.name)
            shape = tensor.shape if tensor.shapeSignature is None or not len(tensor.shapeSignature) else tensor.shapeSignature
            kind = type_names().get(tensor.type, str(tensor.type))
            made.append(Tensor(name, named(name, [int(n) for n in ([] if shape is None else shape)]), TYPES.get(kind, kind)))
        return made

    return Signature(text(entry.signatureKey), tensors(entry.inputs), tensors(entry.outputs))


def named(name: str, shape: list[int]) -> list[int | str]:
    """A shape with its run-time dimensions named: the mask's last and the cache's are rows, all others tokens."""
    rows = {len(shape) - 1} if name == "mask" else set(range(len(shape))) if CACHE.fullmatch(name) else set()
    return [n if n >= 0 else ROWS if place in rows else "tokens" for place, n in enumerate(shape)]


def chosen(path: Path, found: dict[str, Signature]) -> Offer:
    """The signatures that are run, checked against each other. Raises `FirstTokenError`."""
    lengths = sorted(int(match[1]) for name in found if (match := STATIC.fullmatch(name)))
    if set(found) == OURS:
        raise FirstTokenError(f"{path}: is the model.tflite of a bundle of firsttoken's own; give the bundle's folder")
    if DECODE not in found or not (lengths or PREFILL in found):
        has = "; ".join(f"{visible(name)} ({names(found[name].inputs)})" for name in sorted(found)[:LISTED])
        raise FirstTokenError(f"{path}: has the signatures {has}; {EXPECTED}")
    used = [DECODE] + ([PREFILL] if PREFILL in found else [f"{PREFILL}_{length}" for length in lengths])
    offer = Offer({name: found[name] for name in used}, [] if PREFILL in found else lengths)
    for name in used:
        tokens: int | str = 1 if name == DECODE else "tokens" if name == PREFILL else int(name.partition("_")[2])
        check_signature(path, found[name], found[DECODE], tokens)
    return offer


def names(tensors: list[Tensor]) -> str:
    shown = ", ".join(visible(tensor.name) for tensor in tensors[:LISTED])
    return shown + (" …" if len(tensors) > LISTED else "")


def check_signature(path: Path, signature: Signature, decode: Signature, tokens: int | str) -> None:
    """Raises `FirstTokenError` unless ``signature`` takes ``tokens`` tokens over the same cache as ``decode``."""

    def no(what: str) -> NoReturn:
        raise FirstTokenError(f"{path}: signature {visible(signature.name)!r} {what}; {EXPECTED}")

    inputs, outputs = ({each.name: each for each in tensors} for tensors in (signature.inputs, signature.outputs))
    cache = {each.name: each for each in decode.inputs if CACHE.fullmatch(each.name)}
    wanted = {"tokens", "input_pos", "mask", *cache}
    if not cache or set(inputs) != wanted:
        lacks, more = sorted(wanted - set(inputs)), sorted(set(inputs) - wanted)
        no(f"lacks the input {lacks[0]!r}" if lacks else f"has the input {visible(more[0])!r} besides" if more else "has no cache")
    for name, each in cache.items():
        if inputs[name] != each or outputs.get(name) != each:
            no(f"has {name!r} not as decode has it, in and out")
        if each.dtype not in STATES or each.shape.count(ROWS) > 1:
            no(f"has {name!r} in {each.dtype} {each.shape}, expected one of {', '.join(STATES)} with one run-time dimension at most")
    masked = inputs["mask"].shape
    rows = masked[3] if len(masked) == 4 else None
    for name, shape, kinds in (("tokens", [1, tokens], INTEGERS), ("input_pos", [tokens], INTEGERS), ("mask", [1, 1, tokens, rows], MASKS)):
        if inputs[name].shape != shape or inputs[name].dtype not in kinds:
            no(f"has {name!r} {inputs[name].shape} in {inputs[name].dtype}, expected {shape} in one of {', '.join(kinds)}")
    if (rows == ROWS) != all(ROWS in each.shape for each in cache.values()) or rows != next(
        t for t in decode.inputs if t.name == "mask"
    ).shape[3]:
        no(f"has a mask over {rows} rows, which is not the cache's length")
    if signature is decode:
        logits = outputs.get("logits")
        if logits is None or logits.shape[:-1] != [1, 1] or not isinstance(logits.shape[-1], int) or logits.dtype not in STATES[:2]:
            no(f"gives no 'logits' [1, 1, vocabulary] ({'absent' if logits is None else f'{logits.shape} in {logits.dtype}'})")
