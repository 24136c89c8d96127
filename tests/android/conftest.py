"""The modules beside the tests are imported by their names; what Python makes for the Kotlin tests is made once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from natives_fixtures import arm, bundle, faulty_bundle, native_x86, x86  # noqa: F401  after the path it needs


@pytest.fixture(scope="session")
def parity(tmp_path_factory) -> Path:
    from building import need
    from parity import make

    need("java", "javac", "mvn")
    folder = tmp_path_factory.mktemp("parity")
    make(folder)
    return folder


@pytest.fixture(scope="session")
def core_said(parity) -> str:
    """What the tests of core said; they have all run, and passed. The measurements they wrote are in ``written-by-core``."""
    from building import build

    said = build("--test", "core", "--parity", parity)
    (parity / "written").rename(parity / "written-by-core")
    return said


@pytest.fixture(scope="session")
def apk_said() -> str:
    """What scripts/build_apk said; the APK that it made is `android.apk.APK`."""
    from building import build, need

    need("java", "javac", "mvn", "aapt2", "apksigner")
    return build()
