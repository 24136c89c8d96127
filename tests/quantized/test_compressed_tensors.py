"""Weights that compressed-tensors packed, read to what the library makes of them; what does not fit together is refused by name."""

import json

import numpy as np
import pytest
import torch
from compressed_folders import compress_folder, scheme_of
from safetensors.torch import load_file, save_file

from firsttoken.checkpoint_sources.open import open_checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.weight_source import Source

Q = "model.layers.0.self_attn.q_proj.weight"
# bits, group, symmetric, packed, dtype
CASES = {
    "int4-g32": (4, 32, True, True, torch.bfloat16),
    "int4-g32-fp16": (4, 32, True, True, torch.float16),
    "int4-row": (4, None, True, True, torch.bfloat16),
    "int8-g32": (8, 32, True, True, torch.bfloat16),
    "int8-row": (8, None, True, True, torch.float32),
    "int8-row-plain": (8, None, True, False, torch.bfloat16),
    "int4-g32-shifted": (4, 32, False, True, torch.float32),
    "int8-row-shifted": (8, None, False, True, torch.float32),
}


@pytest.mark.parametrize("case", CASES)
def test_equal_to_the_library_bit_for_bit(tiny_model, tmp_path, case):
    bits, group, symmetric, packed, dtype = CASES[case]
    expected = compress_folder(tiny_model, tmp_path / case, scheme_of(bits, group, symmetric, packed), dtype)
    with open_checkpoint(tmp_path / case) as checkpoint:
        open_decoder(checkpoint)
        assert "quantized already" in checkpoint.note and len(expected) == 14
        for name, weight in expected.items():
            rows = checkpoint.rows(name)
            assert np.array_equal(torch.from_numpy(rows).to(dtype).float(), weight.float()), (
                name
            )  # the library multiplies in the scales' type
            assert np.array_equal(checkpoint.rows(name, 3, 17), rows[3:17])
            lattice = checkpoint.lattice(Source(name))
            if not symmetric:
                assert lattice is None
                continue
            assert lattice is not None and (lattice.precision, lattice.group) == (f"int{bits}", group)
            scales = checkpoint.stored_scales(Source(name))
            integers = rows.reshape(*scales.shape, -1) / scales[:, :, None]
            assert np.abs(integers - np.rint(integers)).max() < 1e-4
        assert any("zero points" in line for line in checkpoint.remarks) != symmetric


def test_transformers_reads_the_same_model(tiny_model, tmp_path):
    """The folder is one that transformers loads by its own integration, and its logits are those of our reference."""
    from transformers import AutoModelForCausalLM

    from firsttoken.prove.reference import reference_logits

    compress_folder(tiny_model, tmp_path / "model", scheme_of(4, 32))
    tokens = np.arange(5, 35, dtype=np.int32)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    with torch.no_grad():
        theirs = model(torch.from_numpy(tokens.astype(np.int64))[None]).logits[0].float().numpy()
    with open_checkpoint(tmp_path / "model") as checkpoint:
        [ours] = reference_logits(checkpoint, open_decoder(checkpoint), [tokens], [np.arange(30)])
    # the library holds the weights in bfloat16, which rounds their products; ours are exact
    assert np.abs(ours - theirs).max() < 2e-2 * theirs.std()


def test_columns_in_another_order(tiny_model, tmp_path):
    """``weight_g_idx``: each column has the scale of its own group, and no kernel has that."""
    compress_folder(tiny_model, tmp_path / "model", scheme_of(4, 32), torch.float32)
    tensors = load_file(tmp_path / "model/model.safetensors")
    columns = tensors[f"{Q}_shape"][1].item()
    order = torch.randperm(columns, generator=torch.Generator().manual_seed(1))
    with open_checkpoint(tmp_path / "model") as checkpoint:
        scales = checkpoint.stored_scales(Source(Q))
        integers = np.rint(checkpoint.rows(Q) / scales.repeat(32, 1))
    tensors[f"{Q}_g_idx"] = (order // 32).int()
    save_file(tensors, tmp_path / "model/model.safetensors")
    with open_checkpoint(tmp_path / "model") as checkpoint:
        assert checkpoint.lattice(Source(Q)) is None
        assert np.array_equal(checkpoint.rows(Q), integers * scales[:, (order // 32).numpy()])
        assert any("order of their activations" in line for line in checkpoint.remarks)


@pytest.mark.parametrize(
    ("activations", "said"),
    [
        ({"input_activations": {"num_bits": 8, "dynamic": False}}, "inputs of layers rounded to 8 bits by scales decided beforehand"),
        ({"output_activations": {"num_bits": 8, "dynamic": True}}, "outputs of layers rounded to 8 bits as they come"),
        ({"input_activations": {"num_bits": 8, "dynamic": True}}, None),
        ({"input_activations": None}, None),
    ],
)
def test_scales_of_activations_are_left_out_and_that_is_said(tiny_model, tmp_path, activations, said):
    compress_folder(tiny_model, tmp_path / "model", scheme_of(8, None))
    config = json.loads((tmp_path / "model/config.json").read_text())
    [group] = config["quantization_config"]["config_groups"].values()
    group |= {"input_activations": None, "output_activations": None, **activations}
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    with open_checkpoint(tmp_path / "model") as checkpoint:
        about = [line for line in checkpoint.remarks if "config.json says" in line]
    assert about == ([] if said is None else [f"config.json says {said}, which is left out: how activations are rounded is the plan's"])


DAMAGES = {
    "no scales": (lambda t: t.pop(f"{Q}_scale"), "q_proj.weight_scale' is missing"),
    "no shape": (lambda t: t.pop(f"{Q}_shape"), "q_proj.weight_shape' is missing"),
    "absurd shape": (lambda t: t.update({f"{Q}_shape": torch.tensor([-1, 1 << 40])}), r"says \[-1, 1099511627776\]"),
    "shape of another weight": (lambda t: t.update({f"{Q}_shape": torch.tensor([64, 4000])}), r"weight_packed' is \[\d+, 8\].*expected \[64, 500\]"),
    "packed as bytes": (lambda t: t.update({f"{Q}_packed": t[f"{Q}_packed"].view(torch.uint8)}), "is stored as U8; expected I32"),
    "scales of another group": (lambda t: t.update({f"{Q}_scale": torch.ones(len(t[f"{Q}_scale"]), 1)}), "one scale for 64 columns; config.json says one for 32"),
    "scales of fewer rows": (lambda t: t.update({f"{Q}_scale": torch.ones(3, 2)}), r"weight_scale' is \[3, 2\]; expected \["),
    "group out of range": (lambda t: t.update({f"{Q}_g_idx": torch.full((64,), 9, dtype=torch.int32)}), "puts a column into group 9; expected 0 to 1"),
    "stored twice": (lambda t: t.update({Q: torch.ones(64, 64)}), "is stored twice"),
    "nothing packed": (lambda t: [t.pop(name) for name in list(t) if "_packed" in name], "but no tensor is"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=DAMAGES)
def test_damaged_tensors_are_refused_by_name(tiny_model, tmp_path, damage):
    change, message = DAMAGES[damage]
    compress_folder(tiny_model, tmp_path / "model", scheme_of(4, 32))
    tensors = load_file(tmp_path / "model/model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model/model.safetensors")
    with pytest.raises(FirstTokenError, match=message):
        open_checkpoint(tmp_path / "model")


def test_the_folder_may_be_written_as_floats(tiny_model, tmp_path):
    """``firsttoken get``: what it writes is read by anything, and is the same model."""
    from firsttoken.checkpoint_sources.write_folder import write_checkpoint

    compress_folder(tiny_model, tmp_path / "model", scheme_of(4, 32))
    with open_checkpoint(tmp_path / "model") as checkpoint:
        write_checkpoint(checkpoint, tmp_path / "plain")
        with open_checkpoint(tmp_path / "plain") as plain:
            assert "quantization_config" not in json.loads((tmp_path / "plain/config.json").read_text())
            assert plain.tensors.keys() == checkpoint.tensors.keys()
            assert all(np.array_equal(plain.rows(name), checkpoint.rows(name)) for name in plain.tensors)
