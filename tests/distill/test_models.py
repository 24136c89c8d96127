"""Decoders as transformers models: what cannot be trained with is named before anything is computed."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from firsttoken.demo import checkpoint_path
from firsttoken.distill.models import check_length, load_decoder
from firsttoken.distill.students import first_student
from firsttoken.errors import FirstTokenError


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_names_its_tensor(tmp_path, bad):
    folder = tmp_path / "broken"
    shutil.copytree(checkpoint_path(), folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5:7] = bad
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        FirstTokenError, match=r"broken: model\.layers\.1\.mlp\.up_proj\.weight holds 2 NaN or infinite values of .*copy it again"
    ):
        load_decoder(folder)
    assert all(torch.isfinite(tensor).all() for tensor in load_decoder(checkpoint_path()).state_dict().values())


def test_windows_longer_than_the_positions_are_refused(make_recipe):
    most = json.loads((checkpoint_path() / "config.json").read_text())["max_position_embeddings"]
    changes = {"student": {"checkpoint": str(checkpoint_path())}, "data.length": most + 1}
    with pytest.raises(
        FirstTokenError, match=rf"data\.length {most + 1}: the student was made for {most} positions.*expected {most} at most"
    ):
        first_student(make_recipe(changes), "sdpa")
    check_length(load_decoder(checkpoint_path()), most, "a teacher")
