"""Times of a module's bundle: fresh processes, every method, and errors in one line."""

import pytest

from firsttoken.errors import FirstTokenError
from firsttoken.module_bundles import bench
from firsttoken.module_bundles.bench import bench_modules


def test_times_of_fresh_processes(bundle, monkeypatch):
    monkeypatch.setattr(bench, "PROCESSES", 1)
    [row] = bench_modules([bundle], repeat=3)
    assert (row.sizes, len(row.load), len(row.first)) == ({"batch": 1}, 1, 1) and len(row.warm) >= 3
    assert 0 < row.summary["warm_min"] <= row.summary["warm"] <= row.summary["warm_p90"] < 1000 and not row.cold


def test_a_damaged_bundle(bundle):
    (bundle / "model.npz").write_bytes(b"x")
    with pytest.raises(FirstTokenError, match="the file is damaged or was replaced"):
        bench_modules([bundle])
