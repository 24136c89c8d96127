"""Teachers of scripts/benchmarks/text_students.py: MiniLM (or MPNet) as it comes, not trained on, with heads that are.

Its states of every docstring are computed once and kept, so that a step costs a look-up; MPNet's, which take minutes, in firsttoken's cache.
"""

from functools import cache
from types import SimpleNamespace

import torch
from torch import nn

from firsttoken.distill.classifiers.docstring_tasks import docstring_tasks
from firsttoken.distill.classifiers.encoder import PADDING, Encoder, docstring_tokens, minilm_bert, minilm_folder
from firsttoken.distill.classifiers.recipe import Task
from firsttoken.distill.classifiers.tasks import MultiTask

TASKS = (Task(name="library"), Task(name="kind"), Task(name="name", length=6))


@cache
def states_of(which):
    """MiniLM's last states of all texts ``[texts, length, 384]``, and each row's place."""
    tokens = docstring_tokens()[0] if which == "docstrings" else docstring_tasks()[0]
    bert = minilm_bert().eval()
    with torch.no_grad():
        parts = [bert(input_ids=part, attention_mask=(part != PADDING).long()).last_hidden_state for part in tokens.split(64)]
    return torch.cat(parts), {row.numpy().tobytes(): place for place, row in enumerate(tokens)}


@cache
def large_states():
    """MPNet's last states of all docstrings, as `states_of`'s; what is kept is taken only where the texts are the same."""
    from hashlib import sha256

    from safetensors.torch import load_file, save_file

    from firsttoken.cache_folder import cache_folder
    from firsttoken.distill.classifiers.mpnet import mpnet

    tokens = docstring_tokens()[0]
    kept = cache_folder() / f"mpnet-docstrings-{sha256(tokens.numpy().tobytes()).hexdigest()[:16]}.safetensors"
    if not kept.exists():
        body = mpnet(1).bert.eval()
        with torch.no_grad():
            parts = [body(input_ids=part, attention_mask=(part != PADDING).long()).last_hidden_state for part in tokens.split(64)]
        save_file({"states": torch.cat(parts)}, kept.with_suffix(".part"))
        kept.with_suffix(".part").replace(kept)
    return load_file(kept)["states"], {row.numpy().tobytes(): place for place, row in enumerate(tokens)}


@cache
def whole():
    """MiniLM itself."""
    return minilm_bert().eval()


@cache
def word_vectors():
    """MiniLM's whole words, and their input vectors brought to length 1."""
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json")).get_vocab()
    kept = {word: place for word, place in words.items() if word.isalpha() and len(word) > 3}
    vectors = whole().embeddings.word_embeddings.weight.detach()[list(kept.values())]
    return dict(zip(kept, range(len(kept)), strict=True)), list(kept), torch.nn.functional.normalize(vectors)


@cache
def neighbours(word):
    """Up to three words whose vectors lie closest to this one's, from a cosine of 0.6 on: near to synonyms, inflections among them."""
    places, words, vectors = word_vectors()
    if word not in places:
        return []
    likeness, found = (vectors @ vectors[places[word]]).topk(4)
    return [words[place] for near, place in zip(likeness.tolist(), found.tolist(), strict=True) if near > 0.6 and words[place] != word]


class Remembered(nn.Module):
    """Stands in the place of a BERT for texts that it has seen."""

    def __init__(self, which):
        super().__init__()
        self.states, self.places = large_states() if which == "mpnet" else states_of(which)
        self.config = SimpleNamespace(hidden_size=self.states.shape[-1])

    def forward(self, input_ids, attention_mask):
        known = [self.places.get(row.numpy().tobytes()) for row in input_ids]
        if None in known:  # a copy in other words
            return whole()(input_ids=input_ids, attention_mask=attention_mask)
        return SimpleNamespace(last_hidden_state=self.states[known])


def one_head():
    """A head for the eight libraries."""
    return Encoder(Remembered("docstrings"), 8)


def large():
    """MPNet with a head for the eight libraries."""
    return Encoder(Remembered("mpnet"), 8)


def three_heads():
    """A head for each task."""
    from firsttoken.distill.classifiers.tasks import label_matrix, sizes_of

    inputs, named = docstring_tasks()
    return MultiTask(Remembered("docstring-tasks"), TASKS, sizes_of(TASKS, label_matrix(TASKS, named, len(inputs), "docstring-tasks")))
