"""What quantization_config says: read, or refused by the name of what is not read and with what to do instead."""

from pathlib import Path

import pytest

from firsttoken.errors import FirstTokenError
from firsttoken.quantized.scheme import read_scheme

INT4 = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
PACKED = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": {"weights": INT4}}}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}


def weights(**changes):
    return {**PACKED, "config_groups": {"group_0": {"weights": {**INT4, **changes}}}}


def test_what_is_read():
    scheme = read_scheme(Path("config.json"), {"quantization_config": PACKED})
    assert [(one.num_bits, one.group) for one in scheme.weights] == [(4, 32)]
    assert read_scheme(Path("config.json"), {"compression_config": {k: v for k, v in PACKED.items() if k != "quant_method"}}) == scheme
    gptq = read_scheme(Path("config.json"), {"quantization_config": {**GPTQ, "damp_percent": 0.1, "group_size": -1}})
    assert (gptq.bits, gptq.group, gptq.zero_offset) == (4, None, 1)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"quant_method": "awq", "bits": 4}, "already quantized by 'awq', and its zero points fit no kernel.*int4-gptq"),
        ({"quant_method": "fp8"}, "8-bit floats"),
        ({"quant_method": "torchao"}, "already quantized by 'torchao'"),
        ({"quant_method": "new"}, "already quantized by 'new'; compressed-tensors .* and gptq are read"),
        ({"bits": 4}, "already quantized but quant_method, which says by what, is missing; compressed-tensors"),
        ({"quant_method": ["gptq"]}, "already quantized by"),
        ("int4", "is \"'int4'\"|is 'int4'; expected an object"),
        ({**GPTQ, "bits": 3}, "with bits 3; expected 4 or 8"),
        ({**GPTQ, "bits": "4"}, "bits is '4'"),
        ({**GPTQ, "group_size": -7}, "group_size is -7"),
        ({**GPTQ, "checkpoint_format": "marlin"}, "checkpoint_format 'marlin'; expected gptq or gptq_v2"),
        ({**PACKED, "config_groups": {}}, "config_groups"),
        ({**PACKED, "format": "nvfp4-pack-quantized"}, "format 'nvfp4-pack-quantized'"),
        ({**PACKED, "kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme"),
        ({**PACKED, "transform_config": {"config_groups": {"r1": {}}}}, "transform_config"),
        ({**PACKED, "sparsity_config": {"format": "sparse-24-bitmask"}}, "weights stored as 'sparse-24-bitmask'"),
        (weights(type="float", num_bits=8), "weights of 8 bits of type 'float'"),
        (weights(num_bits=2), "weights of 2 bits"),
        (weights(strategy="block"), "scales by block"),
        (weights(num_bits="4"), "num_bits is '4'"),
    ],
)
def test_what_is_refused(said, message):
    with pytest.raises(FirstTokenError, match=message):
        read_scheme(Path("config.json"), {"quantization_config": said})


def test_no_transform_is_no_transform():
    assert read_scheme(
        Path("config.json"), {"quantization_config": {**PACKED, "transform_config": {"config_groups": {}}, "sparsity_config": {}}}
    )
