"""What is done and what is left of a profile on one phone, kept in a hidden file next to the measurement it becomes.

The session holds every step's own result; the measurement file is made from it anew after each step. When all steps
have ended well the session file goes away.
"""

import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from firsttoken.atomic_file import write_text
from firsttoken.checkpoint import read_json
from firsttoken.declarations import first_problem
from firsttoken.device.request import ArtifactChoice, ProfileSettings, Prompt, Request, new_id
from firsttoken.device.staging import LocalBundle
from firsttoken.errors import FirstTokenError
from firsttoken.measure.measurement import Conditions, Device, Failure, Measurement, Result, Writer, identify_bundle

VERSION: Final = 1


class BundleEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    key: str
    artifact: ArtifactChoice = "auto"


class Step(BaseModel):
    """One request: all warm runs of a bundle, or one cold run. ``began``: seconds since the session started.

    ``result`` is what the app had written when it was last read; ``failure`` why the step did not end well.
    """

    model_config = ConfigDict(extra="forbid")
    bundle: int = Field(ge=0)
    state: Literal["warm", "cold"]
    prompt: int | None = None
    id: str = Field(pattern="^[0-9a-f]{32}$")
    ended: bool = False
    began: float | None = None
    before: Conditions | None = None
    after: Conditions | None = None
    result: Result | None = None
    failure: Failure | None = None


class Session(BaseModel):
    """A profile on one phone."""

    model_config = ConfigDict(extra="forbid")
    version: Literal[1] = VERSION
    started: float = Field(default_factory=time.time)
    device: Device
    settings: ProfileSettings
    bundles: list[BundleEntry]
    steps: list[Step]

    def write(self, output: Path) -> None:
        write_text(session_file(output), self.model_dump_json(exclude_none=True) + "\n")

    def left(self) -> list[Step]:
        return [step for step in self.steps if not step.ended]

    def runs_done(self) -> int:
        """Finished runs, the warm-ups left out."""
        return sum(finished_runs(step) for step in self.steps)

    def runs_total(self) -> int:
        return sum(step_runs(step, self.settings) for step in self.steps)

    def request(self, step: Step, chat: bool, prompts: list[Prompt]) -> Request:
        """Returns the request of a step; ``prompts`` are all of its bundle's."""
        return Request(
            id=step.id,
            bundle=self.bundles[step.bundle].key,
            state=step.state,
            threads=self.settings.threads,
            repeat=self.settings.repeat if step.state == "warm" else 1,
            decode_tokens=self.settings.decode_tokens,
            chat=chat,
            prompts=[prompt for prompt in prompts if step.prompt in (None, prompt.tokens)],
            artifact=self.bundles[step.bundle].artifact,
        )

    def measurement(self, bundles: list[LocalBundle]) -> Measurement | None:
        """Returns all finished runs as one measurement, one result a bundle and artifact that ran; None where no step has anything to tell."""
        results = [result for number, bundle in enumerate(bundles) for result in self._merge(number, bundle)]
        if not results:
            return None
        return Measurement(
            writer=Writer(name="firsttoken device profile", version=version("firsttoken")), device=self.device, results=results
        )

    def _merge(self, number: int, bundle: LocalBundle) -> list[Result]:
        steps = [step for step in self.steps if step.bundle == number and step.before is not None]
        if not any(step.result is not None or step.failure for step in steps):
            return []
        kinds: list[str | None] = [*dict.fromkeys(kind for step in steps if (kind := step_artifact(step)) is not None)] or [None]
        # what told of no artifact goes with the first
        return [self._merged(number, bundle, [step for step in steps if (step_artifact(step) or kinds[0]) == kind]) for kind in kinds]

    def _merged(self, number: int, bundle: LocalBundle, steps: list[Step]) -> Result:
        told = [step.result for step in steps if step.result is not None]
        runs, failures = [], []
        for step in steps:
            for run in step.result.runs if step.result else []:
                runs.append(run.model_copy(update={"at_seconds": run.at_seconds + (step.began or 0.0)}))
            failures += (step.result.failures if step.result else []) + ([step.failure] if step.failure else [])
        app = told[0] if told else None
        first, last = steps[0].before, steps[-1].after
        assert first is not None, "only steps that began are merged"
        all_ended = all(step.ended for step in self.steps if step.bundle == number)
        return Result(
            bundle=identify_bundle(self.bundles[number].name, bundle.manifest),
            artifact=next((result.artifact for result in told if result.artifact), None),
            runtime_version=app.runtime_version if app else "unknown",
            threads=self.settings.threads,
            chat=app.chat if app else bool(self.settings.chat),
            before=together(first, app.before if app else None),
            after=together(last, told[-1].after if told else None) if all_ended and last else None,
            runs=runs,
            failures=failures,
        )


def together(ours: Conditions, apps: Conditions | None) -> Conditions:
    """Returns what adb could read, filled up with what only the app could."""
    values = ours.model_dump(exclude_none=True)
    theirs = apps.model_dump(exclude_none=True) if apps else {}
    return Conditions.model_validate({**theirs, **{name: value for name, value in values.items() if value not in ([], {})}})


def step_artifact(step: Step) -> str | None:
    """Returns which artifact a step ran, where its bundle has two and the app has told."""
    return step.result.artifact.kind if step.result and step.result.artifact else None


def step_runs(step: Step, settings: ProfileSettings) -> int:
    return settings.repeat * len(settings.prompts) if step.state == "warm" else 1


def finished_runs(step: Step) -> int:
    return sum(run.state == step.state for run in step.result.runs) if step.result else 0


def new_session(
    device: Device, settings: ProfileSettings, names: Iterable[str], bundles: list[LocalBundle], artifacts: Iterable[ArtifactChoice] = ()
) -> Session:
    """Returns a session with all steps to do: for each bundle its warm runs, then its cold ones, the prompts taking turns.

    ``artifacts`` say for each bundle which to run; all "auto" where none are given.
    """
    chosen: list[ArtifactChoice] = list(artifacts) or ["auto"] * len(bundles)
    entries = [
        BundleEntry(name=name, key=bundle.key, artifact=artifact) for name, bundle, artifact in zip(names, bundles, chosen, strict=True)
    ]
    steps = []
    for number in range(len(entries)):
        steps.append(Step(bundle=number, state="warm", id=new_id()))
        if settings.cold:
            steps += [
                Step(bundle=number, state="cold", prompt=tokens, id=new_id()) for _ in range(settings.repeat) for tokens in settings.prompts
            ]
    return Session(device=device, settings=settings, bundles=entries, steps=steps)


def session_file(output: Path) -> Path:
    return output.with_name(f".{output.name}.session")


def read_session(output: Path) -> Session | None:
    """Returns the unfinished profile that ``output`` belongs to, or None. Raises `FirstTokenError` for a file that is damaged."""
    path = session_file(output)
    if not path.is_file():
        return None
    try:
        session = Session.model_validate(read_json(path, ""))
        if any(step.bundle >= len(session.bundles) for step in session.steps):
            raise FirstTokenError("a step of a bundle that it does not name")
        return session
    except ValidationError as error:
        reason = first_problem(error, {})
    except FirstTokenError as error:
        reason = str(error)
    raise FirstTokenError(f"{path}: the notes of an unfinished profile cannot be read ({reason}); start over with --force")


def same_work(session: Session, device: Device, settings: ProfileSettings, bundles: list[LocalBundle]) -> str | None:
    """Returns how an unfinished session differs from what is asked now, or None where it can go on."""
    if session.device.identity != device.identity:
        return f"it is of another phone ({session.device.model})"
    if session.settings != settings:
        changed = [name for name in ProfileSettings.model_fields if getattr(session.settings, name) != getattr(settings, name)]
        return f"it has {', '.join(f'{name} {getattr(session.settings, name)}' for name in changed)}"
    if [entry.key for entry in session.bundles] != [bundle.key for bundle in bundles]:
        return f"it is of the bundles {', '.join(entry.name for entry in session.bundles)} as they were then"
    return None


def discard(output: Path) -> None:
    session_file(output).unlink(missing_ok=True)
