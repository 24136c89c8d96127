"""The wheel: built, installed into an empty environment with nothing but the base dependencies, and used from there."""

import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
MUST_RUN = os.environ.get("FIRSTTOKEN_CI") == "1"
pytestmark = pytest.mark.slow


def give_up(reason: str):
    """Skips loudly; a failure where continuous integration must run it."""
    (pytest.fail if MUST_RUN else pytest.skip)(reason)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # no isolation: the build needs no network where hatchling is installed
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if "hatchling" in done.stderr and "No module named" in done.stderr:
        give_up("hatchling is not installed, so no wheel can be built; run scripts/setup test")
    assert done.returncode == 0, done.stderr
    [built] = folder.glob("firsttoken-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The ``bin`` folder of an environment that holds the wheel and its base dependencies, at the versions of constraints.txt."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "pip", "install", "--quiet", "--python", folder / "bin/python"]
    if not uv.exists():
        command = [folder / "bin/python", "-m", "pip", "install", "--quiet"]
    done = subprocess.run(list(map(str, [*command, wheel, "-c", ROOT / "constraints.txt"])), capture_output=True, text=True)
    if done.returncode:
        give_up(f"the base dependencies cannot be installed; is the package index reached? {done.stderr.strip()[-600:]}")
    return folder / "bin"


def run(installed: Path, folder: Path, *command, code: int = 0) -> subprocess.CompletedProcess:
    """Runs a program of the environment in ``folder``, where no checkout is near."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run([installed / command[0], *map(str, command[1:])], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == code, (command, done.stdout, done.stderr)
    return done


def test_what_is_in_it(wheel):
    names = ZipFile(wheel).namelist()
    assert "firsttoken/py.typed" in names and "firsttoken/__main__.py" in names and "firsttoken/demo/checkpoint/tokenizer.json" in names
    for kind in ("quant", "export", "recipes"):
        packed = {name.removeprefix("firsttoken/_declarations/") for name in names if name.startswith(f"firsttoken/_declarations/{kind}/")}
        assert packed == {str(path.relative_to(ROOT)) for path in (ROOT / kind).rglob("*") if path.is_file()} != set()


def test_the_demo_is_exported_proven_and_run_from_an_empty_environment(installed, tmp_path):
    program = "from importlib.util import find_spec; print([m for m in ('torch', 'torchao', 'executorch', 'transformers') if find_spec(m)])"
    assert run(installed, tmp_path, "python", "-c", program).stdout == "[]\n"
    program = "import firsttoken, firsttoken.demo; print(firsttoken.__file__); print(firsttoken.demo.checkpoint_path())"
    place, checkpoint = run(installed, tmp_path, "python", "-c", program).stdout.splitlines()
    assert Path(place).is_relative_to(installed.parent) and Path(checkpoint).is_dir()

    assert (
        run(installed, tmp_path, "python", "-m", "firsttoken", "--version").stdout
        == run(installed, tmp_path, "firsttoken", "--version").stdout
    )
    assert "fp16-attention" in [
        plan["name"] for plan in json.loads(run(installed, tmp_path, "firsttoken", "plans", "--json").stdout)["plans"]
    ]

    exported = json.loads(run(installed, tmp_path, "firsttoken", "export", checkpoint, "-t", "tflite-xnnpack", "--json").stdout)
    [bundle] = exported["bundles"]
    assert bundle["manifest"]["artifacts"][0]["proof"]["passed"] and "torch" not in bundle["manifest"]["packages"]
    answered = run(installed, tmp_path, "firsttoken", "generate", bundle["folder"], "--prompt", "def close(self):\n", "--raw", "-n", 12)
    assert answered.stdout.strip()
    proven = json.loads(run(installed, tmp_path, "firsttoken", "prove", bundle["folder"], "-c", checkpoint, "--json").stdout)
    assert proven["passed"] and proven["proof"]["all"]["same_top"] > 0.95

    library = "import firsttoken; print(''.join(firsttoken.generate('out/tflite-xnnpack', 'def close(self):\\n', raw=True, max_tokens=12)))"
    assert run(installed, tmp_path, "python", "-c", library).stdout.strip()


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["export", "CHECKPOINT", "-t", "executorch-xnnpack"], "executorch"),
        (["export", "CHECKPOINT", "-t", "onnx-cpu"], "onnx"),
        (["demo"], "executorch"),
        (["distill", "demo-cut"], "distill"),
        (["distill", "chain", "demo-cut"], "distill"),
        (["evaluate", "CHECKPOINT", "--tasks", "maths=maths.jsonl"], "distill"),
    ],
)
def test_what_an_extra_brings_is_one_line_that_names_it(installed, tmp_path, command, extra):
    (tmp_path / "maths.jsonl").write_text('{"question": "2+2?", "answer": "#### 4"}\n')
    program = "from firsttoken.demo import checkpoint_path; print(checkpoint_path())"
    checkpoint = run(installed, tmp_path, "python", "-c", program).stdout.strip()
    done = run(installed, tmp_path, "firsttoken", *(checkpoint if word == "CHECKPOINT" else word for word in command), code=2)
    assert done.stderr.count("\n") == 1 and f"run: pip install 'firsttoken[{extra}]'" in done.stderr, done.stderr
