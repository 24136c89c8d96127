"""scripts/benchmarks: what the docs give as a command runs as one, and the plans that it names are there."""

import ast
import os
import re
from pathlib import Path

import pytest

from firsttoken.quant.plan import load_plan

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "scripts" / "benchmarks"
PROGRAMS = sorted(path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text())


def test_the_programs_can_be_run_by_their_path():
    assert {"quality.py", "recommended.py", "hexagon.py"} <= set(PROGRAMS)
    wrong = [name for name in PROGRAMS if not os.access(FOLDER / name, os.X_OK)]
    assert wrong == [], "chmod +x them"
    assert [name for name in PROGRAMS if not (FOLDER / name).read_text().startswith("#!/usr/bin/env python3\n")] == []


def test_the_docs_name_files_that_are_there():
    text = "".join(path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))))
    named = set(re.findall(r"scripts/benchmarks/[\w-]+\.(?:py|toml)", text))
    assert "scripts/benchmarks/recommended.py" in named
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("program", ["recommended.py", "hexagon.py", "plans.py"])
def test_the_plans_of_a_program_are_there(program):
    tree = ast.parse((FOLDER / program).read_text())
    [names] = [
        ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PLANS"
    ]
    for name in names:
        load_plan(FOLDER / name if name.endswith(".toml") else name)
