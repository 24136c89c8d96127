"""The backend of another package, and a bundle that it made."""

import os
from pathlib import Path

import numpy as np
import pytest
from module_subjects import TARGET, picture_program

from firsttoken.backends.module_registry import find_module_backend
from firsttoken.module_bundles.export import export_source
from firsttoken.modules.sources import open_source

PACKAGES = Path(__file__).parents[1] / "backends" / "third_party"


@pytest.fixture
def target(monkeypatch, tmp_path):
    """A target whose backend is another package's, here and in processes started from here."""
    monkeypatch.syspath_prepend(str(PACKAGES))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]))
    find_module_backend.cache_clear()
    path = tmp_path / "mine.toml"
    path.write_text(TARGET)
    yield path
    find_module_backend.cache_clear()


@pytest.fixture
def program(tmp_path):
    return picture_program(tmp_path / "pictures.pt2")


@pytest.fixture
def held_out():
    return {"picture": np.random.default_rng(1).standard_normal((40, 2, 6, 6)).astype(np.float32), "labels": np.arange(40) % 3}


@pytest.fixture
def bundle(target, program, held_out, tmp_path):
    [folder] = export_source(open_source(program), tmp_path / "out", "module-int8", [target], held_out=held_out)
    return folder
