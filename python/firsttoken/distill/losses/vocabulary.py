"""Which rows of two vocabulary heads mean the same token.

Heads are padded to round sizes: R1-Distill-Qwen-7B has 152,064 rows and the 1.5B has 151,936, for one tokenizer of
151,665 tokens. Rows past the tokenizer's are never sampled, so losses leave them out on both sides.
"""

from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer, check_same_tokenizer


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
