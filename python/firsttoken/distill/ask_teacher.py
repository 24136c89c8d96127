"""A recipe's teacher asked about all its training data, once, into a cache."""

from pathlib import Path

from firsttoken.checkpoint import Checkpoint, read_json
from firsttoken.distill.cache import FACTS, write_cache
from firsttoken.distill.compute_time import refuse_days
from firsttoken.distill.documents import training_windows
from firsttoken.distill.losses.vocabulary import shared_vocabulary
from firsttoken.distill.models import check_apart, check_length, need_transformers, parameters_of
from firsttoken.distill.placing import open_teacher, training_device
from firsttoken.distill.recipe import Recipe, load_recipe
from firsttoken.distill.students import tokenizer_folder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.tokenizer import Tokenizer


def cache(
    recipe: str | Path | Recipe, output: str | Path, top: int = 64, teacher: int = 0, report: Report = silent, however_long: bool = False
) -> dict:
    """Writes the ``top`` most likely tokens of the recipe's ``teacher``-th checkpoint at every training position.

    Covers the temperatures of the recipe's schedule, and 1. Returns the facts of the cache. Raises `FirstTokenError`.
    """
    need_transformers()
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if teacher >= len(chosen.teachers) or chosen.teachers[teacher].checkpoint is None:
        raise FirstTokenError(
            f"--teacher {teacher}: the recipe has {len(chosen.teachers)} teachers, and a cache is made from one with a checkpoint; teachers count from 0"
        )
    folder = chosen.teacher_folder(teacher)
    tokenizer = Tokenizer(tokenizer_folder(chosen))
    asked = chosen.teachers[teacher]
    model = open_teacher(asked.model_copy(update={"sharded": False}), folder, "sdpa", chosen)
    check_length(model, chosen.data.length, f"teacher {folder.name}")
    vocabulary = shared_vocabulary(tokenizer, Tokenizer(folder), tokenizer.vocab_size, model.get_output_embeddings().weight.shape[0])
    if not chosen.data.attend_across_documents:
        check_apart(model, f"teacher {folder.name}")
    if asked.device == "auto":
        model.to(training_device(chosen.training.device))  # type: ignore[arg-type]  # transformers wraps it without its types
    windows = training_windows(chosen, tokenizer, report)
    if model.device.type == "cpu" and not however_long:
        refuse_days(2.0 * parameters_of(model) * windows.tokens.size, f"asking the teacher about {windows.tokens.size:,} positions")
    ends = [t for t in (chosen.temperature.start, chosen.temperature.end, 1.0) if t is not None]
    with Checkpoint(folder) as checkpoint:
        identity = {"teacher": checkpoint.fingerprint(), **({} if asked.dtype == "float32" else {"dtype": asked.dtype})}
    write_cache(Path(output), model, windows, vocabulary, top, (min(ends), max(ends)), identity, report=report)
    return read_json(Path(output) / FACTS, "")
