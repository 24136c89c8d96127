"""SmolLM2-135M-Instruct for tests: a model that answers, got as a user gets it (``firsttoken get smollm2``)."""

import os
import shutil
from pathlib import Path

import pytest

from firsttoken.checkpoint_sources.packaged import SMOLLM2, packaged_checkpoint, packaged_file
from firsttoken.errors import FirstTokenError


def give_up(error: FirstTokenError) -> None:
    """Skips with the reason; a failure where continuous integration must run it."""
    reason = f"no real model here, run scripts/setup_smollm2: {error}"
    (pytest.fail if os.environ.get("FIRSTTOKEN_CI") == "1" else pytest.skip)(reason)


@pytest.fixture(scope="session")
def real_model_file(tmp_path_factory) -> Path:
    """The package's GGUF file."""
    place = tmp_path_factory.mktemp("smollm2") / Path(SMOLLM2.file).name
    try:
        with packaged_file(SMOLLM2) as path:
            shutil.copyfile(path, place)
    except FirstTokenError as error:
        give_up(error)
    return place


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The Hugging Face folder of it, in the tests' cache folder; read-only."""
    try:
        return packaged_checkpoint("smollm2")
    except FirstTokenError as error:
        give_up(error)
        raise
