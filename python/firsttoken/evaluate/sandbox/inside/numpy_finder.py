"""Lets a guarded process import numpy, whose folders it may read, and nothing else of the packages that are installed."""

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec


class NumpyFinder:
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "numpy":
            return None
        return importlib.util.spec_from_file_location(
            "numpy", os.path.join(self.folder, "__init__.py"), submodule_search_locations=[self.folder]
        )


def install(folders: list[str]) -> None:
    """``folders``: numpy's own first, then its libraries'; none where it is not installed."""
    if folders:
        sys.meta_path.append(NumpyFinder(folders[0]))
