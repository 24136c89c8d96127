"""The software GPU for tests: skipped loudly where it is not set up, failed where CI must run them."""

import os

import pytest


@pytest.fixture(scope="session")
def software_gpu():
    """Returns the device's folder."""
    from firsttoken.backends.gpu.device import device_folder, gpu_folder, is_set_up

    if not is_set_up():
        reason = f"the software GPU is not set up in {gpu_folder()}: run scripts/setup_gpu"
        if os.environ.get("FIRSTTOKEN_CI") == "1":
            pytest.fail(f"CI must run this: {reason}")
        pytest.skip(reason)
    return device_folder()
