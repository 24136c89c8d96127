"""The extras: what the base install leaves out, and the one error for a verb that needs it.

``.tflite`` export, proof, generation and measuring need none of them.
"""

from importlib.util import find_spec
from types import MappingProxyType

from firsttoken.errors import FirstTokenError

# extra -> what it is for, and the modules it brings that we import ourselves
EXTRAS = MappingProxyType({
    "executorch": ("export, proof and generation of .pte", ("torch", "torchao", "executorch")),
    "litertlm": ("export, proof and generation of .litertlm", ("litert_lm_builder",)),
    "distill": ("distillation, and evaluating checkpoints", ("torch", "transformers", "accelerate", "safetensors", "matplotlib", "optuna", "tomlkit")),
    "prune": ("pruning channels of convolutional networks", ("torch_pruning",)),
    "search": ("searching a plan", ("scipy", "matplotlib")),
    "maths": ("comparing mathematical answers by algebra", ("math_verify",)),
    "lm-eval": ("running lm_eval's tasks", ("lm_eval",)),
    "servers": ("asking teachers behind a server", ("httpx2",)),
    "parquet": ("reading training data in parquet files", ("pyarrow",)),
    "lora": ("training students through low-rank adapters", ("peft",)),
    "tensorboard": ("a training's curves in TensorBoard", ("tensorboard",)),
    "gguf": ("reading quantized GGUF files, and export of .gguf", ("gguf",)),
    "gguf-run": ("proof and generation of .gguf in llama.cpp", ("llama_cpp",)),
    "onnx": ("export, proof and generation of .onnx", ("onnxruntime", "onnx")),
    "modules": ("export of modules (classifiers, encoders, series) to .tflite", ("litert_torch", "litert_quantizer")),
    "hexagon": ("compiling for and proving on Hexagon NPUs", ("onnxruntime", "onnx", "onnxruntime_qnn")),
})  # fmt: skip


def missing(extra: str) -> list[str]:
    """Returns the modules of an extra that are not installed; nothing is imported."""
    return [module for module in EXTRAS[extra][1] if find_spec(module) is None]


def install_command(extra: str) -> str:
    """Returns the shell command that installs an extra."""
    return f"pip install 'firsttoken[{extra}]'"


def need(extra: str, purpose: str) -> None:
    """Raises `FirstTokenError` where a module of ``extra`` is not installed; ``purpose`` begins the sentence."""
    if absent := missing(extra):
        raise FirstTokenError(
            f"{purpose} needs {', '.join(absent)}, which {'is' if len(absent) == 1 else 'are'} not installed; run: {install_command(extra)}"
        )
