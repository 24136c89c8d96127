"""The measurement file that the app wrote, read as untrusted input: bounded, checked against what was asked."""

from typing import Never

from firsttoken.bundle.manifest import Manifest
from firsttoken.device import MEDIA
from firsttoken.device.adb import Adb, DeviceError
from firsttoken.device.conditions import PLAUSIBLE
from firsttoken.device.request import Request
from firsttoken.device.staging import LocalBundle
from firsttoken.device.untrusted import one_line, parse_json
from firsttoken.errors import FirstTokenError
from firsttoken.measure.measurement import Measurement, Result, Run, artifacts_by_kind, identify_bundle, parse_measurement, ran_artifact

LARGEST_RESULT = 64 << 20  # bytes; 32 prompts of 1000 runs each take about 20 MB
LONGEST_RUN = 6 * 3600 * 10**9  # nanoseconds
MOST_WARM_UPS = 1000  # one per process
MOST_FAILURES = 1000
LONGEST_MESSAGE = 500  # characters
SECONDS_TO_READ = 300.0
IDENTITY = ("checkpoint", "fingerprint", "plan", "target", "runtime", "delegate", "artifact_sha256", "artifact_bytes", "cache_length")


def result_file(request: Request) -> str:
    return f"{MEDIA}/measurements/{request.id}.json"


def fetch_result(adb: Adb, request: Request, bundle: LocalBundle, memory: int | None) -> Result | None:
    """Reads what the app has measured for ``request`` so far; None where it has written nothing yet.

    Raises `DeviceError` for a file that is too large, malformed, or about something else than what was asked.
    """
    place = result_file(request)
    size = adb.shell("stat -c %s {} 2>/dev/null", place).text.strip()
    if not size.isdigit():
        return None
    source = f"device {adb.name}: result of request {request.id[:8]}"
    if int(size) > LARGEST_RESULT:
        raise DeviceError(f"{source}: {size} bytes; expected a measurement of at most {LARGEST_RESULT}")
    done = adb.shell("cat {}", place, seconds=SECONDS_TO_READ, limit=LARGEST_RESULT + (1 << 20))
    if done.code:
        raise DeviceError(f"{source}: cannot be read ({done.complaint})")
    try:
        measurement = parse_measurement(parse_json(done.stdout, source), source)
    except FirstTokenError as error:
        raise DeviceError(one_line(str(error), LONGEST_MESSAGE)) from None
    return check_result(measurement, request, bundle, memory, source)


def check_result(measurement: Measurement, request: Request, bundle: LocalBundle, memory: int | None, source: str) -> Result:
    """Returns the one result of ``measurement``, its texts shortened. Raises `DeviceError` where it does not answer ``request``.

    ``memory`` is the phone's, in bytes: no process can have been larger.
    """

    def refuse(what: str) -> Never:
        raise DeviceError(f"{source}: {what}; the figures are not used")

    if len(measurement.results) != 1:
        refuse(f"holds {len(measurement.results)} results, expected 1")
    [result] = measurement.results
    if result.bundle.name != request.bundle:
        refuse(f"is about bundle {one_line(result.bundle.name, 40)!r}, expected {request.bundle!r}")
    expected = identify_bundle(request.bundle, bundle.manifest)
    for name in IDENTITY:
        got = getattr(result.bundle, name)
        if got != getattr(expected, name):
            refuse(f"{name} of its bundle is {one_line(str(got), 80)!r}, expected {getattr(expected, name)!r}")
    for name in ("threads", "chat"):
        if getattr(result, name) != getattr(request, name):
            refuse(f"{name} is {getattr(result, name)}, expected {getattr(request, name)}")
    if problem := _runs_problem(result.runs, request, memory) or _artifact_problem(result, request, bundle.manifest):
        refuse(problem)
    if result.artifact:
        result.artifact = ran_artifact(
            bundle.manifest,
            result.artifact.kind,
            result.artifact.fallback and one_line(result.artifact.fallback, LONGEST_MESSAGE),
            result.artifact.instead_of,
        )
    if len(result.failures) > MOST_FAILURES:
        refuse(f"holds {len(result.failures)} failures")
    for failure in result.failures:
        failure.stage, failure.message = one_line(failure.stage, 60), one_line(failure.message, LONGEST_MESSAGE)
    result.runtime_version = one_line(result.runtime_version, 80)
    if result.runner:
        for name in ("fallback", "packed_for", "unpacked"):
            said = getattr(result.runner, name)
            setattr(result.runner, name, said and one_line(said, LONGEST_MESSAGE))
    return result


def _artifact_problem(result: Result, request: Request, manifest: Manifest) -> str | None:
    ran = result.artifact
    there = artifacts_by_kind(manifest)
    if len(there) == 1:
        return "names an artifact of a bundle that has but one" if ran else None
    if ran is None:
        return "does not say which of the bundle's artifacts ran; install the app that comes with this firsttoken" if result.runs else None
    if request.artifact != "auto" and ran.kind != request.artifact:
        return f"is of the {ran.kind.upper()} artifact, expected the {request.artifact.upper()}'s"
    if ran.kind not in there:
        return f"is of the {ran.kind.upper()} artifact, which the bundle does not have"
    expected = ran_artifact(manifest, ran.kind)
    if (ran.sha256, ran.bytes) != (expected.sha256, expected.bytes):
        return f"its {ran.kind.upper()} artifact has SHA-256 {ran.sha256[:12]}… and {ran.bytes} bytes, expected {expected.sha256[:12]}… and {expected.bytes}"
    return None


def _runs_problem(runs: list[Run], request: Request, memory: int | None) -> str | None:
    asked = {prompt.tokens for prompt in request.prompts}
    counts: dict[tuple[int, str], int] = {}
    for number, run in enumerate(runs, start=1):
        where = f"run {number}"
        if run.prompt_tokens not in asked:
            return f"{where} is of {run.prompt_tokens} prompt tokens, which were not asked for"
        if run.state not in (request.state, "warm-up"):
            return f"{where} is {run.state}, expected {request.state}"
        key = (run.prompt_tokens, run.state)
        counts[key] = counts.get(key, 0) + 1
        if counts[key] > (MOST_WARM_UPS if run.state == "warm-up" else request.repeat):
            return f"holds more than {request.repeat} {run.state} runs of {run.prompt_tokens} tokens"
        if (
            not 0 < run.stages.first_token <= LONGEST_RUN
            or (run.decode and run.decode.nanoseconds > LONGEST_RUN)
            or run.at_seconds * 10**9 > 1000 * LONGEST_RUN
        ):
            return f"{where} has an impossible time"
        if run.decode and run.decode.tokens > request.decode_tokens:
            return f"{where} decoded {run.decode.tokens} tokens, expected {request.decode_tokens} at most"
        if memory and run.peak_memory_bytes and run.peak_memory_bytes > 2 * memory:
            return f"{where} used {run.peak_memory_bytes} bytes of memory on a phone of {memory}"
        if run.temperature is not None and not PLAUSIBLE[0] < run.temperature < PLAUSIBLE[1]:
            return f"{where} was at {run.temperature} °C"
    return None
