"""android-demo/app under Robolectric: every screen, the engines' calls against those that Python's runners make, and what Android 8 has."""

import re
import subprocess
import sys

import pytest
from building import REPOSITORY, build, check_skipped, give_up, need

from firsttoken.measure.measurement import read_measurement

pytestmark = pytest.mark.slow

SCREENS = ("empty", "bundles", "try", "benchmark", "command")
LOOKS = ("light", "dark", "tablet", "large-text")
# On their way, and gone wrong; in light and dark.
STATES = (
    "settings",
    "loading",
    "reading",
    "generating",
    "stopped",
    "failed",
    "turned",
    "restored",
    "conversation",
    "importing",
    "import-failed",
)
STATES += (*tuple(f"benchmark-{state}" for state in ("running", "stopped", "failed", "refused")), "command-refused")
# Marked uses are left out by the check; without the marks the same check must find them.
GUARD = """
import sys
sys.path.insert(0, "scripts")
from android import app, levels
made = app.build()
print("MARKED", levels.lacking(made, levels.GUARDED))
print("UNMARKED", levels.lacking(made, "no.such.Annotation"))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def said(core_said, parity, pictures) -> str:
    """What the tests of the app said. After core's, with whose files its own must not be mixed."""
    need("aapt2")
    return build("--test", "app", "--parity", parity, "--pictures", pictures)


def test_all_kotlin_tests_pass_and_none_is_skipped(said):
    passed, failed = map(int, re.search(r"^(\d+) passed, (\d+) failed$", said, re.MULTILINE).groups())
    assert failed == 0 and passed >= 95, said
    check_skipped(said)


def test_every_screen_is_drawn_in_every_look(said, pictures):
    from PIL import Image

    for screen, look in [(screen, look) for screen in SCREENS for look in LOOKS] + [
        (state, look) for state in STATES for look in ("light", "dark")
    ]:
        with Image.open(pictures / f"{screen}-{look}.png") as image:
            colors = image.convert("RGB").getcolors(maxcolors=1 << 24)
            sizes = {"tablet": (1920, 1200), "turned": (2338, 1078)}
            assert image.size == sizes.get(look, sizes.get(screen, (1078, 2338))), f"{screen}-{look}: {image.size}"
            assert len(colors) > 20, f"{screen}-{look} is empty"
            page = max(colors)[1]
            assert (sum(page) < 150) == (look == "dark"), f"{screen}-{look} has the page colour {page}"


def test_the_docs_show_every_screen_that_the_tests_draw(said, pictures):
    kept = REPOSITORY / "android-demo" / "pictures"
    drawn, there = ({file.stem.removesuffix("-end") for file in folder.glob("*.png")} for folder in (pictures, kept))
    assert there == drawn, "run .venv/bin/python tests/android/pictures.py"
    shown = set(re.findall(r"\(([\w-]+\.png)\)", (kept / "README.md").read_text(encoding="utf-8")))
    assert shown == {file.name for file in kept.glob("*.png")}


def test_measurements_that_the_app_wrote_are_read_by_python(said, parity):
    headless = read_measurement(parity / "written" / "app.json")
    assert headless.writer.name == "firsttoken demo app" and headless.device.soc == "SM8650"
    assert all(run.stages.render is not None for run in headless.results[0].runs)
    turns = read_measurement(parity / "written" / "conversation.json").results[0].runs
    assert [run.turn for run in turns] == [1, 2, 3] and turns[0].cached_tokens == 0 < turns[1].cached_tokens < turns[2].cached_tokens
    assert all(run.cached_tokens < run.prompt_tokens for run in turns)
    shared = read_measurement(parity / "written" / "shared.json")
    assert [result.bundle.plan for result in shared.results] == ["fp16-attention", "int8"]


def test_measurements_of_an_npu_bundle_say_which_artifact_ran(said, parity):
    from parity_npu import is_compiler_there

    if not is_compiler_there():
        give_up("bundles for an NPU cannot be compiled here; run scripts/setup hexagon")
    [npu], [fallen] = (read_measurement(parity / "written" / name).results for name in ("npu.json", "npu-fallback.json"))
    assert (npu.processor, npu.artifact.soc, npu.artifact.fallback) == (
        "NPU",
        "SM8550",
        None,
    ) and npu.ran_bytes != npu.bundle.artifact_bytes
    assert (fallen.processor, fallen.artifact.fallback) == ("CPU", "it is compiled for SM8550, and this phone has SM8650")


def test_measurements_of_a_gpu_bundle_say_which_artifact_ran(said, parity):
    [gpu], [fallen] = (read_measurement(parity / "written" / name).results for name in ("gpu.json", "gpu-fallback.json"))
    assert (gpu.processor, gpu.artifact.place) == ("GPU", "on the GPU") and gpu.ran_bytes != gpu.bundle.artifact_bytes
    assert fallen.artifact.place == "on the CPU, not on the GPU: no accelerator"


def test_nothing_is_used_that_android_8_lacks():
    need("java", "javac", "mvn", "aapt2")
    done = subprocess.run([sys.executable, "-c", GUARD], cwd=REPOSITORY, capture_output=True, text=True, timeout=900)
    if "Maven cannot fetch" in done.stderr:
        give_up("Maven cannot fetch what the API levels are checked with")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "MARKED []" in done.stdout.splitlines(), done.stdout
    assert "getCurrentThermalStatus" in done.stdout and "registerFrameCommitCallback" in done.stdout, "the check finds nothing at all"


def test_the_gradle_build_fits_the_android_plugin():
    need("java", "mvn")
    assert "its android block compiles" in build("--check-gradle")
