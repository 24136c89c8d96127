"""Backends by name: the built-in ones, and those of other packages' entry points.

Another package adds one by an entry point of the group ``firsttoken.backends``: the name that targets give (a target's
``runtime`` and ``delegate``, as in ``mlx-metal``) and the `Backend` class, as in ``mlx-metal = "its_package.backend:MlxBackend"``.
"""

from functools import cache
from pathlib import Path

from firsttoken.backends.interface import Backend
from firsttoken.backends.named import load_named, names_of
from firsttoken.decoder.parts import Decoder
from firsttoken.decoder.walk import plan_layers
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.quant.plan import Plan
from firsttoken.targets.target import Target, load_target

GROUP = "firsttoken.backends"
# Imported only when one is asked for: PyTorch and the compilers are heavy, and not everyone has them.
BUILT_IN = {
    "tflite-xnnpack": "firsttoken.backends.tflite.backend:TfliteXnnpack",
    "tflite-none": "firsttoken.backends.tflite.backend:TfliteCompatible",
    "tflite-interpreter": "firsttoken.backends.tflite_interpreter.backend:TfliteInterpreter",
    "tflite-hexagon": "firsttoken.backends.tflite_hexagon.backend:TfliteHexagon",
    "tflite-gpu": "firsttoken.backends.gpu.backend:TfliteGpu",
    "tflite-hexagon-gpu": "firsttoken.backends.gpu.with_npu:TfliteHexagonGpu",
    "litertlm-cpu": "firsttoken.backends.litertlm.backend:LitertlmCpu",
    "litertlm-gpu": "firsttoken.backends.gpu.backend:LitertlmGpu",
    "onnx-cpu": "firsttoken.backends.onnx.backend:OnnxCpu",
    "executorch-xnnpack": "firsttoken.backends.executorch.backend:ExecutorchXnnpack",
    "executorch-hexagon": "firsttoken.backends.executorch_hexagon.backend:ExecutorchHexagon",
    "gguf-llamacpp": "firsttoken.backends.gguf.backend:GgufLlamacpp",
}


def backend_names() -> list[str]:
    """Every backend that can be named."""
    return names_of(GROUP, BUILT_IN)


@cache
def find_backend(name: str) -> Backend:
    """Returns the backend of a name. Raises `FirstTokenError` for one that is unknown, or is no `Backend`."""
    return load_named(
        name,
        GROUP,
        BUILT_IN,
        Backend,  # type: ignore[type-abstract]
        lambda: f"no backend {name!r}{nearest(name, backend_names())}; expected one of {', '.join(backend_names())}",
    )


def backend_of(target: Target) -> Backend:
    """The backend that a target names, having checked that it can do all that the target asks. Raises `FirstTokenError`."""
    try:
        backend = find_backend(target.backend)
    except FirstTokenError as error:
        raise FirstTokenError(f"target {target.name!r}: {error}") from None
    backend.check_target(target)
    return backend


def open_target(name_or_path: str | Path, cache_length: int | None = None, prefill_chunk: int | None = None) -> Target:
    """`load_target`, and its backend's own check of it. Raises `FirstTokenError`."""
    target = load_target(name_or_path, cache_length, prefill_chunk)
    backend_of(target)
    return target


def resolve(plan: Plan, decoder: Decoder, target: Target) -> dict[str, str]:
    """Every layer's precision by the plan, in the layers' order.

    Raises `FirstTokenError` for a rule that matches nothing, an unmatched layer, or a precision that the target's backend
    cannot give for that layer (naming the nearest it can).
    """
    backend = backend_of(target)
    precisions = plan.resolve(plan_layers(decoder), target.name, backend.precisions, backend.group_scales, backend.outliers_apart)
    backend.check_plan(plan, decoder, precisions, target)
    return precisions


def resolve_for_cpu(plan: Plan, decoder: Decoder, target: Target) -> dict[str, str]:
    """The same of the CPU artifact, which an NPU's may stand beside (`Backend.on_cpu`)."""
    return backend_of(target).on_cpu(resolve(plan, decoder, target))
