"""Steps that several tests of `firsttoken device` share."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from firsttoken import cli
from firsttoken.measure.measurement import Measurement, read_measurement

COMMAND = [sys.executable, "-c", "from firsttoken.cli import main; main()"]
SHORT = ("--prompts", "32", "--repeat", "2", "--decode-tokens", "4")
OUT = Path("phone.measurement.json")


def run(*arguments) -> int:
    """Runs ``firsttoken device`` in this process and returns its exit status."""
    return cli.run(["device", *map(str, arguments)])


def profile(*arguments, output: Path = OUT) -> int:
    return run("profile", *arguments, "-o", output)


def background(*arguments) -> subprocess.Popen:
    """Starts ``firsttoken device`` as a user's shell would."""
    return subprocess.Popen([*COMMAND, "device", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def measured(output: Path = OUT) -> Measurement:
    return read_measurement(output)


def counts(measurement: Measurement) -> list[dict[tuple[int, str], int]]:
    """For each result how many runs it has of each prompt length and state."""
    found = []
    for result in measurement.results:
        of_result: dict[tuple[int, str], int] = {}
        for one in result.runs:
            of_result[one.prompt_tokens, one.state] = of_result.get((one.prompt_tokens, one.state), 0) + 1
        found.append(of_result)
    return found


def sessions(folder: Path = Path()) -> list[str]:
    return sorted(path.name for path in folder.glob(".*.session"))


def until(condition, seconds: float = 20.0):
    """Waits until ``condition`` holds and returns its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)
    return value


def rewrite_bundle(source: Path, folder: Path, artifact: bytes | None = None, name: str | None = None) -> Path:
    """Copies a bundle, its artifact replaced by other bytes or renamed, with a manifest that fits."""
    shutil.copytree(source, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    [cpu] = manifest["artifacts"]
    old = cpu["file"]
    if artifact is not None:
        (folder / old).write_bytes(artifact)
        manifest["files"][old] = facts_of(artifact)
    if name is not None:
        (folder / old).rename(folder / name)
        manifest["files"][name] = manifest["files"].pop(old)
        cpu["file"] = name
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def with_npu(source: Path, folder: Path, soc: str = "SM8650", content: bytes = b"compiled for an NPU") -> Path:
    """Copies a .tflite bundle and puts a file for ``soc``'s NPU beside its artifact, with a manifest that fits: nothing here runs it."""
    shutil.copytree(source, folder)
    (folder / "model.npu.tflite").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["target"]["npu"] = {"compile": "ahead", "soc": soc, "prefill_lengths": [32], "share_weights": True, "allow_partial": False}
    [cpu] = manifest["artifacts"]
    npu = {
        "compiled": "ahead", "fp16": "documented", "source_sha256": "0" * 64, "weights_shared": True, "prefill_lengths": [32],
        "embedding": {"file": cpu["file"], "dtype": "int8", "rows": 1, "columns": 1, "offset": 0}, "masked": -30000.0,
    }  # fmt: skip
    needs = cpu["needs"] | {"soc": soc}
    manifest["artifacts"].append(cpu | {"file": "model.npu.tflite", "backend": "tflite-hexagon", "needs": needs, "npu": npu})
    manifest["files"]["model.npu.tflite"] = facts_of(content)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def with_gpu(source: Path, folder: Path, content: bytes = b"graphs for a GPU") -> Path:
    """Copies a .tflite bundle and puts a file for a GPU behind its artifacts, with a manifest that fits: nothing here runs it."""
    shutil.copytree(source, folder)
    (folder / "model.gpu.tflite").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    cpu = manifest["artifacts"][0]
    facts = {"prefill_lengths": [16], "masked": -30000.0, "precision": "fp32"}
    needs = cpu["needs"] | {"accelerator": "gpu"}
    manifest["artifacts"].append(cpu | {"file": "model.gpu.tflite", "backend": "tflite-gpu", "needs": needs, "gpu": facts})
    manifest["files"]["model.gpu.tflite"] = facts_of(content)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def facts_of(content: bytes) -> dict:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
