"""A ``.pt2`` from anyone: what torch.export.load would run of it is refused before it is loaded.

torch.export.load runs code from a file in many ways: pickled example inputs, weights and constants (it falls back from ``weights_only``), compiled
libraries (AOTInductor), formulas of sizes (sympy evaluates them as Python), guards (evaluated too), names of operators that lead anywhere below
``torch``, and types of containers (imported). So the archive is written again from what is known to be plain, and torch reads that.
"""

import json
import math
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from firsttoken import plain_file
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible
from firsttoken.units import readable

PROGRAM_BYTES = 256 << 20  # of the graph's JSON
MOST_MEMBERS = 100_000
MODEL, INPUTS = "models/model.json", "data/sample_inputs/model.pt"
WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"
PAYLOAD = {WEIGHTS: ("data/weights/", re.compile(r"weight_\d{1,6}")), CONSTANTS: ("data/constants/", re.compile(r"tensor_\d{1,6}"))}
SMALL = ("archive_format", "archive_version", ".data/version", "byteorder", ".data/serialization_id")
# what the printed form of a size's formula is made of; anything else could be evaluated as Python
FORMULA_NAMES = {
    *(
        "Symbol",
        "positive",
        "integer",
        "nonnegative",
        "True",
        "False",
        "Integer",
        "Rational",
        "Add",
        "Mul",
        "Max",
        "Min",
        "Mod",
        "PythonMod",
    ),
    *("FloorDiv", "CleanDiv", "CeilDiv", "Eq", "Equality", "Ne", "Unequality", "Lt", "Le", "Gt", "Ge", "LessThan", "GreaterThan"),
    *("StrictLessThan", "StrictGreaterThan", "And", "Or", "Not"),
}
FORMULA = re.compile(r"(?:'[su]\d{1,6}'|[su]\d{1,6}\b|[A-Za-z]+|\d{1,18}|[-+*/(),=<> ])*+")  # possessive: it does not try again
FORMULA_LENGTH = 1000
OPERATOR = re.compile(r"torch\.ops\.aten\.([A-Za-z_]\w*)\.(\w+)")
ON_SIZES = re.compile(
    r"(_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|eq|ne|ge|gt|le|lt|and_|or_|not_)|torch\.sym_(max|min|not|int|float|ite))"
)
CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
REFUSED = {"as_custom_obj": "an object of a class", "as_operator": "an operator as an argument", "as_graph": "a graph inside the graph"}
# names become Python's source in torch.fx (parameters, inputs, nodes): letters, digits, "_", ".", "-", "+" alone can call nothing
NAME = re.compile(r"[\w.+-]*")
FREE = {"as_string", "as_strings", "nn_module_stack"}  # values that are only quoted
CHECKED = {"target", "expr_str", "in_spec", "out_spec", "range_constraints"}  # strings that are looked at by themselves
EXPORT_AGAIN = "export it again with torch.export.export and torch.export.save"


class UnsafeArchiveError(FirstTokenError):
    """A ``.pt2`` holds something that torch would run."""


def open_program(path: str | Path) -> ExportedProgram:
    """Returns the program of a ``.pt2``. Raises `FirstTokenError` for a file that is damaged, or holds anything but operators of ATen on plain tensors."""
    path = Path(path)
    try:
        with plain_file.open_plain(path) as stream, zipfile.ZipFile(stream) as archive, tempfile.TemporaryDirectory() as place:
            plain = Path(place) / "model.pt2"
            write_plain(archive, path, plain)
            return load(plain)
    except FirstTokenError:
        raise
    except FileNotFoundError:
        raise FirstTokenError(f"{path}: does not exist; expected a .pt2 of torch.export.save") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise FirstTokenError(f"{path}: cannot be read as a .pt2 ({visible(plain_file.why(error), 200)}); {EXPORT_AGAIN}") from None
    except Exception as error:  # whatever torch's reader raises over a damaged graph
        said = (str(error).splitlines() or [""])[0]
        raise FirstTokenError(
            f"{path}: is no program that torch reads ({type(error).__name__}: {visible(said, 200)}); {EXPORT_AGAIN}"
        ) from None


def load(plain: Path) -> ExportedProgram:
    from firsttoken.quiet import quiet_runtime

    with quiet_runtime():
        return torch.export.load(plain)


def write_plain(archive: zipfile.ZipFile, path: Path, to: Path) -> None:
    """Writes what is plain of an archive to ``to``. Raises `FirstTokenError` for what is not."""
    members = members_of(archive, path)
    program = read_json(archive, members, MODEL, path)
    program["guards_code"] = []  # Python that torch evaluates; whoever runs the program checks sizes otherwise
    check_program(program, path)
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as made:
        made.writestr(f"model/{MODEL}", json.dumps(program))
        for name in SMALL:
            if name in members:
                made.writestr(f"model/{name}", read_small(archive, members[name], path, 1 << 10))
        made.writestr(f"model/{INPUTS}", plain_inputs(archive, members, path))
        for config, (folder, pattern) in PAYLOAD.items():
            said = read_json(archive, members, config, path)
            made.writestr(f"model/{config}", json.dumps(said))
            for name in payloads(said, members, folder, pattern, path):
                with archive.open(members[name]) as stream, made.open(f"model/{name}", "w", force_zip64=True) as output:
                    while piece := stream.read(8 << 20):
                        output.write(piece)


def members_of(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The members by their names below the archive's folder. Raises `FirstTokenError` for compiled code, pickles, or names given twice."""
    infos = archive.infolist()
    if len(infos) > MOST_MEMBERS:
        raise FirstTokenError(f"{path}: an archive of {len(infos):,} files; expected {MOST_MEMBERS:,} at most")
    if sum(info.file_size for info in infos) > path.stat().st_size:  # they are not compressed
        raise FirstTokenError(f"{path}: its files overlap; {EXPORT_AGAIN}")
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename.partition("/")[2]
        if name in found:
            raise UnsafeArchiveError(f"{path}: holds {visible(name)!r} twice; {EXPORT_AGAIN}")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise FirstTokenError(f"{path}: {visible(name)!r} is compressed, which torch.export.save does not do; {EXPORT_AGAIN}")
        found[name] = info
    for name in found:
        if name.startswith("data/aotinductor/"):
            raise UnsafeArchiveError(
                f"{path}: holds compiled code ({visible(name)!r}, AOTInductor), which is not loaded from anyone; {EXPORT_AGAIN}"
            )
        if name in ("data/weights/model.pt", "data/constants/model.pt"):
            raise UnsafeArchiveError(f"{path}: holds pickled weights ({name}), which run code as they are loaded; {EXPORT_AGAIN}")
        if name.startswith("models/") and name != MODEL:
            raise FirstTokenError(f"{path}: holds several programs ({visible(name)!r}); expected one, called model")
    if MODEL not in found:
        raise FirstTokenError(f"{path}: a zip archive without {MODEL}; expected a .pt2 of torch.export.save (PyTorch 2.8 or newer)")
    return found


def read_small(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, most: int) -> bytes:
    if member.file_size > most:
        raise FirstTokenError(
            f"{path}: {visible(member.filename)!r} has {readable(member.file_size)}; expected {readable(most)} at most; {EXPORT_AGAIN}"
        )
    return archive.read(member)


def read_json(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str, path: Path) -> dict[str, Any]:
    if name not in members:
        raise FirstTokenError(f"{path}: lacks {name}; {EXPORT_AGAIN}")
    try:
        values = plain_file.parse_json(read_small(archive, members[name], path, PROGRAM_BYTES))
    except ValueError as error:
        raise FirstTokenError(f"{path}: {name} is no JSON ({visible(error, 120)}); {EXPORT_AGAIN}") from None
    if not isinstance(values, dict):
        raise FirstTokenError(f"{path}: {name} is {type(values).__name__}; expected an object; {EXPORT_AGAIN}")
    return values


def plain_inputs(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], path: Path) -> bytes:
    """The example inputs, which torch would unpickle with all rights where they are no plain tensors. Raises `UnsafeArchiveError` for those."""
    import io
    import pickle

    if INPUTS not in members:
        raise FirstTokenError(f"{path}: has no example inputs; {EXPORT_AGAIN}")
    data = read_small(archive, members[INPUTS], path, PROGRAM_BYTES)
    check_stored(data, path)
    try:
        inputs = torch.load(io.BytesIO(data), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, TypeError, KeyError, AttributeError) as error:
        said = visible((str(error).splitlines() or [""])[0], 120)
        raise UnsafeArchiveError(
            f"{path}: its example inputs are no plain tensors ({said}); torch would run what they are pickled as; {EXPORT_AGAIN}"
        ) from None
    for tensor in tensors_of(inputs):
        if tensor.numel() * tensor.element_size() > PROGRAM_BYTES:  # a few bytes, repeated by a stride of 0
            raise FirstTokenError(
                f"{path}: an example input has {tensor.numel():,} numbers; expected {readable(PROGRAM_BYTES)} at most; {EXPORT_AGAIN}"
            )
    again = io.BytesIO()
    torch.save(inputs, again)
    return again.getvalue()


def check_stored(data: bytes, path: Path) -> None:
    """Raises `FirstTokenError` for an archive of tensors that is compressed or overlaps: torch unpacks it to whatever size it says."""
    import io

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos) or sum(info.file_size for info in infos) > len(data):
        raise FirstTokenError(f"{path}: its example inputs are compressed or overlap, which torch.save does not do; {EXPORT_AGAIN}")


def tensors_of(value: object) -> Iterator[torch.Tensor]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, torch.Tensor):
            yield one
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, tuple | list):
            waiting += one


def payloads(
    config: dict[str, Any], members: dict[str, zipfile.ZipInfo], folder: str, pattern: re.Pattern[str], path: Path
) -> Iterator[str]:
    """The members that hold the tensors of ``config``, each once. Raises `FirstTokenError` for a pickled one, or one larger than its bytes."""
    seen = set()
    entries = config.get("config")
    if not isinstance(entries, dict):
        raise FirstTokenError(f"{path}: {folder} has no list of tensors; {EXPORT_AGAIN}")
    for name, said in entries.items():
        check_name(name, path)
        file, meta = (said.get("path_name"), said.get("tensor_meta")) if isinstance(said, dict) else (None, None)
        if not isinstance(said, dict) or said.get("use_pickle") is not False or not isinstance(file, str) or not pattern.fullmatch(file):
            raise UnsafeArchiveError(
                f"{path}: {visible(name)!r} is stored as a pickle or an object, which runs code as it is loaded; expected plain tensors on the CPU; {EXPORT_AGAIN}"
            )
        place = folder + file
        sizes = meta.get("sizes") if isinstance(meta, dict) else None
        whole = isinstance(sizes, list) and all(
            isinstance(size, dict) and type(size.get("as_int")) is int and size["as_int"] >= 0 for size in sizes
        )
        if place not in members or not isinstance(sizes, list) or not whole:
            raise FirstTokenError(f"{path}: {visible(name)!r} has no bytes, or no shape in numbers; {EXPORT_AGAIN}")
        if math.prod(size["as_int"] for size in sizes) > members[place].file_size:
            raise FirstTokenError(
                f"{path}: {visible(name)!r} says more values than its {members[place].file_size:,} bytes hold; {EXPORT_AGAIN}"
            )
        if place not in seen:
            seen.add(place)
            yield place


def check_program(program: dict[str, Any], path: Path) -> None:
    """Raises `UnsafeArchiveError` for an operator beyond ATen, a formula that is none, or a container that would be imported. Of the nodes' notes all
    but the modules' names are dropped."""
    waiting: list[tuple[str, Any]] = [("", program)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, str) and key not in FREE | CHECKED:
            check_name(value, path)
        if isinstance(value, list):
            waiting += [(key, one) for one in value]
        if not isinstance(value, dict):
            continue
        check_values(value, path)
        if isinstance(value.get("metadata"), dict):
            kept = value["metadata"].get("nn_module_stack")
            value["metadata"] = {"nn_module_stack": kept} if isinstance(kept, str) else {}
        for name in value if key != "range_constraints" else ():
            check_name(name, path)
        waiting += value.items()
    ranges = program.get("range_constraints")
    for name in ranges if isinstance(ranges, dict) else ():
        check_formula(name, path)


def check_name(name: str, path: Path) -> None:
    """Raises `UnsafeArchiveError` for a name that would be more than a name in the source that torch.fx makes of a graph and executes."""
    if not NAME.fullmatch(name):
        raise UnsafeArchiveError(f"{path}: a name is {visible(name, 80)!r}; expected letters, digits, '_', '.' and '-'; {EXPORT_AGAIN}")


def check_values(value: dict[str, Any], path: Path) -> None:
    for key, what in REFUSED.items():
        if value.get(key) is not None:
            raise UnsafeArchiveError(f"{path}: its graph holds {what}; expected operators on tensors alone; {EXPORT_AGAIN}")
    if "target" in value:
        check_operator(value["target"], path)
    if "expr_str" in value:
        check_formula(value["expr_str"], path)
    for key in ("in_spec", "out_spec"):
        if key in value:
            check_containers(value[key], path, into=key == "in_spec")
    if isinstance(value.get("type"), str) and "index" in value and value["type"] != "cpu":
        raise FirstTokenError(
            f"{path}: its graph is for the device {visible(value['type'])!r}; move the module to the CPU and {EXPORT_AGAIN}"
        )


def check_operator(target: object, path: Path) -> None:
    if isinstance(target, str) and ON_SIZES.fullmatch(target):
        return
    if isinstance(target, str) and (match := OPERATOR.fullmatch(target)):
        schema = (
            torch._C._get_schema(f"aten::{match[1]}", "" if match[2] == "default" else match[2]) if has_overload(*match.groups()) else None
        )
        tensors = [] if schema is None else [one for one in (*schema.arguments, *schema.returns) if "Tensor" in str(one.type)]
        if schema is not None and tensors and all("filename" not in one.name for one in schema.arguments):
            return
    raise UnsafeArchiveError(
        f"{path}: its graph calls {visible(target, 120)!r}; expected operators of ATen on tensors; write the module with those and {EXPORT_AGAIN}"
    )


def has_overload(name: str, overload: str) -> bool:
    found = getattr(torch.ops.aten, name, None)
    return found is not None and overload in found.overloads()


def check_formula(formula: object, path: Path) -> None:
    """Raises `UnsafeArchiveError` for a formula of sizes that is more than sums, products and comparisons of symbols and whole numbers."""
    if isinstance(formula, str) and len(formula) <= FORMULA_LENGTH and FORMULA.fullmatch(formula) and "**" not in formula:
        words = re.findall(r"[A-Za-z]\w*", formula)
        if all(word in FORMULA_NAMES or re.fullmatch(r"[su]\d+", word) for word in words):
            return
    raise UnsafeArchiveError(f"{path}: a size is {visible(formula, 80)!r}; expected a formula of numbers and symbols; {EXPORT_AGAIN}")


def check_containers(spec: object, path: Path, into: bool) -> None:
    """Raises `UnsafeArchiveError` for inputs or outputs in anything but tuples, lists and dictionaries."""
    try:
        waiting = [plain_file.parse_json(spec) if isinstance(spec, str) else spec]
        while waiting:
            value = waiting.pop()
            if isinstance(value, list):
                waiting += value
            elif isinstance(value, dict):
                context = value.get("context")
                if value.get("type") not in CONTAINERS or not plain_context(context, into):
                    raise ValueError(f"{value.get('type')} {context}")
                waiting += value.get("children_spec") or []
    except (ValueError, TypeError) as error:
        raise UnsafeArchiveError(
            f"{path}: its inputs or outputs lie in {visible(error, 120)!r}; expected tuples, lists and dictionaries; give the module a forward with those"
        ) from None


def plain_context(context: object, into: bool) -> bool:
    """Whether a container's context is nothing or its keys, of inputs (``into``) names. torch parses the text again and imports what ``__enum__`` names,
    however it is escaped."""
    if context is None:
        return True
    keys = plain_file.parse_json(context) if isinstance(context, str) else False
    return keys is None or (
        isinstance(keys, list)
        and all(type(key) is int or (isinstance(key, str) and (not into or NAME.fullmatch(key) is not None)) for key in keys)
    )
