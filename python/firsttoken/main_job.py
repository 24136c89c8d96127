"""The main job on the embedded checkpoint: both bundles exported, proven, run, and shown side by side."""

import sys
import time
from pathlib import Path

from firsttoken.backends.runner import open_runner
from firsttoken.bundle.manifest import Manifest, read_manifest
from firsttoken.demo import checkpoint_path, prompts
from firsttoken.pipeline import export
from firsttoken.report.progress_bar import progress_bar
from firsttoken.report.tables import console, table
from firsttoken.run.generate import Statistics, generate
from firsttoken.tokenizer import open_tokenizer
from firsttoken.units import readable

TARGETS = ("tflite-xnnpack", "executorch-xnnpack")
MOST_TOKENS = 96


def run_demo(output: Path, plan: str = "fp16-attention", threads: int | None = None) -> None:
    """Exports, proves and runs the demo checkpoint with both runtimes and prints what came of it.

    Bundles of an earlier demo in ``output`` are replaced. Raises what `firsttoken.pipeline.export` raises.
    """
    folders: list[Path] = []
    for target in TARGETS:
        print(f"Exporting and proving {target} with plan {plan} …", flush=True)
        with progress_bar() as report:
            started = time.perf_counter()
            folders += export(checkpoint_path(), output, plan, (target,), force=True, report=report)
        proof = read_manifest(folders[-1]).need_proof()
        print(
            f"  done in {time.perf_counter() - started:.1f} s: {proof.all.tokens} positions compared, same top token at {proof.all.same_top:.1%}",
            flush=True,
        )
    rows = [shown(folder, threads) for folder in folders]
    columns = ("bundle", "size", "mean KLD", "p99 KLD", "same top", "load", "first token", "warm", "decode")
    print()
    console().print(table(None, columns, rows))
    print("KLD: divergence from the FP32 checkpoint in nats; first token: of the prompt above, cold and once warm. Where the bundles lie:")
    for folder in folders:
        print(f"  {folder.resolve()}")
    print(f'Next: firsttoken generate {folders[0]} --prompt "{prompts()[1]["text"]}"')


def shown(folder: Path, threads: int | None) -> tuple[str, ...]:
    """Streams one completion from a bundle to standard output, twice through, and returns its row of the table."""
    manifest = read_manifest(folder)
    tokenizer = open_tokenizer(folder, manifest)
    prompt = prompts()[0]
    chat = prompt["chat"] and manifest.chat is not None
    started = time.perf_counter()
    runner = open_runner(folder, threads)
    loaded = time.perf_counter() - started
    try:
        print(f"\n[{folder.name}] {prompt['text']}\n", flush=True)
        cold, warm = Statistics(), Statistics()
        for piece in generate(runner, tokenizer, prompt["text"], MOST_TOKENS, chat=chat, statistics=cold):
            sys.stdout.write(piece)
            sys.stdout.flush()
        print(flush=True)
        for _ in generate(runner, tokenizer, prompt["text"], MOST_TOKENS, chat=chat, statistics=warm):
            pass
    finally:
        runner.close()
    return row(folder, manifest, loaded, cold, warm)


def row(folder: Path, manifest: Manifest, loaded: float, cold: Statistics, warm: Statistics) -> tuple[str, ...]:
    """One bundle's line of the table: size, proof, seconds to load, time to first token cold and warm, decoding speed."""
    proof = manifest.need_proof().all
    return (
        folder.name,
        readable(manifest.facts(manifest.cpu).bytes),
        f"{proof.mean_kld:.2e}",
        f"{proof.p99_kld:.2e}",
        f"{proof.same_top:.1%}",
        f"{loaded * 1000:.0f} ms",
        f"{cold.first_token * 1000:.1f} ms",
        f"{warm.first_token * 1000:.1f} ms",
        f"{warm.tokens_per_second:.0f} tokens/s",
    )
