"""A command's death by a signal is told in one line; everything else is as if nobody watched."""

import fcntl
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from firsttoken.death import describe

PROGRAM = [sys.executable, str(Path(__file__).with_name("watched.py"))]
SECONDS = 30


def run(*arguments, **options):
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=SECONDS, **options)


def alive(pid: int) -> bool:
    """Whether a process runs: one that ended and was not waited for does not."""
    return state(pid) not in ("gone", "Z")


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def wait_until(what) -> bool:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.01)
    return False


def as_from_a_terminal() -> None:
    """Whatever started the tests may ignore signals, which a child inherits."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGTSTP):
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def waiting(**options):
    """A command that waits to be ended, and its worker's process id."""
    process = subprocess.Popen(
        [*PROGRAM, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **{"preexec_fn": as_from_a_terminal, **options}
    )
    worker = int(process.stdout.readline().split()[1])
    try:
        yield process, worker
    finally:
        for pid in (process.pid, worker):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE"])
def test_a_death_is_told_in_one_line(name):
    number = signal.Signals[name]
    done = run("die", number.value)
    assert done.returncode == 128 + number and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: loading model.tflite: a native library ended firsttoken ({name}), saying 'ERROR: failed to map ")
    assert "part 7" in line and "\x1b" not in line and "export it again" in line


def test_sigkill_is_told_as_what_it_most_likely_was():
    done = run("die", signal.SIGKILL.value)
    assert done.returncode == 137
    assert re.fullmatch(
        r"error: loading model.tflite: the system ended firsttoken \(SIGKILL\), most likely because memory ran out; .*\n", done.stderr
    )


@pytest.mark.parametrize("code", [0, 1, 2, 3, 130, 255])
def test_exit_codes_are_passed_on(code):
    done = run("exit", code)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_standard_input_is_the_workers():
    assert run("read", input="a line\nanother").stdout == "A LINE\nANOTHER"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("group", [False, True], ids=["watcher", "whole group"])
def test_a_request_to_end_comes_once_and_lets_the_worker_tidy_up(number, code, group):
    """A process group is told by a terminal, by ``timeout`` and by shells that end; the watcher must not make two of it."""
    with waiting(start_new_session=True) as (process, worker):
        (os.killpg if group else os.kill)(process.pid, number)
        assert process.wait(SECONDS) == code
        assert process.stdout.read() == "tidied\n" and process.stderr.read() == ""
        assert not alive(worker)


def test_what_the_starter_ignores_stays_ignored():
    """As under nohup."""
    with waiting(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as (process, worker):
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert process.poll() is None and alive(worker)


def test_a_starter_that_ignores_its_children_is_answered():
    done = run("exit", 3, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert done.returncode == 3


def test_a_killed_watcher_takes_the_worker_with_it():
    with waiting() as (process, worker):
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert wait_until(lambda: not alive(worker))


def test_a_worker_that_does_not_listen_is_killed_when_asked_the_third_time():
    """As one inside a library that never returns."""
    process = subprocess.Popen([*PROGRAM, "deaf"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=as_from_a_terminal)
    worker = int(process.stdout.readline().split()[1])
    for _ in range(3):
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        time.sleep(0.6)
    assert process.wait(SECONDS) == 137 and process.stderr.read() == "" and not alive(worker)


def test_a_stop_is_passed_on_and_so_is_what_ends_it():
    # a group of its own: the system stops none whose session has nobody left to let it go on
    with waiting(process_group=0) as (process, worker):
        process.send_signal(signal.SIGTSTP)
        assert wait_until(lambda: state(worker) == "T")
        process.send_signal(signal.SIGCONT)
        assert wait_until(lambda: state(worker) != "T" and state(process.pid) != "T")
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 143


class Terminal:
    """A terminal with a command in it."""

    def __init__(self, *command: str) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            as_from_a_terminal()
            os.execvp(command[0], command)
        self.said = ""

    def read_until(self, pattern: str) -> re.Match:
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self.said)):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.said!r}"
            try:
                self.said += os.read(self.master, 4096).decode()
            except OSError:
                raise AssertionError(f"no {pattern!r} in {self.said!r}") from None
        self.said = self.said[found.end() :]
        return found

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def close(self) -> None:
        os.close(self.master)
        os.waitpid(self.pid, 0)


def test_job_control_and_the_size_of_the_window():
    """Ctrl-Z stops both processes, ``fg`` lets both go on, the worker hears of a new window size, Ctrl-C ends it, once."""
    script = f'set -m; {shlex.join(PROGRAM)} tick; echo "stopped $?"; read -r; fg; echo "ended $?"'
    terminal = Terminal("bash", "--norc", "-c", script)
    try:
        worker = int(terminal.read_until(r"worker (\d+)")[1])
        terminal.type("\x1a")
        terminal.read_until("stopped 148")
        assert wait_until(lambda: state(worker) == "T")  # the shell hears of the one it waits for, which may be first
        terminal.type("\n")
        assert wait_until(lambda: state(worker) == "S")
        fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 123, 0, 0))
        terminal.read_until("columns 123")
        terminal.type("\x03")
        terminal.read_until("ended 130")
        assert not alive(worker)
    finally:
        terminal.close()


def test_a_terminal_that_goes_away_ends_both():
    terminal = Terminal(*PROGRAM, "wait")
    worker = int(terminal.read_until(r"worker (\d+)")[1])
    terminal.close()
    assert wait_until(lambda: not alive(worker))


def test_a_death_in_a_terminal_leaves_the_cursor_visible():
    terminal = Terminal(*PROGRAM, "die", "11")
    try:
        terminal.read_until(re.escape("\x1b[?25h"))
        terminal.read_until(r"error: loading model.tflite: .*SIGSEGV")
    finally:
        terminal.close()


def test_a_reader_that_goes_away_is_no_death():
    done = subprocess.run(
        [f"{sys.executable} -c 'from firsttoken.cli import main; main()' targets | head -1; exit ${{PIPESTATUS[0]}}"],
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert "Traceback" not in done.stderr and "native library" not in done.stderr and done.stdout.count("\n") == 1


def test_signals_without_a_name_have_a_number():
    assert "(signal 35)" in describe(35, "", "")


def test_splitting_costs_milliseconds():
    """Held against what a process of its own costs anyway, so that a busy machine does not matter: no interpreter is started."""
    program = "import os; from firsttoken.cli import watch; before = os.times(); watch.split(); after = os.times(); print(after.user + after.system - before.user - before.system)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=SECONDS)
    assert float(done.stdout) < 0.1
