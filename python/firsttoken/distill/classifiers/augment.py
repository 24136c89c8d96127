"""Copies of training texts in other words: synonyms, and translation there and back. Each copy is made once, kept, and counted.

A translator is a Python function ``texts -> texts`` or a server of the OpenAI kind; both return one text for each.
"""

import hashlib
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from firsttoken import plain_file
from firsttoken.atomic_file import write_text
from firsttoken.distill.classifiers.recipe import Augment, ClassifierRecipe, user_file, user_function
from firsttoken.errors import FirstTokenError

ROUND = 32  # texts between two writes of what is kept: what an interruption costs at most

Rewrite = Callable[[Sequence[str]], list[str]]


def augmented(
    recipe: ClassifierRecipe, texts: Sequence[str], labels: Sequence[int], seed: int, folder: Path | None
) -> tuple[list[str], list[int], dict[str, dict[str, int]]]:
    """Copies of the texts, their labels, and by kind how many were made, taken from what ``folder`` (None: nothing) keeps, or left out.

    A copy that is empty, the text itself or a copy that is there already is left out. Raises `FirstTokenError`.
    """
    found: list[str] = []
    of: list[int] = []
    counts: dict[str, dict[str, int]] = {}
    seen = set(texts)
    for number, augment in enumerate(recipe.augment or ()):
        tally = {"made": 0, "kept from before": 0, "left out": 0}
        for copy in range(augment.copies):
            rewrite = rewriter(recipe, augment, seed * 1000 + copy)
            made = remembered(rewrite, identity_of(recipe, augment, seed * 1000 + copy), texts, folder, tally)
            for text, label in zip(made, labels, strict=True):
                if not text.strip() or text in seen:
                    tally["left out"] += 1
                    continue
                seen.add(text)
                found.append(text)
                of.append(label)
        counts[f"{number + 1} {augment.kind}"] = tally | {"copies": augment.copies * len(texts) - tally["left out"]}
    return found, of, counts


def identity_of(recipe: ClassifierRecipe, augment: Augment, seed: int) -> str:
    """What a copy depends on besides its text: how it is made, the content of the user's file, and the seed where chance is used."""
    facts = augment.model_dump(mode="json", exclude={"copies", "key_variable"})
    if augment.make is not None:
        user_function(recipe, augment.make)
        facts["file"] = hashlib.sha256(user_file(recipe, augment.make).read_bytes()).hexdigest()
    return json.dumps([facts, None if augment.server else seed], sort_keys=True)  # a server is asked at temperature 0


def remembered(rewrite: Rewrite, identity: str, texts: Sequence[str], folder: Path | None, tally: dict[str, int]) -> list[str]:
    """Rewrites texts a few at a time, keeping what was made in a file of ``folder`` from which an interrupted run goes on."""
    path = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.json" if folder else None
    kept = read_kept(path, identity) if path else {}
    fresh = [text for text in dict.fromkeys(texts) if text not in kept]
    tally["kept from before"] += len(dict.fromkeys(texts)) - len(fresh)
    for start in range(0, len(fresh), ROUND):
        part = fresh[start : start + ROUND]
        answers = rewrite(part)
        if len(answers) != len(part) or not all(isinstance(answer, str) for answer in answers):
            raise FirstTokenError(f"augment: {len(part)} texts were given and {len(answers)} answers came back; expected a text for each")
        kept.update(zip(part, answers, strict=True))
        tally["made"] += len(part)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps({"made by": identity, "texts": kept}) + "\n")
    return [kept[text] for text in texts]


def read_kept(path: Path, identity: str) -> dict[str, str]:
    """What a file keeps; nothing where there is none, or it is damaged or another's: it is then made again."""
    if not path.exists():
        return {}
    try:
        found = plain_file.parse_json(plain_file.read_text(path, plain_file.TEXT_BYTES))
        texts = found["texts"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    whole = found.get("made by") == identity and isinstance(texts, dict) and all(isinstance(value, str) for value in texts.values())
    return texts if whole else {}


def rewriter(recipe: ClassifierRecipe, augment: Augment, seed: int) -> Rewrite:
    """The function that makes copies. Raises `FirstTokenError` for a file or function that is not there."""
    if augment.kind == "synonyms":
        assert augment.make is not None, "the recipe was checked"
        return synonym_rewriter(user_function(recipe, augment.make), augment.share, seed)
    if augment.make is not None:
        own = user_function(recipe, augment.make)
        return lambda texts: list(own(list(texts)))
    from firsttoken.distill.classifiers.translation import translate

    return lambda texts: translate(augment, augment.language, translate(augment, augment.through, texts))


def synonym_rewriter(synonyms: Callable[[str], Sequence[str]], share: float, seed: int) -> Rewrite:
    """Replaces a share of the words that have synonyms (Zhang and LeCun 2015, arXiv:1502.01710); at least one, drawn by seed and text.

    ``synonyms`` takes a word in lower case and returns others, or none. A capital letter at the beginning stays.
    """

    def rewrite(text: str) -> str:
        draw = random.Random(f"{seed} {text}")
        words = list(re.finditer(r"[^\W\d_]+", text))
        others = {place: list(found) for place, word in enumerate(words) if (found := synonyms(word.group().lower()))}
        if not others:
            return text
        for place in sorted(draw.sample(sorted(others), max(1, round(share * len(others)))), reverse=True):
            word, other = words[place], draw.choice(others[place])
            other = other[:1].upper() + other[1:] if word.group()[0].isupper() else other
            text = text[: word.start()] + other + text[word.end() :]
        return text

    return lambda texts: [rewrite(text) for text in texts]
