"""`firsttoken device profile`: the same bundles on one phone or on several at once, each with its own measurement file."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from firsttoken.device.adb import Adb, DeviceError, Stopped
from firsttoken.device.cooling import Cooling
from firsttoken.device.profile import SUFFIX, Profile, Work
from firsttoken.device.request import ProfileSettings
from firsttoken.errors import FirstTokenError
from firsttoken.measure.measurement import Measurement
from firsttoken.progress import Report, silent


@dataclass
class PhoneOutcome:
    """What came of one phone: its measurement so far, where it is, what went wrong, whether the same command has more to do."""

    name: str
    output: Path
    measurement: Measurement | None = None
    error: BaseException | None = None
    failed: list[str] = field(default_factory=list)
    runs: int = 0
    total: int = 0

    @property
    def unfinished(self) -> bool:
        return self.runs < self.total


class _Share:
    """One progress report made of those of several phones: what is done and what there is, added up."""

    def __init__(self, report: Report) -> None:
        self.report, self.lock = report, threading.Lock()
        self.parts: dict[str, tuple[str, float, float, str]] = {}  # stage, done, total and unit by serial

    def of(self, serial: str) -> Report:
        def part(stage: str, done: float, total: float, unit: str) -> None:
            with self.lock:
                self.parts[serial] = (stage, done, total, unit)
                same = [value for value in self.parts.values() if value[0] == stage]
                self.report(stage, sum(value[1] for value in same), sum(value[2] for value in same), unit)

        return part


def output_file(output: Path | None, slug: str, several: bool) -> Path:
    """Returns where a phone's measurement goes: ``output`` itself for one phone, else with the phone's name in it."""
    if output is None:
        return Path(f"{slug}{SUFFIX}")
    if not several:
        return output
    name = output.name
    stem, suffix = (name.removesuffix(SUFFIX), SUFFIX) if name.endswith(SUFFIX) else (output.stem, output.suffix)
    return output.with_name(f"{stem}-{slug}{suffix}")


class Profiles:
    """Profiles on all chosen phones. `start` begins them, `wait` ends when all have, `stop` makes them end soon."""

    def __init__(
        self,
        serials: Sequence[str],
        work: list[Work],
        settings: ProfileSettings,
        cooling: Cooling,
        output: Path | None,
        resume: bool = False,
        force: bool = False,
        report: Report = silent,
        say: Callable[[str], None] = print,
    ) -> None:
        """Identifies all phones and opens their sessions, so that nothing is started where one of them has a problem. Raises `FirstTokenError`."""
        self.stopping = threading.Event()
        share, lock = _Share(report), threading.Lock()

        def say_alone(line: str) -> None:
            with lock:
                say(line)

        self.profiles = [
            Profile(Adb(serial, stop=self.stopping), work, settings, cooling, share.of(serial), say_alone) for serial in serials
        ]
        identities = [profile.phone.identity for profile in self.profiles]
        for profile in self.profiles:
            if identities.count(profile.phone.identity) > 1:
                raise DeviceError(
                    f"device {profile.adb.name}: the same phone is connected twice (by cable and by network?); choose one with --serial"
                )
        for profile in self.profiles:
            profile.check_runtimes()
        for profile in self.profiles:
            profile.open(output_file(output, profile.phone.slug, len(serials) > 1), resume, force)
        self.outcomes = [PhoneOutcome(profile.phone.name, profile.output, total=profile.session.runs_total()) for profile in self.profiles]
        self.ended = [threading.Event() for _ in self.profiles]
        self.threads = [
            threading.Thread(target=self._one, args=three, daemon=True)
            for three in zip(self.profiles, self.outcomes, self.ended, strict=True)
        ]

    def run(self) -> list[PhoneOutcome]:
        """Runs all profiles and returns what came of them. Interrupted, it saves what is finished and raises what interrupted it."""
        started = []
        try:
            for thread, ended in zip(self.threads, self.ended, strict=True):
                thread.start()
                started.append(ended)
            for ended in started:
                # not join: interrupted, it may take a running thread for an ended one
                while not ended.wait(0.2):
                    pass
        except BaseException:
            self.stopping.set()
            for ended in started:
                ended.wait()
            raise
        return self.outcomes

    def _one(self, profile: Profile, outcome: PhoneOutcome, ended: threading.Event) -> None:
        try:
            outcome.failed = profile.run()
        except Stopped:
            pass
        except FirstTokenError as error:
            outcome.error = error
        except Exception as error:  # a fault of ours in a thread must come out in the main one
            outcome.error = error
        finally:
            outcome.measurement, outcome.runs = profile.measurement, profile.session.runs_done()
            ended.set()
