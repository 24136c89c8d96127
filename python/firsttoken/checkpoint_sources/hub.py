"""Checkpoints of the Hugging Face hub by id, through its own client: cached, resumed, with only the files that are read here."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible

ID = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>[\w./-]{1,200}))?")
CHECKPOINT_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "chat_template.json", "*.safetensors", "*.safetensors.index.json",
)  # fmt: skip
# the same weights in the author's own layout (Mistral's, Meta's), and what lies in folders: other formats, other runs
LEFT_OUT = ("consolidated*", "*/*", "adapter_*")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class HubId:
    """``Owner/Name`` and the branch, tag or commit, None for the main branch."""

    repository: str
    revision: str | None


def parse_id(text: str) -> HubId | None:
    """Returns the id that a text is, or None. It says nothing about whether the hub has it."""
    found = ID.fullmatch(text)
    return HubId(found["repository"], found["revision"]) if found and ".." not in text else None


def download(text: str, files: Sequence[str] = CHECKPOINT_FILES) -> Path:
    """Returns the folder of the hub's cache with a repository's files, downloaded where they are not there yet.

    Raises `FirstTokenError` with the command that downloads it elsewhere, where the hub cannot be reached, does not have it, or asks for a login.
    """
    asked = parse_id(text)
    assert asked is not None, f"{text} is no id"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        raise FirstTokenError(f"{text}: downloading needs huggingface_hub ({error}); run: pip install huggingface_hub") from None
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        folder = snapshot_download(
            asked.repository,
            revision=asked.revision,
            allow_patterns=list(files),
            ignore_patterns=list(LEFT_OUT) if files is CHECKPOINT_FILES else ["*/*"],
        )
    except GatedRepoError:
        raise _failed(asked, "its author asks for a login and consent; accept on its page, run `hf auth login`, and again") from None
    except RepositoryNotFoundError:
        raise _failed(asked, "the hub has no such repository, or it is private (and no folder here has that name)") from None
    except RevisionNotFoundError:
        raise _failed(asked, f"it has no revision {asked.revision!r}") from None
    # the client's errors are of many libraries (sockets, TLS, HTTP, its cache); none of them is a fault of ours
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _failed(asked, f"no folder here has that name, and the hub cannot be asked ({visible(reason, 300)})") from None
    if files is CHECKPOINT_FILES and not any(Path(folder).glob("*.safetensors")):
        raise _failed(asked, "it holds no *.safetensors; of a repository of GGUF files download one and give that file")
    return Path(folder)


def _failed(asked: HubId, why: str) -> FirstTokenError:
    name = asked.repository.partition("/")[2]
    revision = f" --revision {asked.revision}" if asked.revision else ""
    return FirstTokenError(
        f"checkpoint {asked.repository}: {why}; on a machine that can, run: hf download {asked.repository}{revision} --local-dir {name}, and give the folder {name}"
    )
