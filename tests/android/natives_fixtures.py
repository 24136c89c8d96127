"""The APK's native library in a JVM, and the bundles that it is given."""

import os
import sys
from unittest.mock import patch

import pytest
from building import REPOSITORY, give_up, need

sys.path.insert(0, str(REPOSITORY / "scripts"))

from android.apk import APK
from android.failure import BuildError
from android.natives.harness import harness
from android.natives.machines import emulated_arm, this_machine
from android.natives.native_runner import native_harness

from firsttoken.backends.tflite.ops import TfliteOps
from firsttoken.demo import checkpoint_path
from firsttoken.pipeline import export


@pytest.fixture(scope="module")
def x86(apk_said):
    need("gcc", "readelf")
    if os.uname().machine != "x86_64":
        pytest.skip("the APK's x86_64 library needs an x86_64 machine")
    return harness(this_machine(), APK)


@pytest.fixture(scope="module")
def arm(apk_said):
    need("readelf")
    try:
        machine = emulated_arm()
    except BuildError as error:
        give_up(f"the APK's ARM library is not run: {error}")
    return harness(machine, APK)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """Returns a function from plan and target to the demo checkpoint's bundle, made once."""
    made = {}

    def make(plan: str, target: str = "tflite-compat", **lengths):
        if (plan, target) not in made:
            [made[plan, target]] = export(
                checkpoint_path(), tmp_path_factory.mktemp("natives"), plan=plan, targets=[target], prove=False, **lengths
            )
        return made[plan, target]

    return make


@pytest.fixture(scope="session")
def faulty_bundle(tmp_path_factory):
    """FP16 cache rows read by CAST, which TensorFlow Lite 2.16 cannot resize."""

    def cast(ops, x, dtype):
        return ops.cast(x, dtype)

    with patch.object(TfliteOps, "_converted", cast):
        [made] = export(checkpoint_path(), tmp_path_factory.mktemp("faulty"), targets=["tflite-compat"], prove=False)
    return made


@pytest.fixture(scope="session")
def native_x86(apk_said):
    need("g++")
    if os.uname().machine != "x86_64":
        pytest.skip("LiteRT's library of this wheel is for another machine")
    return native_harness(this_machine())
