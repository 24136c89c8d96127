"""The last stage of a recipe: the student is proven quantized, and trained for quantization where that misses its gate.

The float student is its own teacher here (LLM-QAT, arXiv:2305.17888): the rounded weights learn to answer as the float
ones do, so that the proof, before and after, measures the loss of quantization alone.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken.backends.registry import backend_of, find_backend, resolve
from firsttoken.bundle.atomic import Staging
from firsttoken.bundle.lineage import FLOAT_FOLDER, RECORD
from firsttoken.bundle.manifest import MANIFEST_FILE, Proof, read_manifest
from firsttoken.checkpoint import Checkpoint, read_json
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import open_decoder, plan_layers
from firsttoken.distill.models import load_decoder, write_decoder
from firsttoken.distill.recipe import Loss, Quantize, Recipe
from firsttoken.distill.running import DistillRun
from firsttoken.distill.schedules import constant
from firsttoken.distill.students import Stage, settings_folder
from firsttoken.errors import GateError
from firsttoken.pipeline import export
from firsttoken.quant.plan import Plan, load_plan
from firsttoken.targets.target import load_target

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "quantization-aware training"
FLOAT, TRAINED = "float student", "student trained for quantization"


@dataclass
class QuantizeOutcome:
    """What the stage found: proofs of the quantized student before and after, and which student was kept."""

    plan: str
    target: str
    before: Proof
    after: Proof | None = None
    kept: str = FLOAT
    float_folder: Path | None = None  # of the student that was not kept, where the proof needs it
    stages: list[Stage] = field(default_factory=list)

    def record(self) -> dict:
        """For ``distillation.json``."""
        proofs = {"before": self.before, "after": self.after}
        shown = {
            which: {"passed": proof.passed, "misses": proof.misses, "figures": proof.all.model_dump()}
            for which, proof in proofs.items()
            if proof
        }
        return {"plan": self.plan, "target": self.target, "kept": self.kept, **shown}


def check_quantize(recipe: Recipe, quantize: Quantize, student: Decoder) -> None:
    """Raises `FirstTokenError` before any work for a plan or target that does not exist or does not fit the student."""
    target = load_target(recipe.declared(quantize.target), quantize.cache_length)
    backend = backend_of(target)
    backend.check_model(student, target)
    backend.check_installed(f"target {target.name!r}")
    backend.check_tools(target, prove=True)
    resolve(load_plan(recipe.declared(quantize.plan)), student, target)


def run_quantize_stage(run: DistillRun, model: PreTrainedModel, quantize: Quantize) -> tuple[PreTrainedModel, QuantizeOutcome]:
    """Returns the student to publish, in plain layers, and what was found."""
    folder, recipe, plan = run.work / "quantize", run.recipe, load_plan(run.recipe.declared(quantize.plan))
    before = folder / "before"
    if run.main and not before.exists():
        with Staging(before) as staging:
            write_decoder(model, run.tokenizer, staging.folder, recipe.student.save_as, settings_folder(recipe))
            staging.commit()
    outcome = QuantizeOutcome(plan.name, quantize.target, proven(run, before, quantize))
    figures = outcome.before.all
    run.say(
        f"quantized with plan {plan.name} without further training: mean KL divergence from the float student {figures.mean_kld:.3g} nats, "
        f"same top token {figures.same_top:.2%}; {'within the gate' if outcome.before.passed else 'misses the gate: ' + '; '.join(outcome.before.misses)}"
    )
    if outcome.before.passed and quantize.when == "missed":
        run.say(f"{NAME}: not needed (when = 'always' runs it all the same)")
        return model, outcome
    after = folder / "after"
    if not (after / RECORD).exists():
        trained = train(run, before, quantize, plan, outcome, folder)
        if run.main:
            write_after(run, trained, before, after, outcome)
    run.wait()
    outcome.stages = [Stage(NAME, quantize.steps, history=read_json(after / RECORD, "")["history"])]
    outcome.after = proven(run, after, quantize)
    better = outcome.after.all.mean_kld < outcome.before.all.mean_kld
    verdict = "within the gate" if outcome.after.passed else "misses the gate: " + "; ".join(outcome.after.misses)
    run.say(f"{NAME}: mean KL divergence {outcome.before.all.mean_kld:.3g} -> {outcome.after.all.mean_kld:.3g} nats; {verdict}")
    if not better:
        run.say(f"{NAME}: did not help; the float student is kept")
        return model, outcome
    outcome.kept, outcome.float_folder = TRAINED, before
    return load_decoder(after), outcome


def train(run: DistillRun, before: Path, quantize: Quantize, plan: Plan, outcome: QuantizeOutcome, folder: Path) -> PreTrainedModel:
    """Trains the rounded student against the float one; returns it with plain layers again."""
    from firsttoken.distill import qat
    from firsttoken.distill.teachers import LiveTeacher

    recipe = run.recipe
    target = load_target(recipe.declared(quantize.target), quantize.cache_length)
    with Checkpoint(before) as checkpoint:
        student = open_decoder(checkpoint)
    layers = plan_layers(student)
    model = load_decoder(before)
    rounded = qat.prepare(model, layers, resolve(plan, student, target), plan, find_backend(target.cpu_backend))
    run.say(f"{NAME}: {quantize.steps} steps, {len(rounded)} of {len(layers)} layers rounded as {target.name} does")
    model.train()
    teacher = LiveTeacher("float student", load_decoder(before).requires_grad_(False))
    warmup = min(recipe.training.warmup_steps, quantize.steps // 10)
    changes = {"steps": quantize.steps, "learning_rate": quantize.learning_rate, "warmup_steps": warmup, "keep": "last", "early_stop": None}
    changes |= {"progressive_layers": 0.0, "dropout": None}
    settings = {"losses": (Loss(kind="forward_kl"),), "temperature": constant(1.0), "training": recipe.training.model_copy(update=changes)}
    settings |= {
        "on_policy": None,
        "student": recipe.student.model_copy(update={"lora": None, "dtype": "float32"}),
    }  # the rounding is of floats
    stage = Stage(NAME, quantize.steps)
    run.train_stage(model, stage, folder / "training", recipe.model_copy(update=settings), [teacher])
    outcome.stages = [stage]
    return qat.finish(model)


def write_after(run: DistillRun, model: PreTrainedModel, before: Path, after: Path, outcome: QuantizeOutcome) -> None:
    """Writes the trained student beside its float one, as `firsttoken export` expects the two."""
    with Staging(after) as staging:
        write_decoder(model, run.tokenizer, staging.folder, run.recipe.student.save_as, settings_folder(run.recipe))
        shutil.copytree(before, staging.folder / FLOAT_FOLDER)
        record = run.identity | {"recipe name": run.recipe.name, "tokens seen": 0, **fingerprints(staging.folder)}
        record["history"] = outcome.stages[0].history
        (staging.folder / RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
        staging.commit(replace=True)


def fingerprints(folder: Path) -> dict[str, str]:
    """Of the student in ``folder`` and, where there is one, of its float student."""
    found = {"student": folder} | ({"float student": folder / FLOAT_FOLDER} if (folder / FLOAT_FOLDER).is_dir() else {})
    made = {}
    for who, place in found.items():
        with Checkpoint(place) as checkpoint:
            made[who] = checkpoint.fingerprint()
    return made


def proven(run: DistillRun, checkpoint: Path, quantize: Quantize) -> Proof:
    """Exports a student into the work folder, once, and returns its proof, passed or not."""
    place = run.work / "quantize" / f"proof-{checkpoint.name}"
    name = load_target(run.recipe.declared(quantize.target)).name
    if run.main and not finished(place, name):
        plan, target = run.recipe.declared(quantize.plan), run.recipe.declared(quantize.target)
        try:
            with run.bar() as report:
                export(checkpoint, place, plan, (target,), held_out=run.proof_text, cache_length=quantize.cache_length, report=report)
        except GateError:  # its bundle is kept beside, with its proof
            if not finished(place, name):
                raise
    run.wait()
    return read_manifest(finished(place, name)[0]).need_proof()


def finished(place: Path, target: str) -> list[Path]:
    """The bundles of a target that an export finished in ``place``: the one that passed, else those that were rejected."""
    return [folder for folder in (place / target, *sorted(place.glob(f"{target}.rejected*"))) if (folder / MANIFEST_FILE).exists()]
