"""A base checkpoint with a LoRA adapter merged in, row by row as rows are asked for: memory stays the base's, and the adapter's small matrix.

Equal to PEFT's ``merge_and_unload`` in FP32: ``W + s B A``, and for DoRA every row of that scaled to its learnt length.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firsttoken.adapter.config import read_adapter_config
from firsttoken.checkpoint import Checkpoint, StoredTensor
from firsttoken.errors import FirstTokenError, nearest
from firsttoken.lattice import Lattice
from firsttoken.progress import Report, silent
from firsttoken.safe_text import visible

WEIGHTS_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
PARTS = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_A": "a",
    ".lora_embedding_B": "b",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
}


class AdapterWeights(Checkpoint):
    """The tensors of an adapter's folder, under the names that PEFT saved them with. Raises `FirstTokenError`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, {}
        self.files: list[Path] = []
        self.tensors: dict[str, StoredTensor] = {}
        self._descriptors: dict[int, int] = {}
        if not (folder / WEIGHTS_FILE).exists():
            if (folder / "adapter_model.bin").exists():
                raise FirstTokenError(
                    f"adapter {folder}: weights only as pickle (adapter_model.bin), which can run code when opened; save it with safe_serialization=True first"
                )
            raise FirstTokenError(f"adapter {folder}: {WEIGHTS_FILE} is missing; expected the folder as PEFT's save_pretrained writes it")
        self._read_header(folder / WEIGHTS_FILE)


@dataclass
class Delta:
    """What is added to one tensor: the adapter's names of A, B and the rows' lengths, and the scaling."""

    scaling: float
    a: str = ""
    b: str = ""
    magnitude: str = ""

    @property
    def table(self) -> bool:
        """Whether it is an embedding's, whose change is stored transposed."""
        return ".lora_embedding_" in self.a


class MergedCheckpoint(Checkpoint):
    """``base`` with the adapter of ``folder``; the base's folder, configuration and tensor names. Raises `FirstTokenError`."""

    def __init__(self, base: Checkpoint, folder: str | Path) -> None:
        self.base, self.adapter_folder = base, Path(folder)
        if not self.adapter_folder.is_dir():
            raise FirstTokenError(
                f"--adapter {self.adapter_folder}: not a folder; expected a LoRA adapter with adapter_config.json and {WEIGHTS_FILE}"
            )
        self.adapter_config = read_adapter_config(self.adapter_folder)
        self.adapter = AdapterWeights(self.adapter_folder)
        self.folder, self.config, self.files, self.tensors = base.folder, base.config, base.files, base.tensors
        self.readable, self.note, self.remarks = base.readable, base.note, base.remarks
        self._descriptors: dict[int, int] = {}
        self._deltas: dict[str, Delta] = {}
        self._replaced: dict[str, str] = {}  # tensor -> the adapter's name of it
        self._kept: tuple[str, np.ndarray] = ("", np.empty(0))
        for name in self.adapter.tensors:
            self._place(name)
        for name, delta in self._deltas.items():
            self._check(name, delta)
        if not self._deltas and not self._replaced:
            raise FirstTokenError(f"adapter {self.adapter_folder}: {WEIGHTS_FILE} holds no tensor; it was never trained, or saved wrongly")
        self._check_tied()
        lost = [name for name in (*self._deltas, *self._replaced) if base._lattice_of(name) is not None]
        if lost:
            self.remark(
                f"the adapter changes {len(lost)} weights that are stored as integers ({visible(lost[0])} …): with it they are none any more, and plans round them anew"
            )

    @property
    def name(self) -> str:
        return f"{self.base.name}+{self.adapter_folder.resolve().name}"

    def _place(self, given: str) -> None:
        module, part = next(((given.removesuffix(end), part) for end, part in PARTS.items() if given.endswith(end)), (given, ""))
        if not given.startswith(PREFIX):
            self._refuse(
                f"tensor {visible(given)!r} does not begin with {PREFIX!r}", "expected the names that PEFT's save_pretrained writes"
            )
        module = module.removeprefix(PREFIX).replace(".base_layer.", ".")
        name = f"{module}.weight" if part else module
        if name not in self.base.tensors:
            self._refuse(
                f"tensor {visible(given)!r} has no place in the base checkpoint {self.base.folder}{nearest(name, self.base.tensors)}",
                "give the base model that it was trained on; other parts of a model than its weights and biases cannot be merged",
            )
        if not part:
            self._replaced[name] = given
            if self.adapter.stored(given).shape != self.base.tensors[name].shape:
                self._refuse(
                    f"tensor {visible(given)!r} is {list(self.adapter.tensors[given].shape)}, the base checkpoint's {list(self.base.tensors[name].shape)}",
                    "give the base model that it was trained on (a vocabulary that grew cannot be merged)",
                )
            return
        delta = self._deltas.setdefault(name, Delta(self.adapter_config.scaling(module)))
        if getattr(delta, part):
            self._refuse(f"tensor {visible(given)!r} is there a second time under another name", "save the adapter again with PEFT")
        setattr(delta, part, given)

    def _check(self, name: str, delta: Delta) -> None:
        module = name.removesuffix(".weight")
        base, rank = self.base.stored(name).shape, self.adapter_config.rank(module)
        if not delta.a or not delta.b or (".lora_embedding_" in delta.b) != delta.table:
            self._refuse(f"of {visible(module)!r} only one of A and B is there", "save the adapter again with PEFT")
        if len(base) != 2:
            self._refuse(f"{visible(module)!r} is no matrix in the base checkpoint", "only matrices have a low-rank change")
        rows, columns = base[::-1] if delta.table else base
        for given, wanted in ((delta.a, (rank, columns)), (delta.b, (rows, rank))):
            if (shape := self.adapter.stored(given).shape) != wanted:
                self._refuse(
                    f"tensor {visible(given)!r} is {list(shape)}; expected {list(wanted)}, as adapter_config.json and the base checkpoint say",
                    "give the base model that it was trained on",
                )
        if bool(delta.magnitude) != self.adapter_config.dora:
            self._refuse(
                f"{visible(module)!r} has {'no' if self.adapter_config.dora else 'a'} lora_magnitude_vector",
                f"use_dora is {self.adapter_config.dora}",
            )
        if delta.magnitude and delta.table:
            self._refuse(f"DoRA of the embedding {visible(module)!r} is not supported", "merge it with PEFT and export the merged folder")
        if delta.magnitude and self.adapter.stored(delta.magnitude).shape != base[:1]:
            self._refuse(f"tensor {visible(delta.magnitude)!r} is no vector of {base[0]}", "save the adapter again with PEFT")

    def _check_tied(self) -> None:
        """Where head and table are one tensor, what was trained for one of them would change the other too."""
        touched = [name for name in (EMBEDDING, HEAD) if name in self._deltas or name in self._replaced]
        if touched and self.config.get("tie_word_embeddings"):
            self._refuse(
                f"changes {touched[0]!r}, which the base checkpoint uses both as embedding and as head (tie_word_embeddings)",
                "untie the base model first (tie_word_embeddings false, lm_head.weight saved), or train the adapter without it",
            )

    def _refuse(self, what: str, then: str) -> None:
        raise FirstTokenError(f"adapter {self.adapter_folder}: {what}; {then}")

    def _float_rows(self, name: str, tensor: StoredTensor, start: int, stop: int) -> np.ndarray:
        replaced = self._replaced.get(name)
        values = self.base.rows(name, start, stop) if replaced is None else self.adapter.rows(replaced, start, stop)
        delta = self._deltas.get(name)
        if delta is None or start == stop:
            return values
        if delta.table:
            change = self._whole(delta.a)[:, start:stop].T @ self.adapter.rows(delta.b).T
        else:
            change = self.adapter.rows(delta.b, start, stop) @ self._whole(delta.a)
        merged = values + change * np.float32(delta.scaling)
        if delta.magnitude:
            lengths = np.sqrt(np.sum(merged.astype(np.float64) ** 2, axis=1))
            learnt = self.adapter.rows(delta.magnitude, start, stop)[:, 0]
            merged *= np.divide(learnt, lengths, out=np.zeros_like(lengths), where=lengths > 0).astype(np.float32)[:, None]
        return merged

    def _lattice_of(self, name: str) -> Lattice | None:
        """The base's; a weight that the adapter changes is on none any more."""
        return None if name in self._deltas or name in self._replaced else self.base._lattice_of(name)

    def _scale_rows(self, name: str, start: int, stop: int | None) -> np.ndarray:
        return self.base._scale_rows(name, start, stop)

    def _whole(self, name: str) -> np.ndarray:
        if self._kept[0] != name:  # the rows of one tensor are asked for one block after the other
            self._kept = name, self.adapter.rows(name)
        return self._kept[1]

    def fingerprint(self, report: Report = silent) -> str:
        """SHA-256 over the base's fingerprint, the adapter's configuration and its tensors."""
        said = json.dumps(self.adapter_config.values, sort_keys=True)
        parts = [self.base.fingerprint(report), said, self.adapter.fingerprint(report)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def weight_bytes(self) -> int:
        return self.base.weight_bytes + self.adapter.weight_bytes

    def close(self) -> None:
        self.base.close()
        self.adapter.close()
