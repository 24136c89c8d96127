"""Every artifact that the small exact checkpoints give, and its SHA-256: the families × the built-in plans × the targets.

``python tests/recorded_artifacts.py FOLDER`` writes them all to FOLDER and prints the hashes as JSON; ``--record`` puts
them into backends/artifact_hashes.json, which test_artifact_hashes.py holds today's code against.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from exact_checkpoints import CASES, write_case
from lowering_jobs import lowering_job

from firsttoken.backends.registry import backend_of
from firsttoken.checkpoint import Checkpoint
from firsttoken.errors import FirstTokenError
from firsttoken.quant.plan import load_plan, plan_names
from firsttoken.quiet import quiet_runtime

RECORD = Path(__file__).parent / "backends" / "artifact_hashes.json"
# One of the Hexagon targets of each runtime: the graphs that go into the compiler are the same for every Snapdragon.
TARGETS = ("tflite-xnnpack", "tflite-compat", "tflite-hexagon-sm8550", "executorch-xnnpack", "executorch-hexagon-sm8550")
LENGTHS = {"cache_length": 48, "prefill_chunk": 32}
REFUSED = "refused"  # the target cannot give the plan's precisions


def arithmetic() -> str:
    """SHA-256 of float32 powers, sines and cosines as this processor rounds them: rotary tables depend on it in their last bit."""
    steps = np.arange(0, 64, dtype=np.float32)
    angles = steps[:, None] * (np.float32(1) / np.float32(10000) ** (steps / np.float32(64)))
    return hashlib.sha256(b"".join(table.astype(np.float32).tobytes() for table in (angles, np.cos(angles), np.sin(angles)))).hexdigest()


def write_artifact(folder: Path, plan_name: str, target_name: str, path: Path) -> str:
    """Lowers the checkpoint in ``folder`` and returns the artifact's SHA-256, of an NPU the one of what goes into its compiler."""
    with Checkpoint(folder) as source, quiet_runtime():
        try:
            job = lowering_job(source, plan_name, target_name, **LENGTHS)
        except FirstTokenError:
            return REFUSED
        if job.target.backend == "executorch-hexagon":
            return write_executorch_hexagon(job, path)
        if job.target.backend == "tflite-hexagon":
            from firsttoken.backends.tflite_hexagon.source import write_source

            write_source(job, path)
        else:
            backend_of(job.target).lower(job, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_executorch_hexagon(job, path: Path) -> str:
    """The graphs' operators, constants and interface, as torch.export sees them before Qualcomm's compiler would."""
    import torch

    from firsttoken.backends.executorch_hexagon.ops import build_graphs

    digest, text = hashlib.sha256(), []
    with torch.no_grad():
        graphs = build_graphs(job)
        for name, graph in graphs.items():
            program = torch.export.export(graph, graph.example(), strict=False)
            text.append(f"{name} {graph.described(name).model_dump_json()}")
            text += [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
            weights = sorted(
                hashlib.sha256(tensor_bytes(t)).hexdigest() for t in (*program.state_dict.values(), *program.constants.values())
            )
            text += weights
    path.write_text("\n".join(text))
    digest.update(path.read_bytes())
    return digest.hexdigest()


def tensor_bytes(tensor) -> bytes:
    import torch

    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def rounding_plans() -> list[str]:
    """The built-in plans that round; what others choose on a text depends on how a processor adds floats, and as-stored is int8 for floats."""
    return [name for name in plan_names() if not load_plan(name).calibrated and name != "as-stored"]


def write_all(folder: Path, cases=tuple(CASES), targets=TARGETS) -> dict[str, str]:
    """Writes every artifact to ``folder``; returns ``{"case/plan/target": SHA-256}``."""
    hashes = {}
    for case in cases:
        checkpoint = write_case(case, folder / case)
        for target in targets:
            for plan in rounding_plans():
                path = folder / f"{case}.{plan}.{target}"
                hashes[f"{case}/{plan}/{target}"] = write_artifact(checkpoint, plan, target, path)
                print(case, plan, target, hashes[f"{case}/{plan}/{target}"][:12], file=sys.stderr, flush=True)
    return hashes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the artifacts go; 34 MB")
    parser.add_argument("--record", action="store_true", help="put the hashes into backends/artifact_hashes.json")
    options = parser.parse_args()
    made = {"arithmetic": arithmetic(), "artifacts": write_all(options.folder)}
    text = json.dumps(made, indent=1) + "\n"
    if options.record:
        RECORD.write_text(text)
    print(text)
