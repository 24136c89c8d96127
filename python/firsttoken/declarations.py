"""Finding the declaration files that users read, copy and edit: ``quant/*.toml``, ``export/*.toml`` and ``recipes/*.toml`` or ``.yaml``.

They lie at the top of the repository and are packed into the wheel as ``firsttoken/_declarations``; an editable
install reads the repository's own.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from firsttoken import plain_file
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.safe_text import visible

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

PACKAGE = Path(__file__).parent
YAML = (".yaml", ".yml")
Model = TypeVar("Model", bound="BaseModel")


def declaration_folder(kind: str) -> Path:
    """Returns the folder of the built-in ``quant`` or ``export`` declarations."""
    packed = PACKAGE / "_declarations" / kind
    return packed if packed.is_dir() else PACKAGE.parents[1] / kind


def declaration_names(kind: str) -> list[str]:
    """Returns the names of the built-in declarations, sorted."""
    return sorted(path.stem for path in declaration_folder(kind).glob("*") if path.suffix in suffixes_of(kind))


def suffixes_of(kind: str) -> tuple[str, ...]:
    """The endings that a declaration's file may have."""
    return (".toml", *YAML) if kind == "recipes" else (".toml",)


def declaration_path(kind: str, name_or_path: str | Path) -> Path:
    """Returns the file of a user's declaration, or of the built-in one of that name, whether or not it is there."""
    if Path(name_or_path).suffix in suffixes_of(kind):
        return Path(name_or_path)
    built_in = [Path(declaration_folder(kind), f"{name_or_path}{suffix}") for suffix in suffixes_of(kind)]
    return next((path for path in built_in if path.is_file()), built_in[0])


def parse_declaration(path: Path) -> dict[str, Any]:
    """Returns the fields of a file, which is TOML or, by its name, YAML. Raises `OSError`, `ValueError` and `RecursionError`."""
    if path.suffix not in YAML:
        return tomllib.loads(plain_file.read_text(path))
    from firsttoken.yaml_file import YAML_BYTES, parse_yaml

    return parse_yaml(plain_file.read_text(path, YAML_BYTES))


def read_declaration(kind: str, what: str, name_or_path: str | Path, model: type[Model]) -> tuple[str, Model]:
    """Reads a built-in declaration by name or a user's file by path and checks it against ``model``.

    Returns ``(name, declaration)``. Raises `FirstTokenError` for an unknown name, bad TOML (or, of recipes, YAML) or a wrong field.
    """
    from pydantic import ValidationError  # not at the top: the shell completes names without it

    path = declaration_path(kind, name_or_path)
    if Path(name_or_path).suffix not in suffixes_of(kind):
        names = declaration_names(kind)
        if str(name_or_path) not in names:
            raise FirstTokenError(
                f"{what} {str(name_or_path)!r} is unknown{nearest(str(name_or_path), names)}; expected one of {', '.join(names)}, or the path of a {' or '.join(suffixes_of(kind)[:2])} file"
            )
    try:
        values = parse_declaration(path)
    except FileNotFoundError:
        raise FirstTokenError(f"{what} file {path}: does not exist") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FirstTokenError(
            f"{what} file {path}: cannot be read as {'YAML' if path.suffix in YAML else 'TOML'} ({visible(plain_file.why(error))})"
        ) from None
    try:
        return path.stem, model.model_validate(values, by_alias=True, by_name=False)
    except ValidationError as error:
        raise FirstTokenError(f"{what} file {path}: {first_problem(error, values, model)}") from None


def first_problem(error: "ValidationError", values: dict[str, Any], model: "type[BaseModel] | None" = None) -> str:
    """Returns pydantic's first complaint as one readable line, with the nearest allowed name where there is one; a field that ``model`` does not
    have comes before one that is missing, which it is most often meant to be."""
    problems = error.errors()
    problem = problems[0]
    if problem["type"] == "missing":
        problem = next((other for other in problems if other["type"] == "extra_forbidden"), problem)
    place, where = ".".join(visible(part, 80) for part in problem["loc"]), entry(values, problem["loc"])
    if problem["type"] == "missing":
        return f"{place} is missing{where}"
    if problem["type"] == "extra_forbidden":
        missing = [other["loc"][-1] for other in problems if other["type"] == "missing" and other["loc"][:-1] == problem["loc"][:-1]]
        known = [*missing, *(names_at(model, problem["loc"][:-1]) if model else ())]
        return f"{place} is not a known field{nearest(str(problem['loc'][-1]), dict.fromkeys(map(str, known)))}{where}"
    hint = literal_hint(problem["input"], problem["ctx"]["expected"]) if problem["type"] == "literal_error" else ""
    text = problem["msg"].removeprefix("Value error, ")
    text = text[:1].lower() + text[1:]
    if isinstance(problem["input"], dict):
        return f"{place}: {text}{hint}{where}" if place else f"{text}{hint}"
    return f"{place or 'file'} is {visible(repr(problem['input']), 120)}; {text}{hint}{where}"


def literal_hint(got: object, expected: str) -> str:
    """The nearest of what pydantic lists as "'row', 32 or 64"; a number in quotation marks is said to be that."""
    allowed = expected.replace(" or ", ", ").split(", ")
    if isinstance(got, str) and got in allowed:
        return f" (write {got} without quotation marks)"
    return nearest(str(got), [one.strip("'") for one in allowed])


def entry(values: object, place: Sequence[int | str]) -> str:
    """Which entry of a list a place is in, by what the entry says it is for: lists are counted from 0, which nobody does in a file."""
    said = ""
    for part in place:
        if isinstance(values, dict):
            values = values.get(part)
        elif isinstance(values, list | tuple) and isinstance(part, int) and part < len(values):
            values = values[part]
            if isinstance(values, dict) and isinstance(values.get("match"), str):
                said = f" (where match is {visible(repr(values['match']), 80)})"
        else:
            break
    return said


def names_at(model: "type[BaseModel]", place: Sequence[int | str]) -> list[str]:
    """The names that fields may have in a file, at a place of what ``model`` describes."""
    models: list[type[BaseModel]] = [model]
    for part in place:
        fields = [field for one in models for name, field in one.model_fields.items() if part in (name, field.alias)]
        if fields:  # else a number in a list, or what tells kinds apart
            models = [found for field in fields for found in models_in(field.annotation)]
    return [field.alias or name for one in models for name, field in one.model_fields.items()]


def models_in(annotation: Any) -> "list[type[BaseModel]]":
    """The models that a field's annotation speaks of."""
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        return [annotation]
    return [found for one in get_args(annotation) for found in models_in(one)]
