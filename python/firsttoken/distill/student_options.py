"""Tables of a recipe that say how a student is trained beside its losses: on what it writes itself, and through adapters."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class OnPolicy(Table):
    """On-policy distillation (GKD, arXiv:2306.13649): the teacher judges what the student writes (`on_policy`)."""

    share: float = Field(default=0.5, gt=0, le=1)  # the paper's lambda: of the windows, those that the student continues itself
    max_new_tokens: int | None = Field(default=None, ge=1)  # none: to the end of the window
    temperature: float = Field(default=1.0, gt=0)  # of the student's sampling
    prompt_tokens: int | None = Field(default=None, ge=1)  # kept of a window of plain text; none: half of it


class SequenceLevel(Table):
    """Sequence-level distillation (arXiv:1606.07947): the first teacher answers prompts, and its answers are trained on (`sequence_level`)."""

    prompts: str  # JSONL with a "prompt" in every line
    max_tokens: int = Field(default=512, ge=1)  # of an answer
    temperature: float = Field(default=0.0, ge=0)  # 0: the most likely token
    domain: str = "text"  # of the answers


class Lora(Table):
    """Low-rank adapters (LoRA, arXiv:2106.09685): they alone are trained, and added to the weights at the end."""

    rank: int = Field(default=8, ge=1)
    alpha: int = Field(default=16, ge=1)  # the adapters' product is multiplied by alpha / rank
    dropout: float = Field(default=0.0, ge=0, lt=1)  # of the adapters' inputs
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"  # names of layers, such as q_proj; all but the head
