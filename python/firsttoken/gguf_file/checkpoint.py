"""A GGUF file as a checkpoint: tensors under transformers' names, dequantized as they are streamed; words rebuilt in the cache folder."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from firsttoken.bundle.atomic import Staging
from firsttoken.cache_folder import cache_folder
from firsttoken.checkpoint import Checkpoint, StoredTensor
from firsttoken.errors import FirstTokenError
from firsttoken.gguf_file.architectures import ROPE_FREQUENCIES, architecture_of, configuration, is_plus_one, row_order, tensor_name
from firsttoken.gguf_file.blocks import BLOCKS, LATTICES, PLAIN, block_scales, dequantized
from firsttoken.gguf_file.header import Header, read_header
from firsttoken.gguf_file.tokenizer_json import tokenizer_files
from firsttoken.gguf_file.vocabulary import read_vocabulary
from firsttoken.lattice import Lattice

WORDS_VERSION = 2  # of what `rebuilt_words` writes: another number, another folder


class GgufCheckpoint(Checkpoint):
    """A checkpoint whose weights and words are in one GGUF file.

    ``folder`` holds what was rebuilt: ``config.json`` and the tokenizer's files, in firsttoken's cache folder. Weights are what their blocks
    hold, in float32; what was lost when they were quantized stays lost, and `note` says so. Raises `FirstTokenError`.
    """

    readable = BLOCKS

    def __init__(self, file: str | Path) -> None:
        path = Path(file)
        header = read_header(path)
        architecture = architecture_of(path, header)
        self.config = configuration(path, header)
        self.files, self._descriptors = [path], {}
        self.tensors: dict[str, StoredTensor] = {}
        self._orders: dict[str, tuple[int, ...]] = {}
        self._plus_one: set[str] = set()
        for given, stored in header.tensors.items():
            if given == ROPE_FREQUENCIES:  # in the configuration by now
                continue
            name = tensor_name(path, given, architecture)
            self.tensors[name] = StoredTensor(0, stored.offset, stored.shape, stored.dtype, stored.length)
            if is_plus_one(name, architecture):
                self._plus_one.add(name)
            if order := row_order(given, architecture, self.config):
                if stored.shape[0] % len(order):
                    raise FirstTokenError(f"{path}: tensor {given!r} has {stored.shape[0]} rows, which are no whole heads of {len(order)}")
                self._orders[name] = order
        self.note = _note(path, header)
        self.folder = rebuilt_words(path, header, self.config)

    @property
    def name(self) -> str:
        return self.files[0].resolve().stem

    def _float_rows(self, name: str, tensor: StoredTensor, start: int, stop: int) -> np.ndarray:
        return self._ordered(name, start, stop, lambda begin, end: self._dequantized(name, tensor, begin, end))

    def _ordered(self, name: str, start: int, stop: int, read: Callable[[int, int], np.ndarray]) -> np.ndarray:
        """Rows in transformers' order of what ``read`` gives in the file's."""
        order = self._orders.get(name)
        if order is None:
            return read(start, stop)
        period = len(order)
        begin, end = start // period * period, -(-stop // period) * period
        places = np.arange(start, stop)
        block = read(begin, end).reshape(end - begin, -1)
        return block[places // period * period - begin + np.array(order)[places % period]]

    def _lattice_of(self, name: str) -> Lattice | None:
        kind = self.tensors[name].dtype
        return Lattice(LATTICES[kind], BLOCKS[kind][0], f"GGUF {kind}") if kind in LATTICES else None

    def _scale_rows(self, name: str, start: int, stop: int | None) -> np.ndarray:
        tensor = self.stored(name)
        values, size = BLOCKS[tensor.dtype]
        row_bytes = tensor.row_length // values * size

        def read(begin: int, end: int) -> np.ndarray:
            raw = self._read_whole(name, tensor, begin * row_bytes, (end - begin) * row_bytes)
            return block_scales(raw, tensor.dtype).reshape(end - begin, -1)

        return self._ordered(name, start, tensor.row_count if stop is None else stop, read)

    def _dequantized(self, name: str, tensor: StoredTensor, start: int, stop: int) -> np.ndarray:
        values, size = BLOCKS[tensor.dtype]
        if len(tensor.shape) == 1:  # one value a row
            whole = dequantized(self._read_whole(name, tensor, 0, tensor.length), tensor.dtype)[start:stop]
            return whole - np.float32(1) if name in self._plus_one else whole
        row_bytes = tensor.row_length // values * size
        return dequantized(self._read_whole(name, tensor, start * row_bytes, (stop - start) * row_bytes), tensor.dtype)


def _note(path: Path, header: Header) -> str | None:
    kinds = Counter(tensor.dtype for tensor in header.tensors.values() if tensor.dtype not in PLAIN)
    if not kinds:
        return None
    stored = ", ".join(f"{count} tensors in {kind}" for kind, count in kinds.most_common())
    return f"{path.name} is quantized already ({stored}): every figure is against these weights dequantized, not against the original model"


def rebuilt_words(path: Path, header: Header, config: dict) -> Path:
    """Returns a folder of the cache with ``config.json`` and the tokenizer's files of this very header; made at the first call. Raises `FirstTokenError`."""
    digest = hashlib.sha256(f"{WORDS_VERSION} {json.dumps(config, sort_keys=True)} ".encode())
    for key in sorted(key for key in header.metadata if key.startswith("tokenizer.")):
        value = header.metadata[key]
        digest.update(f"{key} {value.tolist() if isinstance(value, np.ndarray) else value!r} ".encode("utf-8", "surrogatepass"))
    base = cache_folder()
    if base is None:
        raise FirstTokenError(
            f"{path}: its tokenizer is rebuilt in the cache folder, which cannot be written; set XDG_CACHE_HOME to one that can"
        )
    folder = base / "gguf" / digest.hexdigest()[:32]
    if folder.is_dir():
        return folder
    documents = {"config.json": config, **tokenizer_files(read_vocabulary(path, header))}
    try:
        with Staging(folder) as staging:
            for name, document in documents.items():
                (staging.folder / name).write_text(
                    json.dumps(document, ensure_ascii=False, indent=None if name == "tokenizer.json" else 2), "utf-8"
                )
            staging.commit(replace=True)
    except OSError as error:
        raise FirstTokenError(
            f"{path}: its tokenizer cannot be rebuilt in {folder.parent} ({error.strerror or error}); set XDG_CACHE_HOME to another folder"
        ) from None
    return folder
