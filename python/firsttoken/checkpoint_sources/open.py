"""Opening whatever was given where a checkpoint is expected."""

import os
from pathlib import Path

from firsttoken.checkpoint import Checkpoint
from firsttoken.checkpoint_sources import hub, packaged
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.progress import Report, silent
from firsttoken.quantized.scheme import is_quantized

GGUF_ENDING = ".gguf"
DEMO = "demo"  # the embedded checkpoint's short name


def open_checkpoint(given: str | Path | Checkpoint, adapter: str | Path | None = None, report: Report = silent) -> Checkpoint:
    """Opens a folder, a ``*.gguf`` file, a short name (`DEMO`, `packaged.PACKAGED`) or a hub id ``Owner/Name[@revision]``, in this order.

    ``adapter`` is the folder, or the hub id, of a LoRA adapter to merge in. The network is used only for an id that is the name of no folder, and
    for a packaged model that is not there yet. An open checkpoint is returned as it is. Raises `FirstTokenError`.
    """
    if isinstance(given, Checkpoint):
        if adapter is not None:
            raise FirstTokenError("an open checkpoint takes no adapter; give the base's folder and the adapter together")
        return given
    if adapter is None:
        return _open(given, report, adapter_named=False)
    folder = _adapter_folder(adapter)
    from firsttoken.adapter.merge import MergedCheckpoint

    # an adapter may lie in the base's own folder; one that lies there beside the named one is refused
    base = _open(given, report, adapter_named=os.path.realpath(given) == os.path.realpath(folder))
    return MergedCheckpoint(base, folder)


def _open(given: str | Path, report: Report, adapter_named: bool) -> Checkpoint:
    path, text = Path(given), os.fspath(given)
    if path.is_dir():
        return open_folder(path, adapter_named)
    if text.lower().endswith(GGUF_ENDING):
        from firsttoken.gguf_file.checkpoint import GgufCheckpoint

        return GgufCheckpoint(path)
    if os.path.lexists(path):
        raise FirstTokenError(
            f"checkpoint {path}: not a folder, and its name does not end in .gguf; "
            "expected a Hugging Face checkpoint folder with config.json and *.safetensors, or a GGUF file"
        )
    folder = named_folder(text, path, report)
    if folder is not None:
        return open_folder(folder)
    meant = hub.parse_id(text)
    here = f" (a folder {path.parent} is here, so the hub is not asked; for its model run: hf download {meant.repository})" if meant else ""
    raise FirstTokenError(
        f"checkpoint {path}: not a folder{nearest(text, (DEMO, *packaged.PACKAGED))}{here}; expected a Hugging Face checkpoint folder with config.json and *.safetensors, "
        f"a .gguf file, a hub id like HuggingFaceTB/SmolLM2-135M-Instruct, or one of {', '.join((DEMO, *packaged.PACKAGED))}"
    )


def open_folder(folder: Path, adapter_named: bool = False) -> Checkpoint:
    """Opens a checkpoint folder; one whose weights are stored as integers as what they stand for. Raises `FirstTokenError`."""
    opened = Checkpoint(folder, adapter_named)
    if not is_quantized(opened.config):
        return opened
    from firsttoken.quantized.checkpoint import QuantizedCheckpoint

    return QuantizedCheckpoint(opened)


def named_folder(name: str, path: Path, report: Report = silent) -> Path | None:
    """Returns the folder of what a short name or a hub id stands for, fetched where it is not there yet, and None for anything else.

    ``path`` is what ``name`` would be as a path: where its parent is a folder it is a misspelt path, and no reason to ask the hub. Raises
    `FirstTokenError` for what cannot be had.
    """
    if name == DEMO:
        return checkpoint_path()
    if name in packaged.PACKAGED:
        return packaged.packaged_checkpoint(name, report)
    if hub.parse_id(name) is not None and not path.parent.is_dir():
        return hub.download(name)
    return None


def _adapter_folder(adapter: str | Path) -> Path:
    if not Path(adapter).is_dir() and hub.parse_id(os.fspath(adapter)) is not None:
        return hub.download(os.fspath(adapter), hub.ADAPTER_FILES)
    return Path(adapter)


def checkpoint_folder(given: str | Path, report: Report = silent) -> Path:
    """Returns the folder of a checkpoint for what reads folders alone, as transformers does. Raises `FirstTokenError` for a GGUF file."""
    with open_checkpoint(given, report=report) as opened:
        if opened.files and opened.files[0].parent != opened.folder:
            raise FirstTokenError(
                f"checkpoint {given}: is read by PyTorch here, which needs a folder of safetensors; make one with: firsttoken get {given} -o FOLDER"
            )
        return opened.folder
