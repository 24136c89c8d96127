"""What is particular to a runtime stands in its backend: nothing outside asks which runtime or delegate it has."""

import ast
from pathlib import Path

import firsttoken

ROOT = Path(firsttoken.__file__).parent
NAMES = {"runtime", "delegate"}


def asked(path: Path) -> list[str]:
    """Comparisons of something's ``runtime`` or ``delegate`` with a name written out."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr in NAMES:
            if any(isinstance(other, ast.Constant) and isinstance(other.value, str) for other in node.comparators):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    return found


def test_no_one_asks_for_the_runtime_outside_the_backends():
    assert [line for path in sorted((ROOT / "backends").rglob("*.py")) for line in asked(path)], "the look finds what there is"
    outside = [path for path in sorted(ROOT.rglob("*.py")) if "backends" not in path.relative_to(ROOT).parts]
    assert ROOT / "pipeline.py" in outside
    assert [line for path in outside for line in asked(path)] == []
