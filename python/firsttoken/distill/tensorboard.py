"""A training's course for TensorBoard, as transformers writes it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from firsttoken.distill.work_folder import work_folder
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need

if TYPE_CHECKING:
    from transformers import TrainerCallback


def check_board(folder: Path, output: Path) -> None:
    """Raises `FirstTokenError` before any work where TensorBoard is not installed, or its folder cannot be made or would be the student's at ``output``."""
    need("tensorboard", "--tensorboard")
    place = Path(os.path.abspath(folder))
    if not {output, work_folder(output)}.isdisjoint((place, *place.parents)):
        raise FirstTokenError(f"--tensorboard {folder}: lies in the student's folder, which appears when it is finished; choose another")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FirstTokenError(f"--tensorboard {folder}: cannot be made ({error.strerror}); choose another folder") from None


def board(folder: Path, stage: str, step: int) -> TrainerCallback:
    """Writes losses, scores, temperature, learning rate and gradient norm of a stage into a folder of its name.

    ``step`` is where the stage goes on: what an interrupted run wrote of later steps is taken back.
    """
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations.integration_utils import TensorBoardCallback

    return TensorBoardCallback(SummaryWriter(str(folder / stage.replace(" ", "-")), purge_step=step + 1))
