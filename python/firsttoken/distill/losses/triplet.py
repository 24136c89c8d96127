"""The triplet loss on embeddings, and how well embeddings find their own kind."""

import torch
from torch import Tensor
from torch.nn import functional

MARGIN = 0.2  # FaceNet's, for squared distances of unit vectors


def squared_distances(embeddings: Tensor) -> Tensor:
    """Squared Euclidean distances ``[batch, batch]`` (0 to 4) of embeddings ``[batch, width]`` brought to length 1."""
    unit = functional.normalize(embeddings.float(), dim=-1)
    return (2 - 2 * unit @ unit.T).clamp_min(0)


def semi_hard_triplet(embeddings: Tensor, labels: Tensor, margin: float = MARGIN) -> Tensor:
    """``d(a,p) - d(a,n) + margin`` averaged over each anchor's semi-hard triplets, ``[batch]`` (Schroff et al. 2015, arXiv:1503.03832).

    ``d`` is the squared distance of unit vectors. A negative is semi-hard where it is further than the positive, by less than
    the margin: ``d(a,p) < d(a,n) < d(a,p) + margin``. An anchor without such a triplet gives 0, and a label below 0 is in none.
    """
    distances = squared_distances(embeddings)
    known = labels >= 0
    same = (labels[:, None] == labels[None]) & known[:, None] & known[None]
    other = (labels[:, None] != labels[None]) & known[:, None] & known[None]
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    # [anchor, positive, negative]
    loss = distances[:, :, None] - distances[:, None, :] + margin
    taken = positive[:, :, None] & other[:, None, :] & (loss > 0) & (loss < margin)
    return (loss * taken).sum((1, 2)) / taken.sum((1, 2)).clamp_min(1)


def nearest_is_same(embeddings: Tensor, labels: Tensor) -> float:
    """Share of samples whose nearest other sample has their label (recall at 1); embeddings ``[samples, width]``."""
    distances = squared_distances(embeddings).fill_diagonal_(torch.inf)
    return (labels[distances.argmin(1)] == labels).double().mean().item()
