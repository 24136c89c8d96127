"""QNN's own RmsNorm, which these programs' norms become, on Qualcomm's HTP backend for x86: squares of large values do not run over in it."""

import numpy as np
import pytest
from hexagon_fixtures import hexagon_libraries  # noqa: F401

COLUMNS, EPSILON = 576, 1e-5
SM8550 = {"enable_htp_fp16_precision": "1", "soc_model": "43", "htp_arch": "73"}


@pytest.fixture(scope="module")
def rms_norm(hexagon_libraries):  # noqa: F811
    """Returns a function that gives the operator's result in FP16 for float32 ``[1, 8, COLUMNS]``."""
    from firsttoken.backends.tflite_hexagon.qnn_context import PROVIDER, import_onnxruntime

    runtime, onnx = import_onnxruntime()
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, kind, [1, 8, COLUMNS]) for name in ("x", "y")]
    weight = helper.make_tensor("weight", kind, [COLUMNS], np.ones(COLUMNS, np.float32))
    node = helper.make_node("RMSNormalization", ["x", "weight"], ["y"], axis=-1, epsilon=EPSILON)
    graph = helper.make_graph([node], "norm", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    options = runtime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    devices = [device for device in runtime.get_ep_devices() if device.ep_name == PROVIDER]
    options.add_provider_for_devices(devices, {"backend_path": str(hexagon_libraries.htp_backend), **SM8550})
    session = runtime.InferenceSession(model.SerializeToString(), options)
    return lambda x: session.run(None, {"x": x})[0]


@pytest.mark.parametrize("largest", [10, 300, 3000, 60000])
def test_one_large_value_leaves_the_others_right(rms_norm, largest):
    x = np.random.default_rng(0).standard_normal((1, 8, COLUMNS), np.float32)
    x[..., 3] = largest
    expected = x / np.sqrt(np.square(x, dtype=np.float64).mean(-1, keepdims=True) + EPSILON)
    found = rms_norm(x)
    error = np.abs(found - expected) / np.abs(expected).clip(1e-6)
    assert np.median(error) < 1e-3
    assert found[..., 3] == pytest.approx(expected[..., 3], rel=1e-3)
