"""The gated delta rule with its state, in FP32 and in constructs that XNNPACK takes with dynamic lengths.

The formulas are those of `backends.tflite.delta_rule`, which says where they come from and why the matrix is inverted by blocks; for one token
they are the rule itself.
"""

import torch
from torch import Tensor, nn

from firsttoken.backends.recurrence import CHUNK, block_sizes
from firsttoken.decoder import parts


class Triangles:
    """What all layers share of one call at int64 ``rows [S]``, float32: matrices of zeros and ones ``[1, S, S]``, ``up_to`` (j <= i),
    ``after`` (j > i) and ``identity``; ``beside``, for every block size, what lies below the diagonal in one block of twice the size and not in one
    of this size; ``ones [1, 1, S]``; and ``continues [1, 1, 1]``, 0 where the call begins at position 0, before which all is zero."""

    def __init__(self, rows: Tensor) -> None:
        # a run-time length is one of a trace, whose calls take `CHUNK` tokens at most
        tokens = rows.shape[0] if isinstance(rows.shape[0], int) else CHUNK
        number = rows.to(torch.float32) - rows[:1].to(torch.float32)
        column, row = number.view(1, -1, 1), number.view(1, 1, -1)
        below = torch.clamp(column - row, 0.0, 1.0)
        self.up_to = torch.clamp(column - row + 1.0, 0.0, 1.0)
        self.after, self.identity = 1.0 - self.up_to, self.up_to - below
        self.ones = torch.clamp(row + 1.0, 0.0, 1.0)
        self.continues = torch.clamp(rows[:1].to(torch.float32), 0.0, 1.0).view(1, 1, 1)
        self.beside = []
        within = below
        for size in block_sizes(tokens):
            apart = torch.clamp(torch.floor(column * (0.5 / size)) - torch.floor(row * (0.5 / size)), 0.0, 1.0)
            self.beside.append(within - apart)
            within = apart


class DeltaRule(nn.Module):
    """``state`` is the one behind the calls before, a mutable buffer of the program; ``rate`` is ``-exp(decay)``, one a value head."""

    state: Tensor
    spread: Tensor

    def __init__(self, part: parts.DeltaRule) -> None:
        super().__init__()
        self.part = part
        self.rate = nn.Parameter(torch.zeros(part.value_heads), requires_grad=False)
        self.register_buffer("spread", torch.ones(part.group, 1, device="cpu"), persistent=False)
        self.register_buffer("state", torch.zeros(part.value_heads, part.key_dim, part.value_dim, device="cpu"))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, strength: Tensor, forgetting: Tensor, shared: Triangles) -> Tensor:
        """Takes float32 ``[1, S, heads, dim]`` each, b and a ``[1, S, value_heads]``; returns ``[1, S, value_heads, value_dim]``."""
        query, key = self._by_head(query), self._by_head(key)
        value = value.view(-1, self.part.value_heads, self.part.value_dim).permute(1, 0, 2)
        beta = torch.sigmoid(strength).permute(2, 1, 0)
        steps = softplus(forgetting) * self.rate
        upto = torch.bmm(shared.up_to, steps)
        column, row = upto.permute(2, 1, 0), upto.permute(2, 0, 1)
        between = torch.exp(torch.clamp(column - row, max=0.0))
        since = torch.exp(column) * shared.continues
        from_here = torch.exp(torch.bmm(shared.after, steps)).permute(2, 1, 0)
        over_all = torch.exp(torch.bmm(shared.ones, steps)).permute(2, 1, 0) * shared.continues
        turned = key.permute(0, 2, 1)
        inverse = inverted(torch.bmm(key, turned) * between * beta, shared)
        added = torch.bmm(inverse, (value - torch.bmm(key, self.state) * since) * beta)
        seen = torch.bmm(query, turned) * between * shared.up_to
        found = torch.bmm(seen, added) + torch.bmm(query, self.state) * since
        self.state.copy_(self.state * over_all + torch.bmm(turned, added * from_here))
        return found.permute(1, 0, 2).contiguous().view(1, -1, self.part.value_heads, self.part.value_dim)

    def _by_head(self, x: Tensor) -> Tensor:
        """Key heads, each for its group: ``[value_heads, S, key_dim]``."""
        part = self.part
        if part.group > 1:
            x = x.view(-1, part.key_heads, 1, part.key_dim) * self.spread
        return x.view(-1, part.value_heads, part.key_dim).permute(1, 0, 2)


def inverted(met: Tensor, shared: Triangles) -> Tensor:
    """The inverse of I + L, of which ``met`` has the entries below the diagonal right."""
    inverse = shared.identity - met * shared.beside[0]
    for beside in shared.beside[1:]:
        inverse = inverse - torch.bmm(torch.bmm(inverse, met * beside), inverse)
    return inverse


def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))`` as ``max(x, 0) + log(1 + exp(-|x|))``; what the sum u = 1 + y rounds away is added again as ``(y - (u - 1)) / u``."""
    y = torch.exp(-torch.abs(x))
    u = y + 1.0
    return torch.relu(x) + (torch.log(u) + (y - (u - 1.0)) / u)
