"""What both routes to Snapdragon's Hexagon NPU share: through LiteRT (`tflite_hexagon`) and through ExecuTorch (`executorch_hexagon`)."""

from collections.abc import Mapping

from firsttoken.backends.features import WITHOUT_CONVOLUTIONS
from firsttoken.backends.interface import Backend
from firsttoken.errors import FirstTokenError
from firsttoken.precisions import STATIC
from firsttoken.targets.target import Target

# Hexagon computes every float in FP16, so FP32 cannot be promised. The embedding stays on the host.
PRECISIONS: Mapping[str, tuple[str, ...]] = {"linear": ("fp16", "int8"), "embedding": ("fp32", "fp16", "int8"), "core": ("fp16",)}


class OnHexagon(Backend):
    """What is true of every layer on the NPU; stands before the CPU's backend among the bases."""

    delegate = "NPU"
    precisions = PRECISIONS
    group_scales = False
    outliers_apart = False  # it rounds no input as it comes
    half_floats = True
    features = WITHOUT_CONVOLUTIONS

    @property
    def takes_layers(self) -> str:
        return "NPU"

    def computed(self, precision: str) -> frozenset[str]:
        if precision in STATIC:
            return super().computed(precision)
        return frozenset({"fp16"})  # int8 weights are unpacked as they are used

    def activations(self, precision: str) -> str:
        return "static" if precision in STATIC else "fp16"

    def check_target(self, target: Target) -> None:
        """Raises `FirstTokenError` for an [npu] that does not fit the rest of the target."""
        options = target.npu_options
        if target.delegate != "xnnpack":
            raise FirstTokenError(
                f"target {target.name!r}: npu needs delegate 'xnnpack', which runs the CPU artifact beside it; got {target.delegate!r}"
            )
        if options.prefill_lengths[-1] >= target.cache_length:
            raise FirstTokenError(
                f"target {target.name!r}: npu.prefill_lengths {list(options.prefill_lengths)} do not fit cache_length {target.cache_length}; "
                "leave out the longest or make the cache longer"
            )
