"""Writing the finished student: checkpoint, record, curves, and the text that its proofs use; all of it or nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from torch.distributed.fsdp import FSDPModule

from firsttoken.bundle.atomic import Staging
from firsttoken.bundle.lineage import FLOAT_FOLDER, RECORD
from firsttoken.distill.models import load_decoder, parameters_of, write_decoder
from firsttoken.distill.quantize_stage import TRAINED, QuantizeOutcome, fingerprints
from firsttoken.distill.running import DistillRun
from firsttoken.distill.student_folder import files_in
from firsttoken.distill.students import Stage, settings_folder
from firsttoken.distill.teachers import LiveTeacher
from firsttoken.distill.training_page import training_page
from firsttoken.errors import FirstTokenError
from firsttoken.prove.prove import HELD_OUT_FILE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PAGE = "training.html"
NAMES = {"cross_entropy": "cross-entropy", "kld": "KL divergence from the teacher"}
SAME = 1e-3  # relative; how far the written float32 student's score may be from the trained one's


def publish(
    run: DistillRun,
    model: PreTrainedModel,
    stages: list[Stage],
    outcome: QuantizeOutcome | None,
    force: bool,
    write: Callable[..., None] = write_decoder,
) -> None:
    """Writes the student, reads it back, scores what was read, and renames the folder into place.

    Raises `FirstTokenError` where the written student is not the trained one.
    """
    recipe = run.recipe
    with Staging(run.output) as staging:
        write(model, run.tokenizer, staging.folder, recipe.student.save_as, settings_folder(recipe))
        if outcome is not None and outcome.float_folder is not None:
            shutil.copytree(outcome.float_folder, staging.folder / FLOAT_FOLDER)
        figures = run.figures["student as written"] = run.score(load_decoder(staging.folder).to(model.device), run.teachers)  # type: ignore[arg-type]  # transformers wraps it without its types
        trained = run.score(model, run.teachers)["cross_entropy"]
        if recipe.student.save_as == "float32" and abs(figures["cross_entropy"] - trained) > SAME * abs(trained):
            raise FirstTokenError(
                f"the written student scores {figures['cross_entropy']:.6f} and the trained one {trained:.6f} on the same text; the checkpoint is not what was trained"
            )
        if run.proof_text is not None:
            shutil.copyfile(run.proof_text, staging.folder / HELD_OUT_FILE)
        stages = stages + (outcome.stages if outcome else [])
        record = record_of(run, staging.folder, parameters_of(model), stages, outcome)
        record["files"] = sorted([*files_in(staging.folder), RECORD, PAGE])
        (staging.folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        (staging.folder / PAGE).write_text(
            training_page(recipe.name, recipe.summary, stages, facts_of(record, run.figures), run.text), encoding="utf-8"
        )
        staging.commit(replace=force)
    kept = f"; {TRAINED}, its float student is in {FLOAT_FOLDER}/" if outcome and outcome.kept == TRAINED else ""
    run.say(f"{run.output}: {record['parameters']:,} parameters, held-out perplexity {figures['perplexity']:.3f}; curves in {PAGE}{kept}")


def publish_beside(run: DistillRun, model: PreTrainedModel) -> None:
    """What the other processes do while the first publishes: where teachers are sharded, they answer together, so that all take part in its two scores."""
    if any(isinstance(teacher, LiveTeacher) and isinstance(teacher.model.model, FSDPModule) for teacher in run.teachers):
        for _ in range(2):
            run.score(model, run.teachers)


def record_of(run: DistillRun, folder: Path, parameters: int, stages: list[Stage], outcome: QuantizeOutcome | None) -> dict:
    """What ``distillation.json`` says: identity of everything that went in, and the figures of what came out."""
    return {
        "format": 1,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe name": run.recipe.name,
        "summary": run.recipe.summary,
        **run.identity,
        **fingerprints(folder),
        "parameters": parameters,
        "shared vocabulary": run.vocabulary,
        "tokens seen": sum(stage.steps for stage in stages) * run.recipe.training.batch * run.recipe.data.length,
        "figures": run.figures,
        **({"quantization": outcome.record()} if outcome else {}),
    }


def facts_of(record: dict, figures: dict[str, dict]) -> list[tuple[str, str]]:
    """Rows of the page's table."""
    rows = [
        ("parameters", f"{record['parameters']:,}"),
        ("training tokens", f"{record['tokens seen']:,}"),
        ("seed", str(record["recipe"]["seed"])),
    ]
    rows += [(who, ", ".join(f"{NAMES.get(name, name)} {value:.4f}" for name, value in each.items())) for who, each in figures.items()]
    quantization = record.get("quantization")
    for which in ("before", "after"):
        if quantization and which in quantization:
            found = quantization[which]
            passed = "passed" if found["passed"] else "missed its gate"
            name = "quantized" if which == "before" else "quantized, trained for it"
            rows.append((name, f"plan {quantization['plan']}, mean KL divergence {found['figures']['mean_kld']:.4g} nats, {passed}"))
    return rows
