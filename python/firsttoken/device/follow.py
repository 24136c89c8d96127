"""Starting a request in the app and reading its progress file until it ends."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, ValidationError

from firsttoken.declarations import first_problem
from firsttoken.device import ACTION, ACTIVITY, MEDIA, PACKAGE
from firsttoken.device.adb import Adb, DeviceError
from firsttoken.device.cooling import pause
from firsttoken.device.crash import crash_reason
from firsttoken.device.request import Request
from firsttoken.device.untrusted import one_line, parse_json
from firsttoken.errors import FirstTokenError

POLL_SECONDS = 2.0  # each look starts two small programs on the phone, which is measuring
START_SECONDS = 60.0  # from the activity's start to its first line
SILENCE_SECONDS = 1800.0  # between two lines: loading a large model, or one long prompt on a slow phone
LONGEST_PROGRESS = 16 << 20  # bytes
FINAL = ("done", "refused")


class Crashed(DeviceError):
    """The app's process ended before the request did."""


class Event(BaseModel):
    """A line of the progress file; fields and events that are not known are ignored."""

    model_config = ConfigDict(extra="ignore")
    event: str
    pid: int | None = None
    total: int | None = None
    kept: int | None = None
    phase: str | None = None
    prompt_tokens: int | None = None
    state: str | None = None
    done: int | None = None
    first_token_ns: int | None = None
    stage: str | None = None
    message: str | None = None
    runs: int | None = None
    failures: int | None = None


@dataclass
class Progress:
    """What is known of a request's progress. ``position``: bytes of the file read, whole lines only: the app may take back a half one."""

    position: int = 0
    pid: int | None = None
    last: Event | None = None
    pids: set[int] = field(default_factory=set)  # processes of the app at the last look


def parse_events(data: bytes, source: str) -> tuple[list[Event], bytes]:
    """Returns the events of all whole lines in ``data``, and the rest after the last newline. Raises `DeviceError` for a malformed line."""
    *lines, rest = data.split(b"\n")
    events = []
    for line in lines:
        if not line.strip():
            continue
        try:
            values = parse_json(line, source)
            events.append(Event.model_validate(values, strict=True))
        except ValidationError as error:
            raise DeviceError(
                f"{source}: malformed progress line ({first_problem(error, values)}); is the app the one this firsttoken was made for?"
            ) from None
        except FirstTokenError as error:
            raise DeviceError(f"{error}; is the app the one this firsttoken was made for?") from None
    return events, rest


def progress_file(request: Request) -> str:
    return f"{MEDIA}/measurements/{request.id}.progress"


def look(adb: Adb, request: Request, progress: Progress) -> list[Event]:
    """Reads what is new in the progress file, and which processes the app has. Raises `DeviceError`."""
    done = adb.shell(
        "echo $(pidof {}); tail -c +{} {} 2>/dev/null",
        PACKAGE,
        progress.position + 1,
        progress_file(request),
        limit=LONGEST_PROGRESS + 1024,
    )
    first, _, new = done.stdout.partition(b"\n")
    progress.pids = {int(pid) for pid in re.findall(rb"\b\d{1,9}\b", first)}
    if progress.position + len(new) > LONGEST_PROGRESS:
        raise DeviceError(f"device {adb.name}: the progress file is longer than {LONGEST_PROGRESS} bytes; that is not what the app writes")
    events, rest = parse_events(new, f"device {adb.name}: progress of request {request.id[:8]}")
    progress.position += len(new) - len(rest)
    for event in events:
        progress.last = event
        if event.event == "started":
            progress.pid = event.pid
    return events


def carry_out(adb: Adb, request: Request, prepare: Callable[[], None], heard: Callable[[Event], None]) -> Event:
    """Makes the app carry out a staged request and returns its last event, ``done`` or ``refused``.

    What is already finished or still running is only read (the cable was gone, or this command was interrupted);
    anything else is started, after ``prepare``. Raises `Crashed` with the reason, `DeviceError`, `Stopped`.
    """
    progress = Progress()
    events = look(adb, request, progress)
    if progress.last is not None and progress.last.event == "done":
        for event in events:
            heard(event)
        return progress.last
    running = progress.last is not None and progress.last.event not in FINAL and progress.pid in progress.pids
    if running:
        for event in events:
            heard(event)
    else:
        prepare()
        progress.pid = None
        start(adb, request)
    return _follow(adb, request, progress, heard)


def start(adb: Adb, request: Request) -> None:
    """Starts the app's benchmark. Raises `DeviceError` where Android refuses."""
    done = adb.shell("am start -W -n {} -a {} --es id {}", ACTIVITY, ACTION, request.id, seconds=120)
    if problem := parse_start(done.text + "\n" + done.stderr.decode(errors="replace"), done.code):
        raise DeviceError(
            f"device {adb.name}: the app's benchmark cannot be started ({problem}); install the app of this firsttoken with `firsttoken device install APK`"
        )


def parse_start(text: str, code: int) -> str | None:
    """Returns why ``am start`` failed, or None. Before Android 10 it exits with 0 all the same."""
    for line in text.splitlines():
        if re.match(r"\s*(Error\b|java\.lang\.|Exception occurred|Security exception)", line):
            return one_line(line, 200)
    return f"am start: exit status {code}" if code else None


def _follow(adb: Adb, request: Request, progress: Progress, heard: Callable[[Event], None]) -> Event:
    heard_at, started, absent = time.monotonic(), progress.pid is not None, 0
    while True:
        pause(adb, POLL_SECONDS)
        events = look(adb, request, progress)
        for event in events:
            heard_at = time.monotonic()
            started = started or event.event == "started"
            heard(event)
            if event.event in FINAL:
                return event
        alive = progress.pid in progress.pids if progress.pid is not None else bool(progress.pids)
        # twice in a row: a process that ends after its last line has written it by then
        absent = 0 if alive else absent + 1
        if absent >= 2:
            raise Crashed(f"device {adb.name}: the app ended in the middle of its benchmark: {crash_reason(adb, progress.pid)}")
        silence = time.monotonic() - heard_at
        if silence > (SILENCE_SECONDS if started else START_SECONDS):
            raise DeviceError(f"device {adb.name}: the app has said nothing for {silence:.0f} s; look at its screen, then run this again")
