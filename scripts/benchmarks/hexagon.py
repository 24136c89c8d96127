#!/usr/bin/env python3
"""The table of docs/hexagon.md: plans on the CPU and on the HTP backend for x86, with sizes and what compiling cost.

    scripts/benchmarks/hexagon.py                                   the demo checkpoint, every plan that fits, one SoC
    scripts/benchmarks/hexagon.py --checkpoint FOLDER --plan fp16-attention --soc sm8550 --soc sm8750
    scripts/benchmarks/hexagon.py --positions 997                   as many positions as the CPU's proof compares

Both artifacts are run over the same held-out text. Compile times are wall and depend on what else the machine does;
memory and sizes do not.
"""

import argparse
import tempfile
import time
from pathlib import Path

from firsttoken.demo import checkpoint_path
from firsttoken.export.export import export
from firsttoken.export.manifest import read_manifest
from firsttoken.export.preflight import readable
from firsttoken.prove.on_hexagon import prove_on_hexagon

PLANS = ("fp16", "fp16-attention", "fp16-attention-core")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=checkpoint_path())
    parser.add_argument("--plan", action="append", help=f"may be repeated (default: {', '.join(PLANS)})")
    parser.add_argument("--soc", action="append", help="may be repeated (default: sm8550)")
    parser.add_argument("--positions", type=int, help="most positions to compare (default: what `firsttoken prove` takes)")
    arguments = parser.parse_args()
    print("| plan | SoC | mean KLD, CPU | mean KLD, HTP | same top, CPU | same top, HTP | magnitude, HTP | within the plan's bounds | positions | up to | .tflite | compiled | compile | memory | proof |")
    print("| :-- | :-- | --: | --: | --: | --: | --: | :-- | --: | --: | --: | --: | --: | --: | --: |")
    for plan in arguments.plan or PLANS:
        for soc in arguments.soc or ["sm8550"]:
            with tempfile.TemporaryDirectory(prefix="firsttoken-hexagon-") as folder:
                [bundle] = export(arguments.checkpoint, folder, plan, (f"tflite-hexagon-{soc}",), prove=False)
                manifest = read_manifest(bundle)
                started = time.monotonic()
                most = (4096, arguments.positions) if arguments.positions else None
                summary = prove_on_hexagon(bundle, arguments.checkpoint, most=most).summary
                spent, npu = time.monotonic() - started, manifest.npu
                print(
                    f"| {plan} | {npu.soc} ({npu.hexagon}) | {summary.cpu.mean_kld:.2e} | {summary.all.mean_kld:.2e} | {summary.cpu.same_top:.2%} | "
                    f"{summary.all.same_top:.2%} | {summary.all.magnitude_ratio:.4f} | {'yes' if summary.passed else '; '.join(summary.misses)} | {summary.all.tokens} | {summary.last_position} | {readable(manifest.artifact.bytes)} | "
                    f"{readable(npu.artifact.bytes)} | {npu.compile_seconds:.0f} s | {readable(npu.compile_memory)} | {spent:.0f} s |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
