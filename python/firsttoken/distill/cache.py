"""A teacher's answers on disk: its ``k`` most likely tokens at every position, and exactly what is left over.

A student can then be trained many times, or on a machine that cannot hold the teacher. Per position the cache holds
``k`` token ids (2 bytes each up to 65,536 tokens of vocabulary, else 4), their logits below the largest as float16, and
the log mass of all other tokens at `NODES` temperatures as float32: ``k * (2 or 4) + k * 2 + 4 * NODES`` bytes.

What is exact: the ids; the logits up to float16 (an error of at most 0.05 % of the distance from the largest logit);
the mass of the rest at the nodes. Between them ``log sum_v exp(z_v * b)`` over ``b = 1 / temperature`` is interpolated
through all nodes (barycentric, at Chebyshev points of the second kind; Berrut and Trefethen, SIAM Review 46, 2004): it
is a smooth convex function of ``b``, and on a trained model the error is below 2e-4 nats (`tests/distill/test_cache.py` measures it).
How the rest is used: `losses.topk`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from firsttoken.atomic_file import write_text
from firsttoken.checkpoint import read_json
from firsttoken.distill.models import head_of
from firsttoken.distill.windows import Windows
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent

if TYPE_CHECKING:
    from transformers import PreTrainedModel


NODES = 9
FILES = {"tokens": "tokens.npy", "logits": "logits.npy", "rest": "rest.npy"}
FACTS = "cache.json"
HEAD_CHUNK = 256  # positions whose logits exist at once


@dataclass
class TeacherCache:
    """An opened cache. ``nodes`` are the inverse temperatures ``[NODES]`` at which the rest is known."""

    folder: Path
    facts: dict
    arrays: dict[str, np.ndarray]
    nodes: np.ndarray

    def read(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns token ids (int64) and logits (float16), ``[n, length, k]``, and the rest (float32) ``[n, length, NODES]``."""
        return (
            self.arrays["tokens"][windows].astype(np.int64),
            np.array(self.arrays["logits"][windows]),
            np.array(self.arrays["rest"][windows]),
        )

    def log_rest(self, rest: Tensor, temperature: float) -> Tensor:
        """Log mass of the other tokens ``[...]`` at a temperature, from ``rest`` ``[..., NODES]``. Raises `FirstTokenError` outside the nodes."""
        inverse, low, high = 1 / temperature, float(self.nodes.min()), float(self.nodes.max())
        if not low * (1 - 1e-6) <= inverse <= high * (1 + 1e-6):
            raise FirstTokenError(
                f"cache {self.folder}: made for temperatures {1 / high:g} to {1 / low:g}, asked for {temperature:g}; make it again with this recipe"
            )
        return interpolate(rest, self.nodes, inverse)


def inverse_temperatures(lowest: float, highest: float) -> np.ndarray:
    """Chebyshev points of the second kind between ``1 / highest`` and ``1 / lowest``, float64 ``[NODES]``; a little room for one temperature alone."""
    low, high = 1 / highest, 1 / lowest
    if high - low < 1e-3:
        low, high = low * 0.999, high * 1.001
    return (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * np.arange(NODES) / (NODES - 1))


def interpolate(values: Tensor, nodes: np.ndarray, at: float) -> Tensor:
    """The polynomial through ``values`` ``[..., NODES]`` at ``nodes``, at one point -> ``[...]``."""
    distance = at - nodes
    if (exact := np.flatnonzero(np.abs(distance) < 1e-12)).size:
        return values[..., int(exact[0])]
    signs = (-1.0) ** np.arange(NODES)
    signs[[0, -1]] /= 2
    weights = signs / distance
    return values.double().matmul(torch.from_numpy(weights / weights.sum()).to(values.device)).to(values.dtype)


def bytes_per_position(k: int, vocabulary: int) -> int:
    """Bytes of the cache at one position."""
    return k * (2 if vocabulary <= 1 << 16 else 4) + 2 * k + 4 * NODES


def cache_facts(windows: Windows, vocabulary: int, k: int, temperatures: tuple[float, float], identity: dict) -> dict:
    """What ``cache.json`` says of a cache that is to be made. Raises `FirstTokenError` for a ``k`` that leaves no rest."""
    if not 0 < k < vocabulary:
        raise FirstTokenError(f"--top is {k}; expected 1 to {vocabulary - 1}, below the vocabulary of {vocabulary} tokens")
    return {
        "format": 1,
        "k": k,
        "vocabulary": vocabulary,
        "windows": len(windows),
        "length": int(windows.tokens.shape[1]),
        "data": windows.fingerprint(),
        "nodes": inverse_temperatures(*temperatures).tolist(),
        "bytes_per_position": bytes_per_position(k, vocabulary),
        **identity,
    }


@torch.no_grad()
def write_cache(
    folder: Path,
    model: PreTrainedModel,
    windows: Windows,
    vocabulary: int,
    k: int,
    temperatures: tuple[float, float],
    identity: dict,
    batch: int = 8,
    report: Report = silent,
) -> Path:
    """Runs the teacher over all windows and keeps its ``k`` best tokens of the first ``vocabulary`` rows of its head.

    Goes on where an earlier run with the same ``identity`` stopped. Raises `FirstTokenError` for a folder that holds
    something else, or a ``k`` that leaves no rest.
    """
    facts = cache_facts(windows, vocabulary, k, temperatures, identity)
    nodes = np.array(facts["nodes"])
    arrays, done = start(folder, facts)
    weight, bias = head_of(model)
    for begin in range(done, len(windows), batch):
        rows = slice(begin, min(begin + batch, len(windows)))
        tokens = torch.from_numpy(windows.tokens[rows]).long().to(model.device)
        hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state.flatten(0, 1)
        for first in range(0, len(hidden), HEAD_CHUNK):
            logits = nn.functional.linear(hidden[first : first + HEAD_CHUNK], weight, bias)[:, :vocabulary].float()
            keep(arrays, rows.start * tokens.shape[1] + first, logits, k, nodes)
        for array in arrays.values():
            array.flush()
        write_text(folder / FACTS, json.dumps({**facts, "done": rows.stop}, indent=1) + "\n")
        report("asking the teacher", rows.stop, len(windows), "windows")
    return folder


def keep(arrays: dict[str, np.memmap], position: int, logits: Tensor, k: int, nodes: np.ndarray) -> None:
    """Stores one chunk of logits ``[n, vocabulary]`` at flat position ``position``."""
    logits = logits - logits.max(dim=-1, keepdim=True).values
    best = logits.topk(k, dim=-1)
    others = logits.scatter(-1, best.indices, -torch.inf).double()
    rest = torch.stack([(others * float(node)).logsumexp(-1) for node in nodes], dim=-1)
    where = slice(position, position + len(logits))
    for name, value in (("tokens", best.indices), ("logits", best.values), ("rest", rest)):
        flat = arrays[name].reshape(-1, arrays[name].shape[-1])
        flat[where] = value.cpu().numpy().astype(flat.dtype)


def start(folder: Path, facts: dict) -> tuple[dict[str, np.memmap], int]:
    """Makes the files, or opens those of an interrupted run. Returns the writable arrays and how many windows are done."""
    path = folder / FACTS
    shape = (facts["windows"], facts["length"])
    if path.exists():
        old = read_json(path, "")
        done = old.pop("done", 0)
        changed = next((name for name in {**old, **facts} if old.get(name) != facts.get(name)), None)
        if changed:
            raise FirstTokenError(
                f"cache {folder}: was made with {changed} {str(old.get(changed))[:60]}, now it is {str(facts.get(changed))[:60]}; choose another folder, or remove this one"
            )
        return {name: np.lib.format.open_memmap(folder / file, mode="r+") for name, file in FILES.items()}, done
    if folder.exists() and any(folder.iterdir()) and not all((folder / file).name in FILES.values() for file in folder.iterdir()):
        raise FirstTokenError(f"cache {folder}: the folder is not empty and holds no {FACTS}; choose another")
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.uint16 if facts["vocabulary"] <= 1 << 16 else np.uint32
    kinds = {"tokens": (ids, facts["k"]), "logits": (np.float16, facts["k"]), "rest": (np.float32, NODES)}
    try:
        arrays = {
            name: np.lib.format.open_memmap(folder / FILES[name], mode="w+", dtype=dtype, shape=(*shape, last))
            for name, (dtype, last) in kinds.items()
        }
        for file in FILES.values():  # takes the space now: a full disk under a memory map would end the process
            with open(folder / file, "r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, (folder / file).stat().st_size)
    except OSError as error:
        for file in FILES.values():
            (folder / file).unlink(missing_ok=True)
        size = facts["windows"] * facts["length"] * facts["bytes_per_position"]
        raise FirstTokenError(
            f"cache {folder}: {size / 1e6:,.1f} MB cannot be reserved ({error.strerror}); free space, choose another folder or a smaller --top"
        ) from None
    return arrays, 0


def open_cache(folder: str | Path, windows: Windows) -> TeacherCache:
    """Opens a finished cache made for exactly these windows. Raises `FirstTokenError`."""
    folder = Path(folder)
    facts = read_json(folder / FACTS, "a cache is made with `firsttoken distill cache RECIPE.toml`")
    if facts.get("format") != 1:
        raise FirstTokenError(f"{folder / FACTS}: format {facts.get('format')!r}; this firsttoken reads 1; make the cache again")
    if facts.get("done") != facts.get("windows"):
        raise FirstTokenError(
            f"cache {folder}: unfinished, {facts.get('done')} of {facts.get('windows')} windows; run `firsttoken distill cache` again, it goes on"
        )
    if facts.get("data") != windows.fingerprint():
        raise FirstTokenError(
            f"cache {folder}: made for other training data, tokenizer or window length than the recipe's; make it again with this recipe"
        )
    arrays = {}
    for name, file in FILES.items():
        try:
            arrays[name] = np.load(folder / file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise FirstTokenError(f"{folder / file}: cannot be read ({error}); make the cache again") from None
        last = NODES if name == "rest" else facts["k"]
        if arrays[name].shape != (facts["windows"], facts["length"], last):
            raise FirstTokenError(
                f"{folder / file}: has shape {arrays[name].shape}, expected {(facts['windows'], facts['length'], last)}; make the cache again"
            )
    return TeacherCache(folder, facts, arrays, np.array(facts["nodes"]))
