"""The choice of experts in operators that XNNPACK takes, in FP32."""

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from firsttoken.decoder import parts

FAR = 1e30
"""What differences of scores are multiplied by, so that any that counts is beyond 1: two scores are then ahead of each other or equal."""


def summing_row(experts: int) -> Tensor:
    """What a sum over experts is multiplied by, as a layer of one row: XNNPACK refuses a sum over a tensor of run-time length."""
    return torch.ones(1, experts, device="cpu")


class ExpertWeights(nn.Module):
    """The weight of every expert, 0 of those not chosen. An expert is chosen if it is ahead of all but so many: every pair is compared, for a
    choice by ``topk`` would run on ExecuTorch's portable kernels, and cut every layer in two there."""

    later: Tensor
    ones: Tensor
    passing: Tensor
    epsilon: Tensor

    def __init__(self, part: parts.Router) -> None:
        super().__init__()
        self.part = part
        # not "weight", by which the layers that a plan addresses are found
        self.matrix = nn.Parameter(torch.ones(part.experts, part.columns), requires_grad=False)
        self.bias = None if part.bias is None else nn.Parameter(torch.zeros(part.experts), requires_grad=False)
        self.register_buffer("later", torch.ones(part.experts, part.experts, device="cpu").triu(1), persistent=False)
        self.register_buffer("ones", summing_row(part.experts), persistent=False)
        self.register_buffer("passing", torch.full((1,), part.chosen + 1.0 - part.experts, device="cpu"), persistent=False)
        self.register_buffer("epsilon", torch.full((1,), part.epsilon, device="cpu"), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Takes float32 ``[1, S, columns]``, returns float32 ``[1, S, experts]``."""
        scored = functional.linear(x, self.matrix)
        scores = torch.softmax(scored, -1) if self.part.scores == "softmax" else torch.sigmoid(scored)
        ranked = scores if self.bias is None else scores + self.bias
        count = self.part.experts
        difference = (ranked.view(1, -1, count, 1) - ranked.view(1, -1, 1, count)) * FAR
        ahead = torch.clamp(difference + self.later, 0.0, 1.0)  # [1, S, own, other]; of equal ones the lower number is
        chosen = torch.clamp(functional.linear(ahead, self.ones, self.passing), 0.0, 1.0).view(1, -1, count)
        weights = scores * chosen
        if self.part.divided:
            weights = weights / functional.linear(weights, self.ones, self.epsilon)
        return weights if self.part.factor == 1.0 else weights * self.part.factor
