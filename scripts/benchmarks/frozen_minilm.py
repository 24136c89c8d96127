"""Teachers of scripts/benchmarks/text_students.py: MiniLM as it comes, not trained on, with heads that are.

Its states of every docstring are computed once and kept, so that a step costs a look-up.
"""

from functools import cache
from types import SimpleNamespace

import torch
from torch import nn

from firsttoken.distill.classifiers.docstring_tasks import docstring_tasks
from firsttoken.distill.classifiers.encoder import PADDING, Encoder, docstring_tokens, minilm_bert
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


class Remembered(nn.Module):
    """Stands in the place of a BERT for texts that it has seen."""

    def __init__(self, which):
        super().__init__()
        self.states, self.places = states_of(which)
        self.config = SimpleNamespace(hidden_size=self.states.shape[-1])

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(last_hidden_state=self.states[[self.places[row.numpy().tobytes()] for row in input_ids]])


def one_head():
    """A head for the eight libraries."""
    return Encoder(Remembered("docstrings"), 8)


def three_heads():
    """A head for each task."""
    from firsttoken.distill.classifiers.tasks import label_matrix, sizes_of

    inputs, named = docstring_tasks()
    return MultiTask(Remembered("docstring-tasks"), TASKS, sizes_of(TASKS, label_matrix(TASKS, named, len(inputs), "docstring-tasks")))
