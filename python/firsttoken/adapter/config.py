"""Reading an ``adapter_config.json`` of PEFT's: what of it is merged, and by name what cannot be.

LoRA: Hu et al. 2021 (arXiv 2106.09685); rank-stabilized: Kalajdzievski 2023 (arXiv 2312.03732); DoRA: Liu et al. 2024 (arXiv 2402.09353).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firsttoken.checkpoint import ADAPTER_FILE, read_json
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible

# Keys that say which layers were trained and how, which the adapter's tensors show anyway, or settings of training alone.
# ``fan_in_fan_out`` is of GPT-2's transposed layers; PEFT switches it off for linear ones, which are all there are here.
INERT = frozenset(
    ["auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "task_type", "peft_type", "peft_version", "target_modules", "exclude_modules", "modules_to_save", "bias", "lora_dropout", "fan_in_fan_out", "layers_to_transform", "layers_pattern", "megatron_core", "qalora_group_size", "runtime_config", "eva_config", "loftq_config"]
)  # fmt: skip
READ = frozenset(["r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "init_lora_weights"])
# Ways to begin that leave the base model's weights as they are; the others (pissa, olora, corda, loftq) change them.
BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal")
MOST_RANK = 1 << 14
MOST_REPEATS = 4  # in a pattern: a stranger's expression with more, or one that repeats a group, may run for ever


@dataclass(frozen=True)
class AdapterConfig:
    """Rank, alpha and scaling of every adapted module; ``values`` is the whole file."""

    folder: Path
    values: dict[str, Any]

    @property
    def dora(self) -> bool:
        return bool(self.values.get("use_dora"))

    def rank(self, module: str) -> int:
        found = self._patterned("rank_pattern", module, self.values.get("r", 8))
        if type(found) is not int or not 1 <= found <= MOST_RANK:
            self.refuse(f"the rank of {visible(module)} is {visible(repr(found), 80)}; expected a whole number from 1 to {MOST_RANK}")
        return found

    def scaling(self, module: str) -> float:
        alpha = self._patterned("alpha_pattern", module, self.values.get("lora_alpha", 8))
        if type(alpha) not in (int, float) or not math.isfinite(alpha):
            self.refuse(f"lora_alpha of {visible(module)} is {visible(repr(alpha), 80)}; expected a number")
        return alpha / (math.sqrt(self.rank(module)) if self.values.get("use_rslora") else self.rank(module))

    def _patterned(self, key: str, module: str, default: Any) -> Any:
        patterns = self.values.get(key) or {}
        if not isinstance(patterns, Mapping):
            self.refuse(f"{key} is {visible(repr(patterns), 80)}; expected an object of names and numbers")
        for pattern, value in patterns.items():
            if len(re.findall(r"[*+{]", pattern)) > MOST_REPEATS or re.search(r"\)[*+{]", pattern):
                self.refuse(f"{key} has the pattern {visible(pattern, 80)!r}, which may take for ever to match; expected names of modules")
            try:
                if re.match(rf"(.*\.)?({pattern})$", module):  # as PEFT matches it
                    return value
            except re.error as error:
                self.refuse(f"{key} has the pattern {visible(pattern, 80)!r}, which is no regular expression ({error})")
        return default

    def refuse(self, what: str) -> None:
        raise FirstTokenError(
            f"{self.folder / ADAPTER_FILE}: {what}; merge it with PEFT (merge_and_unload, save_pretrained) and export the merged folder"
        )


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Raises `FirstTokenError` for an adapter of another kind than LoRA, or with something that the merge does not know."""
    values = read_json(folder / ADAPTER_FILE, "--adapter takes the folder of a LoRA adapter, as PEFT saves it")
    config = AdapterConfig(folder, values)
    if values.get("peft_type") != "LORA":
        config.refuse(f"peft_type is {visible(repr(values.get('peft_type')), 80)}; expected 'LORA'")
    beginning = values.get("init_lora_weights")
    if not any(beginning is known or (isinstance(known, str) and beginning == known) for known in BEGINNINGS):
        config.refuse(f"init_lora_weights is {visible(repr(beginning), 80)}, which changes the base model's own weights")
    if values.get("bias", "none") not in ("none", "all", "lora_only"):
        config.refuse(f"bias is {visible(repr(values['bias']), 80)}; expected 'none', 'all' or 'lora_only'")
    for key, value in values.items():
        if key not in INERT and key not in READ and value not in (None, False, [], {}):
            config.refuse(
                f"{visible(key, 80)!r} is {visible(repr(value), 80)}, which the merge does not know; it may change what the model computes"
            )
    return config
