"""Whether what was given is a module: told without PyTorch, which not everyone has who exports a decoder."""

import os
from pathlib import Path

from firsttoken.modules.student import is_student

OTHERS = {  # what people have instead, and the way from there
    **dict.fromkeys(
        (".pt", ".pth", ".bin", ".ckpt"),
        "is a pickle of weights, which says no network; write my_model.py:build, a function that returns (module, example)",
    ),
    **dict.fromkeys(
        (".keras", ".h5", ".tflite", ".onnx"),
        "is not read; a PyTorch module is: torch.export.save(torch.export.export(module, example), 'model.pt2')",
    ),
}


def is_function(given: str | Path) -> bool:
    """Whether ``file.py:function`` is meant."""
    file, mark, function = str(given).rpartition(":")
    return bool(mark) and file.endswith(".py") and function.isidentifier()


def is_module_source(given: str | Path) -> bool:
    """Whether this is a module and no checkpoint of a decoder: nothing is read but names."""
    if is_function(given):
        return True
    path = Path(given)
    return path.suffix == ".pt2" or (path.suffix in OTHERS and os.path.isfile(path)) or (os.path.isdir(path) and is_student(path))
