"""``firsttoken report``: measurement files in, one page or one comparison out."""

from collections.abc import Sequence
from pathlib import Path

from firsttoken.atomic_file import check_file_destination, write_text
from firsttoken.errors import FirstTokenError
from firsttoken.measure.measurement import Measurement
from firsttoken.measure.pairing import Matched, compare_measurements
from firsttoken.report.page.build import build_page
from firsttoken.report.page.sources import Source, read_source, read_sources, source_of
from firsttoken.safe_text import visible


def report(files: Sequence[Measurement | str | Path], output: str | Path, baseline: Measurement | str | Path | None = None) -> list[str]:
    """Writes the page of measurements or their ``files`` to ``output``, compared with ``baseline`` where given, and returns notes for the user.

    Raises `FirstTokenError` for a file that is no measurement, for files without any run, where nothing is left but the baseline itself, and
    where the page cannot be written; an older page then stays as it is.
    """
    output = Path(output)
    check_file_destination(output, "-o")
    for path in (*files, *([baseline] if baseline else [])):
        if isinstance(path, Measurement):
            continue
        if output.exists() and Path(path).exists() and output.samefile(path):
            raise FirstTokenError(f"-o {output}: is one of the measurement files; choose another name, like report.html")
    sources, notes = read_sources(files)
    base = source_of(baseline, "baseline") if isinstance(baseline, Measurement) else read_source(Path(baseline)) if baseline else None
    if base:
        kept = [source for source in sources if source.digest != base.digest]
        if not kept:
            raise FirstTokenError(
                f"--baseline {visible(base.path)}: holds the same as the files to report; give another measurement to compare with"
            )
        if len(kept) < len(sources):
            notes.append(f"{visible(base.path)} is the baseline and not shown beside itself")
        sources = kept
    write_text(output, build_page(sources, base))
    return notes


def diff(a: str | Path, b: str | Path) -> tuple[Source, Source, Matched]:
    """Compares measurement file ``b`` with ``a``. Raises `FirstTokenError` where they are the same or have nothing in common."""
    first, second = read_source(Path(a)), read_source(Path(b))
    if first.digest == second.digest:
        raise FirstTokenError(f"--diff: {visible(a)} and {visible(b)} hold the same measurement; give two that were measured separately")
    return first, second, compare_measurements(first.measurement, second.measurement, str(a), str(b))
