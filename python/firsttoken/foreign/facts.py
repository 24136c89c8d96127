"""What a file says of itself, and what becomes of it together with a checkpoint: all that running, proving and measuring it takes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from firsttoken.bundle.chat_facts import Chat
from firsttoken.bundle.manifest import TokenizerFacts
from firsttoken.chat import chat_affixes
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.targets.target import Target
from firsttoken.tokenizer import Tokenizer

LONGEST = 1 << 20  # tokens of a cache, as in a target
CHUNK = 512  # tokens that one call takes where the file does not say


@dataclass(frozen=True)
class Offered:
    """What a file says of itself; None where it does not say. Lengths are in tokens.

    ``fixed``: the cache has that length and no other. ``chunk`` is the most tokens that one call takes. ``looked_for`` is where a cache length
    would have stood. ``names_words``: it says how text begins, so that no begin token means none.
    """

    vocab_size: int
    cache_length: int | None
    looked_for: str
    runtime: str
    fixed: bool = False
    chunk: int | None = None
    names_words: bool = False
    begin: int | str | None = None
    delegate: str = "xnnpack"


@dataclass(frozen=True)
class Model:
    """The checkpoint's name and vocabulary, as a runner reads them of a manifest."""

    name: str
    vocab_size: int


@dataclass(frozen=True)
class Subject:
    """A file with the checkpoint that it should be: takes a manifest's place for runners and proofs.

    ``target`` has its lengths; ``notes`` say where each fact comes from; ``words`` is the checkpoint's folder.
    """

    path: Path
    checkpoint: Model
    target: Target
    tokenizer: TokenizerFacts
    chat: Chat | None
    words: Path
    begin_differs: str = ""
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path, offered: Offered, source: Checkpoint, cache_length: int | None = None, begin: int | None = None) -> Self:
        """Puts a file's facts, a checkpoint's words and what the user asked together. ``cache_length`` and ``begin`` (a token) are the user's.

        Raises `FirstTokenError` for a vocabulary that is not the checkpoint's, and a cache length that no one says.
        """
        decoder, tokenizer = open_decoder(source), Tokenizer(source.folder)
        if offered.vocab_size != decoder.vocab_size:
            raise FirstTokenError(
                f"{path}: has logits for a vocabulary of {offered.vocab_size}, but checkpoint {source.folder} has {decoder.vocab_size}; "
                "give the checkpoint that it was made from with --checkpoint"
            )
        length, whence = _length(path, offered, cache_length)
        facts = tokenizer.facts()
        first, begins, differs = _begin(path, offered, tokenizer, facts.begin, begin)
        target = Target(
            name="file",
            summary=f"a file that was found: {path.name}",
            runtime=offered.runtime,
            delegate=offered.delegate,
            cache_length=length,
            prefill_chunk=max(1, min(offered.chunk or CHUNK, length - 1)),
            min_runtime="",
        )
        return cls(
            path,
            Model(source.name, decoder.vocab_size),
            target,
            facts.model_copy(update={"begin": first}),
            chat_affixes(source.folder, tokenizer),
            source.folder,
            differs,
            [f"cache of {length} tokens ({whence}), vocabulary of {offered.vocab_size} (its logits), {begins}"],
        )


def _length(path: Path, offered: Offered, asked: int | None) -> tuple[int, str]:
    """The cache length and who says it."""
    if offered.fixed and asked is not None and asked != offered.cache_length:
        raise FirstTokenError(f"{path}: has a cache of {offered.cache_length} tokens, not {asked}; leave out --cache-length")
    length = asked if asked is not None else offered.cache_length
    if length is None:
        raise FirstTokenError(f"{path}: does not say how long its cache is (looked for {offered.looked_for}); give --cache-length TOKENS")
    if not 2 <= length <= LONGEST:
        raise FirstTokenError(f"{path}: its cache has {length} tokens; expected 2 to {LONGEST}")
    return length, "as asked" if asked is not None and not offered.fixed else offered.looked_for


def _begin(path: Path, offered: Offered, tokenizer: Tokenizer, own: int | None, asked: int | None) -> tuple[int | None, str, str]:
    """The begin token, who says it, and how the file's differs from the checkpoint's own."""
    if asked is not None:
        if not 0 <= asked < tokenizer.vocab_size:
            raise FirstTokenError(f"--begin-token is {asked}; expected a token of the checkpoint, 0 to {tokenizer.vocab_size - 1}")
        return asked, f"begin token {asked} (as asked)", ""
    named = tokenizer.token_id(offered.begin) if isinstance(offered.begin, str) else offered.begin
    if offered.begin is not None and (named is None or not 0 <= named < tokenizer.vocab_size):
        raise FirstTokenError(
            f"{path}: begins texts with {offered.begin!r}, which is no token of the checkpoint; name one with --begin-token"
        )
    if named is None:
        says = "it names none" if offered.names_words else "it does not say"
        return own, f"begin token {'none' if own is None else own} (the checkpoint's; {says})", ""
    differs = (
        ""
        if named == own
        else f"begin token: the file begins texts with token {named}, the checkpoint with {'none' if own is None else own}"
    )
    return named, f"begin token {named} (its own)", differs
