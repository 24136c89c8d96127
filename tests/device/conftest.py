"""Emulated phones for the tests of this folder, and bundles to measure on them."""

import os
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "emulated")]

from emulated.world import World, why_not  # noqa: E402  after its path


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Namespaces with a real adb server; skipped loudly where they cannot be had, failed where CI must run them."""
    if reason := why_not():
        if os.environ.get("FIRSTTOKEN_CI") == "1":
            pytest.fail(f"the emulated phone is needed here: {reason}")
        pytest.skip(f"no emulated phone: {reason}")
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    made.close()


@pytest.fixture
def phones(world, monkeypatch, tmp_path):
    """Returns a function that connects another emulated phone; ``adb`` on PATH reaches them, the current folder is empty, waits are short."""
    from firsttoken.device import cooling, follow, step

    monkeypatch.setenv("PATH", f"{world.bin}:{os.environ['PATH']}")
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    monkeypatch.setattr(follow, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(cooling, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(step, "RECONNECT_POLL_SECONDS", 0.1)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield world.phone
    world.remove_phones()


@pytest.fixture
def phone(phones):
    """One emulated phone, connected, with the app installed."""
    return phones()


@pytest.fixture(scope="session")
def two_bundles(demo_bundle) -> list[Path]:
    """Two bundles of the demo checkpoint that share their tokenizer."""
    return [demo_bundle("tflite-xnnpack"), demo_bundle("tflite-compat")]


@pytest.fixture
def bundle(two_bundles) -> Path:
    return two_bundles[0]
