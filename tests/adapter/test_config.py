"""What an adapter_config.json may say: ranks and scalings as PEFT takes them, and refusals by name."""

import json
import math

import pytest

from firsttoken.adapter.config import read_adapter_config
from firsttoken.errors import FirstTokenError

GOOD = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
DEEP = "model.layers.11.self_attn.q_proj"


def config_of(tmp_path, **changes):
    (tmp_path / "adapter_config.json").write_text(json.dumps({**GOOD, **changes}))
    return read_adapter_config(tmp_path)


@pytest.mark.parametrize(
    ("changes", "rank", "scaling"),
    [
        ({}, 8, 2.0),
        ({"use_rslora": True}, 8, 16 / math.sqrt(8)),
        ({"rank_pattern": {"q_proj": 4}}, 4, 4.0),
        ({"rank_pattern": {"proj": 4}}, 8, 2.0),
        ({"rank_pattern": {"layers.1.self_attn.q_proj": 4}}, 8, 2.0),
        ({"rank_pattern": {r"layers\.1\d\.self_attn\.q_proj": 4}}, 4, 4.0),
        ({"alpha_pattern": {"^model.layers.11.self_attn.q_proj": 2.5}}, 8, 2.5 / 8),
        ({"rank_pattern": {"q_proj": 2, DEEP: 4}, "use_rslora": True}, 2, 16 / math.sqrt(2)),
    ],
)
def test_rank_and_scaling(tmp_path, changes, rank, scaling):
    config = config_of(tmp_path, **changes)
    assert config.rank(DEEP) == rank and config.scaling(DEEP) == pytest.approx(scaling, rel=1e-15)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; expected 'LORA'"),
        ({"peft_type": None}, "expected 'LORA'"),
        ({"init_lora_weights": "pissa"}, "'pissa', which changes the base model's own weights"),
        ({"init_lora_weights": "corda"}, "corda"),
        ({"init_lora_weights": 1}, "init_lora_weights is 1"),
        ({"bias": "some"}, "bias is 'some'"),
        ({"lora_bias": True}, "'lora_bias' is True, which the merge does not know"),
        ({"use_qalora": True}, "use_qalora"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"trainable_token_indices": [5]}, "trainable_token_indices"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"target_parameters": ["experts"]}, "target_parameters"),
        ({"a_new_trick": 0.5}, "'a_new_trick' is 0.5"),
    ],
)
def test_what_the_merge_does_not_know_is_refused(tmp_path, changes, said):
    with pytest.raises(FirstTokenError, match=said) as raised:
        config_of(tmp_path, **changes)
    assert "merge_and_unload" in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": 0}, "rank of .* is 0"),
        ({"r": True}, "rank of .* is True"),
        ({"r": "8"}, "is '8'"),
        ({"r": 10**9}, "is 1000000000"),
        ({"lora_alpha": None}, "lora_alpha of .* is None"),
        ({"lora_alpha": "x"}, "lora_alpha of .* is 'x'"),
        ({"rank_pattern": ["q_proj"]}, "expected an object"),
        ({"rank_pattern": {"(q_proj": 4}}, "no regular expression"),
        ({"rank_pattern": {"(a+)+$": 4}}, "for ever"),
        ({"alpha_pattern": {".*.*.*.*.*x": 4}}, "for ever"),
    ],
)
def test_numbers_and_patterns_that_make_no_sense(tmp_path, changes, said):
    with pytest.raises(FirstTokenError, match=said):
        config_of(tmp_path, **changes).scaling(DEEP)


def test_no_adapter_and_no_json(tmp_path):
    with pytest.raises(FirstTokenError, match="missing; --adapter takes the folder of a LoRA adapter"):
        read_adapter_config(tmp_path)
    (tmp_path / "adapter_config.json").write_text("[1]")
    with pytest.raises(FirstTokenError, match="expected a JSON object"):
        read_adapter_config(tmp_path)
