"""``firsttoken device list | install | profile | clean``"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firsttoken.cli.options import PromptLengths, Verbose
from firsttoken.cli.output import Json, Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firsttoken.device.several import PhoneOutcome

app = typer.Typer(
    name="device",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="Measure on Android phones over adb.\n\n"
    "\b\nStart with:\n  firsttoken device list\n  firsttoken device install out/firsttoken-demo.apk\n  firsttoken device profile out",
)


class Artifact(StrEnum):
    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"
    npu = "npu"
    both = "both"


Serials = Annotated[
    list[str] | None,
    typer.Option("--serial", "-s", metavar="SERIAL", help="Phone to use, may be repeated (default: the only one, or $ANDROID_SERIAL)."),
]
AllPhones = Annotated[bool, typer.Option("--all", help="Use all connected phones at once.")]


def _chosen(serials: list[str] | None, everything: bool) -> list[str]:
    from firsttoken.device.adb import Adb
    from firsttoken.device.connected import choose, connected

    return choose(connected(Adb()), serials or [], everything)


@app.command("list")
def list_devices(as_json: Json = False, verbose: Verbose = False) -> None:
    """List the connected phones: model, SoC, Hexagon generation, Android version, free space.

    \b
    Example:
      firsttoken device list
    """
    from firsttoken.device.adb import Adb
    from firsttoken.device.connected import connected
    from firsttoken.device.identify import identify
    from firsttoken.device.untrusted import one_line
    from firsttoken.errors import FirstTokenError
    from firsttoken.report.tables import table
    from firsttoken.units import readable

    found = connected(Adb())
    rows, out = [], Output(as_json)
    listed: list[dict] = []
    for device in found:
        serial = one_line(device.serial, 80)
        state = {"device": "ready", "unauthorized": "unauthorised"}.get(device.state, device.state)
        listed.append({"serial": serial, "state": device.state})
        if not device.usable:
            listed[-1]["advice"] = device.advice
            rows.append((serial, f"{state}: {device.advice}", *7 * ("",)))
            continue
        try:
            phone = identify(Adb(device.serial))
        except FirstTokenError as error:
            listed[-1]["error"] = str(error)
            rows.append((serial, one_line(str(error)), *7 * ("",)))
            continue
        listed[-1] |= {**phone.device().model_dump(exclude_none=True), "free_bytes": phone.free}
        cores = " + ".join(f"{count}×{int(frequency) / 1e6:.1f}" for frequency, count in phone.clusters.items())
        rows.append((
            serial, state, phone.name, phone.soc or "unknown", phone.hexagon or "unknown", f"{phone.android} (API {phone.sdk})",
            f"{cores} GHz" if cores else str(phone.cores), readable(phone.memory), readable(phone.free) if phone.free is not None else "unknown",
        ))  # fmt: skip
    if not rows:
        out.document({"devices": listed})
        out.say("No phone connected. On the phone: Settings, Developer options, USB debugging; then plug it in.")
        raise typer.Exit(1)
    out.show(table(None, ("serial", "state", "model", "SoC", "Hexagon", "Android", "cores", "memory", "free"), rows, left=7))
    out.document({"devices": listed})


@app.command()
def install(
    apk: Annotated[Path, typer.Argument(metavar="APK", help="The firsttoken app, as scripts/build_apk writes it.", show_default=False)],
    serial: Serials = None,
    all_phones: AllPhones = False,
    verbose: Verbose = False,
) -> None:
    """Install the firsttoken app on a phone. Does nothing where this very APK is installed.

    \b
    Examples:
      firsttoken device install firsttoken.apk
      firsttoken device install firsttoken.apk --all
    """
    from firsttoken.device.adb import Adb
    from firsttoken.device.carried import read_carried
    from firsttoken.device.install import check_apk
    from firsttoken.device.install import install as run
    from firsttoken.errors import FirstTokenError
    from firsttoken.report.progress_bar import progress_bar
    from firsttoken.safe_text import harmless

    check_apk(apk)
    try:
        carries = f"; it carries {read_carried(apk, str(apk))}, and runs what `firsttoken export CHECKPOINT --for-apk {harmless(str(apk))}` writes"
    except FirstTokenError:  # of an APK that does not say it
        carries = ""
    for number in _chosen(serial, all_phones):
        adb = Adb(number)
        with progress_bar() as report:
            changed = run(adb, apk, report)
        print(f"{adb.name}: {'installed' if changed else 'this APK is installed already'}{carries}")


@app.command()
def profile(
    bundles: Annotated[
        list[Path],
        typer.Argument(
            metavar="BUNDLE...",
            help="Bundle folders, as `firsttoken export` wrote them, or a folder of such: then those that the app runs.",
            show_default=False,
        ),
    ],
    serial: Serials = None,
    all_phones: AllPhones = False,
    prompts: PromptLengths = "32,128,512",
    repeat: Annotated[int, typer.Option("--repeat", "-r", min=1, max=1000, help="Runs of each prompt length on each bundle.")] = 5,
    threads: Annotated[int, typer.Option("--threads", min=1, max=16, help="Threads the app computes with.")] = 4,
    cold: Annotated[bool, typer.Option("--cold", help="Also measure cold starts: a fresh process for each run, loading included.")] = False,
    decode_tokens: Annotated[
        int, typer.Option("--decode-tokens", min=0, max=4096, help="Tokens decoded after the first one, for the decoding speed.")
    ] = 32,
    cooldown: Annotated[
        float, typer.Option("--cooldown", min=0, metavar="SECONDS", help="Longest wait for the phone to cool before each bundle.")
    ] = 120.0,
    max_temp: Annotated[
        float | None,
        typer.Option(
            "--max-temp",
            min=0,
            max=90,
            metavar="C",
            help="Measure only below this skin and battery temperature (default: as cool as at the start).",
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Prompts without the chat template.")] = False,
    artifact: Annotated[
        Artifact,
        typer.Option(
            "--artifact",
            help="Of bundles for a Snapdragon's NPU or a GPU: that artifact where it runs (auto), only one, or each by itself.",
        ),
    ] = Artifact.auto,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The measurement file (default: <phone>.measurement.json here).", show_default=False
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Only go on with an unfinished profile. The same command goes on by itself; this refuses to start a new one."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Start over: replace a measurement or an unfinished profile.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure time to first token of bundles on phones, in the firsttoken app, without a tap.

    Pushes what the phone does not have yet, runs the app's benchmark, waits for the phone to cool between bundles and
    writes every run to a measurement file. Finished runs are kept after every request: after a dropped cable,
    a crash or Ctrl-C, the same command goes on where it was.

    \b
    Examples:
      firsttoken device profile out
      firsttoken device profile out/tflite-xnnpack out/executorch-xnnpack --cold -o phone.measurement.json
      firsttoken device profile out/tflite-xnnpack --prompts 64,256 --repeat 10 --cooldown 300 --max-temp 34
      firsttoken device profile out/tflite-hexagon-sm8650 --artifact both
    """
    import sys

    from firsttoken.cli.options import parse_lengths
    from firsttoken.device.cooling import Cooling
    from firsttoken.device.profile import prepare
    from firsttoken.device.request import ProfileSettings
    from firsttoken.device.several import Profiles
    from firsttoken.device.untrusted import one_line
    from firsttoken.report.progress_bar import progress_bar

    settings = ProfileSettings(
        prompts=tuple(parse_lengths(prompts)),
        repeat=repeat,
        threads=threads,
        cold=cold,
        decode_tokens=decode_tokens,
        chat=False if raw else None,
        artifact=artifact.value,
    )
    chosen, out = _chosen(serial, all_phones), Output(as_json)
    with progress_bar() as report:
        work = prepare(bundles, settings, report)
        profiles = Profiles(
            chosen,
            work,
            settings,
            Cooling(cooldown, max_temp),
            output,
            resume,
            force,
            report,
            say=lambda line: out.say(one_line(line, 1000)),
        )
        try:
            outcomes = profiles.run()
        except BaseException:
            for outcome in profiles.outcomes:
                print(f"interrupted: {_left(outcome)}", file=sys.stderr)
            raise
    _tell(outcomes, out)


@app.command()
def clean(
    serial: Serials = None,
    all_phones: AllPhones = False,
    keep_app: Annotated[bool, typer.Option("--keep-app", help="Leave the app installed; remove only bundles and measurements.")] = False,
    verbose: Verbose = False,
) -> None:
    """Remove everything of ours from a phone: staged bundles, measurements, the app.

    \b
    Examples:
      firsttoken device clean
      firsttoken device clean --keep-app
    """
    from firsttoken.device.adb import Adb
    from firsttoken.device.clean import clean as run

    for number in _chosen(serial, all_phones):
        adb = Adb(number)
        removed = run(adb, keep_app)
        print(f"{adb.name}: {'removed ' + ', '.join(removed) if removed else 'nothing of ours is there'}")


def _left(outcome: "PhoneOutcome") -> str:
    """Where a phone's profile stands that has not ended."""
    kept = f"the finished ones are in {outcome.output}" if outcome.runs else "none is finished"
    return f"{outcome.name}: {outcome.runs} of {outcome.total} runs, {kept}; the same command goes on from there"


def _phone(outcome: "PhoneOutcome") -> dict:
    """What came of one phone, for programs."""
    measured = outcome.measurement if outcome.runs else None
    return {
        "name": outcome.name,
        "runs": outcome.runs,
        "total": outcome.total,
        "failed": outcome.failed,
        "error": str(outcome.error) if outcome.error else None,
        "output": outcome.output if measured else None,
        "measurement": measured.model_dump(mode="json", exclude_none=True) if measured else None,
    }


def _tell(outcomes: "Sequence[PhoneOutcome]", out: Output) -> None:
    """Prints the tables or the document and raises the error that decides the exit status."""
    import sys

    from firsttoken.device.adb import DeviceError
    from firsttoken.device.notes import phone_notes
    from firsttoken.errors import FirstTokenError, GateError
    from firsttoken.report.bench_table import terminal_table
    from firsttoken.safe_text import harmless

    problems: list[FirstTokenError] = []
    out.document({"phones": [_phone(outcome) for outcome in outcomes]})
    for outcome in outcomes:
        if outcome.measurement is not None and outcome.runs:
            out.show(terminal_table(outcome.measurement), *phone_notes(outcome.measurement))
            out.show(f"{outcome.name}: every run is in {outcome.output}; see it with: firsttoken report {outcome.output} -o report.html")
        for line in outcome.failed:
            print(f"failed: {harmless(line)}", file=sys.stderr)
        if isinstance(outcome.error, FirstTokenError):
            problems.append(DeviceError(f"{outcome.error}; {_left(outcome)}" if outcome.runs else str(outcome.error)))
        elif outcome.error is not None:
            raise outcome.error
        elif outcome.failed:
            more = "; the same command tries the unfinished ones again" if outcome.unfinished else ""
            problems.append(
                GateError(f"{outcome.name}: {len(outcome.failed)} failures, {outcome.runs} of {outcome.total} runs are complete{more}")
            )
    for problem in problems[1:]:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        raise problems[0]
