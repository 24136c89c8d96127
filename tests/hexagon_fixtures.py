"""Qualcomm's host libraries for tests, and the demo checkpoint compiled with them: skipped loudly where they are absent, failed where CI must run them."""

import os

import pytest

from firsttoken.errors import FirstTokenError

SMALL = {"cache_length": 160}  # positions; emulating attention over the default cache takes most of a test's time


@pytest.fixture(scope="session")
def hexagon_libraries():
    """Returns the libraries, of a version that LiteRT's compiler takes."""
    from firsttoken.backends.tflite_hexagon.libraries import find_libraries
    from firsttoken.backends.tflite_hexagon.lower import check_tools
    from firsttoken.backends.tflite_hexagon.qnn_context import import_onnxruntime

    try:
        check_tools()
        import_onnxruntime()
    except FirstTokenError as error:
        if os.environ.get("FIRSTTOKEN_CI") == "1":
            pytest.fail(f"CI must run this: {error}")
        pytest.skip(f"{error} (in a checkout: scripts/setup hexagon)")
    return find_libraries()


@pytest.fixture(scope="session")
def hexagon_bundle(hexagon_libraries, tmp_path_factory):
    """Returns a function from an SoC to the demo checkpoint's bundle for it, with a short cache, made once and not proven."""
    from firsttoken.demo import checkpoint_path
    from firsttoken.pipeline import export

    made = {}

    def bundle(soc: str = "sm8550", plan: str = "fp16-attention"):
        if (soc, plan) not in made:
            folder = tmp_path_factory.mktemp("hexagon")
            [made[soc, plan]] = export(checkpoint_path(), folder, plan, (f"tflite-hexagon-{soc}",), prove=False, **SMALL)
        return made[soc, plan]

    return bundle
