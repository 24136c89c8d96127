"""The process that loads anyone's file first, for `firsttoken.foreign.open`, looks into it and runs two tokens."""

import sys
from pathlib import Path

from firsttoken import last_words
from firsttoken.bundle.manifest import TokenizerFacts
from firsttoken.errors import FirstTokenError
from firsttoken.foreign.facts import Model, Offered, Subject
from firsttoken.foreign.open import format_of, open_file
from firsttoken.targets.target import Target

SHORT = 64  # tokens of the cache where the file leaves it open


def main() -> int:
    """Tries the file that is named; 1 where it is refused, which the load that follows says better."""
    last_words.say_into(2)
    path = Path(sys.argv[1])
    try:
        reader = format_of(path).reader
        offered: Offered = reader.offered(path)
        length = (offered.cache_length if offered.fixed else None) or SHORT
        target = Target(name="file", summary="a trial", runtime="any", delegate="any", cache_length=length, prefill_chunk=1, min_runtime="")
        words = TokenizerFacts(files=[], vocab_size=offered.vocab_size, end=[], special={})
        runner = open_file(Subject(path, Model("file", offered.vocab_size), target, words, None, path), threads=1, kept=False)
        runner.prefill([0, 0])
        runner.close()
        reader.structure(path)
    except FirstTokenError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
