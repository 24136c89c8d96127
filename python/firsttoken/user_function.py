"""A function of the user's own, named as ``file.py:function``: the file is run, because the user named it."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firsttoken.errors import FirstTokenError


def find_user_file(given: str, folder: str | Path, called: str, relative_to: str) -> Path:
    """The file of what ``file.py:function`` names, as `load_user_function` finds it. Raises `FirstTokenError` for one that is not there."""
    file, mark, _ = given.rpartition(":")
    path = Path(folder, file)
    if not mark or path.suffix != ".py" or not path.is_file():
        raise FirstTokenError(
            f'{called}{given!r}: no such file (looked for {path}); expected "file.py:function", relative to {relative_to}'
        )
    return path


def load_user_function(given: str, folder: str | Path, called: str, relative_to: str) -> Callable[..., Any]:
    """Returns the function that ``file.py:function`` names, relative to ``folder``. Runs the file: it is the user's own.

    ``called`` and ``relative_to`` say in an error what named it, and to what the path is relative. Raises `FirstTokenError` for a file or function that is not there.
    """
    from importlib.util import module_from_spec, spec_from_file_location

    path, function = find_user_file(given, folder, called, relative_to), given.rpartition(":")[2]
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, function, None)):
        raise FirstTokenError(f"{called}{given!r}: {path} has no function {function!r}")
    return getattr(module, function)


def told(given: str, error: Exception) -> FirstTokenError:
    """What a user's function raised, as one line with its place in the user's file."""
    file = given.rpartition(":")[0]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == Path(file).name]
    where = f", line {frames[-1].lineno}" if frames else ""
    return FirstTokenError(f"{given}{where}: {type(error).__name__}: {str(error)[:300]}; correct the file and run it again")
