"""What a model is calibrated on: a text that is none of the proof's, cut into windows of tokens."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firsttoken import plain_file
from firsttoken.checkpoint import Checkpoint
from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import hash_file
from firsttoken.text_overlap import GRAM, contaminated, grams
from firsttoken.tokenizer import TOKENIZER_FILE, Tokenizer

BUILT_IN = Path(__file__).with_name("text.txt")
TOKENS, WINDOW = 9216, 512
WORSE_THAN_CHANCE = 1.0  # nats; random weights are no worse than this, and with the tokenizer of another model it is two and more
LEAST_DIFFERENT = 8  # tokens among all: a text of fewer says what a model does with these
LEAST = 1024  # tokens; of fewer the second moments of a layer's inputs say more about the text than about the model


@dataclass(frozen=True)
class CalibrationText:
    """A text by the name that a bundle's manifest gives it."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_text(given: str | Path | None) -> CalibrationText:
    """Reads the text file ``given``, or the built-in text. Raises `FirstTokenError` if it cannot be read as UTF-8."""
    path = BUILT_IN if given is None else Path(given)
    try:
        text = plain_file.read_text(path, plain_file.TEXT_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise FirstTokenError(f"calibration text {path}: cannot be read as UTF-8 text ({plain_file.why(error)})") from None
    return CalibrationText("firsttoken's calibration text" if given is None else path.name, text)


def refuse_overlap(calibration: CalibrationText, held_out: str, name: str) -> None:
    """Raises `FirstTokenError` where the proof's text shares words with the calibration's: it would praise what was fitted to it."""
    if contaminated(calibration.text, grams(held_out)):
        raise FirstTokenError(
            f"calibration text {calibration.name}: shares {GRAM} words in a row with {name}, which the proof runs; "
            "give another text with --calibration, or another one with --held-out"
        )


def tokens_key(source: Checkpoint) -> str:
    """What decides which tokens a text is, for names of what is kept: the SHA-256 of the tokenizer's file."""
    return hash_file(source.folder / TOKENIZER_FILE)


def check_words(source: Checkpoint, vocab_size: int, text: CalibrationText, surprise: float, worse: float = WORSE_THAN_CHANCE) -> None:
    """Raises `FirstTokenError` where the model expects the text's tokens (``surprise``, nats a token) less than by chance by more than ``worse``: they mean something else to it."""
    chance = math.log(vocab_size)
    if not surprise <= chance + worse:
        raise FirstTokenError(
            f"calibration text {text.name}: the model finds its tokens less likely than by chance ({surprise:.1f} nats a token; {chance:.1f} by chance), so what is chosen on it would be for "
            f"something else than text; {source.folder / TOKENIZER_FILE} is another model's, or the text is none: check the tokenizer, or give another text with --calibration"
        )


def windows_of(calibration: CalibrationText, tokenizer: Tokenizer) -> list[np.ndarray]:
    """Cuts the text into windows of `WINDOW` token ids int64, spread evenly over it, `TOKENS` together where it is that long.

    Raises `FirstTokenError` for a text shorter than `LEAST` tokens.
    """
    tokens = np.array(tokenizer.encode(calibration.text, begin=False), np.int64)
    if len(tokens) < LEAST:
        raise FirstTokenError(
            f"calibration text {calibration.name}: {len(tokens)} tokens; expected at least {LEAST}, give a longer one with --calibration"
        )
    count = min(TOKENS, len(tokens)) // WINDOW
    starts = [n * (len(tokens) - WINDOW) // max(1, count - 1) for n in range(count)]
    begin = [] if tokenizer.begin is None else [tokenizer.begin]
    if (different := len(np.unique(tokens))) < LEAST_DIFFERENT:
        raise FirstTokenError(
            f"calibration text {calibration.name}: has {different} different tokens; expected at least {LEAST_DIFFERENT}, give text as your app meets it with --calibration"
        )
    return [np.concatenate([np.array(begin, np.int64), tokens[start : start + WINDOW - len(begin)]]) for start in starts]
