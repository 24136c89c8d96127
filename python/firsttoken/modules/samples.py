"""Inputs of a module: for calibration, and held out for its proof, with labels. From an .npz, from arrays, or drawn at random."""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firsttoken import plain_file
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.modules.module import Module
from firsttoken.safe_text import visible
from firsttoken.units import readable

LABELS = "labels"
MOST_BYTES = 2 << 30  # of all arrays of a file together
RANDOM = 32  # inputs that are drawn where none are given
HELD_SHARE = 4  # of samples alone every fourth is held out
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Samples:
    """Inputs by the module's names, each ``[samples, …]``, and labels ``[samples]``, int64, -1 where unknown. ``source`` says where they are from."""

    inputs: dict[str, np.ndarray]
    labels: np.ndarray | None
    source: str
    random: bool = False

    @property
    def count(self) -> int:
        return len(next(iter(self.inputs.values())))

    @property
    def sha256(self) -> str:
        """Of the arrays, with their names."""
        digest = hashlib.sha256()
        for name, array in sorted({**self.inputs, **({} if self.labels is None else {LABELS: self.labels})}.items()):
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def part(self, places: np.ndarray, source: str) -> "Samples":
        labels = None if self.labels is None else self.labels[places]
        return Samples({name: array[places] for name, array in self.inputs.items()}, labels, source, self.random)


def read_samples(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz. Raises `FirstTokenError` for a file that is none, holds Python objects, or more than `MOST_BYTES`."""
    path = Path(path)
    try:
        with plain_file.open_plain(path) as stream:
            with zipfile.ZipFile(stream) as archive:
                if (total := sum(member.file_size for member in archive.infolist())) > MOST_BYTES:
                    raise FirstTokenError(
                        f"samples {path}: {readable(total)} of arrays; expected {readable(MOST_BYTES)} at most, give fewer samples"
                    )
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise FirstTokenError(f"samples {path}: does not exist; expected an .npz with an array for each input") from None
    except FirstTokenError:
        raise
    except (
        OSError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        NotImplementedError,
        KeyError,
        TypeError,
        SyntaxError,
        MemoryError,
        RuntimeError,
    ) as error:
        said = visible(plain_file.why(error), 160)
        raise FirstTokenError(f"samples {path}: cannot be read as an .npz ({said}); write it with numpy.savez(path, input=array)") from None
    except Exception as error:  # zlib has an error of its own
        raise FirstTokenError(
            f"samples {path}: cannot be read as an .npz ({visible(error, 160)}); write it with numpy.savez(path, input=array)"
        ) from None


def checked(module: Module, arrays: Arrays, source: str) -> Samples:
    """Arrays held against what the module takes; integers and floats become its types where they lose nothing.

    Raises `FirstTokenError` for an input that is missing or unknown, another shape, counts that differ, numbers that are none, or labels that are no classes.
    """
    wanted = [one.name for one in module.inputs]
    for name in arrays:
        if name not in wanted and name != LABELS:
            raise FirstTokenError(
                f"{source}: array {visible(name)!r} is no input of {module.name}{nearest(name, [*wanted, LABELS])}; it takes {', '.join(wanted)}"
            )
    for name in wanted:
        if name not in arrays:
            raise FirstTokenError(f"{source}: has no array {name!r}; {module.name} takes {', '.join(wanted)}, each [samples, …]")
    inputs = {one.name: as_input(arrays[one.name], one.dtype, one.shape, f"{source}: {one.name}") for one in module.inputs}
    check_sizes(module, inputs, source)
    labels = arrays.get(LABELS)
    return Samples(inputs, None if labels is None else checked_labels(module, labels, len(inputs[wanted[0]]), source), source)


def as_input(array: np.ndarray, dtype: str, shape: Sequence[int | str], what: str) -> np.ndarray:
    wanted = np.dtype(dtype)
    if array.dtype.kind not in "fiub" or (array.dtype.kind == "f") != (wanted.kind == "f"):
        raise FirstTokenError(f"{what} is {array.dtype}; expected {dtype}")
    made = array.astype(wanted)
    if wanted.kind == "i" and not np.array_equal(made, array):
        raise FirstTokenError(f"{what} has numbers beyond {dtype}")
    if wanted.kind == "f" and not np.isfinite(made).all():
        raise FirstTokenError(f"{what} has numbers that are not finite; leave those samples out")
    if array.ndim != len(shape) or any(
        isinstance(size, int) and size != got for size, got in zip(shape[1:], array.shape[1:], strict=False)
    ):
        raise FirstTokenError(f"{what} has shape {list(array.shape)}; expected [samples, {', '.join(map(str, shape[1:]))}]")
    return np.ascontiguousarray(made)


def check_sizes(module: Module, inputs: Arrays, source: str) -> None:
    """Raises `FirstTokenError` where arrays differ in a dimension that they share, or a size is not among the module's lengths."""
    counts = {len(array) for array in inputs.values()}
    if len(counts) != 1 or counts == {0}:
        raise FirstTokenError(f"{source}: inputs have {', '.join(map(str, sorted(counts)))} samples; expected equally many, at least one")
    sizes: dict[str, int] = {}
    for one in module.inputs:
        for dimension, size in list(zip(one.shape, inputs[one.name].shape, strict=True))[1:]:
            if isinstance(dimension, str) and sizes.setdefault(dimension, size) != size:
                raise FirstTokenError(
                    f"{source}: {dimension} is {sizes[dimension]} in one input and {size} in {one.name}; expected the same"
                )
    for dimension, size in sizes.items():
        if size not in module.lengths[dimension]:
            had = ", ".join(map(str, module.lengths[dimension]))
            raise FirstTokenError(
                f"{source}: {dimension} is {size}; the module is exported for {had}; add it with --lengths {dimension}={size}, or cut the samples"
            )


def checked_labels(module: Module, labels: np.ndarray, count: int, source: str) -> np.ndarray:
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise FirstTokenError(f"{source}: labels are {labels.dtype} {list(labels.shape)}; expected whole numbers [{count}], a class each")
    classes = module.outputs[0].shape[-1] if module.outputs[0].shape else None
    if len(module.outputs) != 1 or len(module.outputs[0].shape) != 2 or not isinstance(classes, int):
        raise FirstTokenError(f"{source}: has labels, but {module.name} has no single output [batch, classes]; leave labels out")
    made = labels.astype(np.int64)
    if made.max() >= classes or (made < -1).any():
        raise FirstTokenError(f"{source}: labels go from {made.min()} to {made.max()}; expected 0 to {classes - 1}, or -1 where unknown")
    return made


def random_samples(module: Module, count: int = RANDOM, seed: int = 0) -> Samples:
    """Inputs like the example in type, shape, mean and spread; integers lie between its least and its greatest."""
    random = np.random.default_rng(seed)
    fixed = module.inputs[0].shape[0]
    count = count if isinstance(fixed, str) else -(-count // fixed) * fixed  # whole batches
    inputs = {}
    for one, example in zip(module.inputs, module.example, strict=True):
        values = example.detach().numpy()
        shape = (count, *(max(module.lengths[size]) if isinstance(size, str) else size for size in one.shape[1:]))
        if values.dtype.kind == "f":
            inputs[one.name] = (values.mean() + max(float(values.std()), 1e-3) * random.standard_normal(shape)).astype(values.dtype)
        else:
            inputs[one.name] = random.integers(values.min(), values.max() + 1, shape, dtype=values.dtype)
    return Samples(inputs, None, "random inputs", random=True)


def given_samples(
    module: Module, calibration: Arrays | None, held_out: Arrays | None, sources: tuple[str, str]
) -> tuple[Samples | None, Samples]:
    """Samples for calibration, if any, and those of the proof, which never calibrate.

    With calibration's alone every fourth of them is held out; without any the proof runs on random inputs. Raises `FirstTokenError` for fewer than 2 to
    divide, or samples that stand in both.
    """
    proof = None if held_out is None else checked(module, held_out, sources[1])
    if calibration is None:
        return None, proof or random_samples(module)
    first = checked(module, calibration, sources[0])
    if proof is not None:
        check_apart(first, proof)
        return first, proof
    if first.count < 2:
        raise FirstTokenError(
            f"{sources[0]}: 1 sample, of which none can be held out for the proof; give more, or others for the proof alone"
        )
    places = np.arange(first.count)
    held = (places + 1) % min(HELD_SHARE, first.count) == 0
    return first.part(places[~held], sources[0]), first.part(places[held], f"every {min(HELD_SHARE, first.count)}th of {sources[0]}")


def check_apart(calibration: Samples, held_out: Samples) -> None:
    """Raises `FirstTokenError` where the same input calibrates and proves: it would prove itself."""
    seen = {row_of(calibration, place) for place in range(calibration.count)}
    both = [place for place in range(held_out.count) if row_of(held_out, place) in seen]
    if len(both) > held_out.count // 2:
        raise FirstTokenError(
            f"{held_out.source}: {len(both)} of its {held_out.count} samples are in {calibration.source} too; the proof needs inputs that no range was chosen on"
        )


def row_of(samples: Samples, place: int) -> bytes:
    digest = hashlib.sha256()
    for name, array in sorted(samples.inputs.items()):
        digest.update(name.encode())
        digest.update(array[place].tobytes())
    return digest.digest()
