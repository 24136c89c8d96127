"""Backends for modules by name: the built-in ones, and those of other packages' entry points (group ``firsttoken.module_backends``)."""

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from firsttoken.backends.module_backend import ModuleBackend
from firsttoken.errors import FirstTokenError
from firsttoken.targets.target import Target, target_names

GROUP = "firsttoken.module_backends"
# Imported only when one is asked for.
BUILT_IN = {
    "tflite-xnnpack": "firsttoken.backends.tflite.modules.backend:TfliteModules",
    "executorch-xnnpack": "firsttoken.backends.executorch.module_backend:ExecutorchModules",
}


def module_backend_names() -> list[str]:
    """Every backend for modules that can be named."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


@cache
def find_module_backend(name: str) -> ModuleBackend:
    """Returns the backend of a name. Raises `FirstTokenError` for one that is unknown, or is no `ModuleBackend`."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)()
    point = next((point for point in entry_points(group=GROUP) if point.name == name), None)
    if point is None:
        raise FirstTokenError(f"backend {name!r} takes no modules; those that do: {', '.join(module_backend_names())}")
    try:
        found = point.load()
    except Exception as error:  # whatever another package's import raises
        raise FirstTokenError(
            f"backend {name!r} of {point.value} cannot be loaded ({type(error).__name__}: {error}); install its package again"
        ) from None
    if not (isinstance(found, type) and issubclass(found, ModuleBackend)):
        raise FirstTokenError(f"backend {name!r}: {point.value} is no subclass of firsttoken.backends.module_backend.ModuleBackend")
    return found()


def module_backend_of(target: Target) -> ModuleBackend:
    """The backend for modules that a target names. Raises `FirstTokenError` for a target that takes none, with the built-in ones that do."""
    if target.npu is not None or target.gpu is not None or target.backend not in module_backend_names():
        can = [name for name in target_names() if name in module_backend_names()]
        raise FirstTokenError(
            f"target {target.name!r}: takes decoders alone; a module goes to {', '.join(can) or 'the target of a backend for modules'}"
        )
    return find_module_backend(target.backend)
