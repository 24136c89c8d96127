"""A recipe's teacher asked about all its training data, once, into a cache."""

from pathlib import Path

from firsttoken.checkpoint import Checkpoint, read_json
from firsttoken.distill.cache import FACTS, write_cache
from firsttoken.distill.documents import training_windows
from firsttoken.distill.losses.vocabulary import shared_vocabulary
from firsttoken.distill.models import check_length, load_decoder, need_transformers
from firsttoken.distill.recipe import Recipe, load_recipe
from firsttoken.distill.students import tokenizer_folder
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.tokenizer import Tokenizer


def cache(recipe: str | Path | Recipe, output: str | Path, top: int = 64, teacher: int = 0, report: Report = silent) -> dict:
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
    model = load_decoder(folder).requires_grad_(False)
    check_length(model, chosen.data.length, f"teacher {folder.name}")
    vocabulary = shared_vocabulary(tokenizer, Tokenizer(folder), tokenizer.vocab_size, model.get_output_embeddings().weight.shape[0])
    windows = training_windows(chosen, tokenizer, report)
    ends = [t for t in (chosen.temperature.start, chosen.temperature.end, 1.0) if t is not None]
    with Checkpoint(folder) as checkpoint:
        identity = {"teacher": checkpoint.fingerprint()}
    write_cache(Path(output), model, windows, vocabulary, top, (min(ends), max(ends)), identity, report=report)
    return read_json(Path(output) / FACTS, "")
