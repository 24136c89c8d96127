"""What tests of several folders share: a cache folder of their own, a tiny checkpoint, exported demo bundles."""

import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from firsttoken.arm.folder import FOLDER_VARIABLE, arm_folder
from firsttoken.backends.gpu import device as gpu
from firsttoken.errors import FirstTokenError

# The emulated ARM machine of scripts/setup_arm is used where it lies, and so is the software GPU of scripts/setup_gpu.
with suppress(FirstTokenError):  # no place for it
    os.environ.setdefault(FOLDER_VARIABLE, str(arm_folder()))
    os.environ.setdefault(gpu.FOLDER_VARIABLE, str(gpu.gpu_folder()))
# Before anything is imported that reads it: tests leave nothing in the user's cache.
_CACHE = tempfile.TemporaryDirectory(prefix="firsttoken-test-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name
# Asking transformers takes seconds for every checkpoint that an export meets; tests/prove/test_witness.py asks.
os.environ["FIRSTTOKEN_NO_WITNESS"] = "1"
sys.path.insert(0, str(Path(__file__).parent / "decoder"))

from arm_fixtures import emulated_arm  # noqa: E402, F401
from executorch_fixtures import lowerings  # noqa: E402, F401  after the path it needs
from gpu_fixtures import software_gpu  # noqa: E402, F401
from hexagon_fixtures import hexagon_bundle, hexagon_libraries  # noqa: E402, F401
from real_model import real_model, real_model_file  # noqa: E402, F401
from stock_fixtures import half_demo, own_litertlm, stock_litertlm, stock_pte  # noqa: E402, F401


def pytest_configure():
    """A first load is tried in a process of its own, which takes ExecuTorch seconds; the bundles here are our own, and tests/run/test_trial.py tries it."""
    from firsttoken.foreign import open as foreign
    from firsttoken.run import open as opening

    opening.try_first = lambda folder, manifest, backend: None
    foreign.try_first = lambda path, found: None


def pytest_unconfigure():
    _CACHE.cleanup()


# Folders and files that share a dear fixture, made once in each process.
TOGETHER = {
    "android": "android",
    "device": "device",
    "checkpoint_sources/test_packaged.py": "real model",
    "end_to_end/test_real_model.py": "real model",
    "prove/test_on_npu.py": "hexagon",
    "backends/tflite_hexagon/test_lower.py": "hexagon",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Where two processes share the tests (``scripts/test``), those of one file stay together, and those of `TOGETHER`."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            path = nodeid.partition("::")[0].removeprefix("tests/")
            return TOGETHER.get(path.partition("/")[0]) or TOGETHER.get(path) or path

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A random two-layer Qwen2 checkpoint with the demo's tokenizer; read-only, copy it to change it (`tiny_checkpoint`)."""
    import torch
    from families_on_disk import random_model, save

    from firsttoken.demo import checkpoint_path

    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    save(random_model("qwen2", vocab_size=4096, max_position_embeddings=2048), folder, torch.bfloat16)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint_path() / name, folder / name)
    return folder


@pytest.fixture
def tiny_checkpoint(tiny_model, tmp_path) -> Path:
    """A copy of `tiny_model` that a test may damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def demo_bundle(tmp_path_factory):
    """Returns a function from a target's name to the demo checkpoint's bundle for it (plan fp16-attention), made once and not proven; it may check drafts."""
    from firsttoken.demo import checkpoint_path
    from firsttoken.pipeline import export

    made: dict[tuple[str, int | None], Path] = {}

    def bundle(target: str, draft_tokens: int | None = None) -> Path:
        if (target, draft_tokens) not in made:
            folder = tmp_path_factory.mktemp("demo")
            [made[target, draft_tokens]] = export(checkpoint_path(), folder, targets=(target,), prove=False, draft_tokens=draft_tokens)
        return made[target, draft_tokens]

    return bundle
