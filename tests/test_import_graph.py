"""The data goes one way: no circle of packages and none of files, with imports inside functions counted too."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import firsttoken

ROOT = Path(firsttoken.__file__).parent


def module_name(path: Path) -> str:
    parts = ("firsttoken", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def type_checking_only(tree: ast.Module) -> set[int]:
    """Lines under ``if TYPE_CHECKING:``, which no program ever runs."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return {child.lineno for block in blocks for child in ast.walk(block) if isinstance(child, ast.ImportFrom)}


def imported(name: str, known: dict[str, Path]) -> Iterator[str]:
    """The modules of ours that a module's code imports, at the top or inside a function."""
    tree = ast.parse(known[name].read_text())
    skipped = type_checking_only(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("firsttoken") and node.lineno not in skipped:
            assert not node.level
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module


def circle(graph: dict[str, set[str]]) -> str:
    """One circle of the graph in words, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " <- ".join(error.args[1])
    return ""


def room(module: str) -> str:
    """The package or top-level module that a module stands in."""
    return ".".join(module.split(".")[:2])


def file_graph() -> dict[str, set[str]]:
    known = modules()
    return {name: {other for other in imported(name, known) if other != name} for name in known}


def test_the_graph_is_the_real_one():
    graph = file_graph()
    assert len(graph) > 150
    assert "firsttoken.prove.reference" in {other for name in graph for other in graph[name] if name.startswith("firsttoken.evaluate")}, (
        "a lazy import"
    )
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) and not circle({"a": {"b"}, "b": {"c"}})


def test_no_circle_of_files():
    assert not circle(file_graph())


def test_no_circle_of_packages():
    rooms: dict[str, set[str]] = {}
    for name, others in file_graph().items():
        rooms.setdefault(room(name), set()).update(room(other) for other in others)
    rooms.pop("firsttoken")  # the library's own door, which opens every room
    assert not circle({name: others - {name, "firsttoken"} for name, others in rooms.items()})
