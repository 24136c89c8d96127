"""The library: the verbs as functions, whatever was imported before, with types that a checker sees; the README's example runs."""

import inspect
import re
import subprocess
import sys
import typing
from importlib import import_module
from pathlib import Path

import pytest

import firsttoken
from firsttoken.demo import checkpoint_path

VERBS = ("get", "export", "prove", "generate", "bench", "distill", "evaluate", "report")
# what a function has no use for: the form of what is printed, and the loop over many prompts
PRINTED = {"as_json", "verbose", "audit", "markdown", "csv", "diff", "prompts", "monitor", "minutes"}
README = Path(__file__).parents[1] / "README.md"


def python(program: str, **more) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, **more).stdout


def test_importing_it_imports_nothing_else():
    heavy = "('numpy', 'pydantic', 'torch', 'typer', 'firsttoken.api')"
    assert (
        python(f"import sys, firsttoken; print(dir(firsttoken)); print([m for m in {heavy} if m in sys.modules])").splitlines()[-1] == "[]"
    )


@pytest.mark.parametrize(
    "before",
    [
        "import firsttoken",
        "import firsttoken.prove.gate, firsttoken.report.report, firsttoken.evaluate.tasks, firsttoken.distill.recipe",
        "from firsttoken.prove.prove import prove\nfrom firsttoken.evaluate.evaluate import evaluate\nimport firsttoken",
        "import firsttoken\nfirsttoken.prove, firsttoken.report\nimport firsttoken.prove.gate, firsttoken.report.report",
        "import firsttoken.api",
    ],
)
def test_the_verbs_are_there_in_whatever_order_things_are_imported(before):
    program = f"""
{before}
import inspect, firsttoken
from firsttoken import api
for name in {VERBS}:
    verb, function = getattr(firsttoken, name), getattr(api, name)
    assert callable(verb) and verb.__doc__ == function.__doc__, name
    assert inspect.signature(verb) == inspect.signature(function), name
import firsttoken.prove.gate as gate  # and the packages are still packages
import firsttoken.distill.recipe
assert firsttoken.prove.gate is gate and firsttoken.distill.recipe.recipe_names() and callable(firsttoken.prove)
from firsttoken import *
assert callable(export) and issubclass(GateError, FirstTokenError)
try:
    firsttoken.prove("absent", "absent")
except FirstTokenError as error:
    print(error)
"""
    assert "absent: not a folder" in python(program)


def test_what_is_public():
    assert set(VERBS) < set(firsttoken.__all__) <= set(dir(firsttoken))
    with pytest.raises(AttributeError, match="no attribute 'exprot'"):
        firsttoken.exprot  # noqa: B018


@pytest.mark.parametrize("name", VERBS)
def test_a_function_is_typed_and_taught(name):
    function = getattr(import_module("firsttoken.api"), name)
    hints = typing.get_type_hints(function)
    assert set(inspect.signature(function).parameters) == set(hints) - {"return"} and "return" in hints
    text = function.__doc__
    assert f"firsttoken.{name}(" in text and "Raises `FirstTokenError`" in text
    compile("\n".join(line[8:] for line in text.splitlines() if line.startswith(" " * 8)), name, "exec")


@pytest.mark.parametrize("name", VERBS)
def test_a_function_takes_what_the_verb_takes(name):
    verb = import_module(f"firsttoken.cli.{name}")
    options = set(inspect.signature(verb.run if name == "distill" else getattr(verb, name)).parameters)
    thinking = dict.fromkeys(("max_thinking", "min_thinking", "ignore_end", "thinking_end", "wait"), "thinking")  # one value, five options
    renamed = {"no_prove": "prove", "no_witness": "witness", "files": "measurements", **thinking}
    options = {renamed.get(option, option) for option in options} - {"context"}
    of_modules = (
        {"samples", "lengths", "width", "labels"} & options if name in ("export", "prove") else set()
    )  # the function for modules is one of its own
    assert of_modules <= set(inspect.signature(firsttoken.export_module).parameters)
    options -= of_modules
    taken = set(inspect.signature(getattr(firsttoken, name)).parameters) - {"progress", "say", "statistics", "observe"}
    left_out = PRINTED - {"prompts"} if name == "bench" else PRINTED
    # evaluate's -o is the printed table as a file; of one function's result the caller writes what it wants
    assert taken == options - left_out - ({"output"} if name == "evaluate" else set())


@pytest.mark.slow
def test_a_type_checker_sees_the_signatures(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    (tmp_path / "use.py").write_text("""
import firsttoken
reveal_type(firsttoken.export("checkpoint"))
reveal_type(firsttoken.prove("bundle", "checkpoint").passed)
reveal_type(firsttoken.generate("bundle", "prompt"))
reveal_type(firsttoken.bench(["bundle"]).results[0].threads)
reveal_type(firsttoken.distill("recipe"))
reveal_type(firsttoken.evaluate("model", "text=file"))
reveal_type(firsttoken.report("file"))
firsttoken.export("checkpoint", plam="int8")
""")
    done = subprocess.run([sys.executable, "-m", "mypy", "--follow-imports=silent", "use.py"], cwd=tmp_path, capture_output=True, text=True)
    revealed = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert [each.replace("builtins.", "") for each in revealed] == [
        "list[pathlib.Path]",
        "bool",
        "typing.Iterator[str]",
        "int",
        "pathlib.Path",
        "dict[str, list[firsttoken.evaluate.evaluate.Score]]",
        "list[str]",
    ], done.stdout
    assert 'Unexpected keyword argument "plam"' in done.stdout


def test_the_verbs_as_functions(tmp_path):
    """A checkpoint to a page, without the command line."""
    said: list[str] = []
    stages: set[str] = set()
    progress = lambda stage, done, total, unit: stages.add(stage)  # noqa: E731
    [bundle] = firsttoken.export(checkpoint_path(), tmp_path / "out", plan="int8", prove=False, progress=progress, say=said.append)
    assert bundle == tmp_path / "out/tflite-xnnpack" and "will take about" in said[0] and stages
    proven = firsttoken.prove(bundle, checkpoint_path())
    assert proven.passed and proven.misses == [] and proven.proof.all.same_top > 0.95 and proven.audit

    facts = import_module("firsttoken.run.generate").Statistics()
    pieces = list(firsttoken.generate(bundle, "def close", raw=True, max_tokens=8, statistics=facts))
    assert "".join(pieces).strip() and facts.new_tokens == 8 and facts.prompt_tokens == 2
    with pytest.raises(firsttoken.FirstTokenError, match="not a folder"):
        firsttoken.generate(tmp_path / "absent", "x")  # before the first piece is asked for

    file = tmp_path / "host.measurement.json"
    measured = firsttoken.bench(bundle, prompts=[16], processes=1, repeat=2, output=file)
    assert len(measured.results[0].runs) == 3 and file.is_file()
    (tmp_path / "budget.toml").write_text("[[budget]]\nartifact_mib = 1\n")
    with pytest.raises(firsttoken.GateError, match="1 limits of .*artifact_mib"):
        firsttoken.bench([bundle], prompts=[16], processes=1, repeat=1, budget=tmp_path / "budget.toml")

    assert firsttoken.report(measured, tmp_path / "one.html") == []
    assert "tflite-xnnpack" in (tmp_path / "one.html").read_text()
    again = firsttoken.bench([bundle], prompts=[16], processes=1, repeat=2)
    assert firsttoken.report([again], tmp_path / "two.html", baseline=measured) == []
    assert "baseline" in (tmp_path / "two.html").read_text()
    [note] = firsttoken.report([measured, measured], tmp_path / "three.html")
    assert "measurement 2 holds the same as measurement 1" in note

    text = f"text={checkpoint_path().parent / 'held_out.txt'}"
    [[score]] = firsttoken.evaluate(bundle, text, text_tokens=300).values()
    assert score.measure == "perplexity" and 1 < score.value < 100


@pytest.mark.slow
def test_the_example_of_the_readme_runs(tmp_path):
    """In a folder where path/to/checkpoint is the demo's."""
    [example] = [block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "import firsttoken" in block]
    assert len(example.strip().splitlines()) <= 8
    (tmp_path / "path/to").mkdir(parents=True)
    (tmp_path / "path/to/checkpoint").symlink_to(checkpoint_path())
    shown = python(example, cwd=tmp_path)
    assert (tmp_path / "report.html").is_file() and "True" in shown


def test_python_m():
    done = subprocess.run([sys.executable, "-m", "firsttoken", "frobnicate"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: No such command 'frobnicate'")
