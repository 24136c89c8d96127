"""Recipes: one TOML file says which teachers, which student, which data, which losses and how long.

Paths in a recipe are relative to the recipe's own folder; ``{demo}`` stands for the embedded demo checkpoint's folder
and ``{stdlib}`` for the Python standard library's, so that a recipe can run anywhere without a download. A checkpoint may
also be a hub id or a short name, which are fetched.
"""

import sysconfig
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from firsttoken.checkpoint_sources.open import named_folder
from firsttoken.declarations import declaration_names, declaration_path, parse_declaration, read_declaration
from firsttoken.distill.schedules import Scheduled, constant
from firsttoken.distill.student_options import Lora, OnPolicy, SequenceLevel
from firsttoken.errors import FirstTokenError, nearest

Prediction = Literal["forward_kl", "reverse_kl", "jensen_shannon", "skewed_kl", "skewed_reverse_kl"]
Inside = Literal["hidden_l2", "hidden_cosine", "attention"]
CrossTokenizer = Literal["uld", "gold"]  # for teachers with another tokenizer too
LossKind = Literal[Prediction, "cross_entropy", Inside, CrossTokenizer, "triplet"]
PREDICTION, INSIDE, CROSS_TOKENIZER = get_args(Prediction), get_args(Inside), get_args(CrossTokenizer)
# Fields that say where and with how much memory, not what: a run may go on with others.
PLACES = (("teachers", ("device", "sharded")), ("training", ("device", "gradient_checkpointing")))
# Fields that runs of before did not have, with what they did: such a run goes on.
ADDED = (("teachers", "dtype", "float32"), ("student", "dtype", "float32"), ("data", "attend_across_documents", True))


class RecipePart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


class Teacher(RecipePart):
    """A teacher checkpoint, run live, or what it said, kept on disk by ``firsttoken distill cache``."""

    checkpoint: str | None = None
    cache: str | None = None
    weight: float = Field(default=1.0, gt=0)  # among the teachers that teach a sample
    domains: tuple[str, ...] = ()  # teaches only samples of these domains; none: all
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of a live teacher's weights
    device: str = Field(
        default="auto", pattern=r"^(auto|split|cpu|(cuda|xpu|mps)(:\d+)?)$"
    )  # auto: the student's; split: over all of this process
    sharded: bool = False  # over the processes of torchrun (FSDP2)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.checkpoint is None) == (self.cache is None):
            raise ValueError("a teacher is either a checkpoint or a cache; give exactly one of the two")
        if self.cache is not None and (self.dtype, self.device, self.sharded) != ("float32", "auto", False):
            raise ValueError("dtype, device and sharded are for a teacher that runs; a cache has none of them")
        if self.sharded and self.device != "auto":
            raise ValueError(f"sharded lies on every process's device, and device is {self.device!r}; leave one of the two out")
        return self


class Cut(RecipePart):
    """What is kept of the first teacher. A width that is left out stays as it is."""

    layers: int | None = Field(default=None, ge=1)
    hidden_size: int | None = Field(default=None, ge=1)
    heads: int | None = Field(default=None, ge=1)
    kv_heads: int | None = Field(default=None, ge=1)
    intermediate_size: int | None = Field(default=None, ge=1)
    importance: Literal["activation", "l1"] = "activation"
    most_per_step: float = Field(default=1.0, gt=0, le=1)  # share of the parameters that one step may take away
    steps_between: int = Field(default=0, ge=0)  # training steps after each cut but the last
    calibration_windows: int = Field(default=32, ge=1)


class Student(RecipePart):
    """Where the student comes from: another checkpoint, a cut of the first teacher, or from scratch from a config.json."""

    checkpoint: str | None = None
    config: str | None = None
    cut: Cut | None = None
    save_as: Literal["float32", "bfloat16", "float16"] = "float32"
    lora: Lora | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"  # of weights, gradients and optimizer in training

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.checkpoint, self.config, self.cut)) != 1:
            raise ValueError("a student is a checkpoint, a config or a cut; give exactly one of the three")
        if self.lora is not None and self.config is not None:
            raise ValueError(
                "lora adds to weights that stay as they are, and a student from a config has random ones; give a checkpoint or a cut"
            )
        return self


class TextSource(RecipePart):
    """Files of one domain. ``.jsonl``, ``.json`` and ``.parquet`` hold records (`records`); anything else is text."""

    files: tuple[str, ...] = Field(min_length=1)
    exclude: tuple[str, ...] = ()  # glob patterns over the paths; * also crosses folders
    domain: str = "text"


class Data(RecipePart):
    """Training and held-out text, and how it is cut into windows of ``length`` tokens."""

    train: tuple[TextSource, ...] = ()  # none: only with [sequence_level]
    held_out: tuple[str, ...] = Field(min_length=1)
    length: int = Field(default=512, ge=8)
    hold_back_percent: int = Field(default=0, ge=0, le=50)  # of the training files, by a hash of their path; never trained on
    held_out_windows: int = Field(default=64, ge=1)
    answers_only: bool = True  # in chats only what the assistant says is a label
    attend_across_documents: bool = True  # false: a token sees nothing of the other documents in its window
    bad_records: Literal["stop", "skip"] = "stop"  # what is done with a record that cannot be read: an error, or it is left out and counted


class Loss(RecipePart):
    """One term of the loss, and its weight over time."""

    kind: LossKind
    weight: Scheduled = constant(1.0)
    pairs: tuple[tuple[int, int], ...] | None = None  # (student layer, teacher layer), from 0; none: same relative depth
    beta: float | None = Field(default=None, gt=0, lt=1)  # jensen_shannon, gold
    skew: float | None = Field(default=None, gt=0, lt=1)  # skewed_kl, skewed_reverse_kl
    measure: Literal["kl", "l2"] | None = None  # attention
    label_smoothing: float | None = Field(default=None, gt=0, lt=1)  # cross_entropy: this share of the target goes to all tokens alike
    layer: str | None = None  # triplet: the student's layer that gives the embedding
    margin: float | None = Field(default=None, gt=0, le=4)  # triplet

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        fits = {"pairs": INSIDE, "beta": ("jensen_shannon", "gold"), "skew": ("skewed_kl", "skewed_reverse_kl"), "measure": ("attention",)}
        fits |= {"label_smoothing": ("cross_entropy",)} | dict.fromkeys(("layer", "margin"), ("triplet",))
        for option, kinds in fits.items():
            if getattr(self, option) is not None and self.kind not in kinds:
                raise ValueError(f"{option} has no meaning for {self.kind}; expected it with {', '.join(kinds)}")
        if self.kind == "triplet" and self.layer is None:
            raise ValueError("loss triplet needs layer: the name of the student's module that gives the embedding")
        return self

    @property
    def options(self) -> dict:
        """The options that the loss function takes."""
        names = ("beta", "skew", "measure", "label_smoothing", "margin")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Training(RecipePart):
    """How long and how fast. ``batch`` is sequences per step over all processes; ``micro_batch`` what one forward takes."""

    steps: int = Field(ge=0)  # 0 only with [quantize]: an existing student is quantized without other training
    batch: int = Field(default=16, ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    schedule: Literal["linear", "cosine", "constant_with_warmup", "cosine_with_min_lr", "polynomial", "inverse_sqrt"] = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_gradient: float = Field(default=1.0, ge=0)  # largest gradient norm; 0 does not clip
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16 computes in half precision, weights stay float32
    evaluate_every: int = Field(default=100, ge=1)
    save_every: int | None = Field(default=None, ge=1)  # none: with every evaluation
    early_stop: int | None = Field(default=None, ge=1)  # evaluations without a better held-out score
    keep: Literal["best", "last"] = "last"  # by the held-out cross-entropy
    progressive_layers: float = Field(default=0.0, ge=0, le=1)  # share of the training over which layer pairs join, lowest first
    head_chunk: int = Field(default=256, ge=1)  # positions whose logits exist at once
    dropout: float | None = Field(default=None, ge=0, lt=1)  # of a decoder's embeddings, attention and MLP outputs, while it trains
    gradient_checkpointing: bool = False  # activations of a layer are computed again in the backward pass
    device: Literal["auto", "cpu"] = "auto"  # auto: the accelerator, where there is one

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.micro_batch is not None and self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} is not a multiple of micro_batch {self.micro_batch}")
        if self.save_every is not None and self.keep == "best" and self.save_every % self.evaluate_every:
            raise ValueError(
                f"save_every {self.save_every} is not a multiple of evaluate_every {self.evaluate_every}, which keep = 'best' needs"
            )
        return self


class Quantize(RecipePart):
    """Quantization-aware training as the last stage: the float student teaches itself with rounded weights.

    First the student is exported with ``plan`` for ``target`` and proven; the stage only runs where that proof misses
    the plan's gate, or ``when`` is ``always``.
    """

    plan: str = "int8"
    target: str = "tflite-xnnpack"
    when: Literal["missed", "always"] = "missed"
    steps: int = Field(ge=1)
    learning_rate: float = Field(default=1e-5, gt=0)
    cache_length: int | None = Field(default=None, ge=2)  # of the proof's bundle; none: the target's


class Search(RecipePart):
    """How `firsttoken distill search` varies this recipe. A training reads nothing of it."""

    steps: int | None = Field(default=None, ge=1)  # of a whole trial; none: training.steps
    trials: int = Field(default=20, ge=2)
    budget: int | None = Field(default=None, ge=1)  # training steps of all trials together
    seed: int = Field(default=0, ge=0)  # of what is drawn; trials train with the recipe's seed
    halvings: int = Field(default=2, ge=1, le=6)  # how often trials are compared before they are whole
    keep_one_in: int = Field(default=3, ge=2, le=10)  # of those compared, this share goes on
    ranges: dict[str, tuple[float, float]] = {}  # by the names that the search shows
    fixed: tuple[str, ...] = ()  # stays as the recipe has it
    score: Literal["cross_entropy", "kld"] = "cross_entropy"
    held_out: tuple[str, ...] = ()  # files to score trials on; none: training documents, set aside


class Recipe(RecipePart):
    """A recipe as its TOML file says it."""

    name: str = ""
    folder: str = ""  # what relative paths are relative to
    summary: str
    seed: int = Field(default=0, ge=0)
    tokenizer: str | None = None  # a checkpoint folder; none: the student's own, else the first teacher's
    teachers: tuple[Teacher, ...] = Field(default=(), alias="teacher")
    student: Student
    data: Data
    temperature: Scheduled = constant(1.0)
    losses: tuple[Loss, ...] = Field(alias="loss", min_length=1)
    training: Training
    on_policy: OnPolicy | None = None
    sequence_level: SequenceLevel | None = None
    quantize: Quantize | None = None
    search: Search | None = None

    def what_decides(self) -> dict:
        """The fields that decide what is trained, as JSON has them; where it is computed is none of them."""
        fields = self.model_dump(mode="json", exclude={"name", "folder", "summary", "search"})
        for part, names in PLACES:
            for place in fields[part] if isinstance(fields[part], list | tuple) else [fields[part]]:
                for name in names:
                    place.pop(name)
        for part, name, default in ADDED:
            for place in fields[part] if isinstance(fields[part], list | tuple) else [fields[part]]:
                if place[name] == default:
                    del place[name]
        return fields

    @model_validator(mode="after")
    def _losses_have_what_they_need(self) -> Self:
        if not self.data.train and self.sequence_level is None:
            raise ValueError("data.train is missing; expected at least one [[data.train]] with files, or [sequence_level] with prompts")
        if self.sequence_level is not None and (not self.teachers or self.teachers[0].checkpoint is None):
            raise ValueError("sequence_level lets the first [[teacher]] write, which has to be a checkpoint")
        if self.training.steps == 0 and self.quantize is None:
            raise ValueError("training.steps is 0; expected at least 1 where there is no [quantize]")
        if self.temperature.least <= 0:
            raise ValueError("temperature reaches 0; expected it to stay above")
        if any(loss.kind == "triplet" for loss in self.losses):
            raise ValueError("loss triplet compares samples of classes; it is for a recipe with [classifier]")
        taught = [loss for loss in self.losses if loss.kind != "cross_entropy"]
        if taught and not self.teachers:
            raise ValueError(f"loss {taught[0].kind} needs a [[teacher]]; cross_entropy alone does not")
        if self.student.cut and (not self.teachers or self.teachers[0].checkpoint is None):
            raise ValueError(
                "a student cut from the teacher needs the first [[teacher]] to be a checkpoint; with a cache, give a student.checkpoint"
            )
        inside = next((loss for loss in self.losses if loss.kind in INSIDE), None)
        if inside and any(teacher.cache for teacher in self.teachers):
            raise ValueError(f"loss {inside.kind} looks inside the teacher, and a cache holds only its answers; use a checkpoint")
        across = next((loss for loss in self.losses if loss.kind in CROSS_TOKENIZER), None)
        if across and any(teacher.cache for teacher in self.teachers):
            raise ValueError(
                f"loss {across.kind} compares whole distributions, and a cache holds the most likely tokens only; use a checkpoint"
            )
        self._on_policy_has_a_teacher()
        if not self.data.attend_across_documents and (self.on_policy is not None or across):
            what = "on_policy" if self.on_policy is not None else f"loss {across.kind}" if across else ""
            raise ValueError(f"{what} reads a window as one text; leave out data.attend_across_documents = false")
        if inside and inside.pairs is not None and len(self.teachers) > 1:
            raise ValueError("explicit layer pairs are for one teacher; leave them out with several")
        return self

    def _on_policy_has_a_teacher(self) -> None:
        if self.on_policy is None:
            return
        if all(loss.kind == "cross_entropy" for loss in self.losses):
            raise ValueError("on_policy lets a teacher judge what the student writes; give a [[loss]] that compares with a [[teacher]]")
        if any(teacher.cache for teacher in self.teachers):
            raise ValueError(
                "on_policy needs the teacher for what the student writes, and a cache holds answers to the training data only; use a checkpoint"
            )
        if not self.data.answers_only:
            raise ValueError("on_policy writes where answers begin, which data.answers_only = false hides; leave one of the two out")
        asked = self.on_policy.prompt_tokens
        if asked is not None and asked >= self.data.length:
            raise ValueError(
                f"on_policy.prompt_tokens {asked} leaves nothing to write in windows of {self.data.length} tokens; expected fewer"
            )

    def teacher_folder(self, number: int = 0) -> Path:
        """Returns the folder of a teacher that is a checkpoint. Raises `FirstTokenError` for one that is a cache."""
        checkpoint = self.teachers[number].checkpoint
        if checkpoint is None:
            raise FirstTokenError(f"teacher {number} of the recipe is a cache, and its model is needed; give a checkpoint")
        return self.checkpoint_folder(checkpoint)

    def checkpoint_folder(self, text: str) -> Path:
        """Returns the folder of a checkpoint: a path of the recipe, or what a short name or hub id stands for. Raises `FirstTokenError`."""
        path = self.path(text)
        return path if path.is_dir() else named_folder(text, path) or path

    def path(self, text: str) -> Path:
        """Returns a path of the recipe with its placeholders filled in. Raises `FirstTokenError` for an unknown placeholder."""
        return Path(self.folder, fill(text)) if self.folder else Path(fill(text))

    def declared(self, name: str) -> str | Path:
        """Returns a plan's or target's name, or its file's path relative to the recipe."""
        return self.path(name) if name.endswith(".toml") else name


UNTRAINED = "note: every loss looks inside the student, none at its answers: what comes after the last layer compared, the head with it, is not trained"


def looks_inside_only(losses: tuple[Loss, ...]) -> bool:
    """Whether nothing trains the student's head (`UNTRAINED`)."""
    return all(loss.kind in (*INSIDE, "triplet") for loss in losses)


def fill(text: str) -> str:
    """Fills ``{demo}`` and ``{stdlib}`` in. Raises `FirstTokenError` for any other placeholder."""
    from firsttoken.demo import checkpoint_path

    known = {"demo": str(checkpoint_path().parent), "stdlib": sysconfig.get_paths()["stdlib"]}
    for name, value in known.items():
        text = text.replace("{" + name + "}", value)
    if "{" in text:
        got = text[text.index("{") + 1 :].split("}")[0]
        raise FirstTokenError(f"path {text!r}: placeholder {got!r} is unknown{nearest(got, known)}; expected one of {', '.join(known)}")
    return text


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Reads a built-in recipe by name or a user's ``.toml`` or ``.yaml`` by path. Raises `FirstTokenError`."""
    if is_classifier(name_or_path):
        raise FirstTokenError(
            f"recipe {str(name_or_path)!r}: is for a classifier, not a decoder; run it with `firsttoken distill {name_or_path}`, or `firsttoken distill chain {name_or_path}`"
        )
    name, recipe = read_declaration("recipes", "recipe", name_or_path, Recipe)
    return recipe.model_copy(update={"name": name, "folder": str(declaration_path("recipes", name_or_path).parent)})


def check_recipe(values: dict) -> Recipe:
    """Returns a recipe made in Python. Raises `FirstTokenError` naming the first wrong field."""
    from firsttoken.declarations import first_problem

    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise FirstTokenError(f"recipe: {first_problem(error, values, Recipe)}") from None


def is_classifier(name_or_path: str | Path) -> bool:
    """Whether a recipe's file has a ``[classifier]`` table; what cannot be read is left to `load_recipe` to refuse."""
    try:
        return "classifier" in parse_declaration(declaration_path("recipes", name_or_path))
    except (OSError, ValueError, RecursionError):
        return False


def recipe_names() -> list[str]:
    """Names of the built-in recipes for decoders; those for classifiers are `classifiers.recipe.classifier_names`."""
    return [name for name in declaration_names("recipes") if not is_classifier(name)]
