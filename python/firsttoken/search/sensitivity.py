"""The damage of every layer in every candidate, measured once and kept: an interrupted run goes on with the first that is missing."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firsttoken.backends.interface import Backend
from firsttoken.backends.registry import backend_of
from firsttoken.bundle.integer_facts import Smoothing
from firsttoken.cache_folder import cache_folder
from firsttoken.calibration.integers import facts_of, with_integers
from firsttoken.calibration.text import TOKENS, WINDOW, CalibrationText, tokens_key
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.errors import FirstTokenError
from firsttoken.json_lines import append_line, json_lines
from firsttoken.machine import MARGIN, available_memory
from firsttoken.progress import Report, silent
from firsttoken.quant.plan import Plan, Rule
from firsttoken.search.candidates import Candidate, candidates
from firsttoken.search.damage import UNASKED, Damages
from firsttoken.targets.target import Target
from firsttoken.tokenizer import Tokenizer
from firsttoken.units import readable

VERSION = 1  # of what is measured: another one measures anew
STRETCH = 128  # tokens of a window
WORKING = 3.0  # times the FP32 weights of the largest layer, besides all weights once: a rounded copy and what rounds it
Measured = dict[str, dict[Candidate, float]]


@dataclass(frozen=True)
class Subject:
    """What is measured: a checkpoint for a target, on ``tokens`` tokens of a text; and how a user gave them, for exports."""

    source: Checkpoint
    decoder: Decoder
    target: Target
    text: CalibrationText
    tokens: int
    given: str | Path
    target_given: str | Path
    adapter: str | Path | None = None
    calibration: Path | None = None
    held_out: Path | None = None
    smoothing: Smoothing | None = None
    """What ``source`` has been smoothed by (`search.smooth`)."""

    @property
    def backend(self) -> Backend:
        return backend_of(self.target)

    def windows(self) -> list[np.ndarray]:
        """Windows of `STRETCH` token ids, evenly over the text, where no window lies that integers are chosen on as long as it is long enough.

        Raises `FirstTokenError` for a text that is too short.
        """
        tokenizer = Tokenizer(self.source.folder)
        tokens = np.array(tokenizer.encode(self.text.text, begin=False), np.int64)
        count = max(1, self.tokens // STRETCH)
        free = gaps(len(tokens))
        if len(free) < count:
            free = [(n * (len(tokens) - STRETCH) // max(1, count - 1)) for n in range(count)] if len(tokens) >= count * STRETCH else []
        if not free:
            raise FirstTokenError(
                f"calibration text {self.text.name}: {len(tokens)} tokens; expected at least {count * STRETCH} to measure damages on, give a longer one with --calibration, or fewer --tokens"
            )
        begin = [] if tokenizer.begin is None else [tokenizer.begin]
        starts = [free[n * len(free) // count] for n in range(count)]
        return [np.concatenate([np.array(begin, np.int64), tokens[start : start + STRETCH - len(begin)]]) for start in starts]

    def kept_in(self) -> Path | None:
        """The file of measured damages: by all that decides them; None where nothing can be kept."""
        folder, grid = cache_folder(), self.backend.weight_grid
        if folder is None:
            return None
        decides: list[object] = [
            VERSION,
            STRETCH,
            self.tokens,
            self.source.fingerprint(),
            tokens_key(self.source),
            self.backend.name,
            grid.int8,
            grid.int4,
            grid.lowest,
            *([f"blocks of {grid.blocks}"] if grid.blocks else []),
            *(["float blocks"] if grid.float_blocks else []),
            self.text.sha256,
        ]
        if self.smoothing is not None:
            decides.append(sorted(self.smoothing.kept.items()))
        (folder / "damages").mkdir(exist_ok=True)
        return folder / "damages" / f"{hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]}.jsonl"


def gaps(count: int) -> list[int]:
    """Where windows of `STRETCH` may begin in a text of ``count`` tokens, between those of `calibration.text.windows_of`."""
    windows = min(TOKENS, count) // WINDOW
    taken = [n * (count - WINDOW) // max(1, windows - 1) for n in range(windows)]
    found, at = [], 0
    for start in [*taken, count]:
        while at + STRETCH <= start:
            found.append(at)
            at += STRETCH
        at = max(at, start + WINDOW)
    return found


def measured_damages(subject: Subject, asked: Sequence[str] = (), report: Report = silent) -> Measured:
    """Returns the mean KL divergence in nats a token by layer and candidate. Raises `FirstTokenError` where the model does not fit into memory in FP32."""
    wanted = candidates(subject.decoder, subject.backend, asked)
    kept = subject.kept_in()
    found = read_kept(kept)
    left = [(name, one) for name, own in wanted.items() for one in own if one not in found.get(name, {})]
    if left:
        check_memory(subject)
        labels = {one.label: one for _, one in left if one.method != "round"}
        sources = {label: rounded(subject, one, wanted, report) for label, one in labels.items()}
        damages = Damages(subject.source, subject.decoder, subject.backend, subject.windows(), sources)
        missing: dict[str, list[Candidate]] = {}
        for name, one in left:
            missing.setdefault(name, []).append(one)
        done = 0
        for name in damages.order():
            for one in missing.get(name, ()):
                report("measure damages", done, len(left), "layers in a precision")
                value = damages.measure(name, one)
                found.setdefault(name, {})[one] = value
                done += 1
                if kept is not None:
                    append_line(
                        kept,
                        {
                            "layer": name,
                            "precision": one.precision,
                            "method": one.method,
                            "group": one.group,
                            "outliers": one.outliers,
                            "damage": value if np.isfinite(value) else None,
                        },
                    )
        report("measure damages", len(left), len(left), "layers in a precision")
    return {name: {one: found[name][one] for one in own} for name, own in wanted.items()}


def read_kept(path: Path | None) -> Measured:
    """The damages that are there; a last line that is not whole is cut off."""
    found: Measured = {}
    if path is None or not path.exists():
        return found
    whole = path.read_bytes().rpartition(b"\n")[0]
    if len(whole) + 1 != path.stat().st_size:
        with open(path, "r+b") as stream:
            stream.truncate(len(whole) + 1 if whole else 0)
    for number, line in json_lines(path):
        try:
            one = Candidate(line["precision"], line["method"], line["group"], line.get("outliers"))
            found.setdefault(line["layer"], {})[one] = float("inf") if line["damage"] is None else float(line["damage"])
        except (KeyError, TypeError, ValueError):
            raise FirstTokenError(f"{path}, line {number}: no damage of a layer; remove the file, it is measured again") from None
    return found


def rounded(subject: Subject, one: Candidate, wanted: Mapping[str, list[Candidate]], report: Report) -> Checkpoint:
    """The checkpoint with the integers of a candidate's method in every layer that may have it."""
    own = [name for name, possible in wanted.items() if one in possible]
    rules = tuple(Rule(match=name, precision=one.precision, method=one.method, group=one.group) for name in own)
    plan = Plan(summary="one candidate everywhere", rules=(*rules, Rule(match="*", precision="fp32")), gate=UNASKED)
    precisions = {name: one.precision if name in own else "fp32" for name in wanted}
    facts = facts_of(plan, subject.decoder, precisions, subject.text)
    if facts is not None and subject.smoothing is not None:
        facts = facts.model_copy(update={"smoothing": subject.smoothing})
    return with_integers(subject.source, subject.decoder, plan, precisions, facts, subject.text, labelled(report, one.label))


def labelled(report: Report, label: str) -> Report:
    """Puts a candidate's label before every stage."""
    return lambda stage, done, total, unit: report(f"{label}: {stage}", done, total, unit)


def check_memory(subject: Subject) -> None:
    """Raises `FirstTokenError` where the weights in FP32 do not fit."""
    sizes = [4 * layer.matrix[1][0] * layer.matrix[1][1] for layer in Damages.weighted(subject.decoder)]
    needed, free = int(sum(sizes) + WORKING * max(sizes)), available_memory()
    if needed > free * (1 - MARGIN):
        raise FirstTokenError(
            f"measuring damages keeps all weights in FP32 and needs about {readable(needed)} of memory, {readable(free)} are available; "
            "close other programs or use a larger machine"
        )
