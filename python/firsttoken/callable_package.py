"""Packages that are also the verb they are named after: ``firsttoken.prove`` holds ``firsttoken.prove.gate`` and can be called.

Python sets ``firsttoken.prove`` to the package whenever something below it is imported, so a function of that name would
come and go with the order of imports. A package that can be called is both, always.
"""

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package whose call, signature and documentation are those of the function of its name in `firsttoken.api`."""

    @property
    def _verb(self) -> Callable:
        # by name: the packages stand below the interface that opens them
        return getattr(import_module("firsttoken.api"), self.__name__.rpartition(".")[2])

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._verb(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._verb)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]  # typeshed has it as a plain attribute
        return self._verb.__doc__


def make_callable(package: str) -> None:
    """Makes an imported package callable; its ``__init__`` calls this with its own name."""
    sys.modules[package].__class__ = CallablePackage
