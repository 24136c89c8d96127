"""The callable behind scripts/benchmarks/text_students.py back-translation: SmolLM2-135M-Instruct writes texts in other words.

No translation model comes with a package; the hook takes any function of a list of texts.
"""

from functools import cache

import torch

from firsttoken.chat import read_template, render
from firsttoken.checkpoint_sources.open import checkpoint_folder
from firsttoken.distill.batched_answers import Answer, answer_all
from firsttoken.distill.models import load_decoder
from firsttoken.run.sampling import Sampler
from firsttoken.tokenizer import Tokenizer

ASKED = "Say the following in other words, in one or two sentences, and write nothing else:\n\n"
LONGEST, MOST = 300, 64  # characters of a text that are shown, tokens of its copy: an encoder here reads 32 tokens


@cache
def writer():
    """Model, tokenizer and template."""
    folder = checkpoint_folder("smollm2")
    tokenizer = Tokenizer(folder)
    return load_decoder(folder).requires_grad_(False), tokenizer, read_template(tokenizer.folder, tokenizer.settings)


def rewritten(texts):
    """One copy of each text, written greedily."""
    torch.set_num_threads(1)
    model, tokenizer, template = writer()
    copies = []
    for start in range(0, len(texts), 16):
        answers = []
        for text in texts[start : start + 16]:
            prompt = render(template, [{"role": "user", "content": ASKED + text[:LONGEST]}], tokenizer.settings)
            answers.append(Answer(tokenizer.encode(prompt, begin=False), Sampler(tokenizer.vocab_size, 0.0, 0), None))
        answer_all(model, answers, frozenset(tokenizer.end_tokens()), MOST)
        copies += [tokenizer.decode(answer.tokens) for answer in answers]
    return copies
