"""A checkpoint folder whose weights are stored as integers and scales: under their own names, dequantized as they are streamed."""

from collections import Counter

import numpy as np

from firsttoken.checkpoint import ITEM_BYTES, Checkpoint, StoredTensor
from firsttoken.errors import FirstTokenError
from firsttoken.lattice import Lattice
from firsttoken.progress import Report, silent
from firsttoken.quantized import compressed_tensors, gptq_format
from firsttoken.quantized.scheme import KEYS, Gptq, read_scheme
from firsttoken.quantized.stored import Files, StoredWeight


class QuantizedCheckpoint(Checkpoint):
    """``raw``, an open folder with a ``quantization_config``, as a checkpoint of floats, some of which have a `lattice`.

    The configuration comes without what it says of quantization. Raises `FirstTokenError` for formats that are not read, and for tensors
    that are missing or do not fit each other.
    """

    readable = (*ITEM_BYTES, "INT4", "INT8")

    def __init__(self, raw: Checkpoint) -> None:
        self.raw = raw
        scheme = read_scheme(raw.folder / "config.json", raw.config)
        self.folder, self.files, self.remarks = raw.folder, raw.files, raw.remarks
        self.config = {key: value for key, value in raw.config.items() if key not in KEYS}
        self._descriptors: dict[int, int] = {}
        files = Files(raw)
        if isinstance(scheme, Gptq):
            weights, own = list(gptq_format.stored_weights(files, scheme)), gptq_format.own_tensors
        else:
            weights, own = list(compressed_tensors.stored_weights(files, scheme)), compressed_tensors.own_tensors
        if not weights:
            raise FirstTokenError(
                f"checkpoint {raw.folder}: config.json says that it is quantized ({scheme.quant_method}), but no tensor is; "
                "take both files from the model's page again, or remove the quantization_config if the weights are plain"
            )
        if not isinstance(scheme, Gptq):
            for left in dict.fromkeys(group.left_out for group in scheme.config_groups.values() if group.left_out):
                self.remark(f"config.json says {left}, which is left out: how activations are rounded is the plan's")
        self._stored = {weight.name: weight for weight in weights}
        self.tensors = {name: tensor for name, tensor in raw.tensors.items() if name not in {n for w in self._stored for n in own(w)}}
        for weight in weights:
            if weight.name in self.tensors and self.tensors[weight.name].dtype != "I8":
                raise FirstTokenError(
                    f"checkpoint {raw.folder}: weight {weight.name!r} is stored twice, as floats and quantized; take one out"
                )
            self.tensors[weight.name] = StoredTensor(0, 0, weight.shape, f"INT{weight.bits}", 0)
        self.note = _note(raw.name, weights)
        for reason, count in Counter(weight.lost for weight in weights if weight.lost).items():
            self.remark(
                f"{count} of the checkpoint's {len(weights)} quantized weights have {reason}, which no kernel has: their integers cannot be kept, plans round them anew"
            )

    @property
    def name(self) -> str:
        return self.raw.name

    def _stored_rows(self, name: str, start: int, stop: int | None) -> np.ndarray:
        weight = self._stored.get(name)
        if weight is None:
            return self.raw._stored_rows(name, start, stop)
        return weight.rows(*self._within(weight, start, stop))

    def _lattice_of(self, name: str) -> Lattice | None:
        weight = self._stored.get(name)
        return None if weight is None else weight.lattice

    def _scale_rows(self, name: str, start: int, stop: int | None) -> np.ndarray:
        weight = self._stored[name]
        return weight.scales(*self._within(weight, start, stop))

    def _within(self, weight: StoredWeight, start: int, stop: int | None) -> tuple[int, int]:
        stop = weight.shape[0] if stop is None else stop
        if not 0 <= start <= stop <= weight.shape[0]:
            raise FirstTokenError(
                f"checkpoint {self.folder}: tensor {weight.name!r} has {weight.shape[0]} rows; rows {start} to {stop} were asked for"
            )
        return start, stop

    def fingerprint(self, report: Report = silent) -> str:
        """The folder's own: configuration and every tensor as it is stored."""
        return self.raw.fingerprint(report)

    def close(self) -> None:
        self.raw.close()


def _note(name: str, weights: list[StoredWeight]) -> str:
    kinds = Counter(f"{weight.form} int{weight.bits}" for weight in weights)
    stored = ", ".join(f"{count} weights as {kind}" for kind, count in kinds.most_common())
    return f"{name} is quantized already ({stored}): every figure is against these weights dequantized, not against the original model"
