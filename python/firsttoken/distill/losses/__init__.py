"""Distillation losses: pure functions on tensors, usable without the rest of firsttoken.

`divergence` compares predictions, `hidden` compares hidden states, `attention` compares where models look,
`topk` compares with a teacher of which only the most likely tokens are known, and `chunked` computes any loss over a
vocabulary head without ever holding all its logits. Every function returns one value per position and sums nothing
over positions, so that masking is a multiplication that the caller sees.
"""
