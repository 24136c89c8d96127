"""The demo checkpoint and a tiny one as .litertlm bundles, exported once a process."""

import pytest

from firsttoken.demo import checkpoint_path
from firsttoken.pipeline import export


@pytest.fixture(scope="session")
def bundles(tmp_path_factory, tiny_model):
    """Returns a function that exports once and gives the folder: ``(target, plan, checkpoint, lengths) -> bundle``."""
    made = {}

    def make(target="litertlm-cpu", plan="fp32", checkpoint=tiny_model, **lengths):
        key = target, plan, checkpoint, *lengths.items()
        if key not in made:
            [made[key]] = export(checkpoint, tmp_path_factory.mktemp("litertlm"), plan=plan, targets=[target], prove=False, **lengths)
        return made[key]

    return make


@pytest.fixture(scope="session")
def demo():
    return checkpoint_path()
