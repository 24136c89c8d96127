"""`transformers.Trainer` with our loss, and what makes a long run safe to interrupt.

The Trainer and accelerate give the loop, the optimizer, mixed precision, DDP and FSDP. Added here: the order of the data
as a function of the seed alone, training states that count only once they are complete, a stop before a loss or
gradient that is not finite can reach the weights, and a held-out score that counts tokens, not batches.
"""

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any, Never, Protocol

import safetensors.torch
import torch
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from firsttoken.bundle.atomic import sync_tree
from firsttoken.distill.kept_memory import kept_memory
from firsttoken.distill.losses.divergence import IGNORED
from firsttoken.distill.models import make_decoder
from firsttoken.distill.modules import ModuleDistillation
from firsttoken.distill.objective import Distillation, Moment
from firsttoken.distill.recipe import Loss, Training
from firsttoken.distill.schedules import Schedule
from firsttoken.distill.windows import Windows, order
from firsttoken.errors import FirstTokenError

WEIGHTS = "model.safetensors"
COMPLETE = "complete.json"  # written last into a training state
LOGGED_POINTS = 500  # of the curves, whatever the number of steps


class NotFinite(FirstTokenError):
    """The loss or its gradient became NaN or infinite."""


class Items(Dataset):
    """What is trained on: ``self[index]`` is a dictionary of tensors with ``labels`` and ``index``; ``source`` names it."""

    def __len__(self) -> int:
        raise NotImplementedError

    def source(self, index: int) -> str:
        raise NotImplementedError


class WindowItems(Items):
    """Windows of tokens."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        positions = self.windows.positions
        return {
            **({} if positions is None else {"positions": torch.from_numpy(positions[index]).long()}),
            "input_ids": torch.from_numpy(self.windows.tokens[index]).long(),
            "labels": torch.from_numpy(self.windows.labels[index]).long(),
            "domain": torch.tensor(int(self.windows.domain[index])),
            "index": torch.tensor(index),
        }

    def source(self, index: int) -> str:
        return self.windows.source[index]


class Order(Dataset):
    """Items in the order of training: position ``i`` is the same item in every run with this seed."""

    def __init__(self, items: Items, length: int, seed: int) -> None:
        self.items, self.length, self.seed = items, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        return {**self.items[order(len(self.items), position, self.seed)[1]], "position": torch.tensor(position)}


class TrainingPlan(Protocol):
    """What the trainer needs of a recipe."""

    @property
    def seed(self) -> int: ...
    @property
    def temperature(self) -> Schedule: ...
    @property
    def losses(self) -> tuple[Loss, ...]: ...
    @property
    def training(self) -> Training: ...


def stack(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A batch."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


class DistillationTrainer(Trainer):
    """Trains an objective: a module whose ``forward`` gives loss and parts and whose ``score`` sums up a held-out batch.

    ``steps`` is this stage's; its states lie in ``folder``. ``shifted`` says that position ``t`` predicts label ``t + 1``.
    """

    def __init__(
        self,
        objective: Distillation | ModuleDistillation,
        recipe: TrainingPlan,
        train: Items,
        held_out: Items,
        folder: Path,
        steps: int,
        callbacks: list[TrainerCallback],
        shifted: bool = True,
    ) -> None:
        arguments = training_arguments(recipe, folder, steps)
        stoppers = [EarlyStoppingCallback(recipe.training.early_stop)] if recipe.training.early_stop else []
        super().__init__(
            model=objective,
            args=arguments,
            train_dataset=Order(train, steps * recipe.training.batch, recipe.seed),
            eval_dataset=held_out,
            data_collator=stack,
            callbacks=[*callbacks, *stoppers],
        )
        if self.is_fsdp_enabled and self.accelerator.state.fsdp_plugin.fsdp_version != 2:
            raise FirstTokenError(
                "FSDP of version 1 flattens the weights that a score reads; start with `accelerate launch --use_fsdp --fsdp_version 2 …`"
            )
        # compute_loss divides by the positions of the whole step, which the Trainer counts where this is set
        self.model_accepts_loss_kwargs = True
        self._loss_shifts_labels = shifted
        self.recipe, self.items, self.folder = recipe, train, folder
        self._parts, self._batches = None, 0
        self._sources: list[int] = []
        self._scores_shards = False

    def train(self, *arguments: Any, **options: Any) -> Any:
        with kept_memory():
            return super().train(*arguments, **options)

    def moment(self) -> Moment:
        """Temperature and loss weights of the step that is being computed."""
        progress = self.state.global_step / max(1, self.state.max_steps - 1)
        return Moment(progress, self.recipe.temperature.at(progress), tuple(loss.weight.at(progress) for loss in self.recipe.losses))

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, torch.Tensor | int | None]:
        """The micro-batches of a step and the labels that they count together; on-policy, once the student has continued its share."""
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        positions = [batch.pop("position").tolist() for batch in batches]
        objective = self.accelerator.unwrap_model(self.model)
        if isinstance(objective, Distillation) and objective.writer is not None:
            with self.accelerator.autocast():
                batches = [
                    objective.writer.rewrite(objective.student, batch, places, (objective.shares[batch["domain"]].sum(1) > 0).tolist())
                    for batch, places in zip(batches, positions, strict=True)
                ]
            count = self._get_num_items_in_batch(batches, device)
        return batches, count

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: torch.Tensor | int | None = None
    ) -> Any:
        count = (
            num_items_in_batch
            if num_items_in_batch is not None
            else ((inputs["labels"][:, 1:] if self._loss_shifts_labels else inputs["labels"]) != IGNORED).sum()
        )
        self._moment = self.moment()
        loss, parts = model(**inputs, moment=self._moment, count=count)
        if model.training:
            self._sources = inputs["index"].tolist()
            if not torch.isfinite(loss):
                self._stop_not_finite("the loss", loss.item(), dict(zip(self.model_names, parts.tolist(), strict=True)))
            self._parts = parts if self._parts is None else self._parts + parts
        # gradients are averaged over processes, and count is already over all of them
        loss = loss * self.accelerator.num_processes
        return (loss, {}) if return_outputs else loss

    @property
    def model_names(self) -> list[str]:
        return self.accelerator.unwrap_model(self.model).names

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: float | None = None) -> float:
        norm = super()._get_grad_norm(model, grad_norm)
        if not math.isfinite(float(norm)):
            self._stop_not_finite("the gradient norm", float(norm), {})
        return norm

    def _stop_not_finite(self, what: str, value: float, parts: dict) -> Never:
        shown = ", ".join(f"{name} {part:.4g}" for name, part in parts.items())
        batch = ", ".join(f"{i} ({self.items.source(i)})" for i in self._sources[:8])
        last = newest_state(self.folder)
        kept = f"the state of step {last[0]} is kept in {last[1]}" if last else "no state was saved yet"
        raise NotFinite(
            f"{what} is {value} at step {self.state.global_step + 1}{f' ({shown})' if shown else ''}; batch: samples {batch}; "
            f"{kept}; try a lower learning_rate, a smaller clip_gradient or a higher temperature, or leave the data out"
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._parts is not None:
            steps = max(1, self.state.global_step - getattr(self, "_logged_at", self._initial_global_step))
            parts = self.accelerator.reduce(self._parts.detach().clone(), "sum") / steps
            logs.update({f"part_{name}": value for name, value in zip(self.model_names, parts.tolist(), strict=True)})
            logs["temperature"] = self._moment.temperature
            # the Trainer averages over processes what was multiplied by their number
            self._parts, self._logged_at = None, self.state.global_step
        super().log(logs, start_time)

    def evaluate(self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Scores the held-out windows; every process its share. Returns cross-entropy and KL divergence in nats per token."""
        loader = self.get_eval_dataloader(eval_dataset)
        objective = self.accelerator.unwrap_model(self.model)
        if self.is_fsdp_enabled and not self._scores_shards:
            register_fsdp_forward_method(objective, "score")
            self._scores_shards = True
        training = objective.training
        objective.eval()
        assert isinstance(loader.dataset, Items)
        total, seen = torch.zeros((), dtype=torch.float64), 0
        for batch in loader:
            batch = self._prepare_inputs(batch)
            scores = objective.score(batch).cpu()
            if self.accelerator.num_processes > 1:
                # the last batches are filled up with repeated windows so that all processes have equally many
                each = self.accelerator.gather(
                    torch.stack([objective.score({k: v[n : n + 1] for k, v in batch.items()}) for n in range(len(batch["labels"]))])
                )
                fresh = each[: len(loader.dataset) - seen]
                seen += len(each)
                scores = fresh.sum(0).cpu()
            total = total + scores
        objective.train(training)
        reshard(objective)
        metrics = score_of(total, metric_key_prefix, any(t.live for t in objective.teachers))
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def whole_student(self) -> PreTrainedModel:
        """The student as it is trained; under FSDP put together on the CPU from all processes' shards, which all have to ask for it."""
        student = self.accelerator.unwrap_model(self.model).student
        if not self.is_fsdp_enabled:
            return student
        tensors = {
            name: (t.full_tensor() if isinstance(t, DTensor) else t).detach().cpu().clone() for name, t in student.state_dict().items()
        }
        whole = make_decoder(student.config.to_dict(), tensors, student.config._attn_implementation)
        return whole.train(student.training)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        if self.is_fsdp_enabled:
            return  # the shards lie beside the optimizer's
        folder = Path(output_dir or self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_model(self.accelerator.unwrap_model(self.model), str(folder / WEIGHTS))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        safetensors.torch.load_model(self.accelerator.unwrap_model(model or self.model), str(Path(resume_from_checkpoint) / WEIGHTS))

    def _load_best_model(self) -> None:
        assert self.state.best_model_checkpoint is not None, "called where a best state was kept"
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        folder = self.folder / f"checkpoint-{self.state.global_step}"
        try:
            folder.mkdir(parents=True, exist_ok=True)  # the Trainer asks whether the best state's folder exists before shards are written
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()  # every process may have written a part
            if self.args.should_save:
                sync_tree(folder)
                mark_complete(folder, self.state.global_step)
        except (OSError, RuntimeError, safetensors.SafetensorError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            last = newest_state(self.folder)
            kept = (
                f"the state of step {last[0]} is kept; free space and run the same command again"
                if last
                else "free space and run the same command again"
            )
            raise FirstTokenError(
                f"{folder}: the training state of step {self.state.global_step} cannot be written ({str(error)[:160]}); {kept}"
            ) from None


def reshard(module: torch.nn.Module) -> None:
    """Gives up the whole weights that a score under FSDP left behind; nothing without it."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def score_of(total: torch.Tensor, prefix: str, taught: bool) -> dict[str, float]:
    """Figures from the sums of an objective's ``score``: cross-entropy, KL divergence, positions and, for classes, right answers."""
    entropy = float(total[0] / total[2])
    figures = {f"{prefix}_cross_entropy": entropy, f"{prefix}_perplexity": math.exp(min(entropy, 700))}
    if taught:
        figures[f"{prefix}_kld"] = float(total[1] / total[2])
    if len(total) > 3:
        figures[f"{prefix}_accuracy"] = float(total[3] / total[2])
    return figures


def training_arguments(recipe: TrainingPlan, folder: Path, steps: int) -> TrainingArguments:
    """The Trainer's arguments for one stage. Raises `FirstTokenError` for a batch that the processes cannot share."""
    training = recipe.training
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if training.batch % processes:
        raise FirstTokenError(f"training.batch {training.batch} cannot be shared by {processes} processes; expected a multiple")
    each = training.batch // processes
    micro = min(training.micro_batch or each, each)
    if each % micro:
        raise FirstTokenError(f"training.micro_batch {micro} does not divide the {each} sequences of each of {processes} processes")
    every = min(training.evaluate_every, steps)
    on_cpu = training.device == "cpu" or not torch.accelerator.is_available()
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=each // micro,
        max_steps=steps,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.schedule,
        lr_scheduler_kwargs={"min_lr_rate": 0.1} if training.schedule == "cosine_with_min_lr" else None,
        warmup_steps=training.warmup_steps,
        weight_decay=training.weight_decay,
        max_grad_norm=training.clip_gradient,
        bf16=training.precision == "bf16",
        use_cpu=on_cpu,
        logging_steps=max(1, steps // LOGGED_POINTS),
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=min(training.save_every or every, steps),
        save_total_limit=2,  # the one before stays until the new one is complete
        load_best_model_at_end=training.keep == "best",
        metric_for_best_model="eval_cross_entropy",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,  # the patience of an early stop, too, goes on
        seed=recipe.seed,
        data_seed=recipe.seed,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available() and not on_cpu,
        ddp_find_unused_parameters=training.progressive_layers > 0 or any(loss.weight.least == 0 for loss in recipe.losses),
        ddp_backend="gloo" if processes > 1 and (on_cpu or not torch.cuda.is_available()) else None,
        disable_tqdm=True,
        report_to="none",
    )
    if arguments.n_gpu > 1:  # the Trainer would copy the objective to all that one process sees, which may be a teacher's
        arguments._n_gpu = 1
    return arguments


def mark_complete(folder: Path, step: int) -> None:
    """Makes a training state count."""
    temporary = folder / f".{COMPLETE}"
    temporary.write_text(json.dumps({"step": step}) + "\n", encoding="utf-8")
    with open(temporary, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(temporary, folder / COMPLETE)


def newest_state(folder: Path) -> tuple[int, Path] | None:
    """Returns the step and folder of the newest complete training state, or None."""
    found = [(int(path.name.removeprefix("checkpoint-")), path) for path in folder.glob("checkpoint-*") if (path / COMPLETE).exists()]
    return max(found, default=None)


def remove_incomplete(folder: Path) -> None:
    """Removes training states that a kill left half written."""
    for path in folder.glob("checkpoint-*"):
        if not (path / COMPLETE).exists():
            shutil.rmtree(path, ignore_errors=True)
