"""Finding the declaration files that users read, copy and edit: ``quant/*.toml`` and ``export/*.toml``.

They lie at the top of the repository and are packed into the wheel as ``firsttoken/_declarations``; an editable
install reads the repository's own.
"""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from firsttoken import plain_file
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.safe_text import visible

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

PACKAGE = Path(__file__).parent
Model = TypeVar("Model", bound="BaseModel")


def declaration_folder(kind: str) -> Path:
    """Returns the folder of the built-in ``quant`` or ``export`` declarations."""
    packed = PACKAGE / "_declarations" / kind
    return packed if packed.is_dir() else PACKAGE.parents[1] / kind


def declaration_names(kind: str) -> list[str]:
    """Returns the names of the built-in declarations, sorted."""
    return sorted(path.stem for path in declaration_folder(kind).glob("*.toml"))


def read_declaration(kind: str, what: str, name_or_path: str | Path, model: type[Model]) -> tuple[str, Model]:
    """Reads a built-in declaration by name or a user's file by path and checks it against ``model``.

    Returns ``(name, declaration)``. Raises `FirstTokenError` for an unknown name, bad TOML or a wrong field.
    """
    from pydantic import ValidationError  # not at the top: the shell completes names without it

    path = Path(name_or_path)
    if path.suffix != ".toml":
        names = declaration_names(kind)
        if str(name_or_path) not in names:
            raise FirstTokenError(
                f"{what} {str(name_or_path)!r} is unknown{nearest(str(name_or_path), names)}; expected one of {', '.join(names)}, or the path of a .toml file"
            )
        path = declaration_folder(kind) / f"{name_or_path}.toml"
    try:
        values = tomllib.loads(plain_file.read_text(path))
    except FileNotFoundError:
        raise FirstTokenError(f"{what} file {path}: does not exist") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FirstTokenError(f"{what} file {path}: cannot be read as TOML ({visible(plain_file.why(error))})") from None
    try:
        return path.stem, model.model_validate(values)
    except ValidationError as error:
        raise FirstTokenError(f"{what} file {path}: {first_problem(error, values)}") from None


def first_problem(error: "ValidationError", values: dict[str, Any]) -> str:
    """Returns pydantic's first complaint as one readable line, with the nearest allowed name where there is one."""
    problem = error.errors()[0]
    place = ".".join(visible(part, 80) for part in problem["loc"]) or "file"
    if problem["type"] == "missing":
        return f"{place} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{place} is not a known field"
    hint = ""
    if problem["type"] == "literal_error":
        allowed = problem["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        hint = nearest(str(problem["input"]), allowed)
    text = problem["msg"].removeprefix("Value error, ")
    text = text[:1].lower() + text[1:]
    got = visible(repr(problem["input"]), 120)
    return f"{place} is {got}; {text}{hint}" if not isinstance(problem["input"], dict) else f"{place}: {text}{hint}"
