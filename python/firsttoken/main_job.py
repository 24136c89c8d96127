"""The main job on the embedded checkpoint: both bundles exported, proven, run, and shown side by side."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from firsttoken.bundle.manifest import Manifest, read_manifest
from firsttoken.demo import checkpoint_path, prompts
from firsttoken.extras import need
from firsttoken.pipeline import export
from firsttoken.report.progress_bar import progress_bar
from firsttoken.report.tables import table
from firsttoken.run.generate import Statistics, generate
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import open_tokenizer
from firsttoken.units import readable

TARGETS = ("tflite-xnnpack", "executorch-xnnpack")
MOST_TOKENS = 96


@dataclass(frozen=True)
class Shown:
    """A demo bundle that has answered the first prompt: what it said, nanoseconds to load it, and both runs."""

    folder: Path
    manifest: Manifest
    text: str
    load: int
    cold: Statistics
    warm: Statistics


def run_demo(
    output: Path,
    plan: str = "fp16-attention",
    threads: int | None = None,
    say: Callable[[str], None] = print,
    write: Callable[[str], object] = sys.stdout.write,
) -> list[Shown]:
    """Exports, proves and runs the demo checkpoint with both runtimes.

    Bundles of an earlier demo in ``output`` are replaced. ``say`` is given lines on the way, ``write`` the completions
    as they come. Raises what `firsttoken.pipeline.export` raises.
    """
    need("executorch", "the demo, which exports for both runtimes,")
    folders: list[Path] = []
    for target in TARGETS:
        say(f"Exporting and proving {target} with plan {plan} …")
        with progress_bar() as report:
            started = time.perf_counter()
            folders += export(checkpoint_path(), output, plan, (target,), force=True, report=report)
        proof = read_manifest(folders[-1]).need_proof()
        say(
            f"  done in {time.perf_counter() - started:.1f} s: {proof.all.tokens} positions compared, same top token at {proof.all.same_top:.1%}"
        )
    return [show(folder, threads, say, write) for folder in folders]


def show(folder: Path, threads: int | None, say: Callable[[str], None], write: Callable[[str], object]) -> Shown:
    """Runs one completion of a bundle twice, the first time to ``write``."""
    manifest = read_manifest(folder)
    tokenizer = open_tokenizer(folder, manifest)
    prompt = prompts()[0]
    chat = prompt["chat"] and manifest.chat is not None
    started = time.perf_counter_ns()
    runner = open_runner(folder, threads)
    load = time.perf_counter_ns() - started
    try:
        say(f"\n[{folder.name}] {prompt['text']}\n")
        cold, warm, pieces = Statistics(), Statistics(), []
        for piece in generate(runner, tokenizer, prompt["text"], MOST_TOKENS, chat=chat, statistics=cold):
            pieces.append(piece)
            write(piece)
        say("")
        for _ in generate(runner, tokenizer, prompt["text"], MOST_TOKENS, chat=chat, statistics=warm):
            pass
    finally:
        runner.close()
    return Shown(folder, manifest, "".join(pieces), load, cold, warm)


def table_of(bundles: list[Shown]) -> Table:
    """Size, proof, time to load and to the first token cold and warm, decoding speed; a row a bundle."""
    columns = ("bundle", "size", "mean KLD", "p99 KLD", "same top", "load", "first token", "warm", "decode")
    return table(None, columns, map(row, bundles))


def row(shown: Shown) -> tuple[str, ...]:
    """One bundle's line of the table."""
    proof = shown.manifest.need_proof().all
    return (
        shown.folder.name,
        readable(shown.manifest.size(shown.manifest.cpu)),
        f"{proof.mean_kld:.2e}",
        f"{proof.p99_kld:.2e}",
        f"{proof.same_top:.1%}",
        f"{shown.load / 1e6:.0f} ms",
        f"{shown.cold.first_token * 1000:.1f} ms",
        f"{shown.warm.first_token * 1000:.1f} ms",
        f"{shown.warm.tokens_per_second:.0f} tokens/s",
    )
