"""``firsttoken generate``"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firsttoken.cli.options import (
    BundleFolder,
    DraftOption,
    IgnoreEnd,
    MaxThinking,
    MinThinking,
    ThinkingEnd,
    Threads,
    Verbose,
    Wait,
    thinking_bounds,
)
from firsttoken.cli.output import Json, Output

if TYPE_CHECKING:
    from firsttoken.run.generate import Statistics


def generate(
    bundle: BundleFolder,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="What to complete or answer; - reads it from standard input.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", metavar="FILE", help="Many prompts instead, one a line, each answered by itself.")
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", min=1, help="Most tokens to generate.")] = 128,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, help="0 takes the most likely token; above, tokens are drawn.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Start of the random numbers for a temperature above 0.")] = 0,
    top_k: Annotated[int, typer.Option("--top-k", min=0, help="Draw from that many of the most likely tokens; 0 is all.")] = 0,
    top_p: Annotated[
        float, typer.Option("--top-p", help="Of these, draw from the most likely ones that together have this share; 1 is all.")
    ] = 1.0,
    min_p: Annotated[
        float, typer.Option("--min-p", help="Of these, draw from those at least this many times as likely as the first; 0 is all.")
    ] = 0.0,
    threads: Threads = None,
    system: Annotated[
        str | None, typer.Option("--system", help="The system message (default: that which the bundle keeps, if any; '' leaves it out).")
    ] = None,
    draft: DraftOption = None,
    max_thinking: MaxThinking = None,
    min_thinking: MinThinking = 0,
    ignore_end: IgnoreEnd = 0,
    thinking_end: ThinkingEnd = "</think>",
    wait: Wait = "Wait",
    raw: Annotated[bool, typer.Option("--raw", help="Continue the prompt as it is, without the chat template.")] = False,
    monitor: Annotated[
        Path | None,
        typer.Option(
            "--monitor", metavar="FILE", help="Each second, add moving averages of TTFT, tokens/s and memory to this file, as JSON lines."
        ),
    ] = None,
    minutes: Annotated[
        float, typer.Option("--minutes", min=0, help="Answer the prompts again and again for this long, to see the device slow down.")
    ] = 0.0,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Stream a completion from a bundle, on this machine.

    \b
    Examples:
      firsttoken generate out/tflite-xnnpack --prompt "Why is the sky blue?"
      firsttoken generate out/executorch-xnnpack --prompt "def read(self, size=-1):" --raw --max-tokens 64
      firsttoken generate out/tflite-xnnpack --prompt "Explain module asyncio" --minutes 0.05 --monitor use.jsonl
      firsttoken generate out/reasoner --prompt "What is 17 * 23?" --max-tokens 1000 --max-thinking 400
      firsttoken generate out/drafts/tflite-xnnpack --prompt "$(cat mail.txt)" --draft lookup
    """
    import sys
    import time
    from contextlib import ExitStack

    from firsttoken.bundle.manifest import read_manifest
    from firsttoken.errors import FirstTokenError
    from firsttoken.measure.monitor import Monitor, line_writer
    from firsttoken.run.generate import STOPPED, Statistics
    from firsttoken.run.generate import generate as run
    from firsttoken.run.open import open_runner
    from firsttoken.safe_text import harmless
    from firsttoken.tokenizer import open_tokenizer

    texts, out, answers = read_prompts(prompt, prompts), Output(as_json), []
    thinking = thinking_bounds(max_thinking, min_thinking, ignore_end, thinking_end, wait)
    tokenizer = open_tokenizer(bundle, manifest := read_manifest(bundle))
    if thinking is not None:
        thinking.budget(tokenizer, None if raw else manifest.chat)  # refused before the model is loaded
    with ExitStack() as stack:
        watch = None
        if monitor is not None:
            try:
                stream = stack.enter_context(open(monitor, "a", encoding="utf-8"))
            except OSError as error:
                raise FirstTokenError(f"--monitor {monitor}: cannot be written ({error.strerror}); choose another file") from None
            watch = Monitor(line_writer(stream))
            stack.callback(watch.flush)
        started = time.perf_counter()
        runner = open_runner(bundle, threads)
        stack.callback(runner.close)
        loaded = time.perf_counter() - started
        end, warned = time.monotonic() + 60 * minutes, False
        while True:
            for text in texts:
                facts, pieces = Statistics(), []
                for piece in run(
                    runner,
                    tokenizer,
                    text,
                    max_tokens,
                    temperature,
                    seed,
                    False if raw else None,
                    facts,
                    observe=watch.observe if watch else None,
                    top_k=top_k,
                    top_p=top_p,
                    min_p=min_p,
                    system=system,
                    draft=draft,
                    thinking=thinking,
                ):
                    pieces.append(piece)
                    if not as_json:
                        print(harmless(piece), end="", flush=True)
                out.show("")
                answers.append({"prompt": text, "text": "".join(pieces), **facts.as_run()})
                speed = f"{facts.tokens_per_second:.1f} tokens/s" if facts.tokens_per_second else "one token at most"
                print(
                    f"[load {loaded:.2f} s; first token {facts.first_token:.3f} s after {facts.prompt_tokens} prompt tokens{f', {facts.kept_tokens} of them kept' if facts.kept_tokens else ''}; "
                    f"{facts.new_tokens} tokens, {speed}{per_call(facts)}{thought(facts)}; stopped: {STOPPED[facts.stopped]}]",
                    file=sys.stderr,
                )
                if watch and watch.warning and not warned:
                    warned = True  # once is enough; the file has the rest
                    print(f"warning: {watch.warning}", file=sys.stderr)
                if minutes and time.monotonic() >= end:
                    break
            if time.monotonic() >= end:
                break
    out.document({"bundle": bundle, "load": round(loaded * 1e9), "answers": answers})


def per_call(facts: "Statistics") -> str:
    """What drafts did, in words; nothing without them."""
    return f", {facts.tokens_per_call:.2f} tokens per call" if facts.drafts() else ""


def thought(facts: "Statistics") -> str:
    """What a thinking budget did, in words; nothing without one."""
    if facts.thinking_tokens is None:
        return ""
    return f", {facts.thinking_tokens} of them thinking{f', {facts.ends_ignored} ends not taken' if facts.ends_ignored else ''}"


def read_prompts(prompt: str | None, prompts: Path | None) -> list[str]:
    """Returns the prompts of either option. Raises a usage error unless exactly one is given, `FirstTokenError` for a file without prompts."""
    import sys

    from firsttoken import plain_file
    from firsttoken.errors import FirstTokenError
    from firsttoken.safe_text import visible

    if (prompt is None) == (prompts is None):
        raise typer.BadParameter(
            f"{'No prompt' if prompt is None else '--prompt and --prompts together'}; give one of --prompt TEXT and --prompts FILE"
        )
    if prompts is None:
        assert prompt is not None, "one of the two is given"
        return [sys.stdin.read() if prompt == "-" else prompt]
    try:
        lines = [line.rstrip("\r") for line in plain_file.read_text(prompts, plain_file.TEXT_BYTES).split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise FirstTokenError(f"--prompts {prompts}: cannot be read as text ({visible(plain_file.why(error))})") from None
    if not lines:
        raise FirstTokenError(f"--prompts {prompts}: holds no prompt; expected one a line")
    return lines
