"""The text part of a checkpoint that holds more: its configuration, and where its tensors stand.

Families name tensors as ``model.layers.0…`` and ``lm_head``. A model that sees pictures has its decoder under a prefix of its own and its
configuration under ``text_config``; a model saved without its head has no prefix at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from firsttoken.decoder.parts import Decoder
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible
from firsttoken.weight_source import Source

# ``model_type`` of a model with several parts, whose text part is a decoder of the family that its ``text_config`` names.
WITH_TEXT = (
    "fast_vlm", "gemma3", "gemma3n", "gemma4", "gemma4_unified", "idefics3", "internvl", "lfm2_vl", "llava", "mistral3", "qwen3_5",
    "qwen3_vl", "smolvlm",
)  # fmt: skip
SAME = {"qwen3_vl_text": "qwen3"}  # families that differ in what pictures alone need
POSITIONS_OF_PICTURES = ("mrope_section", "mrope_interleaved")  # text has the same position in every section
MODEL, HEAD, EMBEDDING = "model.", "lm_head.", "embed_tokens.weight"


def has_other_parts(values: dict) -> bool:
    """Whether the configuration is of a model with other parts than its text."""
    return values.get("model_type") in WITH_TEXT and isinstance(values.get("text_config"), dict)


def text_configuration(values: dict) -> dict:
    """The configuration of the text part, or the whole. Raises `FirstTokenError` for one that does not say what it is."""
    if not has_other_parts(values):
        return values
    text = dict(values["text_config"])
    family = text.get("model_type")
    if not isinstance(family, str):
        raise FirstTokenError(
            f"config.json: text_config.model_type is {visible(repr(family), 60)}; expected the name of the text part's family, as transformers writes it"
        )
    if family in SAME:
        text["model_type"] = SAME[family]
        for key in ("rope_scaling", "rope_parameters"):
            if isinstance(text.get(key), dict):
                text[key] = {name: value for name, value in text[key].items() if name not in POSITIONS_OF_PICTURES}
    if "tie_word_embeddings" in values:  # the outer model ties
        text["tie_word_embeddings"] = values["tie_word_embeddings"]
    return {key: value for key, value in text.items() if key != "architectures"}


@dataclass(frozen=True)
class Places:
    """What the names of the decoder's tensors and of its head begin with in a checkpoint."""

    model: str = MODEL
    head: str = HEAD

    def holds(self, name: str) -> bool:
        """Whether a tensor is the text part's."""
        return name.startswith((self.model, self.head))

    def named(self, decoder: Decoder) -> Decoder:
        """The decoder with its sources under the names that the checkpoint has."""
        return decoder if self == Places() else self._renamed(decoder)

    def _renamed(self, part: Any) -> Any:
        if isinstance(part, Source):
            for begins, here in ((MODEL, self.model), (HEAD, self.head)):
                if part.name.startswith(begins):
                    return replace(part, name=here + part.name.removeprefix(begins))
            return part
        if isinstance(part, tuple):
            return tuple(self._renamed(item) for item in part) if any(is_dataclass(item) for item in part) else part
        if not is_dataclass(part) or isinstance(part, type):
            return part
        return replace(part, **{field.name: self._renamed(getattr(part, field.name)) for field in fields(part)})


def find_places(names: Iterable[str]) -> Places:
    """Where the decoder stands, by its embedding; the usual place where that cannot be told."""
    names = set(names)
    found = sorted(name.removesuffix(EMBEDDING) for name in names if name == EMBEDDING or name.endswith(f".{EMBEDDING}"))
    found = [begins for begins in found if any(name.startswith(f"{begins}layers.0.") for name in names)]
    heads = sorted(name.removesuffix("weight") for name in names if name == f"{HEAD}weight" or name.endswith(f".{HEAD}weight"))
    return Places(found[0] if len(found) == 1 else MODEL, heads[0] if len(heads) == 1 else HEAD)
