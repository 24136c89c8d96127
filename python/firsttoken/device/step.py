"""One request of a profile to its end: over dropped connections, and over crashes as long as runs get finished between them."""

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from firsttoken.device import MEDIA, PACKAGE
from firsttoken.device.adb import Adb, DeviceError, DeviceGone, Stopped
from firsttoken.device.conditions import conditions, thermal
from firsttoken.device.cooling import pause
from firsttoken.device.follow import Crashed, Event, carry_out
from firsttoken.device.identify import Phone
from firsttoken.device.ready import unlock
from firsttoken.device.request import Request
from firsttoken.device.result import fetch_result
from firsttoken.device.session import Step, finished_runs
from firsttoken.device.staging import LocalBundle, stage_text
from firsttoken.measure.measurement import Failure, Run

RECONNECT_SECONDS = 60.0  # how long a phone that went away is waited for
RECONNECT_POLL_SECONDS = 1.0
SAMPLE_SECONDS = 5.0  # between two looks at the temperature while the phone measures
MOST_CRASHES = 3


class StepFailed(DeviceError):
    """A request did not end well, and running it again at once would not help; other bundles may go on."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


@dataclass
class StepRunner:
    """Carries out one step. ``done``: called with its finished runs; ``save``: called when the step has changed."""

    adb: Adb
    phone: Phone
    step: Step
    request: Request
    bundle: LocalBundle
    session_started: float
    done: Callable[[int], None]
    save: Callable[[], None]
    say: Callable[[str], None]
    kept: int = 0
    sampled_at: float = 0.0
    temperatures: dict[int, float] = field(default_factory=dict)  # by a run's nanoseconds to the first token

    def run(self) -> None:
        """Runs the step. Raises `StepFailed`, `DeviceError` where the phone cannot go on at all, `Stopped`."""
        crashes, finished = 0, finished_runs(self.step)
        while True:
            try:
                last = self._attempt()
                if last.event == "refused":
                    with suppress(StepFailed):  # the app's own reason is the one to tell
                        self._read()  # it may have measured something before
                    raise StepFailed("refused", f"device {self.adb.name}: the app refused: {last.message or 'it gave no reason'}")
                self._read(must=True)
                self.step.after = conditions(self.adb)
                break
            except DeviceGone as gone:
                self._wait_back(gone)
            except Crashed as crash:
                self._read()
                crashes += 1
                if crashes >= MOST_CRASHES or finished_runs(self.step) <= finished:
                    raise StepFailed("crash", str(crash)) from None
                finished = finished_runs(self.step)
                self.say(f"{crash}; starting it again, {finished} of {self.request.runs} runs are kept")
            except Stopped:
                self._salvage()
                raise
        self.step.ended, self.step.failure = True, None
        self.save()
        self._forget()

    def _attempt(self) -> Event:
        unlock(self.adb)
        if self.step.before is None:
            self.step.before, self.step.began = conditions(self.adb), max(0.0, time.time() - self.session_started)
            self.save()
        return carry_out(self.adb, self.request, self._prepare, self._heard)

    def _prepare(self) -> None:
        with tempfile.TemporaryDirectory(prefix="firsttoken-") as folder:
            stage_text(self.adb, self.request.text(), self.request.place, Path(folder))
        # a fresh process: its peak memory is its own, and a cold run is cold
        self.adb.shell("am force-stop {}", PACKAGE)

    def _heard(self, event: Event) -> None:
        if event.event == "started":
            self.kept = event.kept or 0
        elif event.event == "run" and event.done is not None:
            self.done(min(self.kept + event.done, self.request.runs))
            if event.first_token_ns is not None and time.monotonic() - self.sampled_at > SAMPLE_SECONDS:
                hottest = thermal(self.adb).hottest("cpu", "soc")
                self.sampled_at = time.monotonic()
                if hottest is not None:
                    self.temperatures[event.first_token_ns] = hottest

    def _read(self, must: bool = False) -> None:
        """Takes over what the app has measured so far. A file that cannot be used is a failed step, and what was taken before stays."""
        try:
            result = fetch_result(self.adb, self.request, self.bundle, self.phone.memory)
        except DeviceGone:
            raise
        except DeviceError as error:
            raise StepFailed("result", str(error)) from None
        if result is None:
            if must:
                raise StepFailed("result", f"device {self.adb.name}: the app says it is done, but there is no measurement file")
            return
        for run in result.runs:
            self._add_temperature(run)
        self.step.result = result
        self.save()

    def _add_temperature(self, run: Run) -> None:
        if run.temperature is None:
            known = {old.stages.first_token: old.temperature for old in (self.step.result.runs if self.step.result else [])}
            run.temperature = self.temperatures.get(run.stages.first_token, known.get(run.stages.first_token))

    def _wait_back(self, gone: DeviceGone) -> None:
        """Waits until the phone answers again; the app goes on measuring meanwhile. Raises the given error if it stays away."""
        self.say(f"{gone}; waiting {RECONNECT_SECONDS:.0f} s for it")
        deadline = time.monotonic() + RECONNECT_SECONDS
        while time.monotonic() < deadline:
            try:
                pause(self.adb, RECONNECT_POLL_SECONDS)
            except Stopped:
                raise gone from None
            try:
                state = self.adb.run("get-state", seconds=5)
            except DeviceGone:
                continue
            if state.code == 0 and state.text.strip() == "device":
                self.say("is back")
                return
        raise gone

    def _salvage(self) -> None:
        """After a stop: fetches what is finished and ends the app's work, as well as the phone still answers."""
        self.adb = self.adb.unstoppable()
        try:
            self._read()
            self.adb.shell("am force-stop {}", PACKAGE, seconds=10)
        except DeviceError as error:
            self.say(f"what the running request had finished stays on the phone ({error})")

    def _forget(self) -> None:
        """Removes a finished request from the phone; its runs are on this machine now."""
        place = f"{MEDIA}/measurements/{self.request.id}"
        self.adb.shell("rm -f {} {} {}", self.request.place, f"{place}.json", f"{place}.progress")


def failure_of(step: Step, error: StepFailed) -> Failure:
    """Returns what the measurement keeps of a failed step."""
    return Failure(prompt_tokens=step.prompt, state=step.state, stage=error.stage, message=str(error))
