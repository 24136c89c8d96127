"""Training of a `ModuleDistillation` on labelled tensors, with the trainer that decoders have."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from firsttoken.distill.modules import ModuleDistillation, ModulePlan
from firsttoken.distill.trainer import DistillationTrainer, Items, newest_state, remove_incomplete, score_of


class Samples(Items):
    """Inputs and labels as the trainer takes them."""

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": self.inputs[index], "labels": self.labels[index], "index": torch.tensor(index)}

    def source(self, index: int) -> str:
        return f"sample {index}"


def train_module(
    objective: ModuleDistillation,
    plan: ModulePlan,
    train: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    work: str | Path,
    history: list[dict] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, float]:
    """Trains the objective's student on ``(inputs, labels)`` and returns its held-out figures, ``accuracy`` among them.

    States lie in ``work``; a call with the same objective and plan goes on from the newest one. The course of the training
    (the Trainer's log) is added to ``history``; ``callbacks`` are the Trainer's.
    """
    work = Path(work)
    remove_incomplete(work)
    trainer = DistillationTrainer(
        objective, plan, Samples(*train), Samples(*held_out), work, plan.training.steps, list(callbacks), shifted=False
    )
    trainer.remove_callback(PrinterCallback)
    state = newest_state(work)
    trainer.train(resume_from_checkpoint=str(state[1]) if state else None)
    if history is not None:
        history += [entry for entry in trainer.state.log_history if "train_runtime" not in entry]
    device = next(objective.parameters()).device
    objective.eval()
    total = objective.score({"inputs": held_out[0].to(device), "labels": held_out[1].to(device)}).cpu()
    return {name.removeprefix("score_"): value for name, value in score_of(total, "score", bool(objective.teachers)).items()}
