"""Tables for the terminal. Without a terminal they keep their full width, so that a pipe loses nothing."""

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from firsttoken.backends.interface import Backend
from firsttoken.bundle.figures import Figures
from firsttoken.bundle.gpu_facts import GpuProof
from firsttoken.bundle.manifest import AuditRow, Proof
from firsttoken.bundle.npu_proof import NpuProof
from firsttoken.decoder.walk import is_table
from firsttoken.precisions import without_group
from firsttoken.prove.witness_lines import witness_line
from firsttoken.safe_text import harmless

PIPE_WIDTH = 200


def console(stderr: bool = False) -> Console:
    """Returns a console for standard output (or error)."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    # no markup: a path or a package's extra in brackets is text, not a style
    return Console(stderr=stderr, highlight=False, markup=False, width=None if terminal else PIPE_WIDTH)


def table(title: str | None, columns: Iterable[str], rows: Iterable[Iterable[str]], left: int = 1) -> Table:
    """Returns a table whose first ``left`` columns are text and the others figures."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*map(harmless, row))
    return made


def proof_table(proof: Proof) -> Table:
    """The proof's figures for prefill, decode and both together."""
    return figures_table([("prefill", proof.prefill), ("decode", proof.decode), ("all", proof.all)])


def proof_lines(proof: Proof | NpuProof | GpuProof) -> list[str]:
    """How far a proof reaches, whether a loss comes from the plan's precisions or from a fault (the figures against the twin), and the witness."""
    lines = [] if proof.last_position is None else [f"proven up to position {proof.last_position} of the cache"]
    if proof.twin is not None:
        twin = proof.twin
        lines.append(
            f"built as the plan says? {twin.mean_kld:.2e} nats from the plan computed on the host, where its kernels' rounding explains "
            f"{twin.noise_mean_kld:.2e}; logits {twin.scale:.4f} times its own ({twin.positions} positions)"
        )
    if isinstance(proof, Proof) and proof.prefix is not None:
        kept = proof.prefix
        same = "equal to the bit to" if kept.equal_bits else f"{kept.mean_kld:.2e} nats (at most {kept.worst_kld:.2e}) from"
        lines.append(f"the kept system prompt is {same} computing it ({kept.positions} questions)")
    if isinstance(proof, Proof) and proof.packed is not None:
        same = "equal to the bit" if proof.packed.equal_bits else "other logits"
        lines.append(f"with the packed weights for {proof.packed.isa}: {same} ({proof.packed.positions} positions)")
    if isinstance(proof, Proof) and proof.draft is not None:
        draft = proof.draft
        same = "equal to the bit to" if draft.equal_bits else f"{draft.mean_kld:.2e} nats (at most {draft.worst_kld:.2e}) from"
        same_top = "" if draft.equal_bits else f", the same top token at {draft.same_top:.2%}"
        lines.append(f"checking drafts is {same} decoding{same_top} ({draft.positions} positions)")
    if isinstance(proof, Proof) and proof.witness is not None:
        lines.append(witness_line(proof.witness))
    return lines


def arm_table(core: str, host: Proof, arm: Proof, between: Figures) -> Table:
    """The proof's figures on the host and on an ARM core, and those of ARM against the host instead of the checkpoint."""
    return beside_table("host", host, core, arm, between)


def npu_table(cpu: Proof, npu: Proof, between: Figures) -> Table:
    """The proof's figures of a bundle's CPU artifact and of its NPU artifact, and those of the NPU against the CPU."""
    return beside_table("CPU", cpu, "NPU", npu, between)


def beside_table(first: str, one: Proof, second: str, other: Proof, between: Figures) -> Table:
    """Two proofs over the same positions, and the figures of the second against the first instead of the checkpoint."""
    rows = []
    for place, proof in ((first, one), (second, other)):
        rows += [(f"{place}, {name}", part) for name, part in (("prefill", proof.prefill), ("decode", proof.decode), ("all", proof.all))]
    return figures_table([*rows, (f"{second} against {first}", between)])


def figures_table(rows: Iterable[tuple[str, Figures]]) -> Table:
    """Proof figures, one named row each."""
    columns = ("", "positions", "mean KLD", "p99", "p99.9", "same top", "perplexity", "change", "magnitude")
    body = [
        (
            name,
            str(part.tokens),
            f"{part.mean_kld:.2e}",
            f"{part.p99_kld:.2e}",
            f"{part.p999_kld:.2e}",
            f"{part.same_top:.2%}",
            f"{part.reference_perplexity:.3f}",
            f"{part.perplexity_change:+.3%}",
            f"{part.magnitude_ratio:.4f}",
        )
        for name, part in rows
    ]
    return table(None, columns, body)


def audit_table(rows: list[AuditRow], backend: Backend) -> Table:
    """Every layer: asked, stored, computed, delegated. Where it is not as asked (by what the ``backend`` may compute a
    precision in), the row is marked."""

    def mark(row: AuditRow) -> str:
        return (
            ""
            if row.stored == row.asked and (is_table(row.layer) or row.computed in backend.computed(without_group(row.asked)))
            else "differs"
        )

    body = [(row.layer, row.asked, stored_as(row), row.computed, "yes" if row.delegated else "no", mark(row)) for row in rows]
    return table(None, ("layer", "asked", "stored", "computed", "delegated", ""), body, left=6)


def stored_as(row: AuditRow) -> str:
    """What a layer is stored in, and where its integers are the checkpoint's own, from which format."""
    return f"{row.stored}, kept from {row.integers}" if row.integers else row.stored


def audit_summary(rows: list[AuditRow]) -> list[str]:
    """One line for each combination of precisions: how many layers, and an example."""
    groups: dict[tuple, list[str]] = {}
    for row in rows:
        groups.setdefault((row.asked, stored_as(row), row.computed, row.delegated), []).append(row.layer)
    return [
        f"{len(layers)} layers asked {asked}, stored {stored}, computed in {computed}, {'delegated' if delegated else 'not delegated'} ({layers[0]}{' …' if len(layers) > 1 else ''})"
        for (asked, stored, computed, delegated), layers in groups.items()
    ]
