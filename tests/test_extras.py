"""What an extra brings: where it is absent, one line says what needs it and which extra to install."""

import sys

import pytest

from firsttoken import cli
from firsttoken.backends.executorch.native_build import native_library
from firsttoken.demo import checkpoint_path
from firsttoken.doctor import examine
from firsttoken.errors import FirstTokenError
from firsttoken.extras import EXTRAS, install_command, missing, need

OTHER_NAMES = {"llama_cpp": "llama_cpp_python"}  # packages that are not called as their module


@pytest.fixture
def absent(monkeypatch):
    """Hides modules from ``import`` and `find_spec` alike."""

    def hide(*modules: str):
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)

    return hide


def test_need(absent):
    need("executorch", "a .pte bundle")
    absent("torchao")
    assert missing("executorch") == ["torchao"]
    with pytest.raises(
        FirstTokenError, match=r"a .pte bundle needs torchao, which is not installed; run: pip install 'firsttoken\[executorch\]'"
    ):
        need("executorch", "a .pte bundle")


def test_the_extras_are_those_of_the_project():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for extra, (_, modules) in EXTRAS.items():
        packages = {requirement.split("=")[0].split(">")[0].replace("-", "_") for requirement in project["optional-dependencies"][extra]}
        assert {OTHER_NAMES.get(module, module) for module in modules} <= packages
    base = " ".join(project["dependencies"])
    assert not any(module in base for _, modules in EXTRAS.values() for module in modules)


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["export", str(checkpoint_path()), "-t", "executorch-xnnpack", "-o", "OUT"], "executorch"),
        (["export", str(checkpoint_path()), "-t", "onnx-cpu", "-o", "OUT"], "onnx"),
        (["demo", "-o", "OUT"], "executorch"),
        (["distill", "demo-cut", "-o", "OUT"], "distill"),
        (["distill", "chain", "demo-cut", "-o", "OUT"], "distill"),
        (["distill", "cache", "demo-cut", "-o", "OUT"], "distill"),
        (["distill", "search", "demo-cut", "-o", "OUT"], "distill"),
        (["distill", "generate", str(checkpoint_path()), "prompts.jsonl", "-o", "OUT"], "distill"),
        (["distill", "generate", "http://localhost:1", "prompts.jsonl", "-o", "OUT"], "servers"),
        (["distill", "difficulty", "pool.jsonl", "--model", str(checkpoint_path()), "-o", "OUT"], "distill"),
    ],
)
def test_a_verb_says_which_extra_it_needs(absent, capsys, tmp_path, command, extra):
    absent(*EXTRAS[extra][1])
    out = tmp_path / "out"
    assert cli.run([str(out) if word == "OUT" else word for word in command]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and install_command(extra) in line
    assert not out.exists()


@pytest.mark.slow
def test_a_bundle_of_a_runtime_that_is_absent(demo_bundle, absent, capsys, request):
    bundle = str(demo_bundle("executorch-xnnpack"))
    native_library.cache_clear()  # what this process has loaded already stays loaded
    request.addfinalizer(native_library.cache_clear)
    absent("executorch")
    for command in (
        ["generate", bundle, "--prompt", "x"],
        ["bench", bundle, "--prompts", "16"],
        ["prove", bundle, "-c", str(checkpoint_path())],
    ):
        assert cli.run(command) == 2
        assert install_command("executorch") in capsys.readouterr().err


def test_a_checkpoint_that_is_to_answer(absent, capsys, tmp_path):
    (tmp_path / "maths.jsonl").write_text('{"question": "2+2?", "answer": "#### 4"}\n')
    absent("transformers")
    assert cli.run(["evaluate", str(checkpoint_path()), "-t", f"maths={tmp_path / 'maths.jsonl'}"]) == 2
    assert install_command("distill") in capsys.readouterr().err


def test_doctor_lists_them(absent):
    absent("accelerate")
    checks = {check.name: check for check in examine()}
    assert checks["extra executorch"].state == "ok" and "torch 2" in checks["extra executorch"].found
    lacking = checks["extra distill"]
    assert lacking.state == "note" and "accelerate not installed" in lacking.found and lacking.advice.endswith(install_command("distill"))
