"""Backends for modules by name: the built-in ones, and those of other packages' entry points (group ``firsttoken.module_backends``)."""

from functools import cache

from firsttoken.backends.module_backend import ModuleBackend
from firsttoken.backends.named import load_named, names_of
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
    return names_of(GROUP, BUILT_IN)


@cache
def find_module_backend(name: str) -> ModuleBackend:
    """Returns the backend of a name. Raises `FirstTokenError` for one that is unknown, or is no `ModuleBackend`."""
    return load_named(
        name,
        GROUP,
        BUILT_IN,
        ModuleBackend,  # type: ignore[type-abstract]
        lambda: f"backend {name!r} takes no modules; those that do: {', '.join(module_backend_names())}",
    )


def module_backend_of(target: Target) -> ModuleBackend:
    """The backend for modules that a target names. Raises `FirstTokenError` for a target that takes none, with the built-in ones that do."""
    if target.npu is not None or target.gpu is not None or target.backend not in module_backend_names():
        can = [name for name in target_names() if name in module_backend_names()]
        raise FirstTokenError(
            f"target {target.name!r}: takes decoders alone; a module goes to {', '.join(can) or 'the target of a backend for modules'}"
        )
    return find_module_backend(target.backend)
