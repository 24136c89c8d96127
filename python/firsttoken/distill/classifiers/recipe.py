"""The recipe of a classifier: told from a decoder's by its ``[classifier]`` table."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from firsttoken.declarations import declaration_names, declaration_path, read_declaration
from firsttoken.distill.classifiers.arch import Arch, check_arch
from firsttoken.distill.mixing import Mixing
from firsttoken.distill.recipe import CROSS_TOKENIZER, INSIDE, Loss, RecipePart, Training, is_classifier
from firsttoken.distill.schedules import Schedule, Scheduled, constant
from firsttoken.user_function import find_user_file, load_user_function

if TYPE_CHECKING:
    from firsttoken.distill.modules import ModulePlan

ModelKind = Literal["cnn", "mlp", "lstm", "row-transformer", "encoder", "minilm", "mpnet"]
DataKind = Literal["digits", "breast-cancer", "movement", "docstrings", "docstring-tasks"]


class ClassifierData(RecipePart):
    """What is classified: built-in data, or ``make = "file.py:function"``, which returns ``(inputs, labels)`` for a seed.

    With ``texts = "file.py:function"`` the inputs are a list of texts, which become MiniLM's tokens.
    """

    data: DataKind | None = None
    make: str | None = None
    texts: str | None = None
    train_share: float = Field(default=0.5, gt=0, lt=1)
    labelled_share: float | None = Field(default=None, gt=0, lt=1)  # of the training samples; the others lose their labels

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.data, self.make, self.texts)) != 1:
            raise ValueError("a classifier needs data, make or texts; give exactly one of the three")
        return self


class Prune(RecipePart):
    """The first teacher, whose weakest channels leave step by step."""

    keep: float = Field(gt=0, lt=1)  # share of the channels of each convolution that stay
    most_per_step: float = Field(default=0.05, gt=0, le=1)  # share of the parameters that one step may take away
    steps_between: int = Field(default=50, ge=1)  # training steps after each step but the last, which training.steps follow


# fields of `Augment` that only one way of making copies uses
ONLY_SYNONYMS = ("share",)
ONLY_SERVER = ("model", "key_variable", "through", "language", "max_tokens")


class Augment(RecipePart):
    """Copies of the training texts in other words, for the students; ``make = "file.py:function"`` or an OpenAI-compatible server.

    The function takes a word and returns its synonyms, or takes a list of texts and returns one for each, translated there and back.
    """

    kind: Literal["synonyms", "back_translation"]
    make: str | None = None
    copies: int = Field(default=1, ge=1, le=100)  # of each text
    share: float = Field(default=0.15, gt=0, le=1)  # synonyms: of the words that have one
    server: str | None = Field(default=None, pattern=r"^https?://")  # back_translation: the address that ends in /v1
    model: str = "default"  # the server's
    key_variable: str | None = None  # the environment variable that holds the server's key
    through: str = "German"  # the language between
    language: str = "English"  # of the texts
    max_tokens: int = Field(default=512, ge=1)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.kind == "synonyms" and (self.make is None or self.server is not None):
            raise ValueError("synonyms are given by make, a function of a word; a server only translates")
        if unused := [name for name in ONLY_SERVER if name in self.model_fields_set and self.server is None]:
            raise ValueError(f"{unused[0]} is for a server; leave it out, or give server")
        if unused := [name for name in ONLY_SYNONYMS if name in self.model_fields_set and self.kind != "synonyms"]:
            raise ValueError(f"{unused[0]} is for synonyms; leave it out of {self.kind}, which rewrites whole texts")
        if (self.make is None) == (self.server is None):
            raise ValueError("back_translation needs make or server; give exactly one of the two")
        if self.server is not None and self.copies > 1:
            raise ValueError("a server translates a text the same way each time; leave copies out")
        return self


class Task(RecipePart):
    """One of several tasks that share an encoder, and how much it counts."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$")  # of its labels, and of its head
    length: int | None = Field(default=None, ge=1)  # of a sequence, its end included; none: a class
    weight: float = Field(default=1.0, gt=0)


class PseudoLabels(RecipePart):
    """Labels that the teachers give to unlabelled training samples, for the distilled student."""

    threshold: float = Field(default=0.9, gt=0, le=1)  # the least probability of the most likely class
    labels: Literal["hard", "soft"] = "hard"  # soft: the teachers' probabilities alone, no class


class Model(RecipePart):
    """A built-in kind of model and its size, a list of layers, or ``make = "file.py:function"``, which returns a ``torch.nn.Module``."""

    kind: ModelKind | None = None
    make: str | None = None
    arch: Annotated[Arch, AfterValidator(check_arch)] | None = None
    width: int = Field(default=32, ge=1)
    layers: int = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=1)  # of its training; none: the recipe's
    learning_rate: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = self._sources()
        if sum(getattr(self, name) is not None for name in sources) != 1:
            raise ValueError(f"a model needs {', '.join(sources[:-1])} or {sources[-1]}; give exactly one of them")
        sized = [name for name in ("width", "layers") if getattr(self, name) != type(self).model_fields[name].default]
        if sized and self.kind is None and self.make is None:
            raise ValueError(f"{sized[0]} is the size of a kind; leave it out, or give kind")
        return self

    def _sources(self) -> tuple[str, ...]:
        return "kind", "arch", "make"


class ClassifierStudent(Model):
    """A student may also be the teacher with fewer channels, or have several widths in one set of weights, as shares of its arch's."""

    prune: Prune | None = None
    widths: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(default=None, min_length=2)

    @model_validator(mode="after")
    def _widths_fit(self) -> Self:
        if self.widths is None:
            return self
        if self.arch is None:
            raise ValueError("widths are those of an arch; give the student's layers as arch")
        if list(self.widths) != sorted(set(self.widths)) or self.widths[-1] != 1:
            raise ValueError(f"widths are {list(self.widths)}; expected them to rise, to 1.0 at the end, which is the arch as it is")
        return self

    def _sources(self) -> tuple[str, ...]:
        return "kind", "arch", "make", "prune"


class ClassifierTeacher(Model):
    """One of the teachers, and how much it counts among them."""

    weight: float = Field(default=1.0, gt=0)


def as_several(value: object) -> object:
    """One ``[teacher]`` table is a list of one."""
    return (value,) if isinstance(value, dict | ClassifierTeacher) else value


class ClassifierRecipe(RecipePart):
    """A recipe as its TOML or YAML file says it. ``layers`` pairs module names, the student's and the teacher's.

    ``[teacher]`` is one, ``[[teacher]]`` several, which begin with different weights and are averaged by their ``weight``.
    """

    name: str = ""
    folder: str = ""
    summary: str
    seed: int = Field(default=1, ge=0)
    classifier: ClassifierData
    teachers: Annotated[tuple[ClassifierTeacher, ...], BeforeValidator(as_several)] = Field(alias="teacher", min_length=1)
    student: ClassifierStudent
    layers: tuple[tuple[str, str], ...] = ()
    pseudo_labels: PseudoLabels | None = None
    augment: tuple[Augment, ...] | None = None
    tasks: tuple[Task, ...] | None = Field(default=None, alias="task", min_length=1)  # none: one, of classes
    temperature: Scheduled = constant(1.0)
    losses: tuple[Loss, ...] = Field(alias="loss", min_length=1)
    training: Training
    mixing: Mixing | None = None  # of the students' training samples

    @model_validator(mode="after")
    def _layers_are_used(self) -> Self:
        if self.training.steps == 0:
            raise ValueError("training.steps is 0; expected at least 1")
        if self.training.dropout is not None:
            raise ValueError("training.dropout is for decoders; a model of your own (make) can have torch.nn.Dropout")
        if self.training.gradient_checkpointing:
            raise ValueError("training.gradient_checkpointing is for decoders; leave it out")
        if across := [loss.kind for loss in self.losses if loss.kind in CROSS_TOKENIZER]:
            raise ValueError(f"loss {across[0]} compares two tokenizers; classes have none, use forward_kl")
        inside = [loss.kind for loss in self.losses if loss.kind in INSIDE]
        if inside and not self.layers:
            raise ValueError(f"loss {inside[0]} needs layers: pairs of module names, the student's and the teacher's")
        if self.layers and len(self.teachers) > 1:
            raise ValueError("layers pair the student with one teacher; leave them out with several, whose answers alone are averaged")
        if self.mixing is not None and any(loss.kind == "triplet" for loss in self.losses):
            raise ValueError("loss triplet compares samples of one class, and mixed ones have two; leave out mixing")
        if self.student.widths and (self.layers or inside or any(loss.kind == "triplet" for loss in self.losses)):
            raise ValueError("layers, losses inside and triplet are for a student of one width; leave them out, or widths")
        return self

    @model_validator(mode="after")
    def _texts_are_there(self) -> Self:
        if self.augment and self.classifier.texts is None and self.classifier.data != "docstrings":
            raise ValueError('augment rewrites texts; expected classifier.texts = "file.py:function" or data = "docstrings"')
        if self.augment and self.pseudo_labels is not None:
            raise ValueError("augment and pseudo_labels together are not supported; leave one out")
        return self

    @model_validator(mode="after")
    def _tasks_fit(self) -> Self:
        if (self.classifier.data == "docstring-tasks") > (self.tasks is not None):
            raise ValueError('data docstring-tasks needs [[task]] tables: "library", "kind" and "name" of length 6')
        if self.tasks is None:
            return self
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError(f"two tasks are named {max(names, key=names.count)!r}; expected a name for each")
        single = {"pseudo_labels": self.pseudo_labels is not None, "labelled_share": self.classifier.labelled_share is not None}
        single["classifier.texts"] = self.classifier.texts is not None
        single["loss triplet"] = any(loss.kind == "triplet" for loss in self.losses)
        single["mixing"] = self.mixing is not None
        for name, given in single.items():
            if given:
                raise ValueError(f"{name} is for one task of classes; leave it out with [[task]]")
        for model in (self.student, *self.teachers):
            if model.make is None and model.kind not in ("encoder", "minilm"):
                what = f"a model of kind {model.kind}" if model.kind else "a model of arch or prune"
                raise ValueError(f"{what} has one head; with [[task]] expected encoder, minilm or make")
        return self

    def plan(self, seed: int, model: Model, losses: tuple[Loss, ...] | None = None, temperature: Schedule | None = None) -> "ModulePlan":
        """What one training of a model does; without ``losses``, it learns from the labels. Teachers see mixed samples only where ``mixing`` says so."""
        changes = {"steps": model.steps or self.training.steps, "learning_rate": model.learning_rate or self.training.learning_rate}
        training = self.training.model_copy(update=changes)
        hard = (Loss(kind="cross_entropy"),)
        from firsttoken.distill.modules import ModulePlan  # PyTorch, which listing the recipes does not need

        mixing = self.mixing if self.mixing and (self.mixing.teachers or not isinstance(model, ClassifierTeacher)) else None
        return ModulePlan(seed=seed, losses=losses or hard, temperature=temperature or constant(1.0), training=training, mixing=mixing)


def load_classifier(name_or_path: str | Path) -> ClassifierRecipe:
    """Reads a built-in recipe by name or a user's ``.toml`` or ``.yaml`` by path. Raises `FirstTokenError`."""
    name, recipe = read_declaration("recipes", "recipe", name_or_path, ClassifierRecipe)
    return recipe.model_copy(update={"name": name, "folder": str(declaration_path("recipes", name_or_path).parent)})


def classifier_names() -> list[str]:
    """Names of the built-in recipes for classifiers."""
    return [name for name in declaration_names("recipes") if is_classifier(name)]


def user_file(recipe: ClassifierRecipe, given: str) -> Path:
    """The file of what ``file.py:function`` names, relative to the recipe. Raises `FirstTokenError` for one that is not there."""
    return find_user_file(given, recipe.folder, "make = ", "the recipe")


def user_files(recipe: ClassifierRecipe) -> dict[str, str]:
    """SHA-256 of every file whose functions a recipe names, by the file's name in it. What these import is not among them. Raises `FirstTokenError`."""
    parts = (recipe.classifier, *recipe.teachers, recipe.student, *(recipe.augment or ()))
    given = [name for part in parts for field in ("make", "texts") if (name := getattr(part, field, None)) is not None]
    return {name.rpartition(":")[0]: sha256(user_file(recipe, name).read_bytes()).hexdigest() for name in given}


def user_function(recipe: ClassifierRecipe, given: str) -> Callable[..., Any]:
    """Returns the function that ``file.py:function`` names, relative to the recipe. Runs the file: it is the user's own.

    Raises `FirstTokenError` for a file or function that is not there.
    """
    return load_user_function(given, recipe.folder, "make = ", "the recipe")
