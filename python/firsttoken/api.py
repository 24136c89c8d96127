"""The library: the command line's verbs as functions, with the same arguments.

Each calls the function that the verb calls and prints nothing. ``progress`` is called with ``(stage, done, total, unit)``
as work proceeds, ``say`` with a line now and then; `firsttoken.errors.FirstTokenError` is what a caller has to expect.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from firsttoken.bundle.prefix_facts import Stored
from firsttoken.distill.recipe import Recipe
from firsttoken.evaluate.evaluate import Score
from firsttoken.measure.call import bench as bench
from firsttoken.measure.measurement import Measurement
from firsttoken.progress import Report, silent
from firsttoken.prove.places import Place, Proven
from firsttoken.run.drafting import Draft
from firsttoken.run.generate import Statistics
from firsttoken.run.thinking import Thinking

PathLike = str | Path


def mute(_line: str) -> None:
    """Says nothing: the default of every ``say``."""


def _path(given: PathLike | None) -> Path | None:
    return None if given is None else Path(given)


def export(
    checkpoint: PathLike,
    output: PathLike = "out",
    *,
    plan: PathLike = "fp16-attention",
    target: PathLike | Sequence[PathLike] | None = None,
    for_apk: PathLike | None = None,
    prove: bool = True,
    force: bool = False,
    cache_length: int | None = None,
    prefill_chunk: int | None = None,
    held_out: PathLike | None = None,
    end_token: str | int | Sequence[str | int] = (),
    witness: bool = True,
    adapter: PathLike | None = None,
    calibration: PathLike | None = None,
    system_prompt: str | None = None,
    prefix_precision: Stored = "fp32",
    pack_for: str | Sequence[str] = (),
    packed_only: bool = False,
    draft_tokens: int | None = None,
    progress: Report = silent,
    say: Callable[[str], None] = mute,
) -> list[Path]:
    """Exports a checkpoint to one proven bundle for each target, ``output/<target>/``; returns these folders.

    ``plan`` and ``target`` are names (`firsttoken plans`, `firsttoken targets`) or paths of ``.toml`` files. Without ``target`` it is what
    ``for_apk``, an APK of the firsttoken app, carries the runtime for; without either what ``firsttoken-demo.apk`` in ``output``
    carries, and "tflite-xnnpack" where none is there. ``prove``
    compares what was written with the checkpoint, on ``held_out`` (a text file) or a text of its own; ``force`` replaces
    existing bundles. The checkpoint is a Hugging Face folder, a ``.gguf`` file, a hub id "Owner/Name[@revision]" or "smollm2"; a LoRA
    ``adapter`` (PEFT's folder) is merged into it as it is read. ``cache_length`` and ``prefill_chunk`` are tokens and replace the target's.
    ``end_token`` (ids or texts, or "none") replaces the tokens that end an answer, which the checkpoint says otherwise. ``witness`` false leaves out
    asking transformers, where it is installed, whether it understands the checkpoint in the same way. ``system_prompt`` is a message whose keys and values the bundle keeps, in ``prefix_precision``. ``pack_for`` are kinds of CPU (dotprod, i8mm, sme, armv8, host) whose packed
    weights go into the bundle, with ``packed_only`` in the place of the artifact's own. With ``draft_tokens`` the artifact can check so many guessed tokens in one call, for ``generate(draft="lookup")``. ``calibration`` is a text file on which a
    plan with a method chooses its integers, in the place of one that comes with firsttoken.

    Raises `FirstTokenError` for bad input, a missing extra or too little room, before any work; `GateError` for a bundle
    that missed its proof (it is kept as ``<target>.rejected``, and bundles finished before it stay).

        [bundle] = firsttoken.export("path/to/checkpoint", "out", plan="int8")
    """
    from firsttoken.device.fitting_target import targets_to_export
    from firsttoken.pipeline import export as run

    given = [target] if isinstance(target, str | Path) else target or []
    targets = targets_to_export(checkpoint, output, plan, given, for_apk, cache_length, say, adapter)
    ends = [end_token] if isinstance(end_token, str | int) else end_token
    return run(
        checkpoint,
        output,
        plan,
        targets,
        prove,
        force,
        held_out,
        cache_length,
        prefill_chunk,
        progress,
        say,
        ends,
        witness,
        adapter,
        calibration,
        system_prompt,
        prefix_precision,
        [pack_for] if isinstance(pack_for, str) else pack_for,
        packed_only,
        draft_tokens,
    )


def prove(
    bundle: PathLike,
    checkpoint: PathLike,
    *,
    on: Place = "host",
    cpu: str | None = None,
    windows: int | None = None,
    held_out: PathLike | None = None,
    threads: int | None = None,
    plan: PathLike | None = None,
    cache_length: int | None = None,
    begin_token: int | None = None,
    witness: bool = True,
    adapter: PathLike | None = None,
    progress: Report = silent,
    say: Callable[[str], None] = mute,
) -> Proven:
    """Compares a bundle, run in its own runtime, with the checkpoint it was made from; a missed bound is no error here.

    Returns figures (KL divergence in nats a token, `bundle.manifest.Figures`), the audit of every layer, ``passed`` and
    ``misses``. ``on`` is "host" (this machine, and the NPU artifact where there is one), "arm" (an emulated core,
    ``cpu``), "gpu" (a software one, and the artifact for a GPU where there is one) or "npu"; ``windows`` asks these three for so many stretches of the text ``held_out``. ``bundle`` may be a .tflite, .litertlm or
    .pte that another exporter wrote: then ``file`` says what it is made of and what was compared, ``plan`` names the plan that it is held to, and
    ``cache_length`` (tokens) and ``begin_token`` are for one that does not say them. ``witness``, ``checkpoint`` and ``adapter`` are as in `export`.

    Raises `FirstTokenError` for a damaged bundle, another checkpoint, or an emulated machine that is not set up.

        proven = firsttoken.prove("out/tflite-xnnpack", "path/to/checkpoint")
        print(proven.passed, proven.proof.all.mean_kld, proven.misses)
    """
    from firsttoken.prove.places import prove_places

    [*_, proven] = prove_places(
        bundle,
        checkpoint,
        on,
        cpu,
        windows,
        held_out,
        threads,
        plan,
        cache_length,
        begin_token,
        witness,
        lambda: nullcontext(progress),
        say,
        adapter,
    )
    return proven


def get(
    checkpoint: PathLike,
    output: PathLike | None = None,
    *,
    adapter: PathLike | None = None,
    force: bool = False,
    progress: Report = silent,
) -> Path:
    """Returns a checkpoint as a Hugging Face folder that transformers reads too: downloaded, converted or merged where it has to be.

    ``checkpoint`` and ``adapter`` are as `export` takes them. Without ``output`` it is the folder where the checkpoint lies (the user's own, the
    hub's cache, firsttoken's); with it the weights are written there in FP32, with ``force`` in the place of an older folder.

    Raises `FirstTokenError` for what cannot be read, downloaded or written; of a GGUF file or with an adapter, without ``output``.

        folder = firsttoken.get("smollm2")
    """
    from firsttoken.checkpoint_sources.get import get as run

    return run(checkpoint, output, adapter, force, progress)


def generate(
    bundle: PathLike,
    prompt: str,
    *,
    max_tokens: int = 128,
    temperature: float = 0.0,
    seed: int = 0,
    threads: int | None = None,
    raw: bool = False,
    statistics: Statistics | None = None,
    observe: Callable[[Statistics, int], None] | None = None,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    system: str | None = None,
    draft: Draft | None = None,
    thinking: Thinking | None = None,
) -> Iterator[str]:
    """Loads a bundle and yields the pieces of its answer's text as they become whole; the model is freed at the end.

    Temperature 0 takes the most likely token; above, ``top_k``, ``top_p`` and ``min_p`` leave the most likely ones to draw from, in this order. ``raw`` continues the prompt without the chat template. ``system`` is the system
    message (None: that which the bundle keeps, if any; empty: none). ``draft`` "lookup" guesses tokens that were said before and checks several in one call, in a bundle exported with ``draft_tokens``:
    the same tokens, sooner. ``thinking`` (`run.thinking.Thinking`) bounds how long a reasoner thinks. ``statistics``
    (`run.generate.Statistics`) is filled in on the way: tokens, nanoseconds by stage, why it stopped; ``observe`` is
    called after every token with it and the token's nanoseconds (see `measure.monitor.Monitor`). Many prompts on one
    loaded model: `run.open.open_runner` and `run.generate.generate`.

    Raises `FirstTokenError` at once for a folder that is no bundle, and from the iteration for a damaged one, for a missing
    extra, and for a prompt that is empty or longer than the cache.

        for piece in firsttoken.generate("out/tflite-xnnpack", "Why is the sky blue?", max_tokens=64):
            print(piece, end="", flush=True)
    """
    from firsttoken.bundle.manifest import read_manifest
    from firsttoken.tokenizer import open_tokenizer

    tokenizer = open_tokenizer(bundle, read_manifest(bundle))

    def pieces() -> Iterator[str]:
        from firsttoken.run.generate import generate as run
        from firsttoken.run.open import open_runner

        runner = open_runner(bundle, threads)
        try:
            chat = False if raw else None
            yield from run(
                runner,
                tokenizer,
                prompt,
                max_tokens,
                temperature,
                seed,
                chat,
                statistics,
                observe=observe,
                top_k=top_k,
                top_p=top_p,
                min_p=min_p,
                system=system,
                draft=draft,
                thinking=thinking,
            )
        finally:
            runner.close()

    return pieces()


def distill(
    recipe: PathLike | Recipe,
    output: PathLike | None = None,
    *,
    force: bool = False,
    restart: bool = False,
    keep_work: bool = False,
    seeds: int = 1,
    tensorboard: PathLike | None = None,
    however_long: bool = False,
    say: Callable[[str], None] = mute,
) -> Path:
    """Trains the student that a recipe (a built-in name, the path of a ``.toml`` or a `Recipe` made in Python) describes; returns its folder.

    ``output`` defaults to ``out/<recipe>``. The folder appears complete or not at all: a checkpoint for `export` (of a classifier's recipe a program), ``training.html`` and
    ``distillation.json``. An interrupted run goes on when called again, ``restart`` starts over, ``force`` replaces a student, ``seeds`` is for classifiers. For decoders ``tensorboard`` is a folder for curves (extra ``firsttoken[tensorboard]``), and with
    ``however_long`` a CPU may compute for days. Under ``torchrun`` every process calls this. Needs the extra ``firsttoken[distill]``.

    Raises `FirstTokenError` for a bad recipe, missing data or a missing extra.

        student = firsttoken.distill("demo-cut", "out/student")
        [bundle] = firsttoken.export(student, "out/bundles")
    """
    from firsttoken.distill.recipe import is_classifier
    from firsttoken.errors import FirstTokenError
    from firsttoken.extras import need

    need("distill", "distillation")
    if not isinstance(recipe, Recipe) and is_classifier(recipe):
        if tensorboard is not None or however_long:
            raise FirstTokenError("tensorboard and however_long are for a decoder's recipe; a classifier's curves are in its training.html")
        from firsttoken.distill.classifiers.run import distill_classifier

        return distill_classifier(recipe, output, seeds, force, restart, keep_work, say)
    if seeds != 1:
        raise FirstTokenError(f"seeds is {seeds}, which is for a classifier's recipe; a decoder's has its seed in the file")
    from firsttoken.distill.distill import distill as run

    return run(recipe, output, force, restart, keep_work, say=say, tensorboard=_path(tensorboard), however_long=however_long)


def evaluate(
    models: PathLike | Sequence[PathLike],
    tasks: str | Sequence[str],
    *,
    reference: PathLike | None = None,
    limit: int | None = None,
    text_tokens: int = 2048,
    max_tokens: int = 512,
    temperature: float = 0.0,
    samples: int = 1,
    pass_at: Sequence[int] = (),
    thinking: Thinking | None = None,
    seed: int = 0,
    raw: bool = False,
    seconds: float = 10.0,
    memory: int = 1024,
    answers: PathLike | None = None,
    threads: int | None = None,
    progress: Report = silent,
) -> dict[str, list[Score]]:
    """Scores checkpoint and bundle folders on the same tasks; returns every model's scores, by name, in the order given.

    A task is "text=FILE" (perplexity; KL divergence in nats a token from ``reference``, default the first model), "maths=FILE",
    "choice=FILE" or "code=FILE" (shares with their 95 % interval, ``low`` to ``high``). ``limit`` takes the first so many
    questions, ``answers`` keeps what models wrote and goes on from it, ``seconds`` and ``memory`` (MiB) bound programs
    that a model wrote. ``pass_at`` adds pass@k of ``samples`` answers for each k; ``thinking`` (`run.thinking.Thinking`) bounds how long a reasoner thinks.

    Raises `FirstTokenError` for files or folders that cannot be read, and for a missing extra.

        scores = firsttoken.evaluate(["path/to/checkpoint", "out/tflite-xnnpack"], "text=held_out.txt")
        print([(name, score.measure, score.value) for name, each in scores.items() for score in each])
    """
    from firsttoken.evaluate.evaluate import EvaluationSettings
    from firsttoken.evaluate.evaluate import evaluate as run
    from firsttoken.evaluate.sandbox import Limits

    limits = Limits(seconds, memory << 20)
    settings = EvaluationSettings(limit, text_tokens, max_tokens, temperature, samples, tuple(pass_at), thinking, seed, raw, limits)
    asked = [tasks] if isinstance(tasks, str) else tasks
    several = [models] if isinstance(models, str | Path) else models
    return run(several, asked, settings, reference, None if answers is None else Path(answers), threads, progress)


def report(
    measurements: Measurement | PathLike | Sequence[Measurement | PathLike],
    output: PathLike = "report.html",
    *,
    baseline: Measurement | PathLike | None = None,
    budget: PathLike | None = None,
    junit: PathLike | None = None,
) -> list[str]:
    """Writes one HTML page, without scripts, of what `bench` returned or of measurement files; returns notes for its reader.

    ``baseline`` is an earlier measurement: the page then says what became faster or slower beyond the noise. With ``budget``, a ``.toml`` file of limits, the
    measurements are held against them, relative ones against the baseline; ``junit`` is an XML file to write of the verdicts.

    Raises `FirstTokenError` for a file that is no measurement, for no run at all, or where the page cannot be written
    (an older page then stays), and `GateError` where a limit is missed.

        firsttoken.report(firsttoken.bench(["out/tflite-xnnpack"]), "report.html")
    """
    from firsttoken.errors import GateError
    from firsttoken.measure.budget_verdict import write_junit
    from firsttoken.measure.measurement import read_measurement
    from firsttoken.report.hold import hold
    from firsttoken.report.report import report as run

    def measured(given: Measurement | PathLike) -> Measurement:
        return given if isinstance(given, Measurement) else read_measurement(given)

    several = [measurements] if isinstance(measurements, Measurement | str | Path) else measurements
    verdicts = []
    if budget is not None:
        names = {
            f"measurement {place}" if isinstance(one, Measurement) else str(one): measured(one) for place, one in enumerate(several, 1)
        }
        verdicts = hold(Path(budget), names, None if baseline is None else measured(baseline))
    notes = run(several, output, baseline)
    if junit is not None:
        write_junit(Path(junit), verdicts)
    if missed := [verdict.line for verdict in verdicts if not verdict.kept]:
        raise GateError(f"{len(missed)} limits of {budget} missed: {'; '.join(missed)}")
    return notes
