"""One call of `distill`: its data and teachers, the stages of training, and what was measured on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from firsttoken.atomic_file import write_text
from firsttoken.bundle.atomic import Staging
from firsttoken.bundle.lineage import RECORD
from firsttoken.checkpoint import read_json
from firsttoken.distill.documents import held_out_text, held_out_windows, training_windows
from firsttoken.distill.foreign_teacher import ForeignTeacher
from firsttoken.distill.models import DTYPES, check_apart, check_length, load_decoder, parameters_of, write_decoder
from firsttoken.distill.placing import open_teacher, processes, shards_student, training_device
from firsttoken.distill.recipe import CROSS_TOKENIZER, INSIDE, UNTRAINED, Recipe, Teacher, looks_inside_only
from firsttoken.distill.students import Stage, cut_model, first_student, settings_folder, tokenizer_folder
from firsttoken.distill.teachers import AnyTeacher, CachedTeacher, LiveTeacher, check_domains
from firsttoken.distill.text_alignment import TextAlignment, is_same_tokenizer
from firsttoken.distill.windows import Windows
from firsttoken.distill.work_folder import work_folder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report
from firsttoken.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback

    from firsttoken.distill.cache import TeacherCache
    from firsttoken.distill.objective import Distillation

# (recipe, tokenizer, report) -> training windows, held-out windows
Read = Callable[[Recipe, Tokenizer, Report], tuple[Windows, Windows]]
AS_CUT = "student as cut"  # its figures before the training that follows the last cut


def read_windows(recipe: Recipe, tokenizer: Tokenizer, report: Report, folder: Path | None = None) -> tuple[Windows, Windows]:
    """The recipe's training and held-out windows, the first kept in ``folder``. Raises `FirstTokenError`."""
    return training_windows(recipe, tokenizer, report, folder), held_out_windows(recipe, tokenizer, report)


class DistillRun:
    """One call of `distill`: data, teachers and what was measured on the way."""

    def __init__(
        self,
        recipe: Recipe,
        output: Path,
        text: str,
        main: bool,
        bar: Callable[[], AbstractContextManager[Report]],
        say: Callable[[str], None],
        read: Read | None = None,
        tensorboard: Path | None = None,
    ) -> None:
        self.tensorboard = tensorboard if main else None
        self.recipe, self.output, self.text, self.main, self.bar, self.say = recipe, output, text, main, bar, say
        self.work = work_folder(output)
        self.attention = "eager" if any(loss.kind == "attention" for loss in recipe.losses) else "sdpa"
        self.device = training_device(recipe.training.device)
        self.tokenizer = Tokenizer(tokenizer_folder(recipe))
        with bar() as report:  # gone before the training's own bar appears
            read = read or partial(read_windows, folder=self.work)
            self.train, self.held_out = read(recipe, self.tokenizer, report)
        self.teachers, self.vocabulary = open_teachers(recipe, self.tokenizer, self.train, self.attention)
        for teacher in self.teachers:
            if isinstance(teacher, ForeignTeacher):
                say(teacher.describe(self.train))
        self.started = time.time()
        self.figures: dict[str, dict] = {}
        self.identity: dict = {}
        self.proof_text: Path | None = None
        used = recipe.training.steps * recipe.training.batch
        say(
            f"{len(self.train):,} training windows of {recipe.data.length} tokens ({self.train.predicted:,} labels), {used / len(self.train):.1f} times over; "
            f"{len(self.held_out)} held-out windows"
        )
        if left_out := self.train.left_out:
            say(f'{len(left_out):,} records of the training data were left out (bad_records = "skip"); the first: {left_out[0]}')

    def train_all(self, stages: list[Stage]) -> PreTrainedModel:
        """Runs every stage, or takes the result of those that an earlier run finished."""
        model = first_student(self.recipe, self.attention)
        if not self.recipe.data.attend_across_documents:
            check_apart(model, "the student")
        model.train()
        self.describe(model)
        for number, stage in enumerate(stages):
            folder = self.work / f"stage-{number}"
            done = folder / "student"
            if (done / RECORD).exists():
                model = load_decoder(done, self.attention)
                record = read_json(done / RECORD, "it was written with the stage")
                stage.history, self.figures = record["history"], record["figures"]
                self.say(f"{stage.name}: already done")
                continue
            if stage.sizes is not None:
                model = cut_model(self.placed(model), self.recipe, stage.sizes, self.train, self.attention)
                self.say(f"{stage.name}: {stage.sizes}; {parameters_of(model):,} parameters")
            model = self.train_stage(model, stage, folder, self.recipe, self.teachers)
            if self.main:
                with Staging(done) as staging:
                    write_decoder(model, self.tokenizer, staging.folder, "float32")
                    (staging.folder / RECORD).write_text(json.dumps({"history": stage.history, "figures": self.figures}), encoding="utf-8")
                    staging.commit(replace=True)
        return model

    def describe(self, model: PreTrainedModel) -> None:
        """Checks the student's head against the tokenizer, and scores the teachers."""
        from firsttoken.distill.losses.vocabulary import shared_vocabulary

        source = self.recipe.student.checkpoint
        student = (
            Tokenizer(self.recipe.checkpoint_folder(source)) if source is not None and self.recipe.tokenizer is None else self.tokenizer
        )
        shared_vocabulary(student, self.tokenizer, model.get_output_embeddings().weight.shape[0], self.vocabulary)
        for teacher in self.teachers:
            if isinstance(teacher, LiveTeacher):
                self.figures[f"teacher {teacher.name}"] = self.score(teacher.model, [], teacher.follows)
                self.say(f"teacher {teacher.name}: held-out perplexity {self.figures[f'teacher {teacher.name}']['perplexity']:.3f}")

    @property
    def score_batch(self) -> int:
        """Windows that are scored at once: no more than a training step takes."""
        training = self.recipe.training
        return min(8, training.micro_batch or max(1, training.batch // processes()))

    def placed(self, model: PreTrainedModel) -> PreTrainedModel:
        """Moves a model to the device that trains."""
        return model.to(self.device)  # type: ignore[arg-type]  # transformers wraps it without its types

    def wait(self) -> None:
        """Lets the processes of ``torchrun`` meet; alone, nothing."""
        if processes() > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def write_proof_text(self) -> None:
        """Keeps the held-out text, where it is plain text, for the proofs of the student's bundles."""
        text = held_out_text(self.recipe)
        if text is not None:
            self.proof_text = self.work / "held_out.txt"
            if self.main:
                write_text(self.proof_text, text)

    def objective(self, model: PreTrainedModel, recipe: Recipe, teachers: list[AnyTeacher]) -> Distillation:
        """The module to train: ``model`` with what the recipe puts into it (adapters, dropout), its teachers and its losses."""
        from firsttoken.distill.objective import Distillation

        torch.manual_seed(recipe.seed)  # the first values of projections and adapters
        training, writer = recipe.training, None
        for weight in model.parameters():  # not the buffers: a rounded inv_freq would be another model
            weight.data = weight.data.to(DTYPES[recipe.student.dtype])
        if training.gradient_checkpointing:
            if not model.supports_gradient_checkpointing:
                raise FirstTokenError(f"gradient_checkpointing: transformers' {model.config.model_type} has none; leave it out")
            model.activation_checkpointing_enable()
        if recipe.student.lora is not None:
            from firsttoken.distill.lora import add_adapters

            model = add_adapters(model, recipe.student.lora)
        if recipe.on_policy is not None:
            from firsttoken.distill.on_policy import StudentWriter

            ends = self.tokenizer.end_tokens(settings_folder(recipe))
            writer = StudentWriter(recipe.on_policy, self.vocabulary, tuple(ends), ends[0] if ends else 0, recipe.seed)
        objective = Distillation(
            model, teachers, recipe.losses, self.train.domains, self.vocabulary, training.head_chunk, training.progressive_layers, writer
        )
        if training.dropout:
            from firsttoken.distill.dropout import add_dropout

            objective.added = add_dropout(model, training.dropout)
        return objective

    def callbacks(self, stage: str, step: int) -> list[TrainerCallback]:
        """What follows a stage that goes on from ``step``, beside what is shown."""
        if self.tensorboard is None:
            return []
        from firsttoken.distill.tensorboard import board

        return [board(self.tensorboard, stage, step)]

    def score(self, model: PreTrainedModel, teachers: list[AnyTeacher], move: bool = True) -> dict[str, float]:
        """Held-out figures of a model, without a Trainer; it comes to the device that trains unless it has a place of its own."""
        from firsttoken.distill.objective import Distillation
        from firsttoken.distill.trainer import score_of

        objective = Distillation(model, teachers, (), self.train.domains, self.vocabulary, self.recipe.training.head_chunk)
        training, total = model.training, torch.zeros(3, dtype=torch.float64)
        model.eval()
        if move:
            self.placed(model)
        device, held_out = model.device, self.held_out
        arrays = {"input_ids": held_out.tokens, "labels": held_out.labels, "positions": held_out.positions}
        for start in range(0, len(held_out), self.score_batch):
            rows = slice(start, start + self.score_batch)
            batch = {name: torch.from_numpy(array[rows]).long().to(device) for name, array in arrays.items() if array is not None}
            total += objective.score(batch).cpu()
        model.train(training)
        if move and shards_student():  # its shards come to the device, one layer after the other
            model.cpu()
        return {name.removeprefix("score_"): value for name, value in score_of(total, "score", any(t.live for t in teachers)).items()}

    def train_stage(
        self, model: PreTrainedModel, stage: Stage, folder: Path, recipe: Recipe, teachers: list[AnyTeacher]
    ) -> PreTrainedModel:
        """One training with the losses and settings of ``recipe``, from its newest complete state; returns the student."""
        from transformers.trainer_callback import PrinterCallback

        from firsttoken.distill.trainer import DistillationTrainer, WindowItems, newest_state, remove_incomplete
        from firsttoken.distill.watch import Watch

        before = self.score(model, teachers)
        whole = stage.name == "training"
        self.figures[("student before" if stage.sizes is None else AS_CUT) if whole else f"{stage.name}, before training"] = before
        self.say(f"{stage.name}: held-out perplexity {before['perplexity']:.3f} before training")
        if stage.steps and looks_inside_only(recipe.losses):
            self.say(UNTRAINED)
        if stage.steps == 0:
            return model
        if self.main:
            remove_incomplete(folder)
        state = newest_state(folder)
        if state:
            self.say(f"{stage.name}: going on from step {state[0]} of {stage.steps}")
        watch = Watch(stage.name, recipe.training.batch * self.recipe.data.length, self.say)
        items = WindowItems(self.train), WindowItems(self.held_out)
        objective = self.objective(model, recipe, teachers)
        callbacks = [watch, *self.callbacks(stage.name, state[0] if state else 0)]
        trainer = DistillationTrainer(objective, recipe, *items, folder, stage.steps, callbacks)
        trainer.remove_callback(PrinterCallback)  # `Watch` takes its place
        try:
            trainer.train(resume_from_checkpoint=str(state[1]) if state else None)
        except KeyboardInterrupt:
            kept = newest_state(folder)
            self.say(f"interrupted; the same command goes on from step {kept[0] if kept else 0}")
            raise
        finally:
            watch.close()
            objective.take_out()
        model = trainer.whole_student()
        model.float()  # before the adapters are added: half precision would round most of them away
        if recipe.student.lora is not None:
            from firsttoken.distill.lora import merged

            model = merged(model)
        if recipe.training.gradient_checkpointing:
            model.activation_checkpointing_disable()
        stage.history = [entry for entry in trainer.state.log_history if "train_runtime" not in entry]
        self.figures["student" if whole else f"{stage.name}, after training"] = self.score(model, teachers)
        if trainer.state.global_step < stage.steps:
            self.say(f"{stage.name}: stopped at step {trainer.state.global_step}, the held-out score no longer improved")
        return model


def open_teachers(recipe: Recipe, tokenizer: Tokenizer, train: Windows, attention: str) -> tuple[list[AnyTeacher], int]:
    """Opens the teachers and returns them with the number of head rows that all share. Raises `FirstTokenError`."""
    from firsttoken.distill.cache import open_cache

    check_domains(recipe.teachers, train.domains, Path(recipe.folder))
    across = all(loss.kind in ("cross_entropy", *CROSS_TOKENIZER) for loss in recipe.losses)
    needs_teachers = any(loss.kind != "cross_entropy" for loss in recipe.losses)
    eager = attention if any(loss.kind in INSIDE for loss in recipe.losses) else "sdpa"
    teachers: list[AnyTeacher] = []
    for each in recipe.teachers if needs_teachers else ():
        if each.cache is not None:
            folder = recipe.path(each.cache)
            cache = open_cache(folder, train)
            if cache.facts["vocabulary"] != tokenizer.vocab_size:
                raise FirstTokenError(
                    f"cache {folder}: made for a vocabulary of {cache.facts['vocabulary']} tokens, the tokenizer has {tokenizer.vocab_size}; make it again"
                )
            for temperature in (recipe.temperature.start, recipe.temperature.end):
                check_temperature(cache, temperature)
            teachers.append(CachedTeacher(folder.name, cache, each.weight, each.domains))
            continue
        teachers.append(open_live(recipe, each, tokenizer, across, eager))
    return teachers, tokenizer.vocab_size


def open_live(recipe: Recipe, teacher: Teacher, tokenizer: Tokenizer, across: bool, attention: str) -> LiveTeacher | ForeignTeacher:
    """Opens a teacher that is a checkpoint; with another tokenizer only where all losses compare ``across`` tokenizers. Raises `FirstTokenError`."""
    from firsttoken.distill.losses.vocabulary import shared_vocabulary

    assert teacher.checkpoint is not None, "a teacher is a checkpoint or a cache"
    folder = recipe.checkpoint_folder(teacher.checkpoint)
    name, model, theirs = folder.resolve().name, open_teacher(teacher, folder, attention, recipe), Tokenizer(folder)
    if not recipe.data.attend_across_documents:
        check_apart(model, f"teacher {name}")
    check_length(model, recipe.data.length, f"teacher {name}")
    rows = model.get_output_embeddings().weight.shape[0]
    if across and not is_same_tokenizer(tokenizer, theirs):
        if teacher.device != "auto" or teacher.sharded:
            raise FirstTokenError(
                f"teacher {name}: with another tokenizer it runs where the student trains; leave out its device and sharded"
            )
        shared_vocabulary(theirs, theirs, rows, rows)
        return ForeignTeacher(name, model, TextAlignment(tokenizer, theirs), teacher.weight, teacher.domains)
    shared_vocabulary(tokenizer, theirs, tokenizer.vocab_size, rows)
    return LiveTeacher(name, model, teacher.weight, teacher.domains, teacher.device == "auto" and not (teacher.sharded and processes() > 1))


def check_temperature(cache: TeacherCache, temperature: float | None) -> None:
    """Raises `FirstTokenError` before the training for a temperature that the cache does not cover."""
    if temperature is not None:
        cache.log_rest(torch.zeros(len(cache.nodes)), temperature)
