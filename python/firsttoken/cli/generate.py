"""``firsttoken generate``"""

from typing import Annotated

import typer

from firsttoken.cli.options import BundleFolder, Threads, Verbose


def generate(
    bundle: BundleFolder,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="What to complete or answer; - reads it from standard input.")],
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", min=1, help="Most tokens to generate.")] = 128,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, help="0 takes the most likely token; above, tokens are drawn.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Start of the random numbers for a temperature above 0.")] = 0,
    threads: Threads = None,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the prompt as it is, without the chat template.")] = False,
    verbose: Verbose = False,
):
    """Stream a completion from a bundle, on this machine.

    \b
    Examples:
      firsttoken generate out/tflite-xnnpack --prompt "Why is the sky blue?"
      firsttoken generate out/executorch-xnnpack --prompt "def read(self, size=-1):" --raw --max-tokens 64
    """
    import sys
    import time

    from firsttoken.export.manifest import read_manifest
    from firsttoken.run.generate import STOPPED, Statistics
    from firsttoken.run.generate import generate as run
    from firsttoken.run.runner import open_runner
    from firsttoken.tokenizer import open_tokenizer

    text = sys.stdin.read() if prompt == "-" else prompt
    tokenizer = open_tokenizer(bundle, read_manifest(bundle))
    started = time.perf_counter()
    runner = open_runner(bundle, threads)
    loaded = time.perf_counter() - started
    facts = Statistics()
    try:
        for piece in run(runner, tokenizer, text, max_tokens, temperature, seed, False if raw else None, facts):
            print(piece, end="", flush=True)
        print()
    finally:
        runner.close()
    speed = f"{facts.tokens_per_second:.1f} tokens/s" if facts.tokens_per_second else "one token at most"
    print(
        f"[load {loaded:.2f} s; first token {facts.first_token:.3f} s after {facts.prompt_tokens} prompt tokens; "
        f"{facts.new_tokens} tokens, {speed}; stopped: {STOPPED[facts.stopped]}]",
        file=sys.stderr,
    )
