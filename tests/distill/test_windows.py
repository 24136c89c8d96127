"""Packing: nothing lost, nothing doubled, masked exactly; the order is a function of the seed."""

import numpy as np
import pytest

from firsttoken.distill.windows import Encoded, order, pack
from firsttoken.errors import FirstTokenError


def document(tokens, counted=True, domain="a", source="doc"):
    return Encoded(list(tokens), [counted] * len(tokens) if isinstance(counted, bool) else counted, domain, source)


def test_documents_are_laid_end_to_end_with_separators():
    windows = pack([document(range(1, 6), source="one"), document(range(6, 10), source="two")], 4, 99)
    assert windows.tokens.tolist() == [[1, 2, 3, 4], [5, 99, 6, 7], [8, 9, 99, 99]]
    assert windows.labels.tolist() == [[1, 2, 3, 4], [5, 99, 6, 7], [8, 9, 99, -100]]
    assert windows.source == ("one", "one", "two") and windows.predicted == 8


def test_domains_do_not_mix():
    windows = pack([document([1, 2, 3], domain="a"), document([4, 5], domain="b"), document([6], domain="a")], 4, 0)
    assert windows.domains == ("a", "b") and windows.domain.tolist() == [0, 0, 1]
    assert windows.tokens.tolist() == [[1, 2, 3, 0], [6, 0, 0, 0], [4, 5, 0, 0]]


def test_what_is_not_counted_is_ignored_and_windows_without_labels_are_left_out():
    windows = pack([document(range(1, 9), [False] * 6 + [True] * 2)], 4, 0)
    assert windows.tokens.tolist() == [[5, 6, 7, 8]] and windows.labels.tolist() == [[-100, -100, 7, 8]]
    with pytest.raises(FirstTokenError, match="holds no label"):
        pack([document(range(9), False)], 4, 0)
    with pytest.raises(FirstTokenError, match="no tokens"):
        pack([], 4, 0)


def test_positions_begin_anew_in_every_document_and_window():
    windows = pack([document(range(1, 6), source="one"), document(range(6, 10), source="two")], 4, 99, apart=True)
    assert windows.tokens.tolist() == [[1, 2, 3, 4], [5, 99, 6, 7], [8, 9, 99, 99]]
    assert windows.positions.tolist() == [[0, 1, 2, 3], [0, 1, 0, 1], [0, 1, 2, 0]]
    assert windows.labels.tolist() == [[-100, 2, 3, 4], [5, 99, -100, 7], [8, 9, 99, -100]], (
        "the 6 would be predicted from the other document"
    )
    plain = pack([document(range(1, 6), source="one"), document(range(6, 10), source="two")], 4, 99)
    assert plain.positions is None and plain.fingerprint() != windows.fingerprint()


def test_the_fingerprint_sees_every_change():
    plain = pack([document(range(1, 9))], 4, 0)
    assert plain.fingerprint() == pack([document(range(1, 9))], 4, 0).fingerprint()
    assert plain.fingerprint() != pack([document(range(1, 9), [True] * 7 + [False])], 4, 0).fingerprint()
    assert plain.fingerprint() != pack([document(range(1, 9), domain="b")], 4, 0).fingerprint()


def test_every_epoch_shows_every_window_once_in_an_order_of_its_own():
    shown = [[order(10, position, 7)[1] for position in range(start, start + 10)] for start in (0, 10)]
    assert sorted(shown[0]) == sorted(shown[1]) == list(range(10)) and shown[0] != shown[1]
    assert [order(10, position, 7)[1] for position in range(10)] == shown[0]
    assert order(10, 25, 7)[0] == 2 and np.any([order(10, p, 8)[1] != shown[0][p] for p in range(10)])
