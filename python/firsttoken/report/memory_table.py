"""What a recipe's training needs, as a table."""

from rich.table import Table

from firsttoken.distill.cache import bytes_per_position
from firsttoken.distill.compute_time import training_work
from firsttoken.distill.memory import DEFAULT_TOP, Estimate, helps, numbers_of
from firsttoken.distill.recipe import Recipe
from firsttoken.report.tables import table


def gigabytes(size: int) -> str:
    """10^9 bytes; small sizes with more digits."""
    return f"{size / 1e9:,.2f}" if size >= 1e8 else f"{size / 1e9:,.4f}"


def memory_table(found: Estimate) -> Table:
    """A row for everything that is in memory at the peak of a step, and their sum."""
    rows = [(name, gigabytes(size)) for name, size in found.rows]
    rows.append(("peak of a training step", gigabytes(found.training)))
    rows += [(f"{name} (another moment)", gigabytes(size)) for name, size in found.beside]
    return table(None, (f"on each of {found.machine.devices} devices" if found.machine.devices > 1 else "on the device", "GB"), rows)


def facts(recipe: Recipe, found: Estimate, other: Estimate) -> list[str]:
    """What stands below the table: whether it fits, with and without recomputing, operations, a cache's size."""
    machine, step, lines = found.machine, found.step, []
    device = "GPU" if machine.gpu else "process"
    if machine.memory is not None:
        verdict = "fits" if found.fits else "does NOT fit"
        lines.append(
            f"It {verdict} into the {machine.memory / 1e9:,.1f} GB of each {device}{'' if found.fits else ': ' + '; '.join(helps(recipe, found))}."
        )
    word = "Without" if step.checkpointing else "With"
    lines.append(f"{word} gradient checkpointing a step needs {gigabytes(other.training)} GB.")
    lines.append(f"A {device} takes {step.sequences} windows of {step.length:,} tokens at once.")
    work = training_work(recipe)
    lines.append(
        f"The whole training: {sum(work.values()):.2g} operations ({', '.join(f'{name} {value:.2g}' for name, value in work.items() if value)})."
    )
    tokens = recipe.training.steps * recipe.training.batch * recipe.data.length
    each = bytes_per_position(DEFAULT_TOP, numbers_of(step.student.config)["vocab_size"])
    lines.append(
        f"A cache of {DEFAULT_TOP} tokens a position holds {each} bytes a position: {gigabytes(tokens * each)} GB for the {tokens:,} tokens of this training, if each is seen once."
    )
    return lines
