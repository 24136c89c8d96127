"""Several models, the same questions, one table: what distilling, quantizing and exporting each cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from firsttoken.errors import FirstTokenError
from firsttoken.evaluate import choice, code, maths
from firsttoken.evaluate.answers import Answers
from firsttoken.evaluate.pass_at_k import check_ks, pass_at_k
from firsttoken.evaluate.sandbox import Limits
from firsttoken.evaluate.subject import Subject
from firsttoken.evaluate.tasks import Task, read_task
from firsttoken.evaluate.text import score_text, windows_of
from firsttoken.progress import Report, silent
from firsttoken.run.generate import encode_prompt
from firsttoken.run.thinking import Thinking
from firsttoken.tokenizer import check_same_tokenizer

MATHS_REQUEST = "\nPlease reason step by step, and put your final answer within \\boxed{{}}."


@dataclass(frozen=True)
class EvaluationSettings:
    """``limit`` items of each task; ``text_tokens`` of a text. ``raw`` never uses a chat template. Limits are the sandbox's.

    ``pass_at`` are the k of pass@k beside the share of right answers, which is pass@1; ``thinking`` bounds how long a reasoner thinks.
    """

    limit: int | None = None
    text_tokens: int = 2048
    max_tokens: int = 512
    temperature: float = 0.0
    samples: int = 1
    pass_at: tuple[int, ...] = ()
    thinking: Thinking | None = None
    seed: int = 0
    raw: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Score:
    """One figure: ``value``, and for shares of ``count`` questions the half width of the 95 % Wilson interval's ends."""

    task: str
    measure: str
    value: float
    count: int
    low: float | None = None
    high: float | None = None


def evaluate(
    models: Sequence[str | Path],
    tasks: Sequence[str],
    settings: EvaluationSettings = EvaluationSettings(),
    reference: str | Path | None = None,
    answers: Path | None = None,
    threads: int | None = None,
    report: Report = silent,
) -> dict[str, list[Score]]:
    """Scores checkpoints and bundles on tasks (``kind=file``); returns the scores by model, in the order given.

    ``reference`` is the checkpoint that KL divergences are taken from (default: the first model, if it is a checkpoint
    and there is another). ``answers`` keeps what models wrote; the same call then goes on where it was interrupted. All
    files are read before a model is loaded. Raises `FirstTokenError`.
    """
    if not models or not tasks:
        raise FirstTokenError("nothing to evaluate; give at least one model and one --tasks KIND=FILE")
    check_ks(settings.pass_at, settings.samples, settings.temperature)
    asked = [read_task(task, settings.limit) for task in tasks]
    subjects = [Subject(model, threads) for model in models]
    names = unique_names(subjects)
    if settings.thinking is not None:
        for subject in subjects:
            settings.thinking.budget(subject.tokenizer, None if settings.raw else subject.manifest.chat)  # refused before a model is loaded
    first = reference_subject(reference, subjects)
    kept = Answers(answers)
    scores: dict[str, list[Score]] = {name: [] for name in names}
    for name, subject in zip(names, subjects, strict=True):
        try:
            for task in asked:
                stage = lambda _, done, total, unit, name=name, task=task: report(f"{name}: {task.name}", done, total, unit)  # noqa: E731
                scores[name] += score(subject, task, settings, first, subjects, kept, stage)
        finally:
            subject.close()
    return scores


def reference_subject(reference: str | Path | None, subjects: list[Subject]) -> Subject | None:
    """Returns the checkpoint that divergences are taken from, or None where there is none; see `evaluate`. Raises `FirstTokenError`."""
    if reference is None:
        return subjects[0] if subjects[0].kind == "checkpoint" and len(subjects) > 1 else None
    asked = Subject(reference)
    if asked.kind != "checkpoint":
        raise FirstTokenError(f"--reference {asked.folder}: is a bundle; expected a checkpoint")
    return asked


def score(
    subject: Subject,
    task: Task,
    settings: EvaluationSettings,
    reference: Subject | None,
    subjects: list[Subject],
    answers: Answers,
    report: Report,
) -> list[Score]:
    """All figures of one model on one task."""
    if task.kind == "text":
        return text_scores(subject, task, settings, reference, subjects, report)
    if task.kind == "choice":
        right = [0, 0]
        for number, question in enumerate(task.items):
            for way, chosen in enumerate(choice.choose(subject, question)):
                right[way] += chosen == question.right
            report("", number + 1, len(task.items), "questions")
        return [share(task, way, count, len(task.items)) for way, count in zip(("right", "right, per byte"), right, strict=True)]
    right_answers = answer_scores(subject, task, settings, answers, report)
    first = "exact match" if task.kind == "maths" else "pass@1"
    shares = {first: [count / settings.samples for count in right_answers]}
    for k in settings.pass_at:
        if k > 1 or task.kind == "maths":
            shares[f"pass@{k}"] = [pass_at_k(settings.samples, count, k) for count in right_answers]
    return [share(task, measure, sum(each), len(task.items)) for measure, each in shares.items()]


def answer_scores(subject: Subject, task: Task, settings: EvaluationSettings, answers: Answers, report: Report) -> list[int]:
    """How many of the answers to each maths or code question are right."""
    chat = not settings.raw and subject.manifest.chat is not None
    right = [0] * len(task.items)
    for number, item in enumerate(task.items):
        for sample in range(settings.samples):
            prompt = f"{item[0]}{MATHS_REQUEST.format()}" if task.kind == "maths" else code.request(item, chat)
            room = check_room(subject, prompt, chat, settings.max_tokens)
            seed = settings.seed * 1_000_003 + number * settings.samples + sample
            answer = answers.ask(subject, prompt, room, settings.temperature, seed, chat, settings.thinking)
            if task.kind == "maths":
                right[number] += maths.same(maths.extract(answer), item[1])
            else:
                right[number] += code.judge(item, answer, chat, settings.limits).passed
        report("", number + 1, len(task.items), "questions")
    return right


def text_scores(
    subject: Subject, task: Task, settings: EvaluationSettings, reference: Subject | None, subjects: list[Subject], report: Report
) -> list[Score]:
    """Perplexity, and divergence from the reference where that is another model with the same tokenizer."""
    longest = min(each.cache_length for each in subjects)
    windows = windows_of(task.text, subject.tokenizer, settings.text_tokens, longest)
    other = (
        reference if reference is not None and reference.fingerprint != subject.fingerprint and same_tokenizer(subject, reference) else None
    )
    found = score_text(subject, windows, other, report)
    scores = [Score(task.name, "perplexity", found.perplexity, found.tokens)]
    if found.mean_kld is not None and found.same_top is not None:
        scores += [Score(task.name, "KLD", found.mean_kld, found.tokens), Score(task.name, "same top", found.same_top, found.tokens)]
    return scores


def same_tokenizer(subject: Subject, reference: Subject) -> bool:
    """Whether two models can be compared token by token."""
    try:
        check_same_tokenizer(subject.tokenizer, reference.tokenizer)
    except FirstTokenError:
        return False
    return True


def check_room(subject: Subject, prompt: str, chat: bool, max_tokens: int) -> int:
    """Returns how many tokens an answer may have. Raises `FirstTokenError` for a prompt that leaves none."""
    room = subject.cache_length - len(encode_prompt(subject.tokenizer, prompt, subject.manifest.chat if chat else None))
    if room < 1:
        raise FirstTokenError(
            f"{subject.folder}: a question leaves no room in the cache of {subject.cache_length} tokens; export with a longer --cache-length, or leave it out"
        )
    return min(max_tokens, room)


def share(task: Task, measure: str, right: float, count: int) -> Score:
    """A share of questions with its 95 % Wilson score interval (Wilson 1927)."""
    z, p = 1.959964, right / count
    middle, half = (p + z * z / (2 * count)), z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return Score(task.name, measure, p, count, (middle - half) / scale, (middle + half) / scale)


def unique_names(subjects: list[Subject]) -> list[str]:
    """As much of the end of each folder's path as tells the models apart. Raises `FirstTokenError` for one given twice."""
    paths = [subject.given.resolve() for subject in subjects]
    for subject, path in zip(subjects, paths, strict=True):
        if paths.count(path) > 1:
            raise FirstTokenError(f"model {subject.given} is given twice; give each once")
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
