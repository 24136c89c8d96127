"""What a proof away from this machine's CPU stands on: the bundle, its checkpoint, the text, and the CPU artifact's figures at the same positions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firsttoken.backends.interface import Backend
from firsttoken.backends.registry import find_backend, resolve, resolve_for_cpu
from firsttoken.backends.runner import Runner
from firsttoken.bundle.figures import Figures
from firsttoken.bundle.files import check_files
from firsttoken.bundle.manifest import Manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import open_decoder, parameter_count, plan_layers
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report
from firsttoken.prove.compare import Compared, compare
from firsttoken.prove.divergence import figures
from firsttoken.prove.expected import expectations
from firsttoken.prove.prove import held_out_text, own_checkpoint, proof_windows
from firsttoken.prove.windows import Window
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import open_tokenizer

# A stated sample of a large model: one prompt in two pieces, so that every kind of graph is run, and a few decode steps.
SAMPLE_PROMPT, SAMPLE_DECODES = (20, 5), 3
FEWEST_COMPARED = len(SAMPLE_PROMPT) + SAMPLE_DECODES  # positions; the figures say how many they are of

Limits = Callable[[Decoder], tuple[int, int] | None]


@dataclass(frozen=True)
class Ground:
    """``windows`` of the held-out ``text``, which is called ``name``; ``precisions`` by the plan for the target, ``asked`` as audits write them."""

    folder: Path
    manifest: Manifest
    source: Checkpoint
    decoder: Decoder
    name: str
    text: str
    windows: list[Window]
    precisions: dict[str, str]

    @property
    def asked(self) -> dict[str, str]:
        return self.manifest.plan.written(plan_layers(self.decoder), self.precisions)

    @property
    def last_position(self) -> int:
        return max(int(window.positions.max()) for window in self.windows)

    def cpu(self, threads: int | None, report: Report) -> Compared:
        """Runs the CPU artifact over the windows, with its logits kept."""
        precisions = resolve_for_cpu(self.manifest.plan, self.decoder, self.manifest.target)
        expected = expectations(
            self.source, self.decoder, self.manifest, self.windows, precisions, find_backend(self.manifest.cpu.backend), report
        )
        return closing(
            open_runner(self.folder, threads, kept=False),
            lambda runner: compare(runner, self.windows, expected, report, "CPU artifact", keep=True),
        )

    def other(self, opened: Callable[[], Runner], backend: Backend, cpu: Compared, report: Report, place: str) -> Compared:
        """Runs another artifact, computed as ``backend`` does, over the windows, and compares it with the CPU's too."""
        expected = expectations(self.source, self.decoder, self.manifest, self.windows, self.precisions, backend, report)
        return closing(opened(), lambda runner: compare(runner, self.windows, expected, report, place, host=cpu.logits))


def closing(runner: Runner, work: Callable[[Runner], Compared]) -> Compared:
    try:
        return work(runner)
    finally:
        runner.close()


def apart(compared: Compared) -> Figures:
    """Figures of what another artifact gave against the CPU's logits."""
    assert compared.from_host is not None, "it was given the CPU's logits"
    return figures(compared.from_host, np.ones(len(compared.kinds), bool))


def open_ground(
    folder: Path,
    manifest: Manifest,
    checkpoint: str | Path | Checkpoint,
    held_out: str | Path | None,
    limits: Limits,
    large: int,
    windows: int | None,
    most: tuple[int, int] | None,
    report: Report,
) -> Ground:
    """Opens what is needed for a proof at as many tokens and positions as ``limits`` says for the model's size (None: as on the host), or ``most``, or
    on ``windows`` stretches of text; past ``large`` weights a sample where neither is asked for.

    Raises `FirstTokenError` for a damaged bundle, another checkpoint, or too short a text.
    """
    check_files(folder, manifest, report)
    source = own_checkpoint(folder, manifest, checkpoint)
    decoder = open_decoder(source)
    name, text = held_out_text(source.folder, held_out)
    tokenizer = open_tokenizer(folder, manifest)
    stretches = proof_windows(text, tokenizer, decoder, manifest, most or limits(decoder), windows)
    if parameter_count(decoder) > large and most is None and windows is None:
        stretches = [sample(stretches[0], tokenizer.encode(text, begin=False))]
    return Ground(folder, manifest, source, decoder, name, text, stretches, resolve(manifest.plan, decoder, manifest.target))


def sample(window: Window, text: list[int]) -> Window:
    """The smallest window that runs every kind of graph, beginning as ``window`` does. Raises `FirstTokenError` for too short a text."""
    count = sum(SAMPLE_PROMPT) + SAMPLE_DECODES + 1
    tokens = np.concatenate([window.tokens[:1], np.array(text, np.int32)[1:count]])
    if len(tokens) < count:
        raise FirstTokenError(f"the held-out text has {len(text)} tokens; at least {count} are needed, give a longer one with --held-out")
    return Window(tokens, (SAMPLE_PROMPT,), SAMPLE_DECODES)
