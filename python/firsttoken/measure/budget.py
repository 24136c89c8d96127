"""Budgets: limits a bundle must keep, in a short ``.toml``, for a team's continuous integration.

::

    [[budget]]
    bundle = "tflite-*"          # glob over the bundles' names (default: every bundle)
    prompt_tokens = 128          # which prompt length first_token_ms and decode_tokens_per_second speak of
    state = "warm"               # or "cold", with --cold
    first_token_ms = 60          # most, median of the runs
    first_token_p90_ms = 80      # most, 90th percentile of the runs
    load_ms = 400                # most, median of the cold runs
    decode_tokens_per_second = 40  # least, median of the runs
    first_token_times = 1.05     # most, times that of the baseline
    decode_times = 0.95          # least, times the baseline's speed
    peak_memory_mib = 900        # most, of any run of the state
    artifact_mib = 620           # most
    mean_kld = 0.02              # most, of the bundle's proof
    same_top = 0.92              # least, of the bundle's proof
"""

import tomllib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from firsttoken import plain_file
from firsttoken.declarations import first_problem
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.measure.bench import BenchSettings
from firsttoken.measure.measurement import BundleIdentity
from firsttoken.safe_text import visible

DECODE = ("decode_tokens_per_second", "decode_times")
RELATIVE = ("first_token_times", "decode_times")
SPEED = ("first_token_ms", "first_token_p90_ms", "load_ms", "first_token_times", *DECODE)
PROOF = ("mean_kld", "same_top")
LIMITS = (*SPEED, "peak_memory_mib", "artifact_mib", *PROOF)
AT_LEAST = (*DECODE, "same_top")  # the others are upper limits


class Budget(BaseModel):
    """One set of limits and the bundles they hold for."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    bundle: str = "*"
    prompt_tokens: int | None = Field(None, ge=1)
    state: Literal["warm", "cold"] = "warm"
    first_token_ms: float | None = Field(None, gt=0)
    first_token_p90_ms: float | None = Field(None, gt=0)
    load_ms: float | None = Field(None, gt=0)
    first_token_times: float | None = Field(None, gt=0)
    decode_times: float | None = Field(None, gt=0)
    decode_tokens_per_second: float | None = Field(None, gt=0)
    peak_memory_mib: float | None = Field(None, gt=0)
    artifact_mib: float | None = Field(None, gt=0)
    mean_kld: float | None = Field(None, gt=0)
    same_top: float | None = Field(None, gt=0, le=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.limits:
            raise ValueError("no limit is given; give at least one of " + ", ".join(LIMITS))
        if self.prompt_tokens is None and any(name in self.limits for name in SPEED):
            raise ValueError(f"prompt_tokens is missing; {', '.join(SPEED)} need a prompt length")
        if self.load_ms is not None and self.state != "cold":
            raise ValueError('load_ms is of cold runs; add state = "cold", and measure with --cold')
        return self

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are given."""
        return {name: value for name in LIMITS if (value := getattr(self, name)) is not None}


class Budgets(BaseModel):
    """A budget file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    budgets: tuple[Budget, ...] = Field(alias="budget", min_length=1)

    @property
    def is_relative(self) -> bool:
        """Whether a limit is one against a baseline."""
        return any(name in budget.limits for budget in self.budgets for name in RELATIVE)

    def check_answerable(self, bundles: Sequence[BundleIdentity], settings: BenchSettings) -> None:
        """Raises `FirstTokenError` for a limit that the coming measurement cannot answer, before it starts."""
        for budget in self.budgets:
            names = [bundle.name for bundle in bundles]
            matched = [bundle for bundle in bundles if fnmatchcase(bundle.name, budget.bundle)]
            if not matched:
                raise FirstTokenError(
                    f"budget {budget.bundle!r} matches none of the bundles {', '.join(names)}{nearest(budget.bundle, names)}"
                )
            if any(name in budget.limits for name in SPEED) and budget.prompt_tokens not in settings.prompts:
                raise FirstTokenError(
                    f"budget {budget.bundle!r} speaks of {budget.prompt_tokens} prompt tokens, which are not measured; add them to --prompts"
                )
            if budget.state == "cold" and not settings.cold and {*SPEED, "peak_memory_mib"} & budget.limits.keys():
                raise FirstTokenError(f"budget {budget.bundle!r} speaks of cold runs, which are not measured; add --cold")
            if any(name in budget.limits for name in DECODE) and not settings.decode_tokens:
                raise FirstTokenError(f"budget {budget.bundle!r} limits decoding, but no token is decoded; raise --decode-tokens")
            for bundle in matched:
                if bundle.proof is None and any(name in budget.limits for name in PROOF):
                    raise FirstTokenError(
                        f"budget {budget.bundle!r} limits the proof's figures, but bundle {bundle.name} has no proof; run `firsttoken prove` on it"
                    )


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
