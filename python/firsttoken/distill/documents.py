"""Reading training text: plain files and `records`, with the place of every document for error messages."""

import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import chain, islice
from pathlib import Path

from firsttoken.chat import read_template
from firsttoken.distill.chat_tokens import Chat, chats_tokens
from firsttoken.distill.encoded import WindowWriter, encoded_once
from firsttoken.distill.recipe import Data, Recipe, TextSource
from firsttoken.distill.records import SUFFIXES, Document, messages_of, read_records
from firsttoken.distill.windows import Encoded, Windows, pack
from firsttoken.errors import FirstTokenError
from firsttoken.json_lines import read_text
from firsttoken.progress import Report, silent
from firsttoken.tokenizer import Tokenizer

BATCH = 64  # documents encoded at a time
ENCODING = 1  # another number where the same data is encoded otherwise
PROOF_CHARACTERS = 1_000_000  # of held-out text that goes along with a student


def find_files(recipe: Recipe, patterns: tuple[str, ...]) -> list[tuple[Path, str]]:
    """Returns ``(file, path below the pattern's fixed folder)``, sorted, for paths and globs (``**`` crosses folders).

    Raises `FirstTokenError` for a pattern that matches no file.
    """
    found: dict[Path, str] = {}
    for pattern in patterns:
        full = str(recipe.path(pattern))
        files, base = matching(full, recipe.folder)
        if not files:
            raise FirstTokenError(
                f"data {pattern!r}: no such file (looked for {full}); paths are relative to the recipe, ** crosses folders"
            )
        found.update({path: path.relative_to(base).as_posix() for path in files})
    return sorted(found.items(), key=lambda item: str(item[0]))


def matching(full: str, folder: str) -> tuple[list[Path], Path]:
    """The files of a path or pattern, sorted, and the folder before its first ``*``. Signs of patterns in ``folder``, the recipe's, are letters of its name."""
    if Path(full).is_file():  # also one whose name has such signs
        return [Path(full)], Path(full).parent
    own = os.path.join(Path(folder), "") if folder else ""
    known = own if full.startswith(own) else ""
    rest = full[len(known) :]
    fixed = known + rest.split("*")[0]
    base = Path(fixed) if fixed.endswith("/") else Path(fixed).parent
    found = sorted(glob.glob(glob.escape(known) + rest, recursive=True, include_hidden=False))
    return [Path(path) for path in found if Path(path).is_file()], base


def held_back(relative: str, percent: int) -> bool:
    """Whether a file is kept out of training: SHA-256 of its relative path, first eight bytes, modulo 100, below ``percent``.

    The rule that the demo checkpoint was trained with, so that a student can keep to its teacher's split.
    """
    return int.from_bytes(hashlib.sha256(relative.encode()).digest()[:8], "big") % 100 < percent


def read_source(
    recipe: Recipe, source: TextSource, percent: int = 0, back: bool = False, skip: Callable[[str], None] | None = None
) -> Iterator[Document]:
    """Yields the documents of one source in the order of their paths, of files that `held_back` keeps out where ``back``, else of all others.

    Raises `FirstTokenError` naming file and line; with ``skip`` that is told of bad records instead.
    """
    for path, relative in find_files(recipe, source.files):
        if held_back(relative, percent) != back or any(fnmatchcase(relative, pattern) for pattern in source.exclude):
            continue
        if path.suffix.lower() in SUFFIXES:
            yield from read_records(path, source.domain, skip)
        else:
            text = read_text(path)
            if text.strip():
                yield Document(relative, source.domain, text)


def encode_document(document: Document, tokenizer: Tokenizer, template: str | None, answers_only: bool) -> list[Encoded]:
    """The same of one document."""
    [pieces] = encode_batch([document], tokenizer, template, answers_only)
    return pieces


def encode_batch(documents: Sequence[Document], tokenizer: Tokenizer, template: str | None, answers_only: bool) -> list[list[Encoded]]:
    """Returns each document's tokens and which of them are labels; a chat may be several (`chat_tokens`).

    Of a chat, those of the assistant's turns, the token that ends a turn included; ``answers_only`` false counts all. Raises `FirstTokenError`.
    """
    chats = [Chat(document.messages, document.source, document.tools) for document in documents if document.messages is not None]
    if chats and template is None:
        raise FirstTokenError(
            f"{chats[0].source}: a chat, but the tokenizer of {tokenizer.folder} has no chat template; give one with tokenizer = … in the recipe"
        )
    spoken = iter(chats_tokens(chats, template, tokenizer) if template is not None and chats else ())
    texts = iter(tokenizer.encode_many([document.text or "" for document in documents if document.messages is None]))
    found = []
    for document in documents:
        if document.messages is None:
            tokens = next(texts) if tokenizer.begin is None else [tokenizer.begin, *next(texts)]
            found.append([Encoded(tokens, [True] * len(tokens), document.domain, document.source)])
            continue
        found.append([
            Encoded(piece.tokens, piece.counted if answers_only else [True] * len(piece.tokens), document.domain, document.source, piece.ended)
            for piece in next(spoken)
        ])  # fmt: skip
    return found


def separator_token(tokenizer: Tokenizer) -> int:
    """The token between documents: ``<|endoftext|>`` where there is one, else the end of a completion.

    Raises `FirstTokenError` for a tokenizer that has neither.
    """
    token = tokenizer.special.get("<|endoftext|>")
    ends = tokenizer.end_tokens()
    if token is None and not ends:
        raise FirstTokenError(f"{tokenizer.folder}: the tokenizer names no end token; set eos_token in tokenizer_config.json")
    return ends[0] if token is None else token


def training_windows(recipe: Recipe, tokenizer: Tokenizer, report: Report = silent, folder: Path | None = None) -> Windows:
    """Reads, encodes and packs the recipe's training files; into files in ``folder``, or those that are there already. Raises `FirstTokenError`."""
    if folder is None:
        left_out: list[str] = []
        documents = list(training_documents(recipe, left_out))
        return replace(encode_all(documents, recipe.data, tokenizer, report, "encoding"), left_out=tuple(left_out))
    return encoded_once(folder, data_key(recipe, tokenizer), lambda place: write_windows(recipe, tokenizer, report, place))


def write_windows(recipe: Recipe, tokenizer: Tokenizer, report: Report, folder: Path) -> None:
    """Encodes the recipe's training files into a folder, a few documents at a time."""
    left_out: list[str] = []
    template = read_template(tokenizer.folder, tokenizer.settings)
    size = max(1, sum(path.stat().st_size for path in training_files(recipe)))
    documents, done = training_documents(recipe, left_out), 0
    writer = WindowWriter(folder, recipe.data.length, separator_token(tokenizer), not recipe.data.attend_across_documents)
    while batch := list(islice(documents, BATCH)):
        for pieces in encode_batch(batch, tokenizer, template, recipe.data.answers_only):
            for piece in pieces:
                writer.add(piece)
        done += sum(len(each.text or "") + sum(len(turn["content"]) for turn in each.messages or ()) for each in batch)
        report("encoding", min(done, size - 1), size, "B")
    writer.finish(left_out)
    report("encoding", size, size, "B")


def training_files(recipe: Recipe) -> list[Path]:
    """The files of all sources. Raises `FirstTokenError` where the teacher's answers are still to be written."""
    if recipe.sequence_level is not None:
        raise FirstTokenError(
            "[sequence_level] is for `firsttoken distill RECIPE` and `distill chain`; here, make the answers with `firsttoken distill generate` and name the file in [[data.train]]"
        )
    return [path for source in recipe.data.train for path, _ in find_files(recipe, source.files)]


def data_key(recipe: Recipe, tokenizer: Tokenizer) -> str:
    """SHA-256 over what decides the encoded data: settings, tokenizer, and the files by place, size and time."""
    files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in training_files(recipe)]
    template = read_template(tokenizer.folder, tokenizer.settings)
    data = recipe.data.model_dump(mode="json", exclude={"held_out", "held_out_windows"})
    facts = [ENCODING, data, files, template, tokenizer.engine.to_str(), tokenizer.settings, tokenizer.begin]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def training_documents(recipe: Recipe, left_out: list[str]) -> Iterator[Document]:
    """Reads the recipe's training files; what is wrong with bad records goes to ``left_out`` where the recipe skips them."""
    training_files(recipe)
    skip = left_out.append if recipe.data.bad_records == "skip" else None
    for source in recipe.data.train:
        yield from read_source(recipe, source, recipe.data.hold_back_percent, skip=skip)


def held_out_windows(recipe: Recipe, tokenizer: Tokenizer, report: Report = silent) -> Windows:
    """The same for the held-out files, at most ``held_out_windows`` of them, spread over the whole text."""
    documents = list(read_source(recipe, TextSource(files=recipe.data.held_out, domain="held-out")))
    return spread(encode_all(documents, recipe.data, tokenizer, report, "encoding held-out"), recipe.data.held_out_windows)


def spread(windows: Windows, count: int) -> Windows:
    """At most ``count`` of the windows, spread over all of them."""
    if len(windows) <= count:
        return windows
    import numpy as np

    return windows.chosen(np.linspace(0, len(windows) - 1, count).round().astype(int))


def held_out_text(recipe: Recipe) -> str | None:
    """The held-out files as one text of at most `PROOF_CHARACTERS`, or None where none of them is plain text."""
    files = [path for path, _ in find_files(recipe, recipe.data.held_out) if path.suffix.lower() not in SUFFIXES]
    return "\n".join(read_text(path) for path in files)[:PROOF_CHARACTERS] or None


def encode_all(documents: list[Document], data: Data, tokenizer: Tokenizer, report: Report, stage: str) -> Windows:
    """Encodes and packs documents."""
    pieces = list(chain.from_iterable(encode_documents(documents, data, tokenizer, report, stage)))
    return pack(pieces, data.length, separator_token(tokenizer), not data.attend_across_documents)


def encode_documents(documents: list[Document], data: Data, tokenizer: Tokenizer, report: Report, stage: str) -> list[list[Encoded]]:
    """Encodes documents, in their order; a chat may be several pieces."""
    template = read_template(tokenizer.folder, tokenizer.settings)
    batches = [documents[start : start + BATCH] for start in range(0, len(documents), BATCH)]
    encoded: list[list[Encoded]] = []
    for batch in batches:
        encoded += encode_batch(batch, tokenizer, template, data.answers_only)
        report(stage, len(encoded), len(documents), "documents")
    return encoded


def sample_text(line: dict) -> str | None:
    """All text of a sample, or None where it has none."""
    if isinstance(line.get("text"), str):
        return line["text"]
    if (messages := messages_of(line, "")) is not None:
        return "\n".join(str(m.get("content", "")) for m in messages if isinstance(m, dict))
    if isinstance(line.get("prompt"), str):
        return f"{line['prompt']}\n{line.get('answer') or ''}"
    return None
