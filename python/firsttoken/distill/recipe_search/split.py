"""What trials are scored on: never the recipe's held-out text, which is left for comparing what the search found.

Files that ``hold_back_percent`` keeps out of training come first: then trials train on what the recipe trains on. Where
there are none, documents of the training data are set aside, in the order of a hash of their names. What shares words in
a row with the held-out text is not taken.
"""

import hashlib
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from firsttoken.distill.documents import (
    encode_all,
    encode_documents,
    find_files,
    read_source,
    separator_token,
    spread,
    training_documents,
    training_windows,
)
from firsttoken.distill.recipe import Recipe, TextSource
from firsttoken.distill.records import Document
from firsttoken.distill.windows import Encoded, Windows, pack
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report
from firsttoken.text_overlap import GRAM, contaminated, grams
from firsttoken.tokenizer import Tokenizer

MOST = 0.5  # of the training tokens that may be set aside
SPREAD, LITTLE = 4, 0.05  # windows are spread over so many times as many, where that is so small a share of the training tokens
FEW = 8  # windows; of fewer held-back ones, training documents are taken instead


@dataclass
class SearchData:
    """Reads what trials train on and are scored on; ``said`` tells afterwards what that is."""

    files: tuple[str, ...]
    said: str = field(default="", init=False)

    def read(self, recipe: Recipe, tokenizer: Tokenizer, report: Report) -> tuple[Windows, Windows]:
        """Training windows, and the windows that trials are scored on. Raises `FirstTokenError`."""
        final = list(read_source(recipe, TextSource(files=recipe.data.held_out, domain="held-out")))
        forbidden = {gram for document in final for gram in grams(text_of(document))}
        if self.files:
            return self._given(recipe, tokenizer, report, forbidden)
        held = self._held_back(recipe, tokenizer, report, forbidden)
        if held is not None:
            return training_windows(recipe, tokenizer, report), held
        if any(teacher.cache for teacher in recipe.teachers):
            raise FirstTokenError(
                'a cache holds its teacher\'s answers to all of the training data, of which the search would set some aside to score trials on; give other files with held_out = ["…"] in [search]'
            )
        documents = list(training_documents(recipe, []))
        encoded = encode_documents(documents, recipe.data, tokenizer, report, "encoding")
        aside = set_aside(documents, encoded, recipe.data.held_out_windows * recipe.data.length, forbidden)
        kept = [piece for number, pieces in enumerate(encoded) if number not in aside for piece in pieces]
        score = [piece for number in sorted(aside) for piece in encoded[number]]
        separator, apart = separator_token(tokenizer), not recipe.data.attend_across_documents
        train = pack(kept, recipe.data.length, separator, apart)
        scored = spread(pack(score, recipe.data.length, separator, apart), recipe.data.held_out_windows)
        self.said = f"trials are scored on {len(scored)} windows of {len(aside)} training documents that are set aside"
        return train, scored

    def _held_back(self, recipe: Recipe, tokenizer: Tokenizer, report: Report, forbidden: set) -> Windows | None:
        percent = recipe.data.hold_back_percent
        documents = [d for source in recipe.data.train for d in read_source(recipe, source, percent, back=True)] if percent else []
        clean = [each for each in documents if not contaminated(text_of(each), forbidden)]
        encoded = list(chain.from_iterable(encode_documents(clean, recipe.data, tokenizer, report, "encoding what trials are scored on")))
        if sum(len(each.tokens) for each in encoded) < min(FEW, recipe.data.held_out_windows) * recipe.data.length:
            return None
        windows = spread(
            pack(encoded, recipe.data.length, separator_token(tokenizer), not recipe.data.attend_across_documents),
            recipe.data.held_out_windows,
        )
        self.said = f"trials are scored on {len(windows)} windows of the {len(clean)} documents that hold_back_percent keeps out of training and that share nothing with the held-out text"
        return windows

    def _given(self, recipe: Recipe, tokenizer: Tokenizer, report: Report, forbidden: set) -> tuple[Windows, Windows]:
        refuse_shared(recipe, self.files)
        documents = list(read_source(recipe, TextSource(files=self.files, domain="held-out")))
        for document in documents:
            if contaminated(text_of(document), forbidden):
                raise FirstTokenError(
                    f"search.held_out: {document.source} shares {GRAM} words in a row with the recipe's held-out text, which is left for comparing what the search found; give other files"
                )
        scored = spread(
            encode_all(documents, recipe.data, tokenizer, report, "encoding what trials are scored on"), recipe.data.held_out_windows
        )
        self.said = f"trials are scored on {len(scored)} windows of {', '.join(self.files)}"
        return training_windows(recipe, tokenizer, report), scored


def set_aside(documents: list[Document], encoded: list[list[Encoded]], tokens: int, forbidden: set) -> set[int]:
    """Numbers of documents with at least ``tokens`` tokens together, or as many as half of all tokens allow. Raises `FirstTokenError`."""
    sizes = [sum(len(piece.tokens) for piece in pieces) for pieces in encoded]
    everything = sum(sizes)
    most, tokens = MOST * everything, max(tokens, min(SPREAD * tokens, int(LITTLE * everything)))
    chosen: set[int] = set()
    total = 0
    for number in sorted(range(len(documents)), key=lambda n: (hashlib.sha256(documents[n].source.encode()).digest(), n)):
        size = sizes[number]
        if total >= tokens:
            break
        if not size or total + size > most or contaminated(text_of(documents[number]), forbidden):
            continue
        chosen.add(number)
        total += size
    if not chosen:
        raise FirstTokenError(
            f"the training data is {len(documents)} documents, of which none can be set aside to score trials on (at most half of the tokens, "
            f'and nothing that shares {GRAM} words in a row with the held-out text); give other files with held_out = ["…"] in [search]'
        )
    return chosen


def refuse_shared(recipe: Recipe, files: tuple[str, ...]) -> None:
    """Raises `FirstTokenError` for a file to score on that is also trained on or is the recipe's held-out text."""
    score = resolved(recipe, files)
    train = {path for source in recipe.data.train for path in resolved(recipe, source.files)}
    for others, name in ((resolved(recipe, recipe.data.held_out), "the recipe's held-out text"), (train, "training data")):
        if shared := sorted(score & others):
            raise FirstTokenError(
                f"search.held_out: {shared[0]} is {name} too; expected files that are neither trained on nor in data.held_out"
            )


def resolved(recipe: Recipe, patterns: tuple[str, ...]) -> set[Path]:
    """The files that patterns of the recipe name."""
    return {path.resolve() for path, _ in find_files(recipe, patterns)}


def text_of(document: Document) -> str:
    """All words of a document."""
    return document.text if document.text is not None else "\n".join(m["content"] for m in document.messages or [])
