"""TTFT and decoding speed of bundles on this machine: fresh processes taking turns, so that noise falls on all alike.

Warm runs: one process per bundle, loaded and warmed up with one prompt; then every round runs every prompt length on
every bundle, the order turning from round to round. That is done with several processes of each bundle, one after the other, as runs of one process
share what it got. Cold runs: a fresh process for each run, started after the artifact, its packed weights and its tokenizer were dropped from the page cache.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from firsttoken.backends.runner import default_threads
from firsttoken.errors import FirstTokenError
from firsttoken.foreign.open import is_file
from firsttoken.machine import available_memory
from firsttoken.measure import host, page_cache
from firsttoken.measure.candidates import Candidate, Lengths, bundle_candidate, file_candidate
from firsttoken.measure.compare import by_process, reach_of_level
from firsttoken.measure.measurement import Decode, Drafts, Failure, Measurement, Result, Run, RunState, Stages, Writer
from firsttoken.measure.process import Process, ProcessFailed
from firsttoken.measure.summary import first_token, groups
from firsttoken.measure.worker import runtime_version
from firsttoken.progress import Report, silent
from firsttoken.run.drafting import Draft
from firsttoken.units import readable

COPIES = 2.0  # of a loaded artifact in memory: the file, and its weights packed
MOST_PROCESSES = 40  # of a bundle, with ``until``
SHORTEST_LOAD_SECONDS = 0.2  # the kernel counts CPU time in ticks of 10 ms, so a shorter run cannot tell who else was busy


@dataclass(frozen=True)
class BenchSettings:
    """What to measure. ``chat`` None: through the chat template where the bundle has one. ``cold`` adds ``processes`` times ``repeat`` cold runs to the warm ones.

    ``processes`` of each bundle do ``repeat`` warm runs of each prompt. With ``until`` more follow, `MOST_PROCESSES` at most, until every bundle's TTFT is known to that share of it,
    either way, with 95 % confidence.

    With ``turns`` above 1 a warm run is a conversation that asks a prompt so often, every answer and question over the kept cache, each turn a run of its own.
    ``checkpoint`` is for files of other exporters: whose words they take; ``cache_length`` (tokens) for those that do not say it.
    ``draft`` is `run.generate.generate`'s.
    """

    prompts: tuple[int, ...] = (32, 128, 512)
    repeat: int = 3
    threads: int | None = None
    cold: bool = False
    decode_tokens: int = 32
    chat: bool | None = None
    checkpoint: Path | None = None
    cache_length: int | None = None
    turns: int = 1
    draft: Draft | None = None
    processes: int = 5
    until: float | None = None


class Bench:
    """Measures ``bundles`` (folders, and files of other exporters) one after another turn; ``measurement`` holds all finished runs at any moment."""

    def __init__(self, bundles: Sequence[str | Path], settings: BenchSettings = BenchSettings(), report: Report = silent) -> None:
        """Checks everything that can be checked before the first run. Raises `FirstTokenError`."""
        self.settings, self.report = settings, report
        self.threads = settings.threads or default_threads()
        self._check_settings()
        self.candidates = [self._candidate(Path(bundle), report) for bundle in bundles]
        self._check_memory()
        names = _names([candidate.path for candidate in self.candidates])
        self.started, self.done = time.monotonic(), 0
        self.packed: dict[str, str] = {}  # by bundles' names, the kind of CPU whose packed weights a load took out of the bundle
        self.given_up: set[int] = set()  # bundles whose process died: it would again and again
        of_prompts = len(settings.prompts) * settings.repeat
        self.total = settings.processes * (1 + of_prompts * (2 if settings.cold else 1)) * len(self.candidates)
        self.results = [
            Result(
                bundle=candidate.identity.model_copy(update={"name": name}),
                runtime_version=runtime_version(candidate.backend.name),
                threads=self.threads,
                chat=candidate.chat,
                draft=settings.draft,
                before=host.conditions(),
            )
            for name, candidate in zip(names, self.candidates, strict=True)
        ]
        self.measurement = Measurement(
            writer=Writer(name="firsttoken bench", version=version("firsttoken")), device=host.device(), results=self.results
        )

    def run(self) -> Measurement:
        """Does all runs and returns the measurement. A bundle whose process dies gets a failure; the others go on."""
        process = 0
        while process < self.settings.processes or self._goes_on(process):
            process += 1
            self._warm(process)
        if self.settings.cold:
            self._cold()
        for result in self.results:
            result.after = host.conditions()
        return self.measurement

    def _check_settings(self) -> None:
        settings = self.settings
        if not settings.prompts:
            raise FirstTokenError("no prompt lengths to measure; give at least one, like --prompts 128")
        if len(set(settings.prompts)) != len(settings.prompts):
            raise FirstTokenError(f"prompt lengths {', '.join(map(str, settings.prompts))} hold one twice; give each once")
        for what, value, least in (
            ("repeat", settings.repeat, 1),
            ("decode_tokens", settings.decode_tokens, 0),
            ("prompts", min(settings.prompts), 1),
            ("turns", settings.turns, 1),
            ("processes", settings.processes, 1),
        ):
            if value < least:
                raise FirstTokenError(f"{what} is {value}; expected at least {least}")
        if settings.until is not None and not 0 < settings.until < 1:
            raise FirstTokenError(
                f"until is {settings.until:g}; expected a share of the time to first token between 0 and 1, like 0.03 for 3 %"
            )

    def _candidate(self, path: Path, report: Report) -> Candidate:
        settings = self.settings
        lengths = Lengths(settings.prompts, settings.decode_tokens, settings.chat, settings.turns, settings.draft)
        if is_file(path):
            return file_candidate(path, lengths, settings.checkpoint, settings.cache_length)
        return bundle_candidate(path, lengths, report)

    def _check_memory(self) -> None:
        if not self.candidates:
            raise FirstTokenError("no bundle to measure; give at least one folder that `firsttoken export` wrote, or a file")
        needed = sum(each.backend.runtime_memory + int(COPIES * each.identity.artifact_bytes) for each in self.candidates)
        if needed > available_memory():
            raise FirstTokenError(
                f"{len(self.candidates)} bundles loaded at once take about {readable(needed)} of memory, {readable(available_memory())} are available; measure fewer at a time"
            )

    def _goes_on(self, done: int) -> bool:
        """Whether more processes are to follow ``done`` of each bundle."""
        until = self.settings.until
        if until is None or done >= MOST_PROCESSES or len(self.given_up) == len(self.results):
            return False
        alive = [result for number, result in enumerate(self.results) if number not in self.given_up]
        if all((reach := reach_of(result)) is not None and reach <= until for result in alive):
            return False
        self.total += (1 + len(self.settings.prompts) * self.settings.repeat) * (len(self.candidates) - len(self.given_up))
        return True

    @property
    def unreached(self) -> list[str]:
        """Of every bundle whose TTFT is less well known than ``until`` asks: how well it is, in words."""
        until, reaches = self.settings.until, [(result, reach_of(result)) for result in self.results if result.runs]
        return [
            f"{result.bundle.name}: time to first token is known to {'no interval' if reach is None else f'{reach:.1%}'} after {processes_of(result)} processes, and {until:.1%} were asked"
            for result, reach in reaches
            if until is not None and (reach is None or reach > until)
        ]

    def _warm(self, process_number: int) -> None:
        with ExitStack() as stack:
            processes: dict[int, Process] = {}
            for number in _turned([n for n in range(len(self.candidates)) if n not in self.given_up], process_number - 1):
                candidate = self.candidates[number]
                process = stack.enter_context(Process(candidate.path, self.threads, candidate.words))
                if self._attempt(number, process, max(candidate.prompts), "warm-up", "unknown", process_number):
                    processes[number] = process
            for round_number in range(self.settings.repeat):
                for prompt in self.settings.prompts:
                    for number in _turned(list(processes), round_number):
                        if not self._attempt(number, processes[number], prompt, "warm", "cached", process_number):
                            processes.pop(number).close()
            self.given_up |= {number for number in range(len(self.candidates)) if number not in processes}

    def _cold(self) -> None:
        given_up: set[int] = set()
        first = max((run.process or 0 for result in self.results for run in result.runs), default=0)
        for round_number in range(self.settings.repeat * self.settings.processes):
            for prompt in self.settings.prompts:
                for number in _turned([n for n in range(len(self.candidates)) if n not in given_up], round_number):
                    candidate = self.candidates[number]
                    first += 1
                    with Process(candidate.path, self.threads, candidate.words) as process:
                        if not self._attempt(number, process, prompt, "cold", None, first):
                            given_up.add(number)  # it would fail again and again

    def _attempt(
        self, number: int, process: Process, prompt: int, state: RunState, cached: page_cache.PageState | None, process_number: int
    ) -> bool:
        """One run of one bundle, noted as a run or a failure. ``cached`` None: drop the files first."""
        candidate, result = self.candidates[number], self.results[number]
        try:
            process.wait_ready()
            if cached is None:
                cached = page_cache.drop(candidate.files())
            busy, own, begun = host.busy_seconds(), process.cpu_seconds(), time.monotonic()
            turns = self.settings.turns if state == "warm" else 1
            answer = process.run(
                prompt=candidate.prompts[prompt],
                chat=candidate.chat,
                decode_tokens=self.settings.decode_tokens,
                turns=turns,
                draft=self.settings.draft,
            )
            other = other_load(host.busy_seconds() - busy, process.cpu_seconds() - own, time.monotonic() - begun)
            if answer["prompt_tokens"] != prompt:
                raise ProcessFailed("tokenize", f"the prompt gave {answer['prompt_tokens']} tokens, expected {prompt}")
        except ProcessFailed as failure:
            result.failures.append(Failure(prompt_tokens=prompt, state=state, stage=failure.stage, message=failure.message))
            return False
        finally:
            self.done += 1
            self.report(f"{state}, {prompt} tokens", self.done, self.total, "runs")
        if answer.get("packed_for"):
            self.packed[result.bundle.name] = answer["packed_for"]
        result.runs += [self._run(each, state, cached, other, process_number) for each in (answer, *answer["later"])]
        return True

    def _run(self, answer: dict, state: RunState, cached: page_cache.PageState, other: float | None, process: int) -> Run:
        turn = answer.get("turn")
        return Run(
            prompt_tokens=answer["prompt_tokens"],
            state=state,
            page_cache=cached,
            at_seconds=time.monotonic() - self.started,
            stages=Stages(**answer["stages"]),
            decode=Decode(**answer["decode"]) if "decode" in answer else None,
            drafts=Drafts(**answer["drafts"]) if answer.get("drafts") else None,
            peak_memory_bytes=answer["peak_memory_bytes"],
            temperature=host.processor_temperature(host.conditions()),
            other_load=other,
            turn=turn,
            cached_tokens=answer["cached_tokens"] if turn is not None or answer["cached_tokens"] else None,
            process=process,
        )


def reach_of(result: Result) -> float | None:
    """How far, as a share of it, the TTFT of the least known warm prompt may lie from what was measured; None where no interval is there yet."""
    reaches = [reach_of_level(by_process(runs, first_token)) for (_, state), runs in groups(result).items() if state == "warm"]
    known = [reach for reach in reaches if reach is not None]
    return max(known) if known and len(known) == len(reaches) else None


def processes_of(result: Result) -> int:
    """How many processes its warm runs are of."""
    return len({run.process for run in result.runs if run.state == "warm"})


def other_load(busy: float, own: float, seconds: float) -> float | None:
    """Returns how many cores others kept busy: all processes' CPU seconds less our own, over ``seconds``; None for too short a run to tell."""
    return max(0.0, (busy - own) / seconds) if seconds >= SHORTEST_LOAD_SECONDS else None


def bench(bundles: Sequence[str | Path], settings: BenchSettings = BenchSettings(), report: Report = silent) -> Measurement:
    """Measures bundles on this machine; see `Bench` for the order of the runs. Raises `FirstTokenError`."""
    return Bench(bundles, settings, report).run()


def _turned(numbers: list[int], round_number: int) -> Iterator[int]:
    """The order of one round: each bundle is first, second, … equally often."""
    shift = round_number % len(numbers) if numbers else 0
    yield from numbers[shift:] + numbers[:shift]


def _names(folders: list[Path]) -> list[str]:
    """The bundles' names: as much of the end of their paths as tells them apart. Raises `FirstTokenError` for one given twice."""
    resolved = [folder.resolve() for folder in folders]
    for folder, path in zip(folders, resolved, strict=True):
        if resolved.count(path) > 1:
            raise FirstTokenError(f"bundle {folder} is given twice; give each once")
    for length in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-length:]) for path in resolved]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in resolved]
