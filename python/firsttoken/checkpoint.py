"""Reading a Hugging Face checkpoint folder, tensor by tensor and row by row.

Only safetensors is read, with plain positioned reads: a memory map would count every page it touches as
resident memory, and exports are meant to need memory for a block of rows, not for a model.
Format: https://github.com/huggingface/safetensors#format
"""

import hashlib
import json
import math
import os
import re
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Never, Self

import numpy as np

from firsttoken import plain_file
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.file_hash import READ_BYTES, remember_hash, remembered_hash
from firsttoken.lattice import Lattice
from firsttoken.progress import Report, silent
from firsttoken.safe_text import visible
from firsttoken.weight_source import Source, Stack

MAX_HEADER_BYTES = 100_000_000  # the safetensors specification's own limit
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
MOST_DIMENSIONS = 16
LARGEST = 1 << 63  # of a dimension or a place
ADAPTER_FILE = "adapter_config.json"
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
ReadRows = Callable[[str, int, int | None], np.ndarray]  # rows start:stop of a tensor, by its name


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies: file index, absolute byte offset, shape, stored dtype and length in bytes."""

    file: int
    offset: int
    shape: tuple[int, ...]
    dtype: str
    length: int

    @property
    def row_count(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def row_length(self) -> int:
        return math.prod(self.shape[1:])


class Checkpoint:
    """A folder with ``config.json`` and safetensors files, single or sharded.

    Opening reads only the JSON files and the safetensors headers. Raises `FirstTokenError` for a missing or
    malformed file, a shard that is absent or truncated, or weights that are not safetensors, and for a LoRA adapter beside them that
    ``adapter_named`` does not know of. `checkpoint_sources` opens what is no such folder.
    """

    remarks: tuple[str, ...] = ()  # what was decided while reading, for whoever exports it
    readable: Collection[str] = ITEM_BYTES  # the types that `rows` gives as float32
    note: str | None = None  # what whoever reads figures against these weights has to know
    embedding_factor: Source | None = None  # what the rows of the embedding are to be multiplied by, where something has divided them

    def __init__(self, folder: str | Path, adapter_named: bool = False) -> None:
        self.folder = Path(folder)
        if not os.path.isdir(self.folder):
            raise FirstTokenError(
                f"checkpoint {self.folder}: not a folder; expected a Hugging Face checkpoint folder with config.json and *.safetensors"
            )
        if not adapter_named:
            self._refuse_adapter()
        self.config = read_json(self.folder / "config.json", "a checkpoint needs it to know the model's shape")
        self.files: list[Path] = []
        self.tensors: dict[str, StoredTensor] = {}
        self._descriptors: dict[int, int] = {}
        index = self.folder / "model.safetensors.index.json"
        single = self.folder / "model.safetensors"
        if single.exists():  # transformers looks for it first, so an index beside it is an older save's
            self._read_header(single)
            if index.exists():
                self.remark(f"{index}: not used, the weights are those of {single.name} beside it, which transformers takes too")
        elif index.exists():
            self._open_shards(index)
        else:
            others = sorted(self.folder.glob("*.safetensors"))
            if len(others) != 1:
                self._refuse_missing_weights(others)
            self._read_header(others[0])

    def remark(self, line: str) -> None:
        """Keeps what was decided while reading, once."""
        if line not in self.remarks:
            self.remarks = (*self.remarks, line)

    @property
    def name(self) -> str:
        """What the checkpoint is called: its folder's name, and ``Owner/Name`` in the hub's cache, whose folders are named after commits."""
        place = self.folder.resolve()
        owned = re.fullmatch(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)", place.parent.parent.name)
        return f"{owned['owner']}/{owned['name']}" if owned and place.parent.name == "snapshots" else place.name

    def _refuse_adapter(self) -> None:
        """transformers would merge it without being asked, and the proof, which reads as the exporter does, could not see it missing."""
        if not (self.folder / ADAPTER_FILE).exists():
            return
        if not (self.folder / "config.json").exists():
            raise FirstTokenError(
                f"checkpoint {self.folder}: is a LoRA adapter, not a checkpoint; give its base model, and this folder with --adapter {self.folder}"
            )
        raise FirstTokenError(
            f"checkpoint {self.folder}: holds a LoRA adapter ({ADAPTER_FILE}) that nobody named; merge it with --adapter {self.folder}, "
            "or remove its adapter_* files to use the weights without it"
        )

    def _refuse_missing_weights(self, others: list[Path]) -> Never:
        if others:
            raise FirstTokenError(
                f"checkpoint {self.folder}: {len(others)} safetensors files but no model.safetensors.index.json to say which tensor lies where"
            )
        pickles = [p.name for pattern in PICKLE_PATTERNS for p in sorted(self.folder.glob(pattern))]
        if pickles:
            raise FirstTokenError(
                f"checkpoint {self.folder}: weights only as pickle ({pickles[0]}), which can run code when opened; "
                "save it as safetensors first (model.save_pretrained(folder, safe_serialization=True))"
            )
        raise FirstTokenError(f"checkpoint {self.folder}: no *.safetensors file found")

    def _open_shards(self, index: Path) -> None:
        weight_map = read_json(index, "it names the shards", plain_file.LARGE_JSON_BYTES).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
            raise FirstTokenError(f"{index}: no usable 'weight_map'; expected tensor name -> shard file")
        for shard in sorted(set(weight_map.values())):
            if Path(shard).name != shard:
                raise FirstTokenError(f"{index}: shard {visible(shard)!r} is not a plain file name inside the checkpoint folder")
            if not os.path.exists(self.folder / shard):  # false for a name that no file can have, too
                raise FirstTokenError(f"{index}: names shard {visible(shard)!r}, which is absent from {self.folder}; download it again")
            self._read_header(self.folder / shard)
        absent = [name for name in weight_map if name not in self.tensors]
        if absent:
            raise FirstTokenError(f"{index}: tensor {visible(absent[0])!r} is in none of the shards ({len(absent)} such)")

    def _read_header(self, path: Path) -> None:
        file = len(self.files)
        self.files.append(path)
        try:
            with plain_file.open_plain(path) as stream:
                size = os.fstat(stream.fileno()).st_size
                start = stream.read(8)
                length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
                if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                    raise FirstTokenError(f"{path}: not a safetensors file, or truncated (header of {length} bytes in a file of {size})")
                raw = stream.read(length)
            header = plain_file.parse_json(raw)
            if not isinstance(header, dict):
                raise ValueError("the header is not an object")
        except OSError as error:
            raise FirstTokenError(f"{path}: cannot be read ({plain_file.why(error)})") from None
        except ValueError as error:
            raise FirstTokenError(f"{path}: the safetensors header cannot be read ({visible(error)}); the file is corrupted") from None
        for name, entry in header.items():
            if name != "__metadata__":
                self._add_tensor(path, file, name, entry, 8 + length, size)
        self._check_places(path, file, 8 + length, size)

    def _add_tensor(self, path: Path, file: int, name: str, entry: Any, base: int, size: int) -> None:
        try:
            dtype, shape = entry["dtype"], tuple(entry["shape"])
            begin, end = entry["data_offsets"]
            if not isinstance(dtype, str) or any(type(n) is not int for n in (*shape, begin, end)):
                raise TypeError
        except (TypeError, KeyError, ValueError):
            raise FirstTokenError(f"{path}: tensor {visible(name)!r} has a malformed header entry; the file is corrupted") from None
        if name in self.tensors:
            raise FirstTokenError(f"{path}: tensor {visible(name)!r} appears twice in the checkpoint")
        if len(shape) > MOST_DIMENSIONS or any(not 0 <= n < LARGEST for n in (*shape, begin, end)) or end < begin:
            raise FirstTokenError(
                f"{path}: tensor {visible(name)!r} has an impossible shape or place {visible(shape)}, {visible(f'{begin}..{end}')}; the file is corrupted"
            )
        if dtype in ITEM_BYTES and end - begin != math.prod(shape) * ITEM_BYTES[dtype]:
            raise FirstTokenError(
                f"{path}: tensor {visible(name)!r} {shape} {visible(dtype)} does not fill its {end - begin} bytes; the file is corrupted"
            )
        if base + end > size:
            raise FirstTokenError(
                f"{path}: truncated, tensor {visible(name)!r} ends at byte {base + end} of a file of {size}; download it again"
            )
        self.tensors[name] = StoredTensor(file, base + begin, shape, dtype, end - begin)

    def _check_places(self, path: Path, file: int, base: int, size: int) -> None:
        """Raises `FirstTokenError` where two tensors of a file share bytes, or bytes of it are nobody's: the format forbids both."""
        placed = sorted((t.offset, t.offset + t.length, name) for name, t in self.tensors.items() if t.file == file)
        for (_, end, name), (begin, _, other) in pairwise(placed):
            if begin < end:
                raise FirstTokenError(f"{path}: tensors {visible(name)!r} and {visible(other)!r} share bytes; the file is corrupted")
        for (_, end, _), (begin, _, name) in pairwise([(base, base, ""), *placed]):
            if begin > end:
                raise FirstTokenError(
                    f"{path}: {begin - end} bytes before tensor {visible(name)!r} belong to no tensor, so its place may be shifted; the file is corrupted"
                )
        if (end := placed[-1][1] if placed else base) != size:
            raise FirstTokenError(
                f"{path}: its tensors end at byte {end} of a file of {size}; expected them to fill it, the file is corrupted or was not written by safetensors"
            )

    def stored(self, name: str) -> StoredTensor:
        """Returns where ``name`` lies. Raises `FirstTokenError` if it is absent or of a dtype that is not a plain float."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise FirstTokenError(f"checkpoint {self.folder}: tensor {name!r} is missing{nearest(name, self.tensors)}")
        if tensor.dtype not in self.readable:
            raise FirstTokenError(
                f"checkpoint {self.folder}: tensor {name!r} is stored as {tensor.dtype}; expected one of {', '.join(self.readable)} "
                "(an already quantized checkpoint cannot be exported; use the original)"
            )
        return tensor

    def rows(self, source: str | Source, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Reads rows ``start:stop`` of a tensor, or of what a `Source` takes from one, as float32 ``[stop - start, row_length]``.

        Raises `FirstTokenError` for NaN or infinite values, naming the tensor, and for rows that the tensor does not have.
        """
        return self._taken(source, start, stop, self._stored_rows)

    def _taken(self, source: str | Source, start: int, stop: int | None, read: ReadRows) -> np.ndarray:
        """What ``source`` takes of rows that ``read`` gives by a tensor's name."""
        if isinstance(source, str):
            return read(source, start, stop)
        if isinstance(source, Stack):
            return self._stacked_rows(source, start, stop, read)
        first, last = source.rows or (0, self.stored(source.name).row_count)
        taken = 1.0 if source.order is None or source.period is None else len(source.order) / source.period
        stop = round((last - first) * taken) if stop is None else stop
        if source.order is None:
            values = read(source.name, first + start, first + stop)
        else:
            given, period = len(source.order), source.period or len(source.order)
            begin, end = start // given * period, -(-stop // given) * period
            places = np.arange(start, stop)
            block = read(source.name, first + begin, first + end)
            values = block[places // given * period - begin + np.array(source.order)[places % given]]
        if source.scale != 1.0:
            values = values * np.float32(source.scale)
        return values + np.float32(source.add) if source.add else values

    def lattice(self, source: Source) -> Lattice | None:
        """What integers the rows of ``source`` are stored as; None for floats, and where it joins tensors to what no one lattice is."""
        if source.add or source.scale <= 0:
            return None
        if not isinstance(source, Stack):
            return self._lattice_of(source.name)
        found = {self._lattice_of(source.piece(number).name) for number in range(source.count)}
        one = found.pop() if len(found) == 1 else None
        return None if one is None or (source.beside and one.group is None) else one

    def stored_scales(self, source: Source, start: int = 0, stop: int | None = None) -> np.ndarray:
        """The scales float32 ``[stop - start, groups]`` of rows that have a `lattice`; some formats have negative ones."""
        return self._taken(source, start, stop, self._scale_rows)

    def _lattice_of(self, name: str) -> Lattice | None:
        """The lattice of a whole tensor."""
        return None

    def _scale_rows(self, name: str, start: int, stop: int | None) -> np.ndarray:
        """The scales of a tensor's rows."""
        raise NotImplementedError(f"{type(self).__name__} stores {name!r} without scales")

    @property
    def original(self) -> "Checkpoint":
        """What a proof compares with: the checkpoint itself, or the floats behind the integers that stand in it."""
        return self

    def scales(self, source: Source, start: int = 0, stop: int | None = None) -> np.ndarray | None:
        """Scales float32 ``[stop - start, groups]`` of rows that are integers times these, and None where rounding has to choose them."""
        return None

    def _stacked_rows(self, stack: Stack, start: int, stop: int | None, read: ReadRows) -> np.ndarray:
        if stack.beside:
            return np.concatenate([self._taken(stack.piece(number), start, stop, read) for number in range(stack.count)], axis=1)
        first, last = stack.rows or (0, self.stored(stack.piece(0).name).row_count)
        size = last - first  # rows of each
        stop = stack.count * size if stop is None else stop
        if not 0 <= start <= stop <= stack.count * size:
            raise FirstTokenError(
                f"checkpoint {self.folder}: tensors {stack.name!r} have {stack.count * size} rows together; rows {start} to {stop} were asked for"
            )
        if start == stop:
            return self._taken(stack.piece(0), 0, 0, read)
        touched = range(start // size, -(-stop // size))
        parts = [self._taken(stack.piece(n), max(start - n * size, 0), min(stop - n * size, size), read) for n in touched]
        return np.concatenate(parts)

    def _stored_rows(self, name: str, start: int, stop: int | None) -> np.ndarray:
        tensor = self.stored(name)
        stop = tensor.row_count if stop is None else stop
        if not 0 <= start <= stop <= tensor.row_count:
            raise FirstTokenError(
                f"checkpoint {self.folder}: tensor {name!r} has {tensor.row_count} rows; rows {start} to {stop} were asked for"
            )
        values = self._float_rows(name, tensor, start, stop)
        if values.size and not (np.isfinite(values.min()) and np.isfinite(values.max())):
            raise FirstTokenError(
                f"checkpoint {self.folder}: tensor {name!r} holds NaN or infinite values in rows {start}..{stop}; the weights are damaged"
            )
        return values.reshape(stop - start, tensor.row_length)

    def _float_rows(self, name: str, tensor: StoredTensor, start: int, stop: int) -> np.ndarray:
        """Rows that the tensor has, as float32, in any shape."""
        row_bytes = tensor.row_length * ITEM_BYTES[tensor.dtype]
        raw = self._read_whole(name, tensor, start * row_bytes, (stop - start) * row_bytes)
        if tensor.dtype == "BF16":
            return (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        return np.frombuffer(raw, np.float32 if tensor.dtype == "F32" else np.float16).astype(np.float32, copy=False)

    def _read_whole(self, name: str, tensor: StoredTensor, offset: int, count: int) -> bytes:
        raw = self._read(tensor.file, tensor.offset + offset, count)
        if len(raw) != count:
            raise FirstTokenError(f"{self.files[tensor.file]}: ended in the middle of tensor {name!r}; the file changed or is damaged")
        return raw

    def vector(self, source: str | Source) -> np.ndarray:
        """Reads a whole one-dimensional tensor as float32 ``[n]``."""
        return self.rows(source).reshape(-1)

    def matrix(self, source: str | Source) -> np.ndarray:
        """Reads a whole two-dimensional tensor as float32 ``[rows, columns]``."""
        return self.rows(source)

    def _read(self, file: int, offset: int, count: int) -> bytes:
        descriptor = self._descriptors.get(file)
        if descriptor is None:
            descriptor = self._descriptors[file] = os.open(self.files[file], os.O_RDONLY)
        parts = []
        while count > 0:  # one read call returns at most about 2 GiB
            part = os.pread(descriptor, min(count, 1 << 30), offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all safetensors files together."""
        return sum(path.stat().st_size for path in self.files)

    def fingerprint(self, report: Report = silent) -> str:
        """SHA-256 over the configuration and every tensor's name, shape, dtype and bytes, however they lie in files.

        It reads every byte the first time; then it is remembered by the files' sizes and times.
        """
        configuration = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        kind = f"-tensors-{configuration.hexdigest()[:16]}"
        if (known := remembered_hash(*self.files, kind=kind)) is not None:
            return known
        digest, done, total = configuration, 0, sum(tensor.length for tensor in self.tensors.values())
        for name in sorted(self.tensors):
            tensor = self.tensors[name]
            digest.update(f"{name}{tensor.shape}{tensor.dtype}".encode("utf-8", "surrogatepass"))
            for start in range(0, tensor.length, READ_BYTES):
                digest.update(self._read(tensor.file, tensor.offset + start, min(READ_BYTES, tensor.length - start)))
                report("fingerprint", done + start, total, "B")
            done += tensor.length
        found = digest.hexdigest()
        remember_hash(*self.files, sha256=found, kind=kind)
        return found

    def close(self) -> None:
        """Closes the open files; a later read opens them again."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_json(path: Path, why: str, most: int = plain_file.SETTINGS_BYTES) -> dict:
    """Reads a JSON object of at most ``most`` bytes; ``why`` ends the message when it is missing. Raises `FirstTokenError`."""
    try:
        value = plain_file.parse_json(plain_file.read_bytes(path, most))
    except FileNotFoundError:
        raise FirstTokenError(f"{path}: missing; {why}") from None
    except (OSError, ValueError) as error:
        raise FirstTokenError(f"{path}: cannot be read as JSON ({visible(plain_file.why(error))})") from None
    if not isinstance(value, dict):
        raise FirstTokenError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value
