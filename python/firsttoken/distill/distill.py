"""One recipe in, one student checkpoint out."""

import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from firsttoken.atomic_file import write_text
from firsttoken.bundle.atomic import Staging, clean, remove
from firsttoken.bundle.lineage import RECORD
from firsttoken.distill.documents import held_out_text, held_out_windows, training_windows
from firsttoken.distill.models import load_decoder, need_transformers, parameters_of, write_decoder
from firsttoken.distill.publish import publish
from firsttoken.distill.quantize_stage import check_quantize, run_quantize_stage
from firsttoken.distill.recipe import INSIDE, UNTRAINED, Recipe, load_recipe, looks_inside_only
from firsttoken.distill.students import Stage, cut_model, first_student, plan_stages, student_decoder, tokenizer_folder
from firsttoken.distill.training_page import read_recipe_text
from firsttoken.distill.windows import Windows
from firsttoken.distill.work_folder import identity_of, open_work, work_folder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.tokenizer import Tokenizer

AS_CUT = "student as cut"  # its figures before the training that follows the last cut


def no_bar() -> AbstractContextManager[Report]:
    """Shows nothing while data is read; the command line passes `firsttoken.report.progress_bar.progress_bar`."""
    return nullcontext(silent)


def distill(
    recipe: str | Path | Recipe,
    output: str | Path | None = None,
    force: bool = False,
    restart: bool = False,
    keep_work: bool = False,
    bar: Callable[[], AbstractContextManager[Report]] = no_bar,
    say: Callable[[str], None] = print,
) -> Path:
    """Trains the student that ``recipe`` (a name, a path or a `Recipe`) describes and returns its folder.

    ``output`` defaults to ``out/<recipe's name>``. The folder appears complete or not at all: a checkpoint in Hugging
    Face layout, `RECORD` (what it was made from, and its figures) and `PAGE`. An interrupted run goes on when it is
    called again; ``restart`` starts over. Under ``torchrun`` every process calls this. Raises `FirstTokenError`.
    """
    need_transformers()
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    text = "" if isinstance(recipe, Recipe) else read_recipe_text(Path(chosen.folder, f"{chosen.name}.toml"))
    output = Path(os.path.abspath(output or Path("out", chosen.name or "student")))
    if os.path.lexists(output) and not force:
        raise FirstTokenError(f"output {output}: exists; replace it with --force or choose another with -o")
    stages = plan_stages(chosen)
    if chosen.quantize is not None:
        if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
            raise FirstTokenError(
                "[quantize] does not run under FSDP; train without it there, then give the student as student.checkpoint with training.steps = 0"
            )
        check_quantize(chosen, chosen.quantize, student_decoder(chosen))
    main = int(os.environ.get("RANK", "0")) == 0
    run = _Run(chosen, output, text, main, bar if main else no_bar, say if main else _mute)
    run.identity = identity = identity_of(chosen, run.train, run.held_out)
    held = None
    if main:
        output.parent.mkdir(parents=True, exist_ok=True)
        clean(output.parent)
        held = open_work(run.work, identity, restart)
    try:
        model, outcome = run.train_all(stages), None
        if chosen.quantize is not None:
            run.write_proof_text()
            model, outcome = run_quantize_stage(run, model, chosen.quantize)
        if main:
            run.write_proof_text()
            publish(run, model, stages, outcome, force, write_decoder)
            if not keep_work:
                remove(run.work)
    finally:
        if held is not None:
            os.close(held)
    return output


def _mute(_line: str):
    """What the processes beside the first say."""


class _Run:
    """One call of `distill`: data, teachers and what was measured on the way."""

    def __init__(self, recipe: Recipe, output: Path, text: str, main: bool, bar: Callable, say: Callable[[str], None]):
        self.recipe, self.output, self.text, self.main, self.bar, self.say = recipe, output, text, main, bar, say
        self.work = work_folder(output)
        self.attention = "eager" if any(loss.kind == "attention" for loss in recipe.losses) else "sdpa"
        self.tokenizer = Tokenizer(tokenizer_folder(recipe))
        with bar() as report:  # gone before the training's own bar appears
            self.train = training_windows(recipe, self.tokenizer, report)
            self.held_out = held_out_windows(recipe, self.tokenizer, report)
        self.teachers, self.vocabulary = open_teachers(recipe, self.tokenizer, self.train, self.attention)
        self.started = time.time()
        self.figures: dict[str, dict] = {}
        self.identity: dict = {}
        self.proof_text: Path | None = None
        used = recipe.training.steps * recipe.training.batch
        say(
            f"{len(self.train):,} training windows of {recipe.data.length} tokens ({self.train.predicted:,} labels), {used / len(self.train):.1f} times over; "
            f"{len(self.held_out)} held-out windows"
        )

    def train_all(self, stages: list[Stage]):
        """Runs every stage, or takes the result of those that an earlier run finished."""
        model = first_student(self.recipe, self.attention)
        model.train()
        self.describe(model)
        for number, stage in enumerate(stages):
            folder = self.work / f"stage-{number}"
            done = folder / "student"
            if (done / RECORD).exists():
                model = load_decoder(done, self.attention)
                record = json.loads((done / RECORD).read_text(encoding="utf-8"))
                stage.history, self.figures = record["history"], record["figures"]
                self.say(f"{stage.name}: already done")
                continue
            if stage.sizes is not None:
                model = cut_model(model, self.recipe, stage.sizes, self.train, self.attention)
                self.say(f"{stage.name}: {stage.sizes}; {parameters_of(model):,} parameters")
            model = self.train_stage(model, stage, folder, self.recipe, self.teachers)
            if self.main:
                with Staging(done) as staging:
                    write_decoder(model, self.tokenizer, staging.folder, "float32")
                    (staging.folder / RECORD).write_text(json.dumps({"history": stage.history, "figures": self.figures}), encoding="utf-8")
                    staging.commit(replace=True)
        return model

    def describe(self, model):
        """Checks the student's head against the tokenizer, and scores the teachers."""
        from firsttoken.distill.losses.vocabulary import shared_vocabulary

        source = self.recipe.student.checkpoint
        student = Tokenizer(self.recipe.path(source)) if source is not None and self.recipe.tokenizer is None else self.tokenizer
        shared_vocabulary(student, self.tokenizer, model.get_output_embeddings().weight.shape[0], self.vocabulary)
        for teacher in self.teachers:
            if teacher.live:
                self.figures[f"teacher {teacher.name}"] = self.score(teacher.model, [])
                self.say(f"teacher {teacher.name}: held-out perplexity {self.figures[f'teacher {teacher.name}']['perplexity']:.3f}")

    def wait(self):
        """Lets the processes of ``torchrun`` meet; alone, nothing."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def write_proof_text(self):
        """Keeps the held-out text, where it is plain text, for the proofs of the student's bundles."""
        text = held_out_text(self.recipe)
        if text is not None:
            self.proof_text = self.work / "held_out.txt"
            if self.main:
                write_text(self.proof_text, text)

    def objective(self, model, recipe: Recipe, teachers: list):
        import torch

        from firsttoken.distill.objective import Distillation

        torch.manual_seed(recipe.seed)  # the projections' first values
        training = recipe.training
        return Distillation(
            model, teachers, recipe.losses, self.train.domains, self.vocabulary, training.head_chunk, training.progressive_layers
        )

    def score(self, model, teachers) -> dict:
        """Held-out figures of a model, without a Trainer."""
        import torch

        from firsttoken.distill.objective import Distillation
        from firsttoken.distill.trainer import score_of

        objective = Distillation(model, teachers, (), self.train.domains, self.vocabulary, self.recipe.training.head_chunk)
        training, total = model.training, torch.zeros(3, dtype=torch.float64)
        model.eval()
        device = next(model.parameters()).device
        for start in range(0, len(self.held_out), 8):
            rows = slice(start, start + 8)
            tokens, labels = (torch.from_numpy(a[rows]).long().to(device) for a in (self.held_out.tokens, self.held_out.labels))
            total += objective.score({"input_ids": tokens, "labels": labels}).cpu()
        model.train(training)
        return {name.removeprefix("score_"): value for name, value in score_of(total, "score", any(t.live for t in teachers)).items()}

    def train_stage(self, model, stage: Stage, folder: Path, recipe: Recipe, teachers: list):
        """One training with the losses and settings of ``recipe``, from its newest complete state; returns the student."""
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
        trainer = DistillationTrainer(self.objective(model, recipe, teachers), recipe, *items, folder, stage.steps, [watch])
        trainer.remove_callback(_printer())
        try:
            trainer.train(resume_from_checkpoint=str(state[1]) if state else None)
        except KeyboardInterrupt:
            kept = newest_state(folder)
            self.say(f"interrupted; the same command goes on from step {kept[0] if kept else 0}")
            raise
        finally:
            watch.close()
        model = trainer.whole_student()
        stage.history = [entry for entry in trainer.state.log_history if "train_runtime" not in entry]
        self.figures["student" if whole else f"{stage.name}, after training"] = self.score(model, teachers)
        if trainer.state.global_step < stage.steps:
            self.say(f"{stage.name}: stopped at step {trainer.state.global_step}, the held-out score no longer improved")
        return model


def _printer():
    """The Trainer's own printing, which `Watch` takes the place of."""
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


def open_teachers(recipe: Recipe, tokenizer: Tokenizer, train: Windows, attention: str) -> tuple[list, int]:
    """Opens the teachers and returns them with the number of head rows that all share. Raises `FirstTokenError`."""
    from firsttoken.distill.cache import open_cache
    from firsttoken.distill.losses.vocabulary import shared_vocabulary
    from firsttoken.distill.teachers import CachedTeacher, LiveTeacher, check_domains

    check_domains(recipe.teachers, train.domains, Path(recipe.folder))
    needs_teachers = any(loss.kind != "cross_entropy" for loss in recipe.losses)
    eager = attention if any(loss.kind in INSIDE for loss in recipe.losses) else "sdpa"
    teachers: list = []
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
        assert each.checkpoint is not None, "a teacher is a checkpoint or a cache"
        folder = recipe.path(each.checkpoint)
        model = load_decoder(folder, eager).requires_grad_(False)
        shared_vocabulary(tokenizer, Tokenizer(folder), tokenizer.vocab_size, model.get_output_embeddings().weight.shape[0])
        teachers.append(LiveTeacher(folder.resolve().name, model, each.weight, each.domains))
    return teachers, tokenizer.vocab_size


def check_temperature(cache, temperature: float | None):
    """Raises `FirstTokenError` before the training for a temperature that the cache does not cover."""
    import torch

    if temperature is not None:
        cache.log_rest(torch.zeros(len(cache.nodes)), temperature)
