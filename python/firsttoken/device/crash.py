"""Why the app's process is gone: from the crash buffer, from Android's own record of exits, from the low-memory killer."""

import re

from firsttoken.device import PACKAGE
from firsttoken.device.adb import Adb
from firsttoken.device.untrusted import one_line

LINES = 500
_PREFIX = re.compile(r"^(?:\d{4}-)?\d\d-\d\d \d\d:\d\d:\d\d\.\d+\s+\d+\s+\d+\s+([VDIWEFA])\s+(\S.*?)\s*: ?", re.MULTILINE)
# ApplicationExitInfo.REASON_*, in a user's words
EXITS = {
    "1": "it ended itself",
    "2": "it was killed by a signal",
    "3": "Android killed it because memory ran out",
    "4": "an uncaught exception",
    "5": "a crash in native code",
    "6": "it did not respond",
    "8": "a permission changed",
    "9": "it used too many resources",
    "10": "it was stopped by the user or a command",
    "12": "something it depends on died",
    "16": "the app was updated",
}


def crash_reason(adb: Adb, pid: int | None) -> str:
    """Returns why the app's process ``pid`` (or its last one) ended, as far as the phone tells, as one line."""
    crash = adb.shell(f"logcat -b crash -d -v threadtime -t {LINES}").text
    if found := parse_crash(crash, pid):
        return found
    if found := parse_exit_info(adb.shell("dumpsys activity exit-info {}", PACKAGE).text, pid):
        return found
    if found := parse_low_memory(
        adb.shell(f"logcat -b main,system -d -v threadtime -t {LINES} -s lmkd lowmemorykiller ActivityManager").text, pid
    ):
        return found
    return "the phone does not say why; `adb logcat -b all -d` may"


def parse_crash(text: str, pid: int | None) -> str | None:
    """Returns the last crash of the app in the crash buffer: the Java exception, or the signal with its abort message."""
    lines = [_PREFIX.sub("", line) for line in text.splitlines()]
    found = None
    for number, line in enumerate(lines):
        java = re.match(rf"Process: {re.escape(PACKAGE)}, PID: (\d+)", line)
        if java and pid in (None, int(java[1])):
            exception = next((later.strip() for later in lines[number + 1 : number + 4] if later.strip()), "")
            causes = [later.strip() for later in lines[number + 1 : number + 200] if later.startswith("Caused by: ")]
            found = one_line(f"{exception}{f' ({causes[-1]})' if causes else ''}")
        native = re.match(rf"pid: (\d+), tid: \d+, name: .*>>> {re.escape(PACKAGE)} <<<", line)
        if native and pid in (None, int(native[1])):
            found = _native(lines[number + 1 : number + 40])
    return found


def _native(lines: list[str]) -> str:
    signal = next((match[0] for line in lines if (match := re.match(r"signal \d+ \(\w+\)", line))), "a crash in native code")
    abort = next((match[1] for line in lines if (match := re.match(r"Abort message: '(.*)'", line))), "")
    frame = next((match[1] for line in lines if (match := re.match(r"\s*#00 pc [0-9a-f]+\s+(.*)", line))), "")
    place = re.sub(r"\s*\(BuildId:.*\)", "", frame)
    place = place.rpartition("/")[2] if place.startswith("/") and "(" not in place.rpartition("/")[0] else place
    return one_line(f"{signal}{f': {abort}' if abort else ''}{f' in {place}' if place else ''}")


def parse_exit_info(text: str, pid: int | None) -> str | None:
    """Returns the newest exit of the process in ``dumpsys activity exit-info`` (Android 11 and newer)."""
    for record in re.split(r"ApplicationExitInfo #\d+:", text)[1:]:
        found = re.search(r"\bpid=(\d+)", record)
        reason = re.search(r"\breason=(\d+) \(([^\n]*?)\) subreason", record) or re.search(r"\breason=(\d+) \(([^)\n]*)\)", record)
        if not found or not reason or pid not in (None, int(found[1])):
            continue
        description = re.search(r"\bdescription=(.*?)(?: state=| trace=|$)", record, re.MULTILINE)
        words = description[1].strip() if description and description[1].strip() != "null" else ""
        memory = re.search(r"\brss=([\d.,]+ ?[KMG]B?)", record)
        return one_line(
            f"{EXITS.get(reason[1], reason[2])}{f' at {memory[1]} resident' if memory and reason[1] == '3' else ''}{f': {words}' if words else ''}"
        )
    return None


def parse_low_memory(text: str, pid: int | None) -> str | None:
    """Returns that the low-memory killer took the app, from the system log (before Android 11 the only trace)."""
    pattern = rf"(?:Kill|Killing) '?(?:{re.escape(PACKAGE)})'? \((\d+)\)|Process {re.escape(PACKAGE)} \(pid (\d+)\) has died"
    killed = [match for match in re.finditer(pattern, text) if pid in (None, int(match[1] or match[2]))]
    if not killed:
        return None
    return (
        "Android killed it because memory ran out"
        if killed[-1][1]
        else "Android says only that its process died; memory running out is the usual reason"
    )
