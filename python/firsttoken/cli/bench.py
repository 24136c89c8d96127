"""``firsttoken bench``"""

import math
from pathlib import Path
from typing import Annotated

import typer

from firsttoken.cli.options import CacheLength, DraftOption, PromptLengths, Threads, Verbose
from firsttoken.cli.output import Json, Output, refuse_file_after_json
from firsttoken.safe_text import harmless


def bench(
    context: typer.Context,
    bundles: Annotated[
        list[Path],
        typer.Argument(
            metavar="BUNDLE|FILE...",
            help="Bundle folders, as `firsttoken export` wrote them, and anyone's .tflite, .litertlm and .pte files.",
            show_default=False,
        ),
    ],
    prompts: PromptLengths = "32,128,512",
    repeat: Annotated[int, typer.Option("--repeat", "-r", min=1, help="Runs of each prompt length in each process.")] = 3,
    processes: Annotated[
        int,
        typer.Option(
            "--processes",
            min=1,
            help="Processes of each bundle, one after the other: a comparison counts each as one observation, and needs 3.",
        ),
    ] = 5,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="PERCENT",
            help="Go on with further processes until each time to first token is known to so many per cent, as in 3%.",
            show_default=False,
        ),
    ] = None,
    threads: Threads = None,
    cold: Annotated[
        bool,
        typer.Option(
            "--cold",
            help="Also measure cold starts, as many as warm runs: a fresh process each, files dropped from the page cache where the system allows it.",
        ),
    ] = False,
    decode_tokens: Annotated[
        int, typer.Option("--decode-tokens", min=0, help="Tokens decoded after the first one, for the decoding speed.")
    ] = 32,
    raw: Annotated[bool, typer.Option("--raw", help="Prompts without the chat template.")] = False,
    turns: Annotated[
        int, typer.Option("--turns", min=1, help="Ask each prompt so many times in one conversation, over the kept KV cache.")
    ] = 1,
    draft: DraftOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write every run as a measurement file, for `firsttoken report`."),
    ] = None,
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--md", help="Print the table as Markdown.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print every run as comma-separated values instead of the table.")] = False,
    budget: Annotated[
        Path | None,
        typer.Option(
            "--budget", metavar="FILE", help="Limits in a .toml file; the exit status is 3 when one is missed (see docs/measuring.md)."
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline",
            "-b",
            metavar="FILE",
            help="An earlier measurement file, for a budget's limits relative to it.",
            show_default=False,
        ),
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option("--junit", metavar="FILE", help="Also write the budget's verdicts as JUnit's XML.", show_default=False),
    ] = None,
    retries: Annotated[
        int, typer.Option("--retries", min=0, help="How often to measure again where other work ran beside what missed a limit.")
    ] = 1,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            "-c",
            metavar="FOLDER",
            help="With a file: the checkpoint it was made from, whose tokenizer and chat template its prompts go through.",
        ),
    ] = None,
    cache_length: CacheLength = None,
    verbose: Verbose = False,
) -> None:
    """Measure time to first token and decoding speed of bundles, on this machine.

    Every bundle runs in fresh processes that take turns, so that noise falls on all alike. Prompts are real text
    of exactly the asked number of tokens, the chat template included.

    Files that other exporters wrote (litert-torch's export_hf, ExecuTorch's export_llm) stand in the same table, run by the same runtimes' libraries
    from this process: what their own hosts (LiteRT-LM, ExecuTorch's runner) cost is not in it. The column "plan" says what they store.

    A module's bundle (a classifier, an encoder, a series) is measured by milliseconds per input: the load, the first run, warm ones, and with --cold a start
    from the disk.

    \b
    Examples:
      firsttoken bench out/tflite-xnnpack
      firsttoken bench out/tflite-xnnpack out/executorch-xnnpack --prompts 64,256 --repeat 3
      firsttoken bench out/tflite-xnnpack --prompts 128 --cold -o host.measurement.json
      firsttoken bench out/tflite-xnnpack --prompts 128 --until 3% -o host.measurement.json
      firsttoken bench out/tflite-xnnpack --prompts 64 --turns 5
      firsttoken bench out/tflite-xnnpack --budget budget.toml --baseline host.measurement.json --junit verdicts.xml
      firsttoken bench out/drafts/tflite-xnnpack --prompts 512 --decode-tokens 128 --draft lookup
      firsttoken bench out/litertlm-cpu their/model.litertlm --checkpoint path/to/checkpoint
    """
    import sys

    from firsttoken.bundle.module_manifest import is_module_bundle

    if any(is_module_bundle(bundle) for bundle in bundles):
        from firsttoken.cli.module_options import given_options, refuse_of_decoders
        from firsttoken.cli.module_verbs import bench_module_bundles

        refuse_of_decoders(context, ("repeat", "threads", "cold", "markdown"), f"bundle {bundles[0]}")
        asked = repeat if "repeat" in given_options(context) else None
        bench_module_bundles(bundles, asked, threads, cold, markdown, Output(as_json))
        return
    from firsttoken.atomic_file import check_file_destination
    from firsttoken.cli.options import parse_lengths
    from firsttoken.errors import FirstTokenError, GateError
    from firsttoken.measure.bench import Bench, BenchSettings
    from firsttoken.measure.budget import load_budget
    from firsttoken.measure.budget_verdict import tell, write_junit
    from firsttoken.measure.held import measure_held
    from firsttoken.report.bench_table import csv_text, markdown_text, notes, terminal_table
    from firsttoken.report.progress_bar import progress_bar

    refuse_file_after_json(as_json, bundles, "bundle")
    forms = [name for name, asked in (("--csv", csv), ("--md", markdown), ("--json", as_json)) if asked]
    if len(forms) > 1:
        raise FirstTokenError(f"{' and '.join(forms)} together; choose one form")
    if output is not None:
        check_file_destination(output, "--output")
    if budget is None and (baseline or junit):
        raise FirstTokenError(f"{'--baseline' if baseline else '--junit'} is for the limits of a budget; add --budget FILE")
    if junit is not None:
        check_file_destination(junit, "--junit")
        if output is not None and junit.resolve() == output.resolve():
            raise FirstTokenError(f"--junit {junit}: is the file of -o too; choose another name, like verdicts.xml")
    limits = load_budget(budget) if budget else None
    chat = False if raw else None
    lengths = tuple(parse_lengths(prompts))
    settings = BenchSettings(
        lengths, repeat, threads, cold, decode_tokens, chat, checkpoint, cache_length, turns, draft, processes, share_of(until)
    )
    at_work: list[Bench] = []

    def say(line: str) -> None:
        print(harmless(f"note: {line}"), file=sys.stderr)

    with progress_bar() as report:
        try:
            held = measure_held(bundles, settings, limits, baseline, retries, report, say, at_work.append)
        except KeyboardInterrupt:
            begun = [each for each in at_work if any(result.runs for result in each.results)]
            whole = [each for each in begun if all(result.after for result in each.results)]  # a retry was interrupted
            if output is not None and begun:
                (whole or begun)[-1].measurement.write(output)
                print(f"interrupted; the finished runs are in {output}", file=sys.stderr)
            raise
    measuring, measurement = held.bench, held.measurement
    if output is not None:
        measurement.write(output)
    if csv:
        print(harmless(csv_text(measurement)), end="")
    elif markdown:
        print(harmless(markdown_text(measurement)))
    else:
        out = Output(as_json)
        out.show(terminal_table(measurement), *notes(measurement))
        out.document(measurement.model_dump(mode="json", exclude_none=True))
    if output is not None:
        print(f"every run: {output}; see it with: firsttoken report {output} -o report.html", file=sys.stderr)
    for name, isa in measuring.packed.items():
        print(harmless(f"note: {name} was loaded with the packed weights of its bundle, for {isa}"), file=sys.stderr)
    for line in measuring.unreached:
        print(harmless(f"note: {line}"), file=sys.stderr)
    failures = [(result.bundle.name, failure) for result in measurement.results for failure in result.failures]
    for name, failure in failures:
        print(
            harmless(f"failed: {name}, {failure.state} at {failure.prompt_tokens} tokens, {failure.stage}: {failure.message}"),
            file=sys.stderr,
        )
    if limits:
        for verdict in held.verdicts:
            print(harmless(verdict.line), file=sys.stderr)
        if (unclear := tell(held.verdicts)) is not None:
            say(unclear)
        if junit is not None:
            write_junit(junit, held.verdicts)
        missed = [verdict for verdict in held.verdicts if not verdict.kept]
        if missed:
            raise GateError(f"{len(missed)} of {len(held.verdicts)} limits of {budget} missed")
    if failures:
        raise GateError(f"{len(failures)} runs failed; the others are complete")


def share_of(percent: str | None) -> float | None:
    """Returns what "3%" or "3" says as a share. Raises `FirstTokenError`."""
    from firsttoken.errors import FirstTokenError

    if percent is None:
        return None
    try:
        found = float(percent.removesuffix("%")) / 100
    except ValueError:
        found = math.nan
    if not 0 < found < 1:
        raise FirstTokenError(f"--until {percent}: expected per cent of the time to first token, more than 0 and less than 100, as in 3%")
    return found
