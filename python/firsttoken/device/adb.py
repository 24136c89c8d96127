"""Running the adb program: argument lists in, bounded bytes out, one clear error for each way it fails.

``adb shell`` hands one string to the device's shell, so everything variable in it goes through `fill`, which quotes.
"""

import os
import secrets
import selectors
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from firsttoken.device.untrusted import one_line
from firsttoken.errors import FirstTokenError
from firsttoken.pipes import piped

OUTPUT_LIMIT = 4 << 20  # bytes of one command's output; more is not an answer to anything we ask
COMMAND_SECONDS = 60.0
TICK_SECONDS = 0.2
SDK_FOLDERS = ("ANDROID_HOME", "ANDROID_SDK_ROOT")
USUAL_SDKS = ("Android/Sdk", "Library/Android/sdk")


class DeviceError(FirstTokenError):
    """A device cannot be used as it is: unauthorised, offline, locked, too hot, out of space, …"""


class DeviceGone(DeviceError):
    """The device does not answer any more: a dropped cable, a reboot, a dead adbd."""


class Stopped(Exception):
    """The user asked to stop while a command was running."""


@dataclass(frozen=True)
class Output:
    """What a command left behind: exit status, standard output and standard error."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", errors="replace")

    @property
    def complaint(self) -> str:
        """Its own words about what went wrong, as one line."""
        return one_line(self.stderr) or one_line(self.stdout) or f"exit status {self.code}"


def find_adb() -> str:
    """Returns the path of the adb program: on PATH, else in the Android SDK. Raises `FirstTokenError` where there is none."""
    if found := shutil.which("adb"):
        return found
    folders = [Path(os.environ[name]) for name in SDK_FOLDERS if os.environ.get(name)] + [Path.home() / name for name in USUAL_SDKS]
    for folder in folders:
        if (program := folder / "platform-tools" / "adb").is_file() and os.access(program, os.X_OK):
            return str(program)
    raise FirstTokenError(
        "adb not found on PATH, in $ANDROID_HOME or in ~/Android/Sdk; install the platform-tools (Debian, Ubuntu: apt install adb; macOS: brew install android-platform-tools)"
    )


def fill(template: str, *values: str | int) -> str:
    """Returns a command for the device's shell: each ``{}`` of ``template`` replaced by a value, quoted.

    Raises `FirstTokenError` for a value with a NUL character, which no command line can hold.
    """
    for value in values:
        if "\0" in str(value):
            raise FirstTokenError(f"{one_line(str(value))!r}: holds a NUL character; rename it")
    return template.format(*(shlex.quote(str(value)) for value in values))


def problem(complaint: str, serial: str) -> FirstTokenError | None:
    """Returns the error behind adb's own complaint about a device, or None where it is about something else."""
    low = complaint.lower()
    if "unauthorized" in low or "still authorizing" in low:
        return DeviceError(f'device {serial}: unauthorised; unlock it, accept "Allow USB debugging?" on its screen, then run this again')
    if "insufficient permissions" in low or "no permissions" in low or "usb permission" in low:
        return DeviceError(
            f"device {serial}: this user may not open its USB port; install udev rules (Debian, Ubuntu: apt install android-sdk-platform-tools-common), add yourself to group plugdev and plug it in again"
        )
    if "cannot connect to daemon" in low or "failed to start daemon" in low or "could not start server" in low:
        return FirstTokenError(
            f"the adb server cannot be started or reached ({one_line(complaint)}); try `adb kill-server` and `adb devices`"
        )
    gone = (
        "not found",
        "no devices",
        "offline",
        "protocol fault",
        "connection reset",
        "connect failed",
        "closed",
        "failed to read",
        "couldn't read",
        "eof",
    )
    about_adb = low.startswith(("error:", "adb:"))
    if about_adb and any(word in low for word in gone) and "no such file" not in low:
        return DeviceGone(
            f"device {serial}: does not answer any more ({one_line(complaint, 120)}); check the cable and that it is switched on"
        )
    return None


class Adb:
    """The adb program; with a serial, one device. ``stop``, when set, ends a running command with `Stopped`."""

    def __init__(self, serial: str | None = None, program: str | None = None, stop: Event | None = None) -> None:
        self.program, self.serial, self.stop = program or find_adb(), serial, stop

    @property
    def name(self) -> str:
        return one_line(self.serial or "", 80)

    def unstoppable(self) -> "Adb":
        """Returns the same device for the commands that tidy up after a stop."""
        return Adb(self.serial, self.program)

    def run(
        self, *arguments: str, seconds: float = COMMAND_SECONDS, limit: int = OUTPUT_LIMIT, tick: Callable[[], None] | None = None
    ) -> Output:
        """Runs adb with ``arguments`` and returns what it said, whatever its exit status.

        ``tick`` is called every `TICK_SECONDS`. Raises `DeviceError` after ``seconds`` or ``limit`` bytes, `Stopped`.
        """
        command = [self.program, *(("-s", self.serial) if self.serial is not None else ()), *arguments]
        try:
            # a session of its own: Ctrl-C reaches us alone, and we still need the device to tidy up
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise FirstTokenError(
                f"adb {self.program}: does not run ({error.strerror or error}); install the platform-tools again"
            ) from None
        try:
            out, err = self._collect(process, arguments, time.monotonic() + seconds, limit, tick)
        except BaseException:
            process.kill()
            raise
        finally:
            piped(process.stdout).close()
            piped(process.stderr).close()
            code = process.wait()
        return Output(code, out, err)

    def _collect(
        self, process: subprocess.Popen[bytes], arguments: Sequence[str], deadline: float, limit: int, tick: Callable[[], None] | None
    ) -> tuple[bytes, bytes]:
        out, err = piped(process.stdout), piped(process.stderr)
        parts = {out.fileno(): bytearray(), err.fileno(): bytearray()}
        ticked = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for stream in parts:
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select(TICK_SECONDS):
                    block = os.read(key.fd, 1 << 16)
                    if not block:
                        selector.unregister(key.fd)
                    parts[key.fd] += block
                if self.stop is not None and self.stop.is_set():
                    raise Stopped
                if sum(map(len, parts.values())) > limit:
                    raise DeviceError(
                        f"device {self.name}: `adb {one_line(' '.join(arguments), 80)}` answered more than {limit} bytes; that is not an answer this command can use"
                    )
                if time.monotonic() > deadline:
                    raise DeviceGone(
                        f"device {self.name}: `adb {one_line(' '.join(arguments), 80)}` did not answer in time; check the cable, or restart the phone"
                    )
                if tick and time.monotonic() - ticked >= TICK_SECONDS:
                    tick()
                    ticked = time.monotonic()
        return bytes(parts[out.fileno()]), bytes(parts[err.fileno()])

    def shell(self, template: str, *values: str | int, seconds: float = COMMAND_SECONDS, limit: int = OUTPUT_LIMIT) -> Output:
        """Runs a command on the device, its variable parts quoted by `fill`, and returns what it said, whatever its exit status.

        Raises `DeviceGone` where the connection broke, `DeviceError` where the device cannot be used.
        """
        # the answer ends with a word that only we know: a connection that breaks may look like a command that said nothing
        word = secrets.token_hex(8)
        done = self.run("shell", "-n", "-T", f"{fill(template, *values)}; s=$?; echo; echo {word} $s", seconds=seconds, limit=limit)
        body, found, status = done.stdout.replace(b"\r\n", b"\n").rpartition(b"\n" + word.encode() + b" ")
        if not found or not status.strip().isdigit():
            self.check(done)
            raise DeviceGone(f"device {self.name}: broke off in the middle of an answer; check the cable, then run this again")
        return Output(int(status), body, done.stderr)

    def answers(self, *commands: str) -> list[str]:
        """Runs fixed commands in one go, which saves a connection each, and returns the output of every one, failed or not."""
        word = secrets.token_hex(8)
        text = self.shell("; ".join(f"{command} 2>/dev/null; echo; echo {word}" for command in commands)).text
        return text.split(f"\n{word}\n")[: len(commands)]

    def ask(self, template: str, *values: str | int, seconds: float = COMMAND_SECONDS) -> str:
        """Runs a command that must succeed and returns its output. Raises `DeviceError` with the device's words if it fails."""
        done = self.shell(template, *values, seconds=seconds)
        if done.code:
            raise DeviceError(f"device {self.name}: `{one_line(fill(template, *values), 120)}` failed ({done.complaint})")
        return done.text

    def check(self, done: Output) -> None:
        """Raises the error of a failed command if it was the connection that failed, not the command on the device."""
        if error := problem(one_line(done.stderr), self.name):
            raise error
        if not done.stderr.strip():
            # a command may fail silently, but so does a connection that breaks
            state = self.run("get-state")
            if state.code:
                raise problem(state.complaint, self.name) or DeviceGone(f"device {self.name}: does not answer any more ({state.complaint})")
