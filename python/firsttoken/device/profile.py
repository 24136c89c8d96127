"""A profile on one phone: bundles staged, requests carried out one after another, everything finished kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from firsttoken.atomic_file import check_file_destination
from firsttoken.bundle.files import REJECTED
from firsttoken.bundle.manifest import MANIFEST_FILE
from firsttoken.device import PACKAGE
from firsttoken.device.adb import Adb, DeviceError, Stopped
from firsttoken.device.conditions import thermal
from firsttoken.device.cooling import Cooling, cool_down
from firsttoken.device.fitting_target import instead, refusal
from firsttoken.device.identify import Phone, identify
from firsttoken.device.install import installed_runtimes
from firsttoken.device.ready import check_ready, keep_awake, worries
from firsttoken.device.request import ArtifactChoice, ProfileSettings, Prompt, check_settings, prompts_for
from firsttoken.device.session import Session, Step, discard, finished_runs, new_session, read_session, same_work
from firsttoken.device.staging import LocalBundle, local_bundle, stage
from firsttoken.device.step import StepFailed, StepRunner, failure_of
from firsttoken.errors import FirstTokenError
from firsttoken.measure.measurement import Measurement, artifacts_by_kind
from firsttoken.progress import Report, silent
from firsttoken.units import readable

SUFFIX = ".measurement.json"
EXPORTS = {"npu": "a Snapdragon (-t tflite-hexagon-sm8650)", "gpu": "a GPU (-t tflite-gpu)"}


@dataclass
class Work:
    """A bundle with its prompts, ready to be measured on any number of phones."""

    name: str
    bundle: LocalBundle
    chat: bool
    prompts: list[Prompt]
    artifact: ArtifactChoice = "auto"
    by_name: bool = True
    """Whether it was asked for itself, not with all that lie in a folder: then it is an error that the app does not run it."""


def prepare(bundles: Sequence[str | Path], settings: ProfileSettings, report: Report = silent) -> list[Work]:
    """Reads and checks all bundles and cuts their prompts, before any phone is touched. Raises `FirstTokenError`.

    A folder that is no bundle stands for the bundles in it.
    """
    check_settings(settings)
    folders, by_names = [], []
    for given in bundles:
        inside = bundles_in(Path(given))
        folders += inside or [Path(given)]
        by_names += [not inside] * max(1, len(inside))
    found = [local_bundle(folder, report) for folder in folders]
    keys = [bundle.key for bundle in found]
    for number, key in enumerate(keys):
        if key in keys[:number]:
            raise FirstTokenError(f"bundle {found[number].folder}: the same as {found[keys.index(key)].folder}; give each once")
    _check_there(found, settings)
    work = []
    for name, bundle, by_name in zip(_names(found), found, by_names, strict=True):
        chat, prompts = prompts_for(bundle, settings)
        kinds = list(artifacts_by_kind(bundle.manifest))
        asked: Literal["auto", "both", "cpu", "gpu", "npu"] = settings.artifact if len(kinds) > 1 else "auto"
        chosen: list[ArtifactChoice] = [*kinds] if asked == "both" else [asked]
        for artifact in chosen:
            work.append(Work(name, bundle, chat, prompts, artifact, by_name))
    return work


def _check_there(bundles: list[LocalBundle], settings: ProfileSettings) -> None:
    """Raises `FirstTokenError` where a bundle lacks the artifact that is asked for; "both" needs one bundle that has several."""
    kinds = [artifacts_by_kind(bundle.manifest) for bundle in bundles]
    if settings.artifact in EXPORTS:
        absent = [bundle for bundle, there in zip(bundles, kinds, strict=True) if settings.artifact not in there]
        what, target = settings.artifact.upper(), EXPORTS[settings.artifact]
    else:
        absent = bundles if settings.artifact == "both" and all(len(there) == 1 for there in kinds) else []
        what, target = "NPU", EXPORTS["npu"]
    if absent:
        raise FirstTokenError(f"bundle {absent[0].folder}: has no {what} artifact; leave out --artifact, or export for {target}")


def bundles_in(folder: Path) -> list[Path]:
    """Returns the bundles in a folder that is none itself, but for those that were rejected by their proof."""
    if (folder / MANIFEST_FILE).exists() or not folder.is_dir():
        return []
    return sorted(
        place.parent for place in folder.glob(f"*/{MANIFEST_FILE}") if REJECTED not in place.parent.name and place.parent.name[0] != "."
    )


def _names(bundles: list[LocalBundle]) -> list[str]:
    """The folders' names; the paths as given where two folders are called the same."""
    names = [bundle.folder.resolve().name for bundle in bundles]
    return [name if names.count(name) == 1 else str(bundle.folder) for name, bundle in zip(names, bundles, strict=True)]


class Profile:
    """A profile on one phone. Everything finished is on the disk after every request, so it can end at any point.

    ``report`` is a progress report; ``say`` shows a line. Opening identifies the phone. Raises `DeviceError`.
    """

    def __init__(
        self,
        adb: Adb,
        work: list[Work],
        settings: ProfileSettings,
        cooling: Cooling,
        report: Report = silent,
        say: Callable[[str], None] = print,
    ) -> None:
        self.adb, self.work, self.settings, self.cooling = adb, work, settings, cooling
        self.report, self._say = report, say
        self.phone: Phone = identify(adb)
        self._opened: tuple[Session, Path] | None = None

    @property
    def bundles(self) -> list[LocalBundle]:
        return [one.bundle for one in self.work]

    @property
    def session(self) -> Session:
        """What is done and left; there from `open` on."""
        assert self._opened is not None, "open comes first"
        return self._opened[0]

    @property
    def output(self) -> Path:
        """Where the measurement goes; there from `open` on."""
        assert self._opened is not None, "open comes first"
        return self._opened[1]

    @property
    def measurement(self) -> Measurement | None:
        """Everything measured so far, or None where there is nothing yet."""
        return self.session.measurement(self.bundles) if self._opened else None

    def say(self, line: str) -> None:
        self._say(f"{self.phone.name}: {line}")

    def check_runtimes(self) -> None:
        """Leaves out what only lies in a folder and the app on the phone has no runtime for, saying so. Raises `DeviceError`, before
        anything is copied, for such bundles that were asked for by name, or where nothing is left."""
        carried = installed_runtimes(self.adb)
        if carried is None:  # not installed, or an app that does not say it: then it refuses by itself
            return
        refused = {one.name: reason for one in self.work if (reason := refusal(carried, one.bundle.manifest))}
        runs = [one for one in self.work if one.name not in refused]
        listed = "; ".join(f"{name} ({reason})" for name, reason in refused.items())
        if not runs or any(one.by_name for one in self.work if one.name in refused):
            raise DeviceError(f"device {self.adb.name}: the app there does not run {listed}; {instead(carried)}; nothing was copied")
        if refused:
            self.say(f"left out, since the app there does not run it: {listed}")
        self.work = runs

    def open(self, output: Path, resume: bool = False, force: bool = False) -> None:
        """Finds or starts the session of ``output``. Raises `FirstTokenError` where that would lose something or makes no sense."""
        check_file_destination(output, "-o")
        found = None if force else read_session(output)
        if found is not None:
            if difference := same_work(found, self.phone.device(), self.settings, self.bundles):
                raise FirstTokenError(
                    f"{output}: an unfinished profile is there, but {difference}; run that one again, choose another -o, or start over with --force"
                )
            self._opened = found, output
            self.say(f"going on with {output.name}: {found.runs_done()} of {found.runs_total()} runs are done (--force starts over)")
            return
        if resume:
            raise FirstTokenError(f"{output}: no unfinished profile to resume; leave out --resume")
        if output.exists() and not force:
            raise FirstTokenError(f"{output}: already exists; replace it with --force or choose another -o")
        discard(output)
        names, artifacts = [one.name for one in self.work], [one.artifact for one in self.work]
        self._opened = new_session(self.phone.device(), self.settings, names, self.bundles, artifacts), output

    def save(self) -> None:
        """Writes the session, and the measurement as soon as it holds a run."""
        self.session.write(self.output)
        measurement = self.measurement
        if measurement is not None and any(result.runs for result in measurement.results):
            measurement.write(self.output)

    def run(self) -> list[str]:
        """Does what is left and returns what failed, a line each. Raises `DeviceError` where the phone cannot go on, `Stopped`."""
        check_ready(self.adb, self.phone)
        for worry in worries(self.adb):
            self.say(f"note: {worry}")
        pushed = stage(self.adb, self.bundles, self.report)
        self.say(
            f"{', '.join(dict.fromkeys(one.name for one in self.work))}: {f'{readable(pushed)} pushed' if pushed else 'already on the phone, nothing to push'}"
        )
        start = thermal(self.adb)
        failed: list[str] = []
        for number in range(len(self.work)):
            steps = [step for step in self.session.left() if step.bundle == number]
            if not steps:
                continue
            keep_awake(self.adb)
            # a phone that does not tell how hot it is waits before every bundle but the first
            cool_down(self.adb, start, self.cooling, steps[0] is not self.session.steps[0], self.say)
            self._run_bundle(steps, failed)
        self.adb.shell("am force-stop {}", PACKAGE)
        for step in self.session.steps:
            for failure in step.result.failures if step.ended and step.result else []:
                failed.append(
                    f"{self.work[step.bundle].name}, {failure.state or step.state} at {failure.prompt_tokens or 'any'} tokens, {failure.stage}: {failure.message}"
                )
        if not self.session.left():
            discard(self.output)
        return failed

    def _run_bundle(self, steps: list[Step], failed: list[str]) -> None:
        one = self.work[steps[0].bundle]
        for step in steps:
            before = self.session.runs_done() - finished_runs(step)
            runner = StepRunner(
                adb=self.adb,
                phone=self.phone,
                step=step,
                request=self.session.request(step, one.chat, one.prompts),
                bundle=one.bundle,
                session_started=self.session.started,
                done=partial(self._progress, before),
                save=self.save,
                say=self.say,
            )
            try:
                runner.run()
            except StepFailed as error:
                step.failure = failure_of(step, error)
                self.save()
                failed.append(f"{one.name}, {step.state}, {error.stage}: {error}")
                self.say(f"{one.name}: {error}")
                return  # its other steps would most likely end the same way
            except (DeviceError, Stopped):
                self.save()
                raise
            self._progress(self.session.runs_done(), 0)

    def _progress(self, before: int, runs: int) -> None:
        self.report("profile", before + runs, self.session.runs_total(), "runs")
