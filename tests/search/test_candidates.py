"""What a layer may be on a backend."""

import pytest
from families_on_disk import random_model, save

from firsttoken.backends.registry import find_backend
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.search.candidates import candidates


def offered(case, folder, backend="tflite-xnnpack", asked=()):
    decoder = open_decoder(Checkpoint(save(random_model(case), folder)))
    return {name: [one.label for one in own] for name, own in candidates(decoder, find_backend(backend), asked).items()}


def test_groups_are_those_that_divide_the_rows(tmp_path):
    found = offered("llama3", tmp_path)  # rows of 64 and of 96
    assert found["layers.0.mlp.up"] == ["fp16", "int8", "int8 apart", "int8 gptq", "int4/32 gptq", "int4/row gptq"]
    assert found["layers.0.mlp.down"] == ["fp16", "int8", "int8 apart", "int8 gptq", "int4/32 gptq", "int4/row gptq"]
    assert found["layers.0.attention.core"] == ["fp32", "fp16"]
    assert found["embedding"] == ["fp16", "int8"]
    assert found["head"] == found["layers.0.mlp.up"]


def test_a_head_that_is_the_embeddings_table_has_no_integers_of_its_own(tmp_path):
    assert offered("smollm", tmp_path)["head"] == ["fp16", "int8", "int8 apart", "int4/32"]


def test_families_that_are_not_calibrated_are_rounded(tmp_path):
    found = offered("gemma4", tmp_path)
    assert found["layers.0.mlp.up"] == ["fp16", "int8", "int8 apart", "int4/32"]


def test_a_backend_without_int4_offers_none(tmp_path):
    assert offered("llama3", tmp_path, "tflite-none")["layers.0.mlp.up"] == ["fp16", "int8", "int8 apart", "int8 gptq"]


def test_linear_layers_keep_to_what_is_asked(tmp_path):
    found = offered("llama3", tmp_path, asked=("int8", "fp16"))
    assert found["layers.1.mlp.gate"] == ["fp16", "int8"]
    assert found["layers.1.attention.core"] == ["fp32", "fp16"]
    with pytest.raises(FirstTokenError, match="precision 'int8gptq' is unknown .did you mean 'int8 gptq'"):
        offered("llama3", tmp_path / "other", asked=("int8gptq",))
    with pytest.raises(
        FirstTokenError, match="layer 'layers.0.attention.q' can have none of int4/128 gptq here; expected one of fp16, int8,"
    ):
        offered("llama3", tmp_path / "third", asked=("int4/128 gptq",))


def test_what_is_asked_in_vain_is_refused(tmp_path):
    with pytest.raises(FirstTokenError, match=r"precision 'int4/128 gptq' is none that a layer can have here .did you mean 'int4/32 gptq'"):
        offered("llama3", tmp_path / "rows of 64 and 96", asked=("int8", "int4/128 gptq"))
    with pytest.raises(
        FirstTokenError, match=r"precision 'int4/32' is none that a layer but the head can have .*give --precision 'int4/32 gptq'"
    ):
        offered("smollm", tmp_path / "tied", asked=("fp16", "int8", "int4/32"))
    found = offered("smollm", tmp_path / "both", asked=("int4/32", "int4/32 gptq"))
    assert found["head"] == ["int4/32"] and found["layers.0.mlp.up"] == ["int4/32 gptq"]
    assert offered("gemma4", tmp_path / "rounded", asked=("int8", "int4/32"))["layers.0.mlp.up"] == ["int8", "int4/32"]
