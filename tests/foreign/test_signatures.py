"""Which signatures are run, which are refused and in what words; real files are in tests/prove/test_on_file.py."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from firsttoken.backends.tflite.section import section_of
from firsttoken.errors import FirstTokenError
from firsttoken.foreign.signatures import Signature, Tensor, chosen, named, read_offer

PATH = Path("their.tflite")


def signature(name: str, tokens, rows=32, mask="float32", cache="float32", integers="int32") -> Signature:
    kv = [Tensor(f"kv_cache_{which}_0", [1, 2, rows, 8], cache) for which in "kv"]
    inputs = [Tensor("tokens", [1, tokens], integers), Tensor("input_pos", [tokens], integers), Tensor("mask", [1, 1, tokens, rows], mask)]
    return Signature(name, [*inputs, *kv], [*kv, *([Tensor("logits", [1, 1, 50], "float32")] if name == "decode" else [])])


def static(**kinds) -> dict[str, Signature]:
    return {
        "decode": signature("decode", 1, **kinds),
        "prefill_8": signature("prefill_8", 8, **kinds),
        "prefill_4": signature("prefill_4", 4, **kinds),
    }


def run_time() -> dict[str, Signature]:
    return {"decode": signature("decode", 1, "cached"), "prefill": signature("prefill", "tokens", "cached")}


@pytest.mark.parametrize("kinds", [{}, {"mask": "bool"}, {"mask": "float16", "cache": "float16"}, {"cache": "int8"}, {"integers": "int64"}])
def test_static_ones_of_every_type(kinds):
    offer = chosen(PATH, static(**kinds))
    assert offer.lengths == [4, 8] and offer.rows == 32 and offer.vocab_size == 50
    assert [state.name for state in offer.states] == ["kv_cache_k_0", "kv_cache_v_0"]


def test_those_of_run_time_and_other_signatures_beside_them():
    offer = chosen(PATH, run_time() | {"decode_lora": signature("decode_lora", 1)})
    assert offer.rows is None and offer.lengths == [] and set(offer.signatures) == {"decode", "prefill"}


def test_a_shapes_run_time_dimensions_have_names():
    assert named("mask", [1, 1, -1, -1]) == [1, 1, "tokens", "cached"]
    assert named("kv_cache_v_3", [1, 2, 64, -1]) == [1, 2, 64, "cached"] and named("tokens", [1, -1]) == [1, "tokens"]


def without(one: Signature, name: str) -> Signature:
    return replace(one, inputs=[each for each in one.inputs if each.name != name])


def reshaped(one: Signature, which: str, **changes) -> Signature:
    def change(tensors):
        return [replace(each, **changes) if each.name == which else each for each in tensors]

    return replace(one, inputs=change(one.inputs), outputs=change(one.outputs))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"serving_default": signature("serving_default", 1)}, r"has the signatures serving_default \(tokens, input_pos, mask, .*\); expected decode and prefill"),
        ({"decode": signature("decode", 1)}, "has the signatures decode .*; expected decode and prefill or prefill_N"),
        (dict.fromkeys(("first", "extend", "decode"), signature("decode", 1)), "of firsttoken's own; give the bundle's folder"),
        (static() | {"prefill_8": without(signature("prefill_8", 8), "mask")}, "'prefill_8' lacks the input 'mask'; expected"),
        (static() | {"decode": replace(signature("decode", 1), outputs=signature("prefill_1", 1).outputs)}, "'decode' gives no 'logits' .*absent"),
        (static() | {"prefill_8": signature("prefill_8", 7)}, r"'prefill_8' has 'tokens' \[1, 7\] in int32, expected \[1, 8\]"),
        (static() | {"prefill_8": signature("prefill_8", 8, rows=31)}, "'prefill_8' has 'kv_cache_k_0' not as decode has it"),
        (static() | {"prefill_8": reshaped(signature("prefill_8", 8), "mask", shape=[1, 1, 8, 31])}, "has a mask over 31 rows"),
        (static() | {"prefill_8": reshaped(signature("prefill_8", 8), "mask", dtype="int8")}, "'mask' .* in int8, expected"),
        (static(cache="UINT8"), "'kv_cache_k_0' in UINT8"),
        (static() | {"decode": reshaped(signature("decode", 1), "tokens", name="token\x1b[2J")}, r"lacks the input 'tokens'"),
    ],
)  # fmt: skip
def test_others_are_refused_with_what_is_there_and_what_is_expected(found, said):
    with pytest.raises(FirstTokenError, match=said) as caught:
        chosen(PATH, found)
    assert str(caught.value).startswith("their.tflite: ") and "\x1b" not in str(caught.value)


def test_more_cache_than_there_is_memory():
    offer = chosen(PATH, run_time())
    offer.check_memory(PATH, 1 << 20)
    states = [replace(each, shape=[1, 1 << 20, "cached", 64]) for each in offer.states]
    decode = replace(offer.decode, inputs=[*offer.decode.inputs[:3], *states])
    with pytest.raises(FirstTokenError, match="a cache of 1048576 rows takes .*--cache-length"):
        replace(offer, signatures={**offer.signatures, "decode": decode}).check_memory(PATH, 1 << 20)


def test_a_damaged_file_is_refused(own_litertlm, tmp_path):
    from firsttoken.foreign.signature_file import graphs

    section = graphs(own_litertlm)
    content = section.read(0, section.size)
    for cut in (20, len(content) // 50, len(content) // 2, len(content) - 1):
        path = tmp_path / "cut.tflite"
        path.write_bytes(content[:cut])
        with pytest.raises(FirstTokenError) as caught:
            read_offer(section_of(path))
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_the_runtime_takes_masks_of_truth_values(tmp_path):
    """A mask of bool, as export_hf makes it with ``use_bool_mask``: the element type that a host array is bound with."""
    from ai_edge_litert import schema_py_generated as schema

    from firsttoken.backends.tflite.litert import CompiledModel, aligned_zeros
    from firsttoken.backends.tflite.model_file import ModelFile

    file, graph, operator, options = ModelFile("cast"), schema.SubGraphT(), schema.OperatorT(), schema.CastOptionsT()
    kinds = schema.TensorType.BOOL, schema.TensorType.FLOAT32
    graph.tensors = [schema.TensorT() for _ in kinds]
    for tensor, kind, name in zip(graph.tensors, kinds, (b"mask", b"out"), strict=True):
        tensor.shape, tensor.type, tensor.buffer, tensor.name = np.array([1, 4], np.int32), kind, 0, name
    operator.opcodeIndex = file.operator_code(schema.BuiltinOperator.CAST, 1)
    operator.inputs, operator.outputs = np.array([0], np.int32), np.array([1], np.int32)
    options.inDataType, options.outDataType = kinds
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.CastOptions, options
    graph.inputs, graph.outputs, graph.operators, graph.name = np.array([0], np.int32), np.array([1], np.int32), [operator], b"main"
    entry, ins, outs = schema.SignatureDefT(), schema.TensorMapT(), schema.TensorMapT()
    ins.name, ins.tensorIndex, outs.name, outs.tensorIndex = b"mask", 0, b"out", 1
    entry.signatureKey, entry.inputs, entry.outputs = b"cast", [ins], [outs]
    file.add_subgraph(graph, entry)
    file.write(tmp_path / "cast.tflite")
    model = CompiledModel(tmp_path / "cast.tflite", 1, None)
    mask, out = aligned_zeros([1, 4], "bool"), aligned_zeros([1, 4], "float32")
    mask[0] = [True, False, False, True]
    model.run("cast", model.bind([mask]), model.bind([out]))
    assert out.tolist() == [[1, 0, 0, 1]]
    model.close()
