"""Which rows of two vocabulary heads mean the same token.

Heads are padded to round sizes: R1-Distill-Qwen-7B has 152,064 rows and the 1.5B has 151,936, for one tokenizer of
151,665 tokens. Rows past the tokenizer's are never sampled, so losses leave them out on both sides.
"""

from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer

# Text in which tokenizers with equal vocabularies still differ: merges, digits, spaces, unknown characters.
PROBE = "def f(x):\n\treturn 12345.678  # Größe, 第一个 token\r\n  naïve <|end|> 🙂"


def shared_vocabulary(student: Tokenizer, teacher: Tokenizer, student_rows: int, teacher_rows: int) -> int:
    """Returns how many leading rows both heads share: the tokenizer's size.

    Raises `FirstTokenError`, saying in what they differ, for tokenizers that are not the same, and for a head with fewer
    rows than the tokenizer has tokens.
    """
    check_same_tokenizer(student, teacher)
    size = student.vocab_size
    for who, rows in (("student", student_rows), ("teacher", teacher_rows)):
        if rows < size:
            raise FirstTokenError(
                f"the {who}'s vocabulary head has {rows} rows, but its tokenizer has {size} tokens; expected at least as many rows"
            )
    return size


def check_same_tokenizer(student: Tokenizer, teacher: Tokenizer):
    """Raises `FirstTokenError` with the first difference between two tokenizers."""
    ours, theirs = (t.engine.get_vocab(with_added_tokens=True) for t in (student, teacher))
    where = f"student {student.folder} and teacher {teacher.folder} have different tokenizers"
    advice = "token by token they cannot be compared; take a student of the teacher's family, or train it on answers that the teacher wrote"
    if ours != theirs:
        token = min(
            (t for t in ours.keys() | theirs.keys() if ours.get(t) != theirs.get(t)),
            key=lambda t: (min(ours.get(t, 1 << 40), theirs.get(t, 1 << 40)), t),
        )
        ids = ["absent" if t.get(token) is None else f"token {t[token]}" for t in (ours, theirs)]
        raise FirstTokenError(f"{where}: {token!r} is {ids[0]} in the student's and {ids[1]} in the teacher's; {advice}")
    if student.engine.encode(PROBE).ids != teacher.engine.encode(PROBE).ids:
        raise FirstTokenError(f"{where}: the vocabularies are equal, but they cut the same text differently; {advice}")
