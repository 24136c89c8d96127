"""A tokenizer that is not the demo checkpoint's: bytes, with a few merges that are written down here."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

MERGES = ["Ġ t", "h e", "i n", "r e", "Ġt he", "s e", "o r", "Ġ s", "d e", "Ġ (", "e l", "el f", "Ġs elf", "Ġ Ġ", "ĠĠ ĠĠ", "Ã ¤"]
ENDS = "<|stop|>"


def write_tokenizer(folder: Path) -> Path:
    """Writes ``tokenizer.json`` and its settings into ``folder``: 256 bytes, `MERGES`, and one special token that ends texts."""
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    pairs = [tuple(merge.split(" ")) for merge in MERGES]
    for pair in pairs:
        vocabulary["".join(pair)] = len(vocabulary)
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([ENDS])
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": ENDS}) + "\n", encoding="utf-8")
    return folder
