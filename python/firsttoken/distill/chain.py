"""From teacher to first token in one call: student, plan, bundles, proof, quality at every step, and TTFT on this machine."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from firsttoken.atomic_file import write_text
from firsttoken.bundle.lineage import RECORD
from firsttoken.bundle.manifest import MANIFEST_FILE, read_manifest
from firsttoken.checkpoint import Checkpoint, read_json
from firsttoken.distill.distill import distill, no_bar
from firsttoken.distill.recipe import Recipe, load_recipe
from firsttoken.distill.work_folder import alone, first_difference
from firsttoken.errors import FirstTokenError
from firsttoken.evaluate.evaluate import EvaluationSettings, Score, evaluate
from firsttoken.measure.bench import BenchSettings, bench
from firsttoken.measure.measurement import Measurement
from firsttoken.pipeline import export
from firsttoken.progress import Report
from firsttoken.prove.prove import HELD_OUT_FILE
from firsttoken.quant.plan import load_plan
from firsttoken.targets.target import load_target

TARGETS = ("tflite-xnnpack", "executorch-xnnpack")
MEASUREMENT = "host.measurement.json"


@dataclass(frozen=True)
class Chain:
    """What came out: folders, scores by model (teacher, student, bundles) and the TTFT measurement."""

    student: Path
    bundles: list[Path]
    scores: dict[str, list[Score]]
    measurement: Measurement


def chain(
    recipe: str | Path | Recipe,
    output: str | Path,
    plan: str | Path | None = None,
    targets: Sequence[str | Path] = TARGETS,
    force: bool = False,
    restart: bool = False,
    cache_length: int | None = None,
    text_tokens: int = 2048,
    bench_settings: BenchSettings = BenchSettings(prompts=(32, 128)),
    bar: Callable[[], AbstractContextManager[Report]] = no_bar,
    say: Callable[[str], None] = print,
    however_long: bool = False,
) -> Chain:
    """Makes ``output/student``, ``output/bundles/<target>`` and ``output/host.measurement.json``.

    ``plan`` is for export (default: that of the recipe's ``[quantize]``, else fp16-attention). Steps that an earlier call
    finished with the same recipe and plan are not done again; ``force`` replaces what was made with others,
    ``restart`` begins an interrupted student anew. Raises
    `FirstTokenError`, and `GateError` for a bundle that misses its proof.
    """
    alone("firsttoken distill chain", "train with `torchrun … firsttoken distill RECIPE -o FOLDER/student` first, then give -o FOLDER here")
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    output = Path(output)
    plan = plan or (chosen.quantize.plan if chosen.quantize else "fp16-attention")
    load_plan(plan)
    names = [load_target(target, cache_length).name for target in targets]
    student = output / "student"
    if reusable(student, chosen, force):
        say(f"{student}: already made from this recipe")
    else:
        distill(recipe, student, force=force, restart=restart, bar=bar, say=say, however_long=however_long)
    bundles = [
        bundle_of(student, output / "bundles", plan, target, name, cache_length, bar, say)
        for target, name in zip(targets, names, strict=True)
    ]
    teachers = [chosen.checkpoint_folder(teacher.checkpoint) for teacher in chosen.teachers if teacher.checkpoint]
    text = student / HELD_OUT_FILE
    if not text.exists():
        say("the recipe's held-out files are chats; the demo checkpoint's held-out text is used for the scores")
        from firsttoken.demo import held_out_text

        text = output / HELD_OUT_FILE
        if text.exists() and text.read_bytes() != held_out_text().encode():
            raise FirstTokenError(
                f"{text}: is another text than the demo's, which belongs there; move it away, or choose another folder with -o"
            )
        write_text(text, held_out_text())
    with bar() as report:
        scores = evaluate([*teachers, student, *bundles], [f"text={text}"], EvaluationSettings(text_tokens=text_tokens), report=report)
    with bar() as report:
        measurement = bench(bundles, bench_settings, report)
    measurement.write(output / MEASUREMENT)
    return Chain(student, bundles, scores, measurement)


def reusable(student: Path, recipe: Recipe, force: bool) -> bool:
    """Whether an earlier student was made from this very recipe. Raises `FirstTokenError` for another one, unless ``force``."""
    if not student.exists():
        return False
    record = read_json(student / RECORD, "the folder holds something else; choose another with -o")
    made = record.get("recipe")  # of before a field was there: it is absent, and differs in nothing
    if isinstance(made, dict) and first_difference(made, json.loads(json.dumps(recipe.what_decides()))) is None:
        return True
    if not force:
        raise FirstTokenError(f"{student}: was made from another recipe; replace it with --force, or choose another folder with -o")
    return False


def bundle_of(
    student: Path,
    output: Path,
    plan: str | Path,
    target: str | Path,
    name: str,
    cache_length: int | None,
    bar: Callable[[], AbstractContextManager[Report]],
    say: Callable[[str], None],
) -> Path:
    """Exports and proves the student for one target, or takes the bundle that an earlier call made of it."""
    folder = output / name
    if (folder / MANIFEST_FILE).exists():
        manifest = read_manifest(folder)
        with Checkpoint(student) as checkpoint:
            same = manifest.checkpoint.fingerprint == checkpoint.fingerprint()
        if (
            same
            and manifest.plan == load_plan(plan)
            and manifest.target == load_target(target, cache_length)
            and manifest.cpu.proof is not None
        ):
            say(f"{folder}: already exported and proven")
            return folder
    with bar() as report:
        [made] = export(student, output, plan, (target,), force=True, cache_length=cache_length, report=report)
    proof = read_manifest(made).need_proof().all
    say(f"{made}: proven, mean KL divergence {proof.mean_kld:.3g} nats, same top token {proof.same_top:.2%}")
    return made
