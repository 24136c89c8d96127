"""The triplet loss against pytorch-metric-learning's miner and distances, and recall at 1 against scikit-learn's neighbours."""

import pytest
import torch

from firsttoken.distill.losses.triplet import nearest_is_same, semi_hard_triplet


@pytest.mark.parametrize("margin", [0.05, 0.2, 1.0])
def test_an_anchors_mean_is_that_of_another_librarys_semi_hard_triplets(margin):
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    random = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 4, (24,), generator=random)
    embeddings = torch.randn(24, 6, generator=random, requires_grad=True)
    squared = distances.LpDistance(normalize_embeddings=True, p=2, power=2)
    miner = miners.TripletMarginMiner(margin=margin, type_of_triplets="semihard", distance=squared)
    anchors, positives, negatives = miner(embeddings, labels)
    assert 10 < len(anchors) < 24 * 23 * 22
    matrix = squared(embeddings)
    each = matrix[anchors, positives] - matrix[anchors, negatives] + margin
    wanted = torch.stack([each[anchors == anchor].mean() if (anchors == anchor).any() else matrix.new_zeros(()) for anchor in range(24)])
    got = semi_hard_triplet(embeddings, labels, margin)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    [ours] = torch.autograd.grad(got.sum(), embeddings, retain_graph=True)
    [theirs] = torch.autograd.grad(wanted.sum(), embeddings)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_samples_without_a_label_are_in_no_triplet():
    embeddings = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 3
    some = labels.clone()
    some[[1, 5]] = torch.tensor([-1, -100])
    rest = [n for n in range(12) if n not in (1, 5)]
    got = semi_hard_triplet(embeddings, some, 1.0)
    torch.testing.assert_close(got[rest], semi_hard_triplet(embeddings[rest], labels[rest], 1.0))
    assert got[1] == got[5] == 0 and got.sum() > 0


def test_one_class_or_one_sample_gives_nothing():
    assert semi_hard_triplet(torch.randn(5, 3), torch.zeros(5, dtype=torch.int64)).tolist() == [0.0] * 5
    assert semi_hard_triplet(torch.randn(1, 3), torch.zeros(1, dtype=torch.int64)).tolist() == [0.0]


def test_recall_at_1_is_what_neighbours_say():
    neighbours = pytest.importorskip("sklearn.neighbors")
    random = torch.Generator().manual_seed(1)
    embeddings, labels = torch.randn(80, 5, generator=random), torch.randint(0, 3, (80,), generator=random)
    unit = torch.nn.functional.normalize(embeddings)
    second = neighbours.NearestNeighbors(n_neighbors=2).fit(unit).kneighbors(unit)[1][:, 1]
    assert nearest_is_same(embeddings, labels) == pytest.approx((labels[second] == labels).double().mean().item())
