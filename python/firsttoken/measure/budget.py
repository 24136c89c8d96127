"""Budgets: limits a bundle must keep, in a short ``.toml``, for a team's continuous integration.

::

    [[budget]]
    bundle = "tflite-*"          # glob over the bundles' names (default: every bundle)
    prompt_tokens = 128          # which prompt length first_token_ms and decode_tokens_per_second speak of
    state = "warm"               # or "cold", with --cold
    first_token_ms = 60          # most, median of the runs
    decode_tokens_per_second = 40  # least, median of the runs
    peak_memory_mib = 900        # most, of any run
    artifact_mib = 620           # most
    mean_kld = 0.02              # most, of the bundle's proof
    same_top = 0.92              # least, of the bundle's proof
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from firsttoken import plain_file
from firsttoken.declarations import first_problem
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.measure.bench import BenchSettings
from firsttoken.measure.measurement import BundleIdentity, Measurement, Result
from firsttoken.measure.summary import decode_speed, first_token, groups, summarize
from firsttoken.safe_text import visible

MIB = 1 << 20
SPEED = ("first_token_ms", "decode_tokens_per_second")
PROOF = ("mean_kld", "same_top")
AT_LEAST = ("decode_tokens_per_second", "same_top")  # the others are upper limits


class Budget(BaseModel):
    """One set of limits and the bundles they hold for."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    bundle: str = "*"
    prompt_tokens: int | None = Field(None, ge=1)
    state: Literal["warm", "cold"] = "warm"
    first_token_ms: float | None = Field(None, gt=0)
    decode_tokens_per_second: float | None = Field(None, gt=0)
    peak_memory_mib: float | None = Field(None, gt=0)
    artifact_mib: float | None = Field(None, gt=0)
    mean_kld: float | None = Field(None, gt=0)
    same_top: float | None = Field(None, gt=0, le=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.limits:
            raise ValueError("no limit is given; give at least one of " + ", ".join((*SPEED, "peak_memory_mib", "artifact_mib", *PROOF)))
        if self.prompt_tokens is None and any(name in self.limits for name in SPEED):
            raise ValueError("prompt_tokens is missing; first_token_ms and decode_tokens_per_second need a prompt length")
        return self

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are given."""
        names = (*SPEED, "peak_memory_mib", "artifact_mib", *PROOF)
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Budgets(BaseModel):
    """A budget file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    budgets: tuple[Budget, ...] = Field(alias="budget", min_length=1)

    def check_answerable(self, bundles: Sequence[BundleIdentity], settings: BenchSettings) -> None:
        """Raises `FirstTokenError` for a limit that the coming measurement cannot answer, before it starts."""
        for budget in self.budgets:
            names = [bundle.name for bundle in bundles]
            matched = [bundle for bundle in bundles if fnmatchcase(bundle.name, budget.bundle)]
            if not matched:
                raise FirstTokenError(
                    f"budget {budget.bundle!r} matches none of the bundles {', '.join(names)}{nearest(budget.bundle, names)}"
                )
            if any(name in budget.limits for name in SPEED):
                if budget.prompt_tokens not in settings.prompts:
                    raise FirstTokenError(
                        f"budget {budget.bundle!r} speaks of {budget.prompt_tokens} prompt tokens, which are not measured; add them to --prompts"
                    )
                if budget.state == "cold" and not settings.cold:
                    raise FirstTokenError(f"budget {budget.bundle!r} speaks of cold runs, which are not measured; add --cold")
            if budget.decode_tokens_per_second and not settings.decode_tokens:
                raise FirstTokenError(f"budget {budget.bundle!r} limits decoding, but no token is decoded; raise --decode-tokens")
            for bundle in matched:
                if bundle.proof is None and any(name in budget.limits for name in PROOF):
                    raise FirstTokenError(
                        f"budget {budget.bundle!r} limits the proof's figures, but bundle {bundle.name} has no proof; run `firsttoken prove` on it"
                    )


@dataclass(frozen=True)
class LimitVerdict:
    """One limit on one bundle: whether it is kept, and a line that says so with the figures."""

    kept: bool
    line: str


def load_budget(path: str | Path) -> Budgets:
    """Reads a budget file. Raises `FirstTokenError`."""
    path = Path(path)
    try:
        values = tomllib.loads(plain_file.read_text(path))
        return Budgets.model_validate(values)
    except FileNotFoundError:
        raise FirstTokenError(f"budget file {path}: does not exist") from None
    except ValidationError as error:
        raise FirstTokenError(f"budget file {path}: {first_problem(error, values, Budgets)}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FirstTokenError(f"budget file {path}: cannot be read as TOML ({visible(plain_file.why(error))})") from None


def check_budget(budgets: Budgets, measurement: Measurement) -> list[LimitVerdict]:
    """Returns a verdict for every limit on every bundle it holds for. A limit that was not measured, because runs failed, is missed."""
    return [
        _verdict(budget, result, name, limit)
        for budget in budgets.budgets
        for result in measurement.results
        if fnmatchcase(result.bundle.name, budget.bundle)
        for name, limit in budget.limits.items()
    ]


def _verdict(budget: Budget, result: Result, name: str, limit: float) -> LimitVerdict:
    found, how = _figure(budget, result, name)
    what = f"{result.title}: {name}"
    if name in SPEED:
        what += f" at {budget.prompt_tokens} tokens, {budget.state}"
    if found is None:
        return LimitVerdict(False, f"missed  {what}: not measured, limit {limit:g}")
    kept = found >= limit if name in AT_LEAST else found <= limit
    return LimitVerdict(
        kept, f"{'kept  ' if kept else 'missed'}  {what}: {found:.4g} ({how}), {'at least' if name in AT_LEAST else 'at most'} {limit:g}"
    )


def _figure(budget: Budget, result: Result, name: str) -> tuple[float | None, str]:
    """The figure a limit is held against, and how it was taken."""
    if name == "artifact_mib":
        return result.ran_bytes / MIB, "file"
    if name in PROOF:
        return (getattr(result.proof, name), "proof") if result.proof else (None, "")
    if name == "peak_memory_mib":
        peaks = [run.peak_memory_bytes for run in result.runs if run.peak_memory_bytes]
        return (max(peaks) / MIB, "most of all runs") if peaks else (None, "")
    assert budget.prompt_tokens is not None, "a limit on speed has a prompt length (Budget._whole)"
    runs = groups(result).get((budget.prompt_tokens, budget.state), [])
    summary = summarize([first_token(run) / 1e6 if name == "first_token_ms" else decode_speed(run) for run in runs])
    return (summary.median, f"median of {summary.count}, {summary.minimum:.4g} to {summary.maximum:.4g}") if summary else (None, "")
