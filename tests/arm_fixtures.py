"""The emulated ARM machine for tests: skipped loudly where it is not set up, failed where CI must run them."""

import os

import pytest


@pytest.fixture(scope="session")
def emulated_arm():
    """Returns the machine's folder."""
    from firsttoken.arm.folder import arm_folder, missing_parts

    if missing := missing_parts():
        reason = f"emulated ARM is not set up in {arm_folder()} ({', '.join(missing)} missing): run scripts/setup_arm"
        if os.environ.get("FIRSTTOKEN_CI") == "1":
            pytest.fail(f"CI must run this: {reason}")
        pytest.skip(reason)
    return arm_folder()
