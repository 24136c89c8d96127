#!/usr/bin/env python3
"""The tables of docs/hexagon.md: plans on the CPU and on the HTP backend for x86, with sizes and what compiling cost.

    scripts/benchmarks/hexagon.py                                   the demo checkpoint, every plan that fits, one SoC
    scripts/benchmarks/hexagon.py --positions 500                   at most so many positions, not all of the CPU's proof
    scripts/benchmarks/make_checkpoint.py grown-0.5b                Qwen2.5-0.5B's shape with trained weights; then
    scripts/benchmarks/hexagon.py --checkpoint .work/benchmarks/checkpoints/grown-0.5b --proof-lengths 32

Two steps for each plan: the bundle is exported, which is where the compiler's cost is measured, and both artifacts are
run over the same held-out text. ``--proof-lengths`` proves graphs of other prefill lengths than the ones compiled, each
by itself: emulating 128 tokens of a 0.5B model takes minutes. ``--compile-lengths`` compiles fewer graphs, where all of
them do not fit into memory. Results are kept in a file by plan and step, and a step that is there is not run again.

Seconds are processor time, which other work on the machine changes little. Memory is the compiler's peak.
"""

import argparse
import json
import os
import resource
import tempfile
from pathlib import Path

from measure_process import WORK, machine, table

from firsttoken.backends.tflite_hexagon.compile import peak_memory_of
from firsttoken.bundle.manifest import read_manifest
from firsttoken.declarations import declaration_folder
from firsttoken.demo import checkpoint_path
from firsttoken.pipeline import export
from firsttoken.prove.on_npu import prove_on_npu
from firsttoken.units import readable

PLANS = ("fp16", "fp16-attention", "fp16-attention-core", "int4-npu")
STEPS = ("compile", "proof")


def processor_seconds() -> float:
    """Processor time so far of this process and all that it started and waited for."""
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def compiler_seconds() -> float:
    """Processor time of what this process started: the compiler alone."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def target(folder: Path, name: str, lengths: list[int] | None) -> str | Path:
    """The built-in target, or a copy of it with other prefill lengths."""
    if not lengths:
        return name
    lines = (declaration_folder("export") / f"{name}.toml").read_text().splitlines()
    path = folder / f"{name}.toml"
    path.write_text("\n".join(f"prefill_lengths = {lengths}" if line.startswith("prefill_lengths") else line for line in lines))
    return path


def compile_step(checkpoint: Path, plan: str, soc: str, options: argparse.Namespace) -> dict:
    """Exports without a proof; returns sizes, operators and what compiling took."""
    with tempfile.TemporaryDirectory(prefix="firsttoken-hexagon-") as folder:
        before = compiler_seconds()
        [bundle] = export(
            checkpoint,
            Path(folder) / "out",
            plan,
            (target(Path(folder), f"tflite-hexagon-{soc}", options.compile_lengths),),
            prove=False,
            say=print,
        )
        manifest = read_manifest(bundle)
        npu, needs = manifest.npu_artifact.npu, manifest.npu_artifact.needs
        return {
            "seconds": compiler_seconds() - before, "memory": npu.compile_memory, "bytes": manifest.facts(manifest.npu_artifact).bytes, "cpu_bytes": manifest.facts(manifest.cpu).bytes,
            "graphs": [graph.method for graph in npu.graphs], "hexagon": needs.hexagon, "operators": sum(graph.operators for graph in npu.graphs),
            "offloaded": sum(graph.offloaded for graph in npu.graphs),
        }  # fmt: skip


def proof_step(checkpoint: Path, plan: str, soc: str, options: argparse.Namespace) -> dict:
    """Proves a bundle made for it; returns both sides' figures. With other lengths its graphs are those that a phone compiles."""
    with tempfile.TemporaryDirectory(prefix="firsttoken-hexagon-") as folder:
        name = "tflite-hexagon-jit" if options.proof_lengths else f"tflite-hexagon-{soc}"
        [bundle] = export(checkpoint, Path(folder) / "out", plan, (target(Path(folder), name, options.proof_lengths),), prove=False)
        before = processor_seconds()
        summary = prove_on_npu(bundle, checkpoint, most=(4096, options.positions) if options.positions else None, say=print).summary
        return {"seconds": processor_seconds() - before, "peak": peak_memory_of(os.getpid()), **summary.model_dump()}


def row(plan: str, soc: str, done: dict) -> list:
    """One line of the table; a step that was not run leaves its columns empty."""
    cost, proof = done.get("compile"), done.get("proof")
    cells = [plan, soc.upper()]
    if proof:
        cpu, npu = proof["cpu"], proof["all"]
        cells += [f"{cpu['mean_kld']:.2e}", f"{npu['mean_kld']:.2e}", f"{cpu['same_top']:.2%}", f"{npu['same_top']:.2%}", f"{cpu['magnitude_ratio']:.4f}",
                  f"{npu['magnitude_ratio']:.4f}", "yes" if proof["passed"] else "; ".join(proof["misses"]), npu["tokens"], proof["last_position"]]  # fmt: skip
    else:
        cells += [""] * 9
    if cost:
        cells += [
            readable(cost["cpu_bytes"]),
            readable(cost["bytes"]),
            f"{cost['offloaded']} of {cost['operators']}",
            len(cost["graphs"]),
            f"{cost['seconds']:.0f} s",
            readable(cost["memory"]),
        ]
    else:
        cells += [""] * 6
    return [*cells, f"{proof['seconds']:.0f} s" if proof else ""]


HEADER = ("plan", "SoC", "mean KLD, CPU", "mean KLD, HTP", "same top, CPU", "same top, HTP", "magnitude, CPU", "magnitude, HTP", "within the plan's bounds", "positions", "up to",
          "model.tflite", "model.npu.tflite", "operators on the NPU", "graphs", "compile", "memory", "proof")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=checkpoint_path())
    parser.add_argument("--plan", action="append", help=f"may be repeated (default: {', '.join(PLANS)})")
    parser.add_argument("--soc", action="append", help="may be repeated (default: sm8550)")
    parser.add_argument("--positions", type=int, help="most positions to compare (default: what `firsttoken prove` takes)")
    parser.add_argument("--proof-lengths", type=int, nargs="+", metavar="TOKENS", help="prefill lengths of the graphs that are proven")
    parser.add_argument("--compile-lengths", type=int, nargs="+", metavar="TOKENS", help="prefill lengths of the graphs that are compiled")
    parser.add_argument("--only", choices=STEPS, help="one step (default: both)")
    parser.add_argument("--results", type=Path, help="where results are kept (default: hexagon-CHECKPOINT.json in .work/benchmarks)")
    parser.add_argument("--again", action="store_true", help="run steps again that are there")
    options = parser.parse_args()
    results = options.results or WORK / f"hexagon-{options.checkpoint.resolve().name}.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    found = json.loads(results.read_text()) if results.is_file() else {}
    rows = []
    for plan in options.plan or PLANS:
        for soc in options.soc or ["sm8550"]:
            done = found.setdefault(f"{plan} {soc}", {})
            for name, step in zip(STEPS, (compile_step, proof_step), strict=True):
                if options.only in (None, name) and (options.again or name not in done):
                    done[name] = step(options.checkpoint, plan, soc, options)
                    results.write_text(json.dumps(found | {"machine": machine()}, indent=1))
            rows.append(row(plan, soc, done))
    print(table(HEADER, rows))


if __name__ == "__main__":
    main()
