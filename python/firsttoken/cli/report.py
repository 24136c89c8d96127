"""``firsttoken report``"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firsttoken.cli.options import Verbose
from firsttoken.cli.output import Json, Output

if TYPE_CHECKING:
    from firsttoken.measure.budget_verdict import LimitVerdict


def report(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE...]", help="Measurement files of `firsttoken bench -o` or `firsttoken device profile`.", show_default=False
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="The page to write (default: report.html).")] = None,
    baseline: Annotated[
        Path | None,
        typer.Option("--baseline", "-b", metavar="FILE", help="An earlier measurement file; the page says what became faster or slower."),
    ] = None,
    diff: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--diff", metavar="A B", help="Instead of a page: is B faster than A beyond the noise? With -o, also the page of B against A."
        ),
    ] = None,
    budget: Annotated[
        Path | None,
        typer.Option(
            "--budget",
            metavar="FILE",
            help="Hold the files against limits, a phone's too; the exit status is 3 when one is missed. Limits relative to a baseline are to --baseline.",
            show_default=False,
        ),
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option("--junit", metavar="FILE", help="Also write the budget's verdicts as JUnit's XML.", show_default=False),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Make one page of measurement files, or compare two of them.

    The page is a single HTML file without scripts; it opens offline and can be mailed. It shows TTFT by stage, decode
    speed, memory, temperature, conditions and every single run, with the proof beside every speed.

    \b
    Examples:
      firsttoken report host.measurement.json -o report.html
      firsttoken report new.measurement.json --baseline old.measurement.json -o report.html
      firsttoken report --diff old.measurement.json new.measurement.json
      firsttoken report phone.measurement.json --budget budget.toml --junit verdicts.xml
    """
    import sys

    from firsttoken.errors import FirstTokenError, GateError
    from firsttoken.report import report as verb
    from firsttoken.safe_text import harmless

    if junit and not budget:
        raise FirstTokenError("--junit is for the limits of a budget; add --budget FILE")
    if diff and budget:
        raise FirstTokenError("--diff and --budget together; hold one file against the other with --budget FILE --baseline FILE")
    if diff and (files or baseline):
        raise FirstTokenError(
            "--diff takes its two files itself, without other files and --baseline; for a page of B against A: --diff A B -o report.html"
        )
    if not diff and not files:
        raise FirstTokenError(
            "no measurement file; make one with `firsttoken bench BUNDLE -o host.measurement.json`, then `firsttoken report host.measurement.json`"
        )
    held = read_held(budget, files or [], baseline, junit) if budget else None
    out, found = Output(as_json), {}
    if diff:
        from firsttoken.report.diff_table import diff_document, print_diff
        from firsttoken.report.tables import console

        _, _, matched = verb.diff(*diff)
        found = diff_document(matched, *map(str, diff))
        if not as_json:
            print_diff(console(), matched, *map(str, diff))
    if not diff or output:
        output = output or Path("report.html")
        notes = verb.report([diff[1]] if diff else files or [], output, diff[0] if diff else baseline)
        for note in notes:
            print(f"note: {harmless(note)}", file=sys.stderr)
        found["page"] = {"file": output, "bytes": output.stat().st_size, "notes": notes}
        out.show(f"{output}: written, {output.stat().st_size / 1000:.0f} kB; open it in a browser")
    missed = tell_held(budget, held, junit, found) if budget and held else None
    out.document(found)
    if missed:
        raise GateError(missed)


def read_held(budget: Path, files: list[Path], baseline: Path | None, junit: Path | None) -> "list[LimitVerdict]":
    """How every file keeps the budget. Raises `FirstTokenError`, before anything is written."""
    from firsttoken.atomic_file import check_file_destination
    from firsttoken.errors import FirstTokenError
    from firsttoken.report.hold import hold
    from firsttoken.report.page.sources import read_source

    if junit is not None:
        check_file_destination(junit, "--junit")
        if any(path.exists() and junit.exists() and junit.samefile(path) for path in (budget, *files, *([baseline] if baseline else []))):
            raise FirstTokenError(f"--junit {junit}: is one of the files that are read; choose another name, like verdicts.xml")
    before = None if baseline is None else read_source(baseline).measurement
    return hold(budget, {str(file): read_source(file).measurement for file in files}, before)


def tell_held(budget: Path, verdicts: "list[LimitVerdict]", junit: Path | None, found: dict) -> str | None:
    """Says how the files keep the budget; returns what is missed, in words, or None."""
    import sys
    from dataclasses import asdict

    from firsttoken.measure.budget_verdict import tell, write_junit
    from firsttoken.safe_text import harmless

    for verdict in verdicts:
        print(harmless(verdict.line), file=sys.stderr)
    if (unclear := tell(verdicts)) is not None:
        print(f"note: {unclear}", file=sys.stderr)
    if junit is not None:
        write_junit(junit, verdicts)
    found["budget"] = [asdict(verdict) for verdict in verdicts]
    missed = sum(not verdict.kept for verdict in verdicts)
    return f"{missed} of {len(verdicts)} limits of {budget} missed" if missed else None
