"""Names that the shell completes: plans, targets and recipes. Only file names are read, since a key press waits for it."""

from firsttoken.declarations import declaration_names


def plans(incomplete: str) -> list[str]:
    """Built-in plans that begin with ``incomplete``."""
    return [name for name in (*declaration_names("quant"), *declaration_names("quant/modules")) if name.startswith(incomplete)]


def targets(incomplete: str) -> list[str]:
    """Built-in targets that begin with ``incomplete``."""
    return [name for name in declaration_names("export") if name.startswith(incomplete)]


def recipes(incomplete: str) -> list[str]:
    """Built-in recipes that begin with ``incomplete``."""
    return [name for name in declaration_names("recipes") if name.startswith(incomplete)]


def kinds_of_cpu(incomplete: str) -> list[str]:
    """Kinds of CPU that weights can be packed for."""
    from firsttoken.backends.isa import names

    return [name for name in (*names(), "host") if name.startswith(incomplete)]


def checks(incomplete: str) -> list[str]:
    """What `distill generate` can hold a server's answers against."""
    return [name for name in ("maths", "tests", "length") if name.startswith(incomplete)]
