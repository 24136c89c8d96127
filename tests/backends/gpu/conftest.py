"""A tiny checkpoint as bundles for the GPU, exported once a process."""

import pytest

from firsttoken.pipeline import export

LENGTH = 120


@pytest.fixture(scope="session")
def gpu_bundle(tmp_path_factory, tiny_model):
    """Returns a function from a plan to the bundle, not proven, with a short cache."""
    made = {}

    def make(plan="fp32"):
        if plan not in made:
            [made[plan]] = export(tiny_model, tmp_path_factory.mktemp("gpu"), plan, ("litertlm-gpu",), prove=False, cache_length=LENGTH)
        return made[plan]

    return make
