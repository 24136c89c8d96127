#!/usr/bin/env python3
"""Which plan is better when: divergence, same top token, bytes, first token and decode, of built-in plans and variants of them, on two checkpoints.

Every plan is exported and proven; then fresh processes of all bundles take turns. Ratios are to the `int8` plan's in the same turns. With ``--arm``
the instructions of a prompt and of a decoded token are counted on an emulated core too, of checkpoints that are small enough for it.
"""

import shutil
import sys
from pathlib import Path

from export_tflite import GATE_MISSED, OURS
from measure_process import MIB, Side, arguments, disturbance, per_turn, publish, ratio, run_measured, spread, table, take_turns

HERE = Path(__file__).resolve().parent
PLANS = ("fp16", "fp16-attention", "int8", "int8-apart", "int4-gptq", "int4")
BASE = "int8"
COUNTED, CORE = 64, "cortex-a76"  # tokens of the prompt, as scripts/arm_instructions has them


def proven(work: Path, checkpoint: str | Path, name: str, plan: str, target: str, reuse: bool) -> Path:
    """The bundle of a plan with its proof, exported if ``reuse`` is false or it is not there; one that missed its bounds too."""
    out = work / "exports" / f"recommended-{name}-{Path(plan).stem}"
    folders = [out / target, out / f"{target}.rejected"]
    if not (reuse and any((folder / "manifest.json").is_file() for folder in folders)):
        shutil.rmtree(out, ignore_errors=True)
        command = [*OURS, checkpoint, "--plan", plan, "--target", target, "-o", out, "--no-witness"]
        run_measured(command, work / "logs" / f"recommended-{name}-{Path(plan).stem}.log", accepted=(0, GATE_MISSED))
    return next(folder for folder in folders if (folder / "manifest.json").is_file())


def counted(bundles: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Instructions of a prompt and of a decoded token on an emulated core, by plan."""
    from firsttoken.arm.cores import find_core
    from firsttoken.arm.emulator import runtimes_of
    from firsttoken.arm.instructions import InstructionCounter
    from firsttoken.bundle.manifest import read_manifest

    counter, found = InstructionCounter(), {}
    for plan, bundle in bundles.items():
        [runtime, *_] = runtimes_of(read_manifest(bundle).cpu.backend)
        counts = counter.count(bundle, find_core(CORE), runtime, COUNTED)
        found[plan] = {step: counts[step].total for step in ("prefill", "decode")}
    return found


def timed(options, work: Path, bundles: dict[str, Path]) -> dict[str, list[dict]]:
    """Turns of all bundles, each in processes of its own."""
    common = ["--prompt", options.prompt, "--decode", options.decode, "--threads", options.threads]
    environment = {"XDG_CACHE_HOME": str(work / "cache-firsttoken")}
    sides = {
        plan: lambda bundle=bundle: Side(
            [sys.executable, HERE / "run_bundle.py", bundle, *common], work / "logs" / "recommended.log", environment
        )
        for plan, bundle in bundles.items()
    }
    take_turns(sides, 1, 0, options.quiet)  # fills the weight caches
    return take_turns(sides, options.processes, options.rounds, options.quiet)


def main():
    from firsttoken.bundle.manifest import read_manifest
    from firsttoken.demo import checkpoint_path

    parser = arguments(__doc__)
    parser.add_argument("--plans", nargs="+", default=PLANS, metavar="PLAN", help=f"plans, {BASE} among them (default: {' '.join(PLANS)})")
    parser.add_argument("--target", default="tflite-xnnpack", help="what to export for (default: tflite-xnnpack)")
    parser.add_argument("--checkpoints", nargs="+", default=["demo", "smollm2"], metavar="NAME|FOLDER", help="default: demo smollm2")
    parser.add_argument("--arm", nargs="*", default=[], metavar="NAME", help="checkpoints whose instructions are counted")
    parser.add_argument("--processes", type=int, default=3, help="fresh processes per plan (default: 3)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--decode", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--reuse", action="store_true", help="keep bundles of an earlier run")
    parser.add_argument("--no-times", action="store_true", help="export, prove and count alone")
    options = parser.parse_args()
    work, plans = options.work, [str(Path(plan).absolute()) if Path(plan).suffix else plan for plan in options.plans]
    tables, data, loads = [], {}, []
    for given in options.checkpoints:
        name = Path(given).name
        checkpoint = checkpoint_path() if given == "demo" else given
        bundles = {Path(plan).stem: proven(work, checkpoint, name, plan, options.target, options.reuse) for plan in plans}
        counts = counted(bundles) if given in options.arm else {}
        samples = {} if options.no_times else timed(options, work, bundles)
        loads += [samples] if samples else []
        rows = []
        for plan, bundle in bundles.items():
            manifest = read_manifest(bundle)
            figures = manifest.cpu.proof.all
            cells = [plan, f"{figures.mean_kld:.2g}", f"{figures.same_top:.1%}", f"{manifest.size(manifest.cpu) / MIB:.1f}"]
            if samples:
                for step, scale, digits in (("first", 1000, 1), ("decode", 1000, 2)):
                    ours, theirs = per_turn(samples[plan], step), per_turn(samples[BASE], step)
                    cells += [spread(ours, scale, digits), ratio(ours, theirs)]
            if counts:
                cells += [f"{counts[plan][step] / counts[BASE][step]:.2f}×" for step in ("prefill", "decode")]
            rows.append(cells)
            data[f"{given} {plan}"] = {"proof": figures, "counts": counts.get(plan), "runs": samples.get(plan)}
        header = [f"{given}, {options.target}", "mean KLD", "same top", "MiB"]
        if samples:
            header += [f"first token, {options.prompt} tokens, ms", f"× {BASE}", "decode, ms a token", f"× {BASE}"]
        if counts:
            header += [f"{CORE}, prompt", f"{CORE}, decode"]
        tables.append(table(header, rows))
    if loads:
        tables.append(
            f"Median (minimum) of {options.processes} processes × {options.rounds} turns on {options.threads} threads; ratio: median (middle half) over neighbouring turns. "
            + disturbance(loads)
        )
    publish(work, "recommended", tables, {"recommended": data})


if __name__ == "__main__":
    main()
