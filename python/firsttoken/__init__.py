"""firsttoken: from a language-model checkpoint to its first token on a phone.

    import firsttoken
    [bundle] = firsttoken.export("path/to/checkpoint", "out")
    for piece in firsttoken.generate(bundle, "Why is the sky blue?"):
        print(piece, end="", flush=True)

The functions are the command line's verbs: `get`, `export` (and `export_module`), `prove`, `generate`, `bench`, `distill`, `evaluate` and `report`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firsttoken.api import bench, distill, evaluate, export, generate, get, prove, report
    from firsttoken.errors import FirstTokenError, GateError
    from firsttoken.module_bundles.api import export_module

__all__ = ["get", "export", "export_module", "prove", "generate", "bench", "distill", "evaluate", "report", "FirstTokenError", "GateError"]

_PACKAGES = ("distill", "evaluate", "prove", "report")  # they can be called (`firsttoken.callable_package`)


def __getattr__(name: str) -> object:
    # nothing is imported before it is asked for
    from importlib import import_module

    if name in _PACKAGES:
        return import_module(f"firsttoken.{name}")
    if name in __all__:
        places = {
            "export_module": "firsttoken.module_bundles.api",
            "FirstTokenError": "firsttoken.errors",
            "GateError": "firsttoken.errors",
        }
        return getattr(import_module(places.get(name, "firsttoken.api")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
