"""The README's table "Where does this file run?", line by line.

LiteRT-LM: tests/backends/litertlm/test_in_litert_lm.py. onnxruntime and onnxruntime-genai: tests/backends/onnx/test_runner.py. ExecuTorch's LLM runner: tests/backends/executorch/test_llm_runner.py.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import litert_lm
import pytest

from firsttoken.bundle.manifest import read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.quant.plan import plan_names

ROOT = Path(__file__).parents[2]
OLD = ROOT / ".work" / "tflite-2.16"
JAVA_TYPES = {"float32", "int32", "int64", "int8", "uint8", "int16", "bool"}  # org.tensorflow.lite.DataType
TFLITE = ("tflite-xnnpack", "tflite-compat", "tflite-interpreter")
# Runs the prompt's signature on zeros in whatever interpreter is there.
RUN = """
import sys
import numpy as np
try:
    from tflite_runtime.interpreter import Interpreter
except ImportError:
    from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1], num_threads=1)
name = next(n for n in ("first", "prefill_16") if n in interpreter.get_signature_list())
runner = interpreter.get_signature_runner(name)
inputs = {}
for key, tensor in runner.get_input_details().items():
    inputs[key] = np.zeros([5 if n == -1 else n for n in tensor["shape_signature"]], tensor["dtype"])
runner(**inputs)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_model):
    """Every plan on every target, where the target has it."""
    made = {}
    for target in TFLITE:
        for plan in plan_names():
            try:
                [made[target, plan]] = export(tiny_model, tmp_path_factory.mktemp("runs"), plan=plan, targets=[target], prove=False)
            except FirstTokenError as error:
                assert "int4 is not possible" in str(error) and target != "tflite-xnnpack"
    return made


def table() -> dict[str, list[str]]:
    """The README's cells by the first one."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("### Where does this file run?")[2].partition("## Prove it")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in rows}


def said(cell: str, plans: set[str]) -> set[str]:
    """The plans that a cell promises."""
    if cell in ("every plan", "every plan it has"):
        return plans
    return set(re.findall(r"`([a-z0-9-]+)`", cell.partition(":")[2]))


def run(bundle: Path, **environment: str) -> str:
    command = [sys.executable, "-c", RUN, str(bundle / "model.tflite")]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}).stderr


@pytest.mark.slow
@pytest.mark.parametrize("target", TFLITE)
def test_litert_runs_every_plan(files, target):
    for (name, plan), bundle in files.items():
        if name == target:
            assert "Error" not in run(bundle), plan
    assert table()[target][0].startswith("every plan")


@pytest.mark.slow
@pytest.mark.skipif(not (OLD / "ready").exists(), reason="TensorFlow Lite 2.16.1 is not set up: run scripts/setup_tflite216")
@pytest.mark.parametrize("target", TFLITE)
def test_tensorflows_own_interpreter_runs_what_the_table_says(files, target):
    """INT4 is of a later TensorFlow than 2.16, and in no cell."""
    plans = {plan for name, plan in files if name == target}
    for plan in sorted(plan for plan in plans if "int4" not in plan):
        complaint = run(files[target, plan], LD_LIBRARY_PATH=str(OLD), PYTHONPATH=str(OLD))
        assert ("Error" not in complaint) == (plan in said(table()[target][1], plans)), f"{plan}: {complaint[-500:]}"


@pytest.mark.slow
@pytest.mark.parametrize("target", TFLITE)
def test_the_public_java_interpreter_can_represent_what_the_table_says(files, target):
    plans = {plan for name, plan in files if name == target}
    for plan in plans:
        methods = read_manifest(files[target, plan]).cpu.methods
        border = {tensor.dtype for method in methods for tensor in (*method.inputs, *method.outputs)}
        assert (border <= JAVA_TYPES) == (plan in said(table()[target][2], plans)), (plan, border)


@pytest.mark.slow
def test_litert_lm_takes_no_tflite(files, tmp_path):
    litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
    with pytest.raises(RuntimeError, match="Failed to create LiteRT-LM engine"):
        litert_lm.Engine(str(files["tflite-xnnpack", "fp32"] / "model.tflite"), litert_lm.Backend.CPU(), cache_dir=str(tmp_path))
    assert [table()[target][3] for target in TFLITE] == ["no"] * 3


def test_the_table_names_every_target_of_a_cpu():
    from firsttoken.targets.target import load_target, target_names

    named = set(re.findall(r"`([a-z0-9-]+)`", " ".join(f"`{name}`" for name in table())))
    assert named == {name for name in target_names() if load_target(name).npu is None}
