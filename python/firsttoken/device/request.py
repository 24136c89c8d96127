"""What the app is asked to do: one request file for the warm runs of a bundle, one for each cold run."""

import secrets
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from firsttoken.device import PROTOCOL, STAGING
from firsttoken.device.staging import LocalBundle
from firsttoken.errors import FirstTokenError
from firsttoken.measure.prompts import exact_prompt
from firsttoken.tokenizer import open_tokenizer

LARGEST_REQUEST = 1 << 20  # bytes
MOST_PROMPTS, MOST_REPEATS, MOST_THREADS, MOST_DECODE_TOKENS = 32, 1000, 16, 4096


ArtifactChoice = Literal["auto", "cpu", "gpu", "npu"]


class ProfileSettings(BaseModel):
    """What to measure. ``chat`` None: through the chat template where the bundle has one. ``cold`` adds cold runs to the warm ones.

    ``artifact`` of bundles that have one for an NPU or a GPU: "auto" is the first of these that runs, "both" measures each by itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    prompts: tuple[int, ...] = (32, 128, 512)
    repeat: int = 5
    threads: int = 4
    cold: bool = False
    decode_tokens: int = 32
    chat: bool | None = None
    artifact: Literal["auto", "cpu", "gpu", "npu", "both"] = "auto"


class Prompt(BaseModel):
    tokens: int
    text: str


class Request(BaseModel):
    """A request file, as ``android-demo/PROTOCOL.md`` says. ``bundle`` is the key of a staged bundle."""

    protocol: int = PROTOCOL
    id: str = Field(pattern="^[0-9a-f]{32}$")
    bundle: str = Field(pattern="^[0-9a-f]{32}$")
    state: Literal["warm", "cold"]
    threads: int
    repeat: int
    decode_tokens: int
    chat: bool
    prompts: list[Prompt]
    artifact: ArtifactChoice = "auto"

    @property
    def place(self) -> str:
        return f"{STAGING}/requests/{self.id}.json"

    @property
    def runs(self) -> int:
        """How many runs it asks for, without the warm-up."""
        return self.repeat * len(self.prompts)

    def text(self) -> str:
        """Returns the file's text. Raises `FirstTokenError` if the app would refuse it for its size."""
        # an app that knows no other artifact need not know the field
        text = self.model_dump_json(indent=1, exclude={"artifact"} if self.artifact == "auto" else None) + "\n"
        if len(text.encode()) > LARGEST_REQUEST:
            raise FirstTokenError(
                f"prompts of {', '.join(str(p.tokens) for p in self.prompts)} tokens make a request of {len(text.encode())} bytes, more than the {LARGEST_REQUEST} the app takes; measure fewer at a time"
            )
        return text


def new_id() -> str:
    return secrets.token_hex(16)


def check_settings(settings: ProfileSettings) -> None:
    """Raises `FirstTokenError` for settings outside what the app takes."""
    if not settings.prompts:
        raise FirstTokenError("no prompt lengths to measure; give at least one, like --prompts 128")
    if len(set(settings.prompts)) != len(settings.prompts):
        raise FirstTokenError(f"prompt lengths {', '.join(map(str, settings.prompts))} hold one twice; give each once")
    bounds = (
        ("number of prompt lengths", len(settings.prompts), 1, MOST_PROMPTS),
        ("--prompts", min(settings.prompts), 1, 1 << 20),
        ("--repeat", settings.repeat, 1, MOST_REPEATS),
        ("--threads", settings.threads, 1, MOST_THREADS),
        ("--decode-tokens", settings.decode_tokens, 0, MOST_DECODE_TOKENS),
    )
    for what, value, least, most in bounds:
        if not least <= value <= most:
            raise FirstTokenError(f"{what} is {value}; expected {least} to {most}")


def prompts_for(bundle: LocalBundle, settings: ProfileSettings) -> tuple[bool, list[Prompt]]:
    """Returns whether the chat template is used, and the prompts' texts. Raises `FirstTokenError` where they do not fit the bundle."""
    manifest = bundle.manifest
    longest = max(settings.prompts)
    if longest + settings.decode_tokens > manifest.cache_length:
        raise FirstTokenError(
            f"bundle {bundle.folder}: {longest} prompt tokens and {settings.decode_tokens} decoded ones do not fit its cache of {manifest.cache_length}; "
            "measure shorter prompts or export with a longer --cache-length"
        )
    tokenizer = open_tokenizer(bundle.folder, manifest)
    chat = manifest.chat is not None if settings.chat is None else settings.chat
    return chat, [Prompt(tokens=tokens, text=exact_prompt(tokenizer, manifest, tokens, chat)) for tokens in settings.prompts]
