"""What a proof says of its witness: another program that read the same checkpoint."""

from typing import Literal

from pydantic import Field

from firsttoken.bundle.part import Part


class Witness(Part):
    """Whether transformers, in a process of its own, makes of the checkpoint what firsttoken's FP32 reference makes of it.

    ``why`` says what differs, or why no one was asked; where both agree it may hold a remark. ``by`` is the program, its version and the model's class.
    ``difference`` is the largest over ``positions``: the root mean square of the logits' differences in units of their spread there; ``bound`` is what
    rounding may reach. ``layers`` of ``of_layers`` were run, counted from the first. ``texts`` were cut into tokens and ``chats`` were written by both.
    """

    said: Literal["agrees", "differs", "not witnessed"]
    why: str | None = None
    by: str | None = None
    positions: int = Field(0, ge=0)
    layers: int = Field(0, ge=0)
    of_layers: int = Field(0, ge=0)
    difference: float | None = None
    bound: float | None = None
    texts: int = Field(0, ge=0)
    chats: int = Field(0, ge=0)
