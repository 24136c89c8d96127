"""A .pt2 from a stranger: torch runs what it holds, we do not."""

import io
import json
import pickle
import zipfile

import pytest
import torch
from module_subjects import Pictures, picture_program

from firsttoken.errors import FirstTokenError
from firsttoken.modules.archive import MODEL, UnsafeArchiveError, open_program


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return picture_program(tmp_path_factory.mktemp("good") / "model.pt2")


def changed(good, to, edits):
    """A copy of an archive with members replaced or added; an edit of JSON is a function."""
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as made:
        root = source.namelist()[0].partition("/")[0]
        members = {name.partition("/")[2]: source.read(name) for name in source.namelist()}
        for name, edit in edits.items():
            if callable(edit):
                values = json.loads(members[name])
                edit(values)
                members[name] = json.dumps(values).encode()
            else:
                members[name] = edit
        for name, data in members.items():
            made.writestr(f"{root}/{name}", data)
    return to


class Touch:
    """Pickled, it makes a file where it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def saved(value):
    held = io.BytesIO()
    torch.save(value, held)
    return held.getvalue()


def formula(code):
    """Puts an expression in the place of the batch."""

    def edit(values):
        sizes = values["graph_module"]["graph"]["sym_int_values"]
        tensors = values["graph_module"]["graph"]["tensor_values"]
        for size in [one for tensor in tensors.values() for one in tensor["sizes"]] + list(sizes.values()):
            if "as_expr" in size:
                size["as_expr"]["expr_str"] = code

    return edit


def pickled_weight(values):
    next(iter(values["config"].values()))["use_pickle"] = True


def operator(target):
    def edit(values):
        values["graph_module"]["graph"]["nodes"][0]["target"] = target

    return edit


def container(values):
    values["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps(
        [
            1,
            {
                "type": "collections.defaultdict",
                "context": json.dumps({"default_factory_module": "antigravity", "default_factory_name": "x", "dict_context": []}),
                "children_spec": [],
            },
        ]
    )


def renamed(name):
    """Calls the input so, everywhere."""

    def walk(value):
        if isinstance(value, dict):
            return {(name if key == "picture" else key): walk(one) for key, one in value.items()}
        return [walk(one) for one in value] if isinstance(value, list) else name if value == "picture" else value

    return lambda values: values.update(walk(values))


def escaped(values):
    context = '{"__en\\u0075m__": true, "fqn": "antigravity:x", "name": "x"}'
    values["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps(
        [1, {"type": "builtins.dict", "context": context, "children_spec": []}]
    )


def compressed():
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved(((torch.zeros(1 << 20),), {})))) as source,
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as to,
    ):
        for name in source.namelist():
            to.writestr(name, source.read(name))
    return made.getvalue()


WEIGHTS = "data/weights/model_weights_config.json"


def runs_code(mark):
    """What makes a file ``mark`` where torch.export.load reads it."""
    return {
        "inputs": {"data/sample_inputs/model.pt": saved((Touch(mark),))},
        "weight": {WEIGHTS: pickled_weight, "data/weights/weight_0": saved(Touch(mark))},
        "formula": {MODEL: formula(f"open({str(mark)!r}, 'w')")},
        "object": {
            "data/constants/model_constants_config.json": json.dumps(
                {"config": {"c": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}}}
            ).encode(),
            "data/constants/opaque_obj_0": pickle.dumps(Touch(mark)),
        },
    }


@pytest.mark.parametrize("way", ["inputs", "weight", "formula", "object"])
def test_torch_runs_it_and_we_do_not(good, tmp_path, way):
    mark = tmp_path / "mark"
    bad = changed(good, tmp_path / "bad.pt2", runs_code(mark)[way])
    try:
        torch.export.load(bad)
    except Exception:
        assert mark.exists()
    assert mark.exists(), "the danger is real"
    mark.unlink()
    with pytest.raises(UnsafeArchiveError):
        open_program(bad)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({MODEL: operator("torch.serialization.os.system")}, "calls 'torch.serialization.os.system'; expected operators of ATen"),
        ({MODEL: operator("torch.ops.aten.from_file.default")}, "calls 'torch.ops.aten.from_file.default'"),
        ({MODEL: operator("torch.ops.aten.save.default")}, "calls 'torch.ops.aten.save.default'"),
        ({MODEL: operator("torch.ops.aten.no_such.default")}, "calls 'torch.ops.aten.no_such.default'"),
        ({MODEL: container}, "its inputs or outputs lie in 'collections.defaultdict"),
        ({MODEL: escaped}, "its inputs or outputs lie in 'builtins.dict"),
        ({MODEL: renamed("picture=print()")}, "a name is 'picture=print()'"),
        ({MODEL: formula("a" * 500 + "!")}, "a size is"),
        ({"data/sample_inputs/model.pt": compressed()}, "its example inputs are compressed or overlap"),
        ({MODEL: formula("().__class__")}, "a size is '().__class__'"),
        ({MODEL: formula("Symbol('s0').func")}, "a size is"),
        ({MODEL: formula("9**9**9**9")}, "a size is '9**9**9**9'"),
        ({"data/aotinductor/model/x.so": b"\x7fELF"}, "holds compiled code"),
        ({"data/weights/model.pt": b""}, "holds pickled weights"),
        ({"models/other.json": b"{}"}, "holds several programs"),
    ],
)  # fmt: skip
def test_refused_by_name(good, tmp_path, edits, said):
    with pytest.raises(FirstTokenError) as refused:
        open_program(changed(good, tmp_path / "bad.pt2", edits))
    assert said in str(refused.value)


def test_guards_are_not_evaluated(good, tmp_path):
    mark = tmp_path / "mark"
    bad = changed(good, tmp_path / "bad.pt2", {MODEL: lambda values: values.update(guards_code=[f"open({str(mark)!r}, 'w')"])})
    open_program(bad).module()(torch.zeros(3, 2, 6, 6))
    assert not mark.exists()


def test_what_is_plain_is_the_same_program(good):
    inputs = torch.randn(5, 2, 6, 6)
    with torch.no_grad():
        assert torch.equal(open_program(good).module()(inputs), torch.export.load(good).module()(inputs))
        assert torch.allclose(open_program(good).module()(inputs), Pictures()(inputs), atol=1e-6)


def test_more_values_than_bytes(good, tmp_path):
    def edit(values):
        next(iter(values["config"].values()))["tensor_meta"]["sizes"] = [{"as_int": 1 << 40}]

    with pytest.raises(FirstTokenError, match="says more values than its"):
        open_program(changed(good, tmp_path / "bad.pt2", {WEIGHTS: edit}))


def test_no_archive(tmp_path):
    (tmp_path / "text.pt2").write_text("no zip")
    for name, said in (("text.pt2", "cannot be read as a .pt2"), ("absent.pt2", "does not exist")):
        with pytest.raises(FirstTokenError, match=said):
            open_program(tmp_path / name)
