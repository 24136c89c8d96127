"""Which programs ExecuTorch's cache of packed weights can hold: `test_native_load` shows what it makes of one that it cannot."""

import pytest

from firsttoken.backends.executorch.packing import named_apart
from firsttoken.errors import FirstTokenError


@pytest.mark.parametrize("plan", ["fp32", "int8", "mixed"])
def test_ordinary_programs_can_be_held(plan, lowerings):
    assert named_apart(lowerings.lower(plan)[0])


def test_a_program_that_cannot_be_read_is_refused(lowerings, tmp_path):
    content = lowerings.lower("int8")[0].read_bytes()
    (tmp_path / "cut.pte").write_bytes(content[: len(content) // 3])
    with pytest.raises(FirstTokenError, match="not a .pte that this firsttoken can read"):
        named_apart(tmp_path / "cut.pte")
