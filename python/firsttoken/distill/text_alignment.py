"""The same text in two tokenizers: what the teacher reads for a window of the student's tokens, and where both stand at the same place in it.

A place is a part of the window (parts end at special tokens) and a number of characters of its text. Special tokens stand for each other by what they
are for: one that ends what the student writes becomes the teacher's, a beginning its beginning, others the teacher's token of the same text, else its
tokens for that text.
"""

from dataclasses import dataclass, field
from itertools import pairwise

from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import TextStream, Tokenizer, check_same_tokenizer

Place = tuple[int, int]
NOWHERE = (-1, -1)  # inside a character


@dataclass(frozen=True)
class TextAlignment:
    """Between a student's tokenizer and a teacher's. Raises `FirstTokenError` for a teacher whose end token is not known."""

    student: Tokenizer
    teacher: Tokenizer
    special: dict[int, list[int]] = field(init=False)  # student's special token -> the teacher's tokens

    def __post_init__(self) -> None:
        ends = self.teacher.end_tokens()
        if not ends:
            raise FirstTokenError(
                f"teacher {self.teacher.folder}: names no token that ends a text, and its tokenizer is not the student's; set eos_token_id in its config.json"
            )
        begin, ours = self.teacher.begin_token, self.student.end_tokens()
        said = {}
        for text, number in self.student.special.items():
            if text in self.teacher.special:
                said[number] = [self.teacher.special[text]]
            elif number in ours:
                said[number] = [ends[0]]
            elif number == self.student.begin_token:
                said[number] = [] if begin is None else [begin]
            else:
                said[number] = self.teacher.encode(text, begin=False)
        object.__setattr__(self, "special", said)

    def align(self, tokens: list[int]) -> tuple[list[int], list[int]]:
        """Returns the teacher's tokens for a window of the student's, and for each of the student's tokens the number of the teacher's that ends at the
        same place of the text, or -1 where there is none.
        """
        begins = bool(tokens) and self.special.get(tokens[0], [])[:1] == [self.teacher.begin]  # it comes with the student's own
        theirs = [] if self.teacher.begin is None or begins else [self.teacher.begin]
        met: dict[Place, int] = {}
        ours: list[Place] = []
        silent = sorted({-1, len(tokens), *(n for n, token in enumerate(tokens) if token in self.special)})
        for part, (before, after) in enumerate(pairwise(silent)):
            text, ends = read(self.student, tokens[before + 1 : after])
            ours += [(part, end) if end >= 0 else NOWHERE for end in ends]
            if text:
                said = self.teacher.encode(text, begin=False)
                same, places = read(self.teacher, said)
                whole = shared_start(text, same)
                met |= {(part, end): len(theirs) + n for n, end in enumerate(places) if 0 < end <= whole}
                theirs += said
            if after < len(tokens):
                theirs += self.special[tokens[after]]
                ours.append((part + 1, 0))
                met[(part + 1, 0)] = len(theirs) - 1
        return theirs, [met.get(place, -1) for place in ours]


def read(tokenizer: Tokenizer, tokens: list[int]) -> tuple[str, list[int]]:
    """The text of ordinary tokens, and after each how many of its characters are there; -1 where a character is not yet whole."""
    stream, text, ends = TextStream(tokenizer), "", []
    for token in tokens:
        more = stream.add(token)
        text += more
        ends.append(len(text) if more else -1)
    return text + stream.finish(), ends


def shared_start(one: str, other: str) -> int:
    """How many characters two texts begin with alike: all, unless a tokenizer changes what it reads."""
    if one == other:
        return len(one)
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def is_same_tokenizer(one: Tokenizer, other: Tokenizer) -> bool:
    """Whether two tokenizers cut every text alike into tokens of the same numbers."""
    try:
        check_same_tokenizer(one, other)
    except FirstTokenError:
        return False
    return True


def matched_tokens(student: Tokenizer, teacher: Tokenizer) -> tuple[list[int], list[int]]:
    """The numbers of the tokens that both vocabularies spell alike, the student's and the teacher's, in the teacher's order."""
    ours = student.engine.get_vocab(with_added_tokens=True)
    theirs = teacher.engine.get_vocab(with_added_tokens=True)
    pairs = sorted((number, ours[text]) for text, number in theirs.items() if text in ours)
    return [a for _, a in pairs], [b for b, _ in pairs]
