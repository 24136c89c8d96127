"""Lowering for a GPU beside a CPU artifact: the graphs of litertlm-gpu, in a .tflite that LiteRT's CompiledModel loads."""

from dataclasses import replace
from pathlib import Path

from firsttoken.backends.gpu.ops import GpuOps
from firsttoken.backends.interface import LoweringJob
from firsttoken.backends.litertlm.lower import describe_graphs
from firsttoken.backends.lowering_result import Lowered
from firsttoken.backends.runner import MASKED
from firsttoken.backends.tflite.elsewhere import take_from
from firsttoken.bundle.gpu_facts import GpuFacts
from firsttoken.progress import Report, silent

GPU_FILE = "model.gpu.tflite"
BACKEND = "tflite-gpu"


def lower_beside(others: Lowered, job: LoweringJob, path: Path, report: Report = silent) -> Lowered:
    """Writes the artifact for the target's [gpu] beside ``path``, the CPU's, and adds it to ``others``.

    Raises `FirstTokenError` for damaged weights and `OSError` for a full disk; what was written is then the caller's to remove.
    """
    options = job.target.gpu_options
    lengths = options.prefill_lengths
    # named as the backend is, so that the file is the same in every bundle that has one
    alone = job.target.model_copy(update={"name": BACKEND, "delegate": "gpu", "prefill_lengths": lengths, "npu": None, "gpu": None})
    file, artifact = describe_graphs(replace(job, target=alone), GpuOps)
    shared = options.share_weights and take_from(file, path, report) > 0
    file.write(path.with_name(GPU_FILE), report)
    facts = GpuFacts(prefill_lengths=list(lengths), masked=MASKED, precision="fp32", weights=path.name if shared else None)
    needs = artifact.needs.model_copy(update={"accelerator": "gpu"})
    others.artifacts.append(artifact.model_copy(update={"file": GPU_FILE, "needs": needs, "gpu": facts}))
    return others
