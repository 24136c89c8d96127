"""What the host feeds to an NPU graph: padding, masks, and angles that stay exact at large positions."""

import numpy as np
import pytest
from manifest_variants import npu_manifest

from firsttoken.backends.tflite_hexagon.npu_inputs import EmbeddingTable, HostFeed, turned
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


def test_every_rotation_and_every_window_is_fed(table):
    folder, described, _ = table
    manifest = npu_manifest()
    artifact = manifest.npu_artifact
    artifact.npu.embedding = described
    slower = [f / 8 for f in FREQUENCIES]
    manifest.rotations = [manifest.rotations[0].model_copy(update={"inverse_frequencies": each}) for each in (FREQUENCIES, slower)]
    artifact.states[1] = artifact.states[1].model_copy(update={"window": 4, "length": 6, "advances": "ring"})
    call = HostFeed(folder, manifest).call(np.array([1, 2], np.int32), 9, 3)
    assert np.allclose(call["cos.1"], turned(np.arange(9, 12), np.array(slower, np.float32))[0])
    assert np.allclose(call["sin"], turned(np.arange(9, 12), np.array(FREQUENCIES, np.float32))[1])
    # rows 0 to 5 hold positions 6, 7, 8, 3, 4, 5; position 9 sees 6 to 8 of them, 10 sees 7 and 8
    assert [[int(n == 0) for n in row] for row in call["cache_mask_4"]] == [[1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0]]


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
def test_angles_at_large_positions(position):
    """Against float64 on the model's own float32 angle, which is what it was trained with."""
    cos, sin = turned(np.array([position]), np.array(FREQUENCIES, np.float32))
    angles = (np.float32(position) * np.array(FREQUENCIES, np.float32)).astype(np.float64)
    assert np.abs(cos[0, 0] - np.cos([*angles, *angles])).max() < 1e-6
    assert np.abs(sin[0, 0] - np.concatenate([-np.sin(angles), np.sin(angles)])).max() < 1e-6
