"""An LSTM step by step, for ExecuTorch has no operator of it.

Each gate has linear layers of its own: one layer for all four would be cut into gates by slices, which XNNPACK refuses where the host chooses the batch.
The number of steps is the program's; every step is a part of its graph.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

GATES = 4  # input, forget, cell, output, in torch's order
Maker = Callable[[Tensor, Tensor | None], nn.Module]


class Cell(nn.Module):
    """One layer in one direction (Hochreiter and Schmidhuber 1997, with Gers' forget gate, as torch has it)."""

    def __init__(self, of_input: Tensor, of_state: Tensor, bias: Tensor | None, linear: Maker) -> None:
        super().__init__()
        # Copies: XNNPACK writes the whole storage that a constant lies in, and so each gate would have the first one's bias.
        biases = [None] * GATES if bias is None else [part.clone() for part in bias.chunk(GATES)]
        self.of_input = nn.ModuleList(linear(part.clone(), own) for part, own in zip(of_input.chunk(GATES), biases, strict=True))
        self.of_state = nn.ModuleList(linear(part.clone(), None) for part in of_state.chunk(GATES))

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Takes x ``[batch, in]``, hidden and cell ``[batch, width]``; returns the new ones."""
        into, forget, new, out = (own(x) + state(hidden) for own, state in zip(self.of_input, self.of_state, strict=True))
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(into) * torch.tanh(new)
        return torch.sigmoid(out) * torch.tanh(cell), cell


class Lstm(nn.Module):
    """aten.lstm: ``weights`` in torch's order (of the input, of the state, and their biases, by layer and direction)."""

    def __init__(self, weights: Sequence[Tensor], biases: bool, layers: int, bidirectional: bool, batch_first: bool, linear: Maker) -> None:
        super().__init__()
        self.directions, self.batch_first = 2 if bidirectional else 1, batch_first
        step = 4 if biases else 2
        self.cells = nn.ModuleList(
            Cell(weights[n], weights[n + 1], weights[n + 2] + weights[n + 3] if biases else None, linear)
            for n in range(0, step * layers * self.directions, step)
        )

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Takes x ``[batch, steps, in]`` (steps first without ``batch_first``) and states ``[layers * directions, batch, width]``."""
        steps = list(x.unbind(1 if self.batch_first else 0))
        last_hidden, last_cell = [], []
        for layer in range(0, len(self.cells), self.directions):
            found = []
            for direction in range(self.directions):
                place = layer + direction
                outputs, h, c = run(self.cells[place], steps[::-1] if direction else steps, hidden[place], cell[place])
                found.append(outputs[::-1] if direction else outputs)
                last_hidden.append(h)
                last_cell.append(c)
            steps = [torch.cat(parts, -1) if len(parts) > 1 else parts[0] for parts in zip(*found, strict=True)]
        return torch.stack(steps, 1 if self.batch_first else 0), torch.stack(last_hidden), torch.stack(last_cell)


def run(cell: nn.Module, steps: Sequence[Tensor], h: Tensor, c: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """The states after each step, and the last ones."""
    found = []
    for step in steps:
        h, c = cell(step, h, c)
        found.append(h)
    return found, h, c
