"""Text to tokens and back, through the checkpoint's own ``tokenizer.json``."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from firsttoken import plain_file
from firsttoken.bundle.manifest import Manifest, TokenizerFacts
from firsttoken.checkpoint import read_json
from firsttoken.errors import FirstTokenError
from firsttoken.special_tokens import LONE_SURROGATE, merged_settings, text_of
from firsttoken.tokenizer_engine import TRIED, open_engine, told_panics

TOKENIZER_FILE = "tokenizer.json"
BUNDLED_FILES = (TOKENIZER_FILE, "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
REPLACEMENT = "\ufffd"
# A character is at most 4 bytes of UTF-8; a replacement character older than that is really in the text.
MOST_PENDING_TOKENS = 4
# Text in which tokenizers with equal vocabularies still differ: merges, digits, spaces, unknown characters.
PROBE = TRIED
LARGEST_TOKEN = 1 << 24  # far above any vocabulary; tables are as long as the largest token


class Tokenizer:
    """The tokenizer of a checkpoint or bundle folder.

    ``vocab_size`` is the highest token id plus one, special tokens included. Raises `FirstTokenError` for a missing or
    unreadable ``tokenizer.json``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / TOKENIZER_FILE
        if not path.exists():
            others = [name for name in ("tokenizer.model", "vocab.json", "spiece.model") if (self.folder / name).exists()]
            hint = (
                f"found {others[0]}: convert it with transformers, AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
                if others
                else "copy it from the model's page"
            )
            raise FirstTokenError(f"{path}: missing; the tokenizer is part of every bundle ({hint})")
        self.engine = open_engine(path)

    @cached_property
    def vocab_size(self) -> int:
        largest = max(self.engine.get_vocab(with_added_tokens=True).values(), default=-1)
        if largest >= LARGEST_TOKEN:
            raise FirstTokenError(
                f"{self.folder / TOKENIZER_FILE}: has token {largest}; expected numbers below {LARGEST_TOKEN}, copy it again from the model's page"
            )
        return largest + 1

    @cached_property
    def settings(self) -> dict:
        """``tokenizer_config.json`` with the names of ``special_tokens_map.json``, or nothing where the folder has neither."""
        return merged_settings(self.folder)

    @cached_property
    def special(self) -> dict[str, int]:
        """Special tokens by their text."""
        added = self.engine.get_added_tokens_decoder()
        return {token.content: number for number, token in sorted(added.items()) if token.special}

    @cached_property
    def begin(self) -> int | None:
        """The token written before every prompt, or None: what the post-processor of ``tokenizer.json`` adds.

        transformers 5 looks at nothing else where that file is there; ``add_bos_token`` of ``tokenizer_config.json`` is not read (`begin_note`).
        """
        plain = self.engine.encode("a", add_special_tokens=False).ids
        full = self.engine.encode("a", add_special_tokens=True).ids
        return full[0] if len(full) > len(plain) and full[0] in self.special.values() and full[0] != plain[0] else None

    def begin_note(self) -> str | None:
        """A line where ``add_bos_token`` says otherwise than `begin`; None where both agree."""
        asked = self.settings.get("add_bos_token")
        if not isinstance(asked, bool) or asked == (self.begin is not None):
            return None
        does = "writes no begin token" if self.begin is None else f"writes token {self.begin} before every prompt"
        return (
            f"tokenizer_config.json says add_bos_token {str(asked).lower()}, but tokenizer.json {does}; prompts begin as tokenizer.json says, as in transformers 5 "
            "(chats begin as their template says)"
        )

    @property
    def begin_token(self) -> int | None:
        """The token for the beginning of a text, whether or not prompts begin with it; None where the tokenizer names none."""
        return self.begin if self.begin is not None else self.token_id(self.settings.get("bos_token"))

    def token_id(self, token: str | dict | None) -> int | None:
        """Returns the id of a token given as text, or as the object that ``tokenizer_config.json`` may hold."""
        text = text_of(token)
        if text is None or LONE_SURROGATE.search(text):
            return None
        return self.engine.token_to_id(text)

    def end_tokens(self, folder: Path | None = None) -> list[int]:
        """Tokens that end a completion: what transformers' ``generate`` stops at, and the tokenizer's own ``eos_token``.

        ``generation_config.json`` is asked before ``config.json``, which may be of another time: where the first is there and names none, only special
        tokens are taken from the second, so that no ordinary token ends an answer.
        """
        folder = self.folder if folder is None else folder
        special, found = set(self.special.values()), set[int]()
        for place, name in enumerate(("generation_config.json", "config.json")):
            path = folder / name
            values = read_json(path, "") if path.exists() else {}
            text = values.get("text_config")  # a model with other parts may say it of its text alone, where transformers looks too
            value = values.get("eos_token_id", text.get("eos_token_id") if isinstance(text, dict) else None)
            named = {t for t in (value if isinstance(value, list) else [value]) if isinstance(t, int) and not isinstance(t, bool)}
            found = named if place == 0 or not (folder / "generation_config.json").exists() else named & special
            if found:
                break
        if (end := self.token_id(self.settings.get("eos_token"))) is not None and end in special:
            found.add(end)
        return sorted(t for t in found if 0 <= t < self.vocab_size)

    def encode(self, text: str, begin: bool = True) -> list[int]:
        """Returns the tokens of ``text``, after the begin token where the model wants one (unless ``begin`` is false)."""
        with told_panics(f"{self.folder}: the tokenizer fails"):
            tokens = self.engine.encode(text, add_special_tokens=False).ids
        return [self.begin, *tokens] if begin and self.begin is not None else tokens

    def encode_many(self, texts: list[str]) -> list[list[int]]:
        """Returns the tokens of each text, without a begin token."""
        with told_panics(f"{self.folder}: the tokenizer fails"):
            return [one.ids for one in self.engine.encode_batch(texts, add_special_tokens=False)]

    def decode(self, tokens: list[int], special: bool = False) -> str:
        """Returns the text of ``tokens``; special tokens are left out unless ``special``."""
        with told_panics(f"{self.folder}: the tokenizer fails"):
            return self.engine.decode(list(tokens), skip_special_tokens=not special)

    def facts(self) -> TokenizerFacts:
        """Returns what the manifest says about this tokenizer."""
        files = [name for name in BUNDLED_FILES if (self.folder / name).is_file()]
        return TokenizerFacts(files=files, vocab_size=self.vocab_size, begin=self.begin, end=self.end_tokens(), special=self.special)

    def copy_files(self, folder: Path) -> None:
        """Copies the tokenizer's files into a bundle folder."""
        for name in BUNDLED_FILES:
            if (self.folder / name).exists():
                try:
                    plain_file.copy(self.folder / name, folder / name)
                except OSError as error:
                    raise FirstTokenError(f"{self.folder / name}: cannot be copied to {folder} ({plain_file.why(error)})") from None


class TextStream:
    """Turns tokens into text one at a time, holding back what is not yet a whole character.

    Two decoded spans are compared instead of decoding single tokens, because the text of a token depends on the ones
    before it (SentencePiece drops the first space; a byte-level character may take four tokens). Special tokens have no text but that of ``shown``.
    """

    def __init__(self, tokenizer: Tokenizer, shown: Mapping[int, str] = MappingProxyType({})) -> None:
        self.tokenizer, self.shown = tokenizer, shown
        self._silent = frozenset(tokenizer.special.values())
        self._tokens: list[int] = []
        self._shown = 0  # tokens whose text has been given out
        self._context = 0  # where the span decoded together with the next token starts

    def add(self, token: int) -> str:
        """Adds a token and returns the text that is now complete (often the token's own, sometimes nothing)."""
        if token in self._silent:
            return self._advance(final=True) + self.shown[token] if token in self.shown else ""
        self._tokens.append(token)
        return self._advance(final=False)

    def finish(self) -> str:
        """Returns what was held back; bytes that never became a character come out as U+FFFD."""
        return self._advance(final=True)

    def _advance(self, final: bool) -> str:
        before = self.tokenizer.decode(self._tokens[self._context : self._shown])
        after = self.tokenizer.decode(self._tokens[self._context :])
        pending = len(self._tokens) - self._shown
        if len(after) <= len(before) or (after.endswith(REPLACEMENT) and not final and pending <= MOST_PENDING_TOKENS):
            return ""
        self._context, self._shown = self._shown, len(self._tokens)
        return after[len(before) :]


def open_tokenizer(folder: str | Path, manifest: Manifest) -> Tokenizer:
    """Loads a bundle's tokenizer, with the begin token its manifest names. Raises `FirstTokenError`."""
    tokenizer = Tokenizer(folder)
    tokenizer.begin = manifest.tokenizer.begin
    return tokenizer


def check_same_tokenizer(student: Tokenizer, teacher: Tokenizer) -> None:
    """Raises `FirstTokenError` with the first difference between two tokenizers."""
    ours, theirs = (t.engine.get_vocab(with_added_tokens=True) for t in (student, teacher))
    where = f"student {student.folder} and teacher {teacher.folder} have different tokenizers"
    advice = "token by token they cannot be compared; take a student of the teacher's family, a recipe whose losses are uld or gold, or train it on answers that the teacher wrote"
    if ours != theirs:
        token = min(
            (t for t in ours.keys() | theirs.keys() if ours.get(t) != theirs.get(t)),
            key=lambda t: (min(ours.get(t, 1 << 40), theirs.get(t, 1 << 40)), t),
        )
        ids = ["absent" if t.get(token) is None else f"token {t[token]}" for t in (ours, theirs)]
        raise FirstTokenError(f"{where}: {token!r} is {ids[0]} in the student's and {ids[1]} in the teacher's; {advice}")
    if student.engine.encode(PROBE).ids != teacher.engine.encode(PROBE).ids:
        raise FirstTokenError(f"{where}: the vocabularies are equal, but they cut the same text differently; {advice}")
