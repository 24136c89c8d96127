"""The embedded demo checkpoint: a small trained model, held-out text and prompts.

Everything here is data in the package, so the main job runs offline. How it was
trained, and on what, is in the checkpoint's README.md.
"""

from __future__ import annotations

import json
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent


def checkpoint_path() -> Path:
    """The folder of the demo checkpoint, in Hugging Face layout (Qwen2 family)."""
    return _FOLDER / "checkpoint"


def held_out_text() -> str:
    """Text that neither the demo model nor its tokenizer was trained on.

    Whole standard library files, each under a line ``# ======== path ========``.
    """
    return (_FOLDER / "held_out.txt").read_text(encoding="utf-8")


def prompts() -> list[dict]:
    """Prompts that show the demo model off: ``name``, ``text`` and ``chat`` each.

    With ``chat`` true, ``text`` is a user message for the chat template; otherwise it
    is raw text for the model to continue.
    """
    return json.loads((_FOLDER / "prompts.json").read_text(encoding="utf-8"))
