"""What a file that firsttoken did not write is made of, for the terminal: weights by type, and what the delegate took."""

from collections import Counter

from rich.table import Table

from firsttoken.foreign.structure import UNREAD, Matrix, Structure
from firsttoken.report.tables import table
from firsttoken.units import readable

LISTED = 6  # kinds of operators in a line


def storage_lines(found: Structure) -> list[str]:
    """A line for each type of weights: how many, how large, how they are scaled."""
    groups: dict[tuple[str, str], list[Matrix]] = {}
    for matrix in found.matrices:
        groups.setdefault((matrix.stored, scaled(matrix)), []).append(matrix)
    lines = []
    for (stored, how), matrices in sorted(groups.items(), key=lambda each: -sum(matrix.bytes for matrix in each[1])):
        count = f"{len(matrices)} {'matrix' if len(matrices) == 1 else 'matrices'}"
        lines.append(f"stored: {count} in {stored}, {readable(sum(matrix.bytes for matrix in matrices))}{how}")
    for stored, (number, size) in sorted(found.others.items()):
        lines.append(f"stored: {number} other constants in {stored}, {readable(size)}")
    if found.cache != "unknown":
        lines.append(f"keys and values in {found.cache}")
    return lines


def scaled(matrix: Matrix) -> str:
    if not matrix.scales:
        return ""
    points = ", zero points" if matrix.shifted else ""
    return f" (scales not read{points})" if matrix.scales == UNREAD else f", one scale a {matrix.scales}{points}"


def delegation_lines(found: Structure) -> list[str]:
    """A line for each graph: how many operators the delegate took, and what it left."""
    lines = []
    for graph in found.graphs:
        if graph.unknown:
            lines.append(f"{graph.name}: {graph.operators} operators; what the delegate takes of them is not known: {graph.unknown}")
            continue
        left = Counter(graph.outside)
        named = ", ".join(f"{kind} ({count})" for kind, count in left.most_common(LISTED)) + (" …" if len(left) > LISTED else "")
        lines.append(
            f"{graph.name}: the delegate took {graph.taken} of {graph.operators} {graph.counted}{f'; left: {named}' if named else ''}"
        )
    return lines


def matrix_table(found: Structure) -> Table:
    """Every stored matrix, the largest first; the file has no layer names that mean the same everywhere."""
    body = [
        (f"{' × '.join(map(str, matrix.shape))}", matrix.stored, matrix.scales, ", ".join(sorted(matrix.users)), readable(matrix.bytes))
        for matrix in sorted(found.matrices, key=lambda each: -each.bytes)
    ]
    return table(None, ("shape", "stored", "one scale a", "read by", "size"), body, left=4)
