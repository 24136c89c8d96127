"""Running a QNN context binary on the host: ONNX Runtime's QNN provider on the HTP backend for x86, Qualcomm's emulator.

The backend computes what the NPU computes, kernel by kernel and in its precisions; it says nothing about speed.
"""

import gc
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np

from firsttoken.backends.tflite_hexagon.compiled import Context
from firsttoken.backends.tflite_hexagon.libraries import INSTALL, HostLibraries
from firsttoken.errors import FirstTokenError
from firsttoken.quiet import is_verbose, quiet_output

PROVIDER = "QNNExecutionProvider"
QUIET, LOUD = 4, 1  # ONNX Runtime's severities: fatal, info


def import_onnxruntime() -> tuple[ModuleType, ModuleType]:
    """Returns onnxruntime and onnx with the QNN provider registered. Raises `FirstTokenError` if they are not installed."""
    try:
        import onnx
        import onnxruntime
        import onnxruntime_qnn
    except ImportError as error:
        raise FirstTokenError(f"running on the HTP backend for x86 needs ONNX Runtime ({error}); run: {INSTALL}") from None
    if not any(device.ep_name == PROVIDER for device in onnxruntime.get_ep_devices()):
        onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
    return onnxruntime, onnx


class QnnSession:
    """One graph of a context binary, loaded. Only one may be open at a time: two share state in the backend and read each
    other's tensors ("gather bad input"). Raises `FirstTokenError` for a context that the backend refuses."""

    _open: "QnnSession | None" = None
    context: Context

    def __init__(self, context: Context, libraries: HostLibraries) -> None:
        if QnnSession._open is not None:
            raise FirstTokenError(
                f"graph {QnnSession._open.context.graph!r} is still open on the HTP backend, which takes one at a time; close it first"
            )
        runtime, onnx = import_onnxruntime()
        self.context = context
        with tempfile.TemporaryDirectory(prefix="firsttoken-qnn-") as folder:
            context.copy_to(Path(folder) / "context.bin")
            path = Path(folder) / "model.onnx"
            path.write_bytes(_wrapped(context, onnx))
            options = runtime.SessionOptions()
            options.log_severity_level = LOUD if is_verbose() else QUIET
            devices = [device for device in runtime.get_ep_devices() if device.ep_name == PROVIDER]
            options.add_provider_for_devices(devices, {"backend_path": str(libraries.htp_backend)})
            # Otherwise a context that does not load is silently left to a provider that cannot run it either.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            try:
                with quiet_output():
                    self._session = runtime.InferenceSession(str(path), options)
            except Exception as error:  # the binding's own exception classes have no public base
                raise FirstTokenError(f"graph {context.graph!r}: the HTP backend for x86 does not load it ({_line(error)})") from None
        self._session.disable_fallback()
        QnnSession._open = self

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the graph on arrays by their names in the signature and returns its outputs by theirs."""
        arrays = {
            inner: np.ascontiguousarray(inputs[outer]).reshape(shape) for outer, inner, shape, _ in self.context.inputs if outer is not None
        }
        try:
            with quiet_output():
                found = self._session.run([inner for _, inner, _, _ in self.context.outputs], arrays)
        except Exception as error:
            raise FirstTokenError(f"graph {self.context.graph!r}: the HTP backend for x86 failed ({_line(error)})") from None
        return {outer: array for (outer, _, _, _), array in zip(self.context.outputs, found, strict=True) if outer is not None}

    def close(self) -> None:
        """Frees the backend for the next graph."""
        self._session = None
        if QnnSession._open is self:
            QnnSession._open = None
        gc.collect()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _wrapped(context: Context, onnx: ModuleType) -> bytes:
    """An ONNX model of one EPContext node that points to ``context.bin`` beside it.

    Source: ONNX Runtime's EP context design (docs/execution-providers/EP-Context-Design.md).
    """
    types = {"float32": onnx.TensorProto.FLOAT, "float16": onnx.TensorProto.FLOAT16, "int32": onnx.TensorProto.INT32,
             "int16": onnx.TensorProto.INT16, "int8": onnx.TensorProto.INT8}  # fmt: skip
    helper = onnx.helper
    inputs, outputs = (
        [helper.make_tensor_value_info(inner, types[kind], list(shape)) for _, inner, shape, kind in tensors]
        for tensors in (context.inputs, context.outputs)
    )
    node = helper.make_node(
        "EPContext", [v.name for v in inputs], [v.name for v in outputs], name=context.graph, domain="com.microsoft", embed_mode=0,
        ep_cache_context="context.bin", main_context=1, source="QNN", partition_name=context.graph,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "context", inputs, outputs), opset_imports=opsets, ir_version=9)
    return model.SerializeToString()
