"""Gemma 4's table of layers is read from the file, row by row: neither packed nor copied into memory."""

import re
from pathlib import Path

import numpy as np
import pytest
from families_on_disk import random_model, save
from tflite_fixtures import open_lowered

ROWS, SIZE, LAYERS = 8192, 1024, 16  # the rest of what a runner holds, 27 MB, is then far below a third of the table
TABLE = ROWS * SIZE * LAYERS  # bytes in INT8


def resident(path: Path) -> tuple[int, int]:
    """Resident bytes of this process: pages of the file at ``path``, and pages that no file holds."""
    of_file = anonymous = 0
    here = ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            here = line.split(maxsplit=5)[-1]
        elif line.startswith("Rss:") and here == str(path):
            of_file += int(line.split()[1]) << 10
        elif line.startswith("Anonymous:"):
            anonymous += int(line.split()[1]) << 10
    return of_file, anonymous


@pytest.mark.slow
def test_rows_come_from_the_mapped_file(tmp_path):
    model = random_model("gemma4", vocab_size=ROWS, hidden_size_per_layer_input=SIZE)
    folder = save(model, tmp_path / "checkpoint")
    del model
    path = tmp_path / "model.tflite"
    open_lowered(folder, path, "int8", "tflite-xnnpack", cache_length=128).close()  # writes it
    assert path.stat().st_size > TABLE
    before = resident(path)
    runner = open_lowered(folder, path, "int8", "tflite-xnnpack", cache_length=128)
    tokens = np.random.default_rng(0).integers(0, ROWS, 20).tolist()
    runner.prefill(tokens[:10])
    for token in tokens[10:]:
        runner.decode(token)
    after = resident(path)
    assert 0 < after[0] - before[0] < TABLE // 3  # some pages of the file were touched
    assert after[1] - before[1] < TABLE // 3
    runner.close()
