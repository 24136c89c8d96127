"""A loaded module: batches in pieces, and inputs that do not fit refused with what would."""

import numpy as np
import pytest
from executorch_tiny_modules import scores, tiny
from executorch_tiny_modules import tiny_files as tiny_files

from firsttoken.backends.executorch.module_backend import ExecutorchModules
from firsttoken.errors import FirstTokenError

pytestmark = pytest.mark.slow


@pytest.fixture
def runner(tiny_files):
    path, lowered, _ = tiny_files.lower("tokens")
    found = ExecutorchModules().open(path, lowered.methods, 1)
    yield found
    found.close()


def test_more_than_was_planned_for_goes_in_pieces(runner):
    module, values = tiny("tokens")
    many = np.concatenate([values, values[:10]])
    assert len(many) > 2 * runner.most[0][0]
    assert np.allclose(runner.run({"x0": many})["scores"], scores(module, many), atol=1e-5)


def test_other_integers_are_taken(runner):
    module, values = tiny("tokens")
    assert np.allclose(runner.run({"x0": values[:2].astype(np.int32)})["scores"], scores(module, values[:2]), atol=1e-5)


def test_what_does_not_fit_is_refused(runner):
    with pytest.raises(FirstTokenError, match="input 'x0' is absent; expected x0"):
        runner.run({"x1": np.zeros((1, 12))})
    with pytest.raises(FirstTokenError, match=r"input 'x0' is \[1, 13\]; expected \[batch up to 16, 12\]"):
        runner.run({"x0": np.zeros((1, 13))})


def test_a_damaged_file_is_refused(tmp_path, tiny_files):
    path, lowered, _ = tiny_files.lower("tokens")
    damaged = tmp_path / "damaged.pte"
    damaged.write_bytes(b"\0" * 100 + path.read_bytes()[100:])
    with pytest.raises(FirstTokenError, match="ExecuTorch cannot load it"):
        ExecutorchModules().open(damaged, lowered.methods, 1)
