"""One fresh process that runs one bundle, or one file of another exporter, for `firsttoken.measure.bench`: JSON lines in, JSON lines out.

It imports the runtime, says it is ready, and answers each job with a run's stages. The first job loads the bundle, so
that its load is timed after whatever the bench does to the page cache.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken import last_words
from firsttoken.backends.registry import find_backend
from firsttoken.bundle.manifest import read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.parent_death import end_with_parent

if TYPE_CHECKING:
    from firsttoken.backends.runner import Runner
    from firsttoken.foreign.facts import Subject
    from firsttoken.run.drafting import Draft
    from firsttoken.run.generate import Statistics
    from firsttoken.tokenizer import Tokenizer


def runtime_version(backend: str) -> str:
    """Returns the name and version of the package that runs this backend's artifacts."""
    from importlib.metadata import version

    package = find_backend(backend).package
    return f"{package} {version(package)}"


def peak_memory() -> int | None:
    """Returns the highest resident memory of this process so far, in bytes."""
    # not getrusage: its figure is inherited from the process that started this one
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


class Worker:
    """Holds the loaded bundle between jobs, or a file; ``words`` are then its checkpoint's folder and its cache length."""

    def __init__(self, bundle: Path, threads: int, words: Sequence[str] = ()) -> None:
        self.bundle, self.threads = bundle, threads
        self.loaded: tuple[Runner, Tokenizer] | None = None
        self.stage = "load"
        self.subject: Subject | None = None
        # Imported before the clock runs: Python's imports are no part of what a phone does, and a file's facts are a bundle's manifest.
        if words:
            self.subject = self._read(*words)
        else:
            find_backend(read_manifest(bundle).cpu.backend).preload()
        import tokenizers  # noqa: F401

        import firsttoken.run.generate
        import firsttoken.run.open
        import firsttoken.run.turns
        import firsttoken.tokenizer  # noqa: F401

    def run(self, prompt: str, chat: bool, decode_tokens: int, turns: int = 1, draft: Draft | None = None) -> dict:
        """Runs one prompt, or a conversation that asks it ``turns`` times, with drafts where asked; the first one also loads. Returns stages and decoding in nanoseconds, memory in
        bytes, of the first turn, and of the ``later`` ones."""
        from firsttoken.run.generate import generate

        load = None
        if self.loaded is None:
            self.stage = "load"
            begun = time.perf_counter_ns()
            self.loaded = self._open()
            load = time.perf_counter_ns() - begun
        if turns > 1:
            answer, *later = self._conversation(*self.loaded, prompt, decode_tokens, turns, draft)
        else:
            runner, tokenizer = self.loaded
            answer, later = (
                self._measured(
                    lambda facts, observe: generate(
                        runner,
                        tokenizer,
                        prompt,
                        decode_tokens + 1,
                        chat=chat,
                        statistics=facts,
                        stop_at_end=False,
                        observe=observe,
                        draft=draft,
                    )
                ),
                [],
            )
        if load is not None:
            answer["stages"]["load"] = load
            answer["packed_for"] = self.loaded[0].packed_for
        return answer | {"later": later}

    def _conversation(
        self, runner: Runner, tokenizer: Tokenizer, question: str, decode_tokens: int, turns: int, draft: Draft | None
    ) -> list[dict]:
        """The turns of a conversation, each answer as long as the model makes it, up to ``decode_tokens`` and one."""
        from firsttoken.run.sampling import Sampler
        from firsttoken.run.turns import Chat

        runner.reset()
        talk, sampler = Chat(runner, tokenizer, draft=draft), Sampler(runner.manifest.tokenizer.vocab_size)
        return [
            self._measured(lambda facts, observe: talk.ask(question, sampler, decode_tokens + 1, facts, observe)) | {"turn": turn}
            for turn in range(1, turns + 1)
        ]

    def _measured(self, answering: Callable[[Statistics, Callable[..., None]], Iterator[str]]) -> dict:
        from firsttoken.run.generate import Statistics

        self.stage = "prefill"
        facts = Statistics()

        def first_token(*_: object) -> None:
            self.stage = "decode"

        for _ in answering(facts, first_token):
            pass
        stages = {"tokenize": facts.tokenize, "prefill": facts.prefill, "sample": facts.sample, "detokenize": facts.detokenize}
        answer = {
            "prompt_tokens": facts.prompt_tokens,
            "cached_tokens": facts.kept_tokens,
            "stages": stages,
            "peak_memory_bytes": peak_memory(),
        }
        answer["drafts"] = facts.drafts()
        if facts.new_tokens > 1:
            answer["decode"] = {"tokens": facts.new_tokens - 1, "nanoseconds": facts.decode}
        return answer

    def _read(self, checkpoint: str, cache_length: str) -> Subject:
        from firsttoken.checkpoint_sources.open import open_checkpoint
        from firsttoken.foreign.open import format_of, read_subject

        format_of(self.bundle).reader.preload()
        with open_checkpoint(checkpoint) as source:
            return read_subject(self.bundle, source, int(cache_length))

    def _open(self) -> tuple[Runner, Tokenizer]:
        if self.subject is not None:
            return self._open_file(self.subject)
        from firsttoken.run.open import open_runner
        from firsttoken.tokenizer import open_tokenizer

        tokenizer = open_tokenizer(self.bundle, read_manifest(self.bundle))
        return open_runner(self.bundle, self.threads, check=False), tokenizer  # the bench has checked it

    def _open_file(self, subject: Subject) -> tuple[Runner, Tokenizer]:
        from firsttoken.foreign.open import open_file
        from firsttoken.tokenizer import Tokenizer

        tokenizer = Tokenizer(subject.words)
        tokenizer.begin = subject.tokenizer.begin
        return open_file(subject, self.threads), tokenizer


def main() -> None:
    """Serves jobs until standard input ends."""
    end_with_parent(int(sys.argv[3]))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a runtime prints is not an answer

    def say(values: dict) -> None:
        print(json.dumps(values), file=answers, flush=True)

    last_words.say_into(2)  # the bench's file, which outlives this process
    worker = None
    try:
        worker = Worker(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[4:])
        say({"ready": True})
        for line in sys.stdin:
            say(worker.run(**json.loads(line)))
    except (FirstTokenError, MemoryError) as error:
        say({"stage": worker.stage if worker else "load", "message": str(error) or "out of memory"})
        sys.exit(1)


if __name__ == "__main__":
    main()
