"""What a program remembers, read from and written into the memory that the runtime planned for it: the method reads what was put there."""

import shutil

import numpy as np
import pytest
from executorch_fixtures import Lowerings

from firsttoken.backends.executorch.state import program_buffers
from firsttoken.errors import FirstTokenError


def after(runner, tokens):
    """The logits of three more steps."""
    return [runner.decode(int(tokens[0])).copy(), runner.prefill(tokens[1:6]).copy(), runner.decode(int(tokens[6])).copy()]


def equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def check(lowerings, plan):
    """A cache taken out of one runner goes on in another, and in this one after something else, as if nothing had been between."""
    runner, other, tokens = lowerings.open(plan, 1), lowerings.open(plan, 1), np.array(lowerings.tokens, np.int32)
    runner.prefill(tokens[:20])
    runner.decode(int(tokens[20]))
    held, arrays = runner.held_tokens, runner.held_arrays()
    assert {name: array.dtype for name, array in arrays.items()} == runner.held_types
    wanted = after(runner, tokens[21:])
    runner.reset()
    runner.prefill(tokens[10:40])
    for one in (runner, other):
        one.hold_again(held, arrays)
        assert one.position == 21 and equal(after(one, tokens[21:]), wanted)
    changed = {name: array + 1 if name.startswith(("value", "convolution", "recurrent")) else array for name, array in arrays.items()}
    other.hold_again(held, changed)
    assert not equal(after(other, tokens[21:]), wanted), "the method must read what was put there"
    runner.close()
    other.close()
    return arrays


@pytest.mark.parametrize("plan", ["fp32", "int8", "mixed"])
def test_a_cache_goes_on_elsewhere(plan, lowerings):
    arrays = check(lowerings, plan)
    assert {name.partition(".")[0] for name in arrays} == {"key", "value"}
    assert {array.dtype.name for array in arrays.values()} == ({"float16", "float32"} if plan == "mixed" else {"float32"})
    assert all(np.abs(array).max() > 0 and array.shape[1] == 21 for array in arrays.values())


@pytest.mark.slow
def test_a_family_that_remembers_something_else(tmp_path):
    arrays = check(Lowerings(tmp_path, tmp_path / "checkpoint", "qwen3_5"), "fp32")
    assert {name.partition(".")[0] for name in arrays} == {"key", "value", "convolution", "recurrent"}


def test_every_part_is_read(lowerings):
    runner, tokens = lowerings.open("fp32", 1), np.array(lowerings.tokens, np.int32)
    runner.prefill(tokens[:5])
    arrays = runner.held_arrays()
    wanted = runner.decode(int(tokens[5])).copy()
    for name, array in arrays.items():
        runner.hold_again(tokens[:5], arrays | {name: array * 8})
        assert not np.array_equal(runner.decode(int(tokens[5])), wanted), name
    runner.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: b"not a program" * 100, "not a .pte that this firsttoken can read"),
        (lambda content: content[:1000], "not a .pte"),
        (lambda content: content[:64] + b"\xff" * 4000 + content[4064:], "not a .pte"),
    ],
)
def test_a_damaged_program_is_refused(lowerings, tmp_path, change, said):
    path = lowerings.lower("fp32")[0]
    (tmp_path / "model.pte").write_bytes(change(path.read_bytes()))
    with pytest.raises(FirstTokenError, match=said):
        program_buffers(tmp_path / "model.pte")
    with pytest.raises(FirstTokenError, match="cannot be read"):
        program_buffers(tmp_path / "none.pte")


def test_a_manifest_that_says_something_else_is_refused(lowerings, tmp_path):
    path, manifest, _ = lowerings.lower("fp32")
    copy = shutil.copy(path, tmp_path / "model.pte")
    other = manifest.model_copy(deep=True)
    other.artifacts[0].states[1].shape[1] -= 1
    from firsttoken.backends.executorch.runner import ExecutorchRunner

    runner = ExecutorchRunner(copy, other, 1)
    runner.prefill([1, 2])
    with pytest.raises(FirstTokenError, match="other buffers than the manifest says"):
        runner.held_arrays()
    runner.close()
