"""What the host feeds to an NPU graph: padding, masks, and angles that stay exact at large positions."""

import numpy as np
import pytest
from manifest_variants import npu_manifest

from firsttoken.backends.tflite_hexagon.npu_inputs import EmbeddingTable, HostFeed
from firsttoken.bundle.manifest import HostTable
from firsttoken.errors import FirstTokenError

DIM, ROWS, COLUMNS = 8, 6, 4
FREQUENCIES = [float(f) for f in (1.0 / 10000.0 ** (np.arange(0, DIM, 2, dtype=np.float32) / DIM)).astype(np.float32)]


@pytest.fixture
def table(tmp_path):
    values = np.arange(-12, 12, dtype=np.int8).reshape(ROWS, COLUMNS)
    scales = np.arange(1, ROWS + 1, dtype=np.float32) / 4
    (tmp_path / "model.tflite").write_bytes(b"header" + values.tobytes() + scales.tobytes())
    described = HostTable(file="model.tflite", dtype="int8", rows=ROWS, columns=COLUMNS, offset=6, scales_offset=6 + values.size)
    return tmp_path, described, values * scales[:, None]


@pytest.fixture
def feed(table):
    folder, described, _ = table
    manifest = npu_manifest()
    manifest.npu_artifact.npu.embedding = described
    manifest.rotations[0].inverse_frequencies = FREQUENCIES
    return HostFeed(folder, manifest)


def test_layers_that_do_not_share_one_rotation_are_refused(table):
    manifest = npu_manifest()
    manifest.rotations *= 2
    with pytest.raises(FirstTokenError, match="has 2 rotations; its NPU graphs take one"):
        HostFeed(table[0], manifest)


def test_rows_of_the_table(table):
    folder, described, wanted = table
    rows = EmbeddingTable(folder, described).rows(np.array([5, 0, 5]))
    assert rows.dtype == np.float32 and np.array_equal(rows, wanted[[5, 0, 5]].astype(np.float32))


def test_a_table_outside_the_file_is_refused(table):
    folder, described, _ = table
    with pytest.raises(FirstTokenError, match="does not hold the embedding"):
        EmbeddingTable(folder, described.model_copy(update={"scales_offset": 40}))
    with pytest.raises(FirstTokenError, match="does not hold the embedding"):
        EmbeddingTable(folder, described.model_copy(update={"rows": 1000}))


def test_a_call_is_padded_behind(feed):
    call = feed.call(np.array([1, 2, 3], np.int32), 5, 8)
    assert call["embedding"].shape == (8, COLUMNS) and not call["embedding"][3:].any() and call["embedding"][:3].any()
    assert call["last"].tolist() == [2] and call["cos"].shape == call["sin"].shape == (8, 1, DIM)
    assert (call["cache_mask"][0, :5] == 0).all() and (call["cache_mask"][0, 5:] == -30000).all()


@pytest.mark.parametrize("position", [0, 77, 1279, 3001, 100_000])
def test_angles_at_large_positions(feed, position):
    """Against float64 on the model's own float32 angle, which is what it was trained with."""
    cos, sin = feed.rotation(np.array([position]))
    angles = (np.float32(position) * np.array(FREQUENCIES, np.float32)).astype(np.float64)
    assert np.abs(cos[0, 0] - np.cos([*angles, *angles])).max() < 1e-6
    assert np.abs(sin[0, 0] - np.concatenate([-np.sin(angles), np.sin(angles)])).max() < 1e-6
