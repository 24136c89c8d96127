"""Reading the measurement files of a report, with what a page or a comparison cannot show refused by name."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from firsttoken import plain_file
from firsttoken.errors import FirstTokenError
from firsttoken.measure.measurement import LARGEST_FILE, Measurement, check_numbers, read_measurement
from firsttoken.safe_text import visible

MOST_RESULTS = 150  # bundles, each with its threads: a page of more takes minutes and nobody reads it


@dataclass(frozen=True, eq=False)  # a file is itself, whatever is in it
class Source:
    """A measurement and the name of the file it came from."""

    name: str
    path: Path
    measurement: Measurement
    digest: str


def read_sources(measurements: Sequence[Measurement | str | Path]) -> tuple[list[Source], list[str]]:
    """Reads the files among ``measurements``, one with the same content as an earlier one left out.

    Returns the sources and a note for every file left out. Raises `FirstTokenError` naming the first file that is no
    measurement, or where none of them holds a run or a failure.
    """
    found: dict[str, Source] = {}
    notes = []
    for number, each in enumerate(measurements):
        source = source_of(each, f"measurement {number + 1}") if isinstance(each, Measurement) else read_source(Path(each))
        if source.digest in found:
            notes.append(f"{visible(source.path)} holds the same as {visible(found[source.digest].path)}; shown once")
        else:
            found[source.digest] = source
    sources = _named(list(found.values()))
    if (count := sum(len(source.measurement.results) for source in sources)) > MOST_RESULTS:
        raise FirstTokenError(f"{count} results in all; a page shows {MOST_RESULTS} at most, report fewer files at once")
    if not any(result.runs or result.failures for source in sources for result in source.measurement.results):
        raise FirstTokenError(
            f"no runs in {', '.join(visible(source.path) for source in sources)}; measure again with `firsttoken bench` or `firsttoken device profile`"
        )
    return sources, notes


def read_source(path: Path) -> Source:
    """Reads one file. Raises `FirstTokenError` where it is no measurement or holds a number that nothing can have measured."""
    return _checked(read_measurement(path), path, plain_file.read_bytes(path, LARGEST_FILE))


def source_of(measurement: Measurement, name: str) -> Source:
    """Returns a measurement that lies in no file under a name. Raises `FirstTokenError` as `read_source` does."""
    return _checked(measurement, Path(name), measurement.model_dump_json().encode())


def _checked(measurement: Measurement, path: Path, content: bytes) -> Source:
    if len(measurement.results) > MOST_RESULTS:
        raise FirstTokenError(
            f"{visible(path)}: holds {len(measurement.results)} results; expected {MOST_RESULTS} at most, measure fewer bundles at once"
        )
    check_numbers(measurement, path)
    return Source(path.name, path, measurement, hashlib.sha256(content).hexdigest())


def _named(sources: list[Source]) -> list[Source]:
    """Gives files of the same name in different folders names that tell them apart."""
    names = [source.path.name for source in sources]
    return [Source(str(s.path) if names.count(s.path.name) > 1 else s.path.name, s.path, s.measurement, s.digest) for s in sources]
