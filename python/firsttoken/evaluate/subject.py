"""What is evaluated: a checkpoint (in FP32, with PyTorch) or a bundle (in its own runtime), behind one interface."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firsttoken.backends.pytorch.runner import CheckpointRunner
from firsttoken.backends.runner import Runner, RunnerFacts
from firsttoken.bundle.chat_facts import Chat
from firsttoken.bundle.manifest import MANIFEST_FILE, TokenizerFacts, read_manifest
from firsttoken.chat import chat_affixes
from firsttoken.checkpoint_sources.open import open_checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.progress import Report, silent
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import Tokenizer, open_tokenizer

PREFILL_CHUNK = 512
CACHE_LENGTH = 2048  # tokens of prompt and answer of a checkpoint, unless it has fewer positions


@dataclass(frozen=True)
class _Shape:
    """`RunnerFacts` of a checkpoint, which has no manifest."""

    @dataclass(frozen=True)
    class Named:
        name: str
        vocab_size: int

    @dataclass(frozen=True)
    class Lengths:
        cache_length: int
        prefill_chunk: int

    checkpoint: Named
    target: Lengths
    tokenizer: TokenizerFacts
    chat: Chat | None


class Subject:
    """One model under evaluation. ``kind`` is ``checkpoint`` or ``bundle``; ``fingerprint`` says which exactly.

    The runner, and with it the memory of a model, exists from the first use until `close`.
    """

    def __init__(self, folder: str | Path, threads: int | None = None) -> None:
        self.given = self.folder = Path(folder)
        self.threads = threads
        self._runner: Runner | None = None
        if (self.folder / MANIFEST_FILE).exists():
            self.kind, manifest = "bundle", read_manifest(self.folder)
            self.name = self.folder.resolve().name
            self.tokenizer, self.fingerprint = open_tokenizer(self.folder, manifest), manifest.facts(manifest.cpu).sha256
            self.manifest: RunnerFacts = manifest
        else:
            self.kind, self.checkpoint = "checkpoint", open_checkpoint(folder)
            self.folder, self.name = self.checkpoint.folder, self.checkpoint.name
            self.decoder, self.fingerprint = open_decoder(self.checkpoint), self.checkpoint.fingerprint()
            self.tokenizer = Tokenizer(self.folder)
            self.manifest = _Shape(
                _Shape.Named(self.name, self.decoder.vocab_size),
                _Shape.Lengths(min(CACHE_LENGTH, self.decoder.max_positions), PREFILL_CHUNK),
                self.tokenizer.facts(),
                chat_affixes(self.folder, self.tokenizer),
            )

    @property
    def vocabulary(self) -> int:
        """Tokens of the tokenizer; logits past it are padding."""
        return self.manifest.tokenizer.vocab_size

    @property
    def cache_length(self) -> int:
        """Tokens of prompt and answer together."""
        return self.manifest.target.cache_length

    @property
    def runner(self) -> Runner:
        """The loaded model."""
        if self._runner is None:
            if self.kind == "bundle":
                self._runner = open_runner(self.folder, self.threads)
            else:
                self._runner = CheckpointRunner(self.checkpoint, self.decoder, self.manifest)
        return self._runner

    def logits(self, windows: Sequence[np.ndarray], report: Report = silent) -> list[np.ndarray]:
        """Logits after every token of each window, float32 ``[tokens, vocabulary]``; a window must fit the cache.

        A checkpoint is streamed layer by layer and never held whole (`prove.reference`); a bundle decodes token by token.
        """
        if self.kind == "checkpoint":
            from firsttoken.prove.reference import reference_logits

            positions = [np.arange(len(window)) for window in windows]
            return reference_logits(self.checkpoint, self.decoder, list(windows), positions, self.vocabulary, report)
        made: list[np.ndarray] = []
        done, total = 0, sum(map(len, windows))
        for window in windows:
            self.runner.reset()
            rows = np.empty((len(window), self.vocabulary), np.float32)
            for place, token in enumerate(window):
                logits = self.runner.decode(int(token)) if place else self.runner.prefill(window[:1])
                rows[place] = logits[: self.vocabulary]
                report(self.name, done + place + 1, total, "tokens")
            done += len(window)
            made.append(rows)
        return made

    def close(self) -> None:
        """Frees the model's memory."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None
