"""Finding a backend by name: built in, or another package's by its entry point."""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TypeVar

from firsttoken.errors import FirstTokenError

T = TypeVar("T")


def names_of(group: str, built_in: Mapping[str, str]) -> list[str]:
    """Every name, of those built in and of other packages' entry points in ``group``."""
    return sorted({*built_in, *(point.name for point in entry_points(group=group))})


def load_named(name: str, group: str, built_in: Mapping[str, str], kind: type[T], unknown: Callable[[], str]) -> T:
    """Returns an instance of the subclass of ``kind`` that ``name`` stands for; ``built_in`` maps names to "module:class".

    Raises `FirstTokenError`, in the words of ``unknown``, for no such name, and for another package's that cannot be loaded or is none.
    """
    if name in built_in:
        module, _, attribute = built_in[name].partition(":")
        return getattr(import_module(module), attribute)()
    point = next((point for point in entry_points(group=group) if point.name == name), None)
    if point is None:
        raise FirstTokenError(unknown())
    try:
        found = point.load()
    except Exception as error:  # whatever another package's import raises
        raise FirstTokenError(
            f"backend {name!r} of {point.value} cannot be loaded ({type(error).__name__}: {error}); install its package again"
        ) from None
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise FirstTokenError(f"backend {name!r}: {point.value} is no subclass of {kind.__module__}.{kind.__qualname__}")
    return found()
