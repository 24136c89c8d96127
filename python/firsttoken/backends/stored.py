"""How many bytes a plan stores: what estimates of memory and disk go by."""

import math
from collections.abc import Mapping, Sequence

from firsttoken.decoder.walk import Layer
from firsttoken.precisions import PRECISIONS

SCALE_BYTES = 12  # a row's float32 scale and int64 zero point, as TFLite's header holds them; others need less
GROUP, GROUP_SCALE_BYTES = 32, 4  # of the smallest groups


def stored_bytes(layers: Sequence[Layer], precisions: Mapping[str, str], shares_tied: bool) -> tuple[int, int]:
    """Returns the bytes of all stored weights and of their scales; ``shares_tied``: whether a tied head is stored once."""
    weights = scales = 0
    seen = set()
    for layer in layers:
        if layer.weight is None or layer.shape is None:
            continue
        precision = PRECISIONS[precisions[layer.name]]
        if shares_tied and (layer.weight, precision) in seen:
            continue
        seen.add((layer.weight, precision))
        weights += math.prod(layer.shape) * precision.bits // 8
        scales += layer.shape[0] * SCALE_BYTES if precision.scales else 0
        if precision.scales == "group":
            weights += math.prod(layer.shape) // GROUP * GROUP_SCALE_BYTES
    return weights, scales
