"""Three tasks on the standard library's docstrings: which library, what kind of definition, and its name, word by word."""

import ast
import re
import sysconfig
from collections import Counter
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from firsttoken.distill.classifiers.encoder import LIBRARIES, MOST_EACH, SHORTEST, encode

KINDS = ("function", "method", "class")
NAME_LENGTH = 6  # words of a name, its end included
RARE = 3  # a word of fewer names is the word "other"
END, OTHER = 0, 1


@cache
def docstring_tasks() -> tuple[Tensor, dict[str, Tensor]]:
    """Token ids int64 ``[texts, LENGTH]``, and labels of the tasks ``library``, ``kind`` and ``name`` (``[texts, NAME_LENGTH]``)."""
    found: dict[str, tuple[int, int, list[str]]] = {}
    for number, library in enumerate(LIBRARIES):
        mine = {text: (number, kind, words) for text, kind, words in definitions(Path(sysconfig.get_paths()["stdlib"], library))}
        fresh = [text for text in mine if text not in found][:MOST_EACH]
        found |= {text: mine[text] for text in fresh}
    libraries, kinds, names = zip(*found.values(), strict=True)
    return encode(list(found)), {
        "library": torch.tensor(libraries),
        "kind": torch.tensor(kinds),
        "name": name_labels(list(names)),
    }


def name_labels(names: list[list[str]]) -> Tensor:
    """Words as numbers ``[names, NAME_LENGTH]``: the more often, the lower, after `END` and `OTHER`; -1 after the end."""
    counts = Counter(word for words in names for word in set(words))
    known = sorted((word for word, count in counts.items() if count >= RARE), key=lambda word: (-counts[word], word))
    numbers = {word: number for number, word in enumerate(known, OTHER + 1)}
    labels = torch.full((len(names), NAME_LENGTH), -1)
    for row, words in enumerate(names):
        told = [*(numbers.get(word, OTHER) for word in words[: NAME_LENGTH - 1]), END]
        labels[row, : len(told)] = torch.tensor(told)
    return labels


def words_of(name: str) -> list[str]:
    """``readLine_from`` is read, line, from."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def definitions(folder: Path) -> list[tuple[str, int, list[str]]]:
    """Docstring, kind and words of the name of a library's definitions, in the order of its files; names that are none are left out."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        methods = {id(child) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for child in node.body}
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            text, words = ast.get_docstring(node), words_of(node.name)
            kind = "class" if isinstance(node, ast.ClassDef) else "method" if id(node) in methods else "function"
            if text and len(text) > SHORTEST and words:
                found.append((text, KINDS.index(kind), words))
    return found
