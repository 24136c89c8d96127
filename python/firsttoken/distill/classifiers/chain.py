"""From a classifier's teacher to bundles in one call: student, plan, bundles, proof, accuracy at every step, and milliseconds per input on this machine."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from firsttoken.backends.module_registry import module_backend_of
from firsttoken.bundle.lineage import RECORD
from firsttoken.bundle.manifest import MANIFEST_FILE
from firsttoken.bundle.module_manifest import read_module_manifest
from firsttoken.checkpoint import read_json
from firsttoken.distill.classifiers.data import load_data, split
from firsttoken.distill.classifiers.own_samples import HELD_OUT
from firsttoken.distill.classifiers.recipe import ClassifierRecipe, load_classifier
from firsttoken.distill.classifiers.run import distill_classifier, identity_of, rows_of
from firsttoken.distill.distill import no_bar
from firsttoken.distill.work_folder import alone, first_difference
from firsttoken.errors import FirstTokenError
from firsttoken.module_bundles.bench import Timed, bench_modules
from firsttoken.module_bundles.export import DEFAULT_PLAN, export_source
from firsttoken.modules.sources import open_source
from firsttoken.progress import Report
from firsttoken.quant.module_plan import load_module_plan
from firsttoken.targets.target import load_target

TARGETS = ("tflite-xnnpack", "executorch-xnnpack")


@dataclass(frozen=True)
class Step:
    """A model of the chain: its share of right answers ``of`` so many held-out samples, and its file's ``bytes``."""

    name: str
    accuracy: float
    of: int
    bytes: int | None = None


@dataclass(frozen=True)
class ClassifierChain:
    """What came out. The first ``steps`` are the recipe's figures over all that it holds out; student and bundles are compared on the samples that the student's folder keeps."""

    student: Path
    bundles: list[Path]
    steps: list[Step]
    times: list[Timed]


def chain_classifier(
    recipe: str | Path | ClassifierRecipe,
    output: str | Path,
    plan: str | Path = DEFAULT_PLAN,
    targets: Sequence[str | Path] = TARGETS,
    force: bool = False,
    restart: bool = False,
    bar: Callable[[], AbstractContextManager[Report]] = no_bar,
    say: Callable[[str], None] = print,
) -> ClassifierChain:
    """Makes ``output/student`` and ``output/bundles/<target>``.

    Steps that an earlier call finished with the same recipe and plan are not done again; ``force`` replaces what was made with others, ``restart`` begins an
    interrupted student anew. Raises `FirstTokenError`, for a recipe of several tasks too, and `GateError` for a bundle that misses its proof.
    """
    alone("firsttoken distill chain")
    chosen = recipe if isinstance(recipe, ClassifierRecipe) else load_classifier(recipe)
    if chosen.tasks is not None:
        raise FirstTokenError(
            f"recipe {chosen.name!r}: has several tasks, whose accuracies are in its training.html; distil it with `firsttoken distill`, and export the student"
        )
    load_module_plan(plan)
    loaded = [load_target(target) for target in targets]
    for target in loaded:
        module_backend_of(target)  # refuses one that takes decoders alone, before any training
    names = [target.name for target in loaded]
    if len(set(names)) < len(names):
        raise FirstTokenError(f"target {max(names, key=names.count)!r} is given twice; each bundle folder is named after its target")
    output = Path(output)
    student = output / "student"
    if reusable(student, chosen, force):
        say(f"{student}: already made from this recipe")
    else:
        distill_classifier(recipe, student, force=force, restart=restart, say=say)
    bundles = [bundle_of(student, output / "bundles", plan, target, name, bar, say) for target, name in zip(targets, names, strict=True)]
    with bar() as report:
        times = bench_modules(bundles, report=report)
    return ClassifierChain(student, bundles, steps_of(chosen, student, bundles), times)


def reusable(student: Path, recipe: ClassifierRecipe, force: bool) -> bool:
    """Whether an earlier student was made from this very recipe, with these packages. Raises `FirstTokenError` for another one, unless ``force``."""
    if not student.exists():
        return False
    record = read_json(student / RECORD, "the folder holds something else; choose another with -o")
    wanted = json.loads(json.dumps(identity_of(recipe)))
    made = {name: record.get(name) for name in wanted}
    if all(isinstance(value, dict) for value in made.values()) and first_difference(made, wanted) is None:
        if (student / HELD_OUT).is_file():
            return True
        if not force:
            raise FirstTokenError(
                f"{student}: is of an earlier firsttoken, without the inputs that its bundles are proven on; make it again with --force"
            )
    if not force:
        raise FirstTokenError(f"{student}: was made from another recipe; replace it with --force, or choose another folder with -o")
    return False


def bundle_of(
    student: Path,
    output: Path,
    plan: str | Path,
    target: str | Path,
    name: str,
    bar: Callable[[], AbstractContextManager[Report]],
    say: Callable[[str], None],
) -> Path:
    """Exports and proves the student for one target, or takes the bundle that an earlier call made of it."""
    source = open_source(student)
    folder = output / name
    if (folder / MANIFEST_FILE).exists():
        manifest = read_module_manifest(folder)
        same = manifest.module.fingerprint == source.module.fingerprint and manifest.plan == load_module_plan(plan)
        if same and manifest.target.name == name and manifest.proof is not None:
            say(f"{folder}: already exported and proven")
            return folder
    with bar() as report:
        [made] = export_source(source, output, plan, (target,), force=True, report=report, say=say)
    proof = read_module_manifest(made).proof
    say(f"{made}: proven" + (f" on {proof.samples.count:,} inputs" if proof else ""))
    return made


def steps_of(recipe: ClassifierRecipe, student: Path, bundles: Sequence[Path]) -> list[Step]:
    """The accuracies from teacher to bundles."""
    [seed, *_] = read_json(student / RECORD, "a student that `firsttoken distill` wrote has it")["seeds"]
    _, labels = load_data(recipe, recipe.seed)
    _, held_out = split(labels, recipe.classifier.train_share, recipe.seed)
    count = int((labels[held_out] >= 0).sum())
    steps = [Step(name, seed[name]["accuracy"], count) for name in rows_of(recipe)]
    for bundle in bundles:
        manifest = read_module_manifest(bundle)
        proof = manifest.proof
        if proof is None or proof.accuracy is None or proof.reference_accuracy is None or proof.labelled is None:
            continue
        if not any(step.name == "student, float" for step in steps):
            steps.append(Step("student, float", proof.reference_accuracy, proof.labelled, (student / "model.pt2").stat().st_size))
        steps.append(
            Step(f"{bundle.name}, {manifest.plan.name}", proof.accuracy, proof.labelled, manifest.files[manifest.artifact.file].bytes)
        )
    return steps
