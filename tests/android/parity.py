"""Makes what the Kotlin tests compare with: python tests/android/parity.py FOLDER; then scripts/build_apk --test --parity FOLDER."""

import json
import random
import shutil
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(TESTS), str(TESTS / "decoder")]

import parity_engines  # noqa: E402  after the paths it needs
import parity_gpu  # noqa: E402
import parity_npu  # noqa: E402
import parity_refusals  # noqa: E402
import parity_runs  # noqa: E402
from parity_lines import lines  # noqa: E402
from parity_vocabularies import FAMILIES, training_text  # noqa: E402

from firsttoken.demo import checkpoint_path  # noqa: E402
from firsttoken.tokenizer import TextStream, Tokenizer  # noqa: E402

LINES = 2800  # for every vocabulary
SEQUENCES = 500  # of random tokens, whose bytes are often no text


def streamed(tokenizer: Tokenizer, tokens: list[int]) -> list[str]:
    stream = TextStream(tokenizer)
    return [stream.add(token) for token in tokens] + [stream.finish()]


def vocabulary_cases(folder: Path, texts: list[str], seed: int = 3):
    """Writes ``cases.jsonl`` for the tokenizer in ``folder``: tokens, decoded and streamed text of every line, then of random tokens."""
    tokenizer, rng = Tokenizer(folder), random.Random(seed)
    byte_tokens = [t for t in (tokenizer.engine.token_to_id(f"<0x{n:02X}>") for n in range(256)) if t is not None] or list(
        range(min(256, tokenizer.vocab_size))
    )
    sequences = [
        [rng.choice(byte_tokens) if rng.random() < 0.5 else rng.randrange(tokenizer.vocab_size) for _ in range(rng.randrange(1, 24))]
        for _ in range(SEQUENCES)
    ]
    with (folder / "cases.jsonl").open("w", encoding="utf-8") as stream:
        for text, ids in [(text, tokenizer.encode(text, begin=False)) for text in texts] + [(None, ids) for ids in sequences]:
            case = {
                "text": text,
                "ids": ids,
                "decoded": tokenizer.decode(ids),
                "with_special": tokenizer.decode(ids, special=True),
                "pieces": streamed(tokenizer, ids),
            }
            stream.write(json.dumps(case) + "\n")


def make(folder: Path):
    """Fills ``folder``: one folder a vocabulary, the recorded runs, and what the runners pass to the runtimes."""
    texts = lines(LINES)
    training = training_text(texts[::4])
    for name, family in FAMILIES.items():
        place = folder / "vocabularies" / name
        place.mkdir(parents=True)
        (place / "tokenizer.json").write_text(json.dumps(family(training), ensure_ascii=len(name) % 2 == 0), encoding="utf-8")
        vocabulary_cases(place, texts)
    place = folder / "vocabularies" / "demo"
    place.mkdir()
    shutil.copy(checkpoint_path() / "tokenizer.json", place)
    vocabulary_cases(place, texts)
    parity_runs.write(folder)
    parity_engines.write(folder)
    parity_refusals.write(folder)
    parity_npu.write(folder)
    parity_gpu.write(folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/android/parity.py FOLDER")
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    make(Path(sys.argv[1]))
