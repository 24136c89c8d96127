"""``best.toml``: the user's recipe with the values that were found, each with a comment; all else stays as it was written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import InlineTable, Item, Table

from firsttoken.distill.recipe import Recipe, load_recipe
from firsttoken.distill.recipe_search.space import Space
from firsttoken.distill.schedules import Schedule
from firsttoken.errors import FirstTokenError


def best_recipe(recipe: Recipe, text: str, found: Recipe, space: Space, folder: Path, header: list[str]) -> str:
    """Returns the TOML of ``found``, to lie in ``folder``: ``text`` (the recipe's own, or empty) with changed values and relative paths."""
    document: Any = tomlkit.parse(text) if text else tomlkit.parse(tomlkit.dumps(plain_values(recipe)))
    document.pop("search", None)
    move_paths(document, recipe, folder)
    by_name = {each.name: each for each in space.dimensions}

    def comment(*names: str) -> str:
        searched = [by_name[name] for name in names if name in by_name]
        return "; ".join(f"{d.name} was {d.own:g}, searched from {d.low:g} to {d.high:g}" for d in searched)

    if "learning_rate" in by_name:
        put(document["training"], "learning_rate", found.training.learning_rate, comment("learning_rate"))
    if any(name.startswith("temperature") for name in by_name):
        put_schedule(document, "temperature", found.temperature, comment("temperature", "temperature_start", "temperature_end"))
    write_losses(document["loss"], recipe, found, space, comment)
    return "".join(f"# {line}\n" for line in header) + "\n" + tomlkit.dumps(document).lstrip()


def write_losses(tables: Any, recipe: Recipe, found: Recipe, space: Space, comment: Any) -> None:
    """Weights and layer pairs."""
    from firsttoken.distill.objective import part_names
    from firsttoken.distill.recipe_search.space import pair_names

    names = pair_names(space.pairs)
    searched = {each.name for each in space.dimensions}
    for number, (name, loss) in enumerate(zip(part_names(recipe.losses), found.losses, strict=True)):
        if f"weight_{name}" in searched:
            put_schedule(tables[number], "weight", loss.weight, comment(f"weight_{name}"))
        of = [names[pair] for pair in space.pairs.get(number, ()) if names[pair] in searched]
        if of:
            pairs = loss.pairs or space.pairs[number]
            put(tables[number], "pairs", [list(pair) for pair in pairs], comment(*of))


def put(table: Any, key: str, value: object, comment: str) -> None:
    """A value with a comment behind it."""
    body = table.value.body if isinstance(table, Table) else []
    after = []  # comments and blank lines that stand before the next table
    while key not in table and body and body[-1][0] is None:
        after.append(body.pop())
    table[key] = value
    body.extend(reversed(after))
    item = table.item(key)
    assert isinstance(item, Item), "a value, not a table that is written in pieces"
    item.comment(comment)


def put_schedule(table: Any, key: str, schedule: Schedule, comment: str) -> None:
    """A number, or the ends of the table that is there, with a comment on what follows."""
    there: Any = table.get(key)
    if not isinstance(there, Table | InlineTable):
        put(table, key, schedule.start, comment)
        return
    there["start"] = schedule.start
    if "end" in there:
        there["end"] = schedule.end
    # inside braces there is no room for a comment
    if isinstance(there, InlineTable):
        there.comment(comment)
    else:
        put(there, "start", schedule.start, comment)


def plain_values(recipe: Recipe) -> dict:
    """A recipe made in Python as a file would say it."""
    return recipe.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"name", "folder", "search"})


def move_paths(document: Any, recipe: Recipe, folder: Path) -> None:
    """Makes relative paths, which are relative to the recipe's folder, relative to ``folder``."""

    def moved(text: str) -> str:
        if text.startswith("{") or os.path.isabs(text):
            return text
        return os.path.relpath(os.path.abspath(recipe.path(text)), os.path.abspath(folder))

    def change(table: Any, key: str, only_folders: bool = False) -> None:
        given = table.get(key)
        if isinstance(given, str):
            # of a checkpoint that is no folder, a name or a hub id
            if not only_folders or recipe.path(given).is_dir():
                table[key] = moved(given)
        elif given is not None:
            for number, each in enumerate(given):
                given[number] = moved(each)

    change(document, "tokenizer", only_folders=True)
    for teacher in document.get("teacher", ()):
        change(teacher, "checkpoint", only_folders=True)
        change(teacher, "cache")
    change(document["student"], "checkpoint", only_folders=True)
    change(document["student"], "config")
    change(document["data"], "held_out")
    for source in document["data"]["train"]:
        change(source, "files")
    for key in ("plan", "target"):
        if str(document.get("quantize", {}).get(key, "")).endswith(".toml"):
            change(document["quantize"], key)


def check_written(path: Path, found: Recipe) -> None:
    """Raises `FirstTokenError` unless the written recipe is ``found``, read back."""
    read = load_recipe(path)
    same = ("seed", "student", "temperature", "losses", "training", "quantize")
    wrong = [name for name in same if shape(read, name) != shape(found, name)]
    if wrong:
        raise FirstTokenError(
            f"{path}: what was written is not the recipe that was found ({', '.join(wrong)} differ); search.json has its values"
        )


def shape(recipe: Recipe, name: str) -> object:
    """A field without its paths."""
    value = getattr(recipe, name)
    if name == "student":
        return value.model_dump(exclude={"checkpoint", "config"})
    return value.model_dump(exclude={"plan", "target"}) if name == "quantize" and value is not None else value
