"""``firsttoken evaluate``"""

from pathlib import Path
from typing import Annotated

import typer

from firsttoken.cli.options import IgnoreEnd, MaxThinking, MinThinking, ThinkingEnd, Threads, Verbose, Wait, thinking_bounds
from firsttoken.cli.output import Json, Output, refuse_file_after_json


def evaluate(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="CKPT|BUNDLE...",
            help="Checkpoints (folders, .gguf files, hub ids, smollm2) and bundle folders, compared in one table.",
            show_default=False,
        ),
    ],
    tasks: Annotated[
        list[str],
        typer.Option(
            "--tasks",
            "-t",
            metavar="KIND=FILE",
            help="What is asked: text=, maths=, choice= or code= and a file; may be repeated.",
            show_default=False,
        ),
    ],
    reference: Annotated[
        Path | None, typer.Option("--reference", metavar="CKPT", help="KL divergences are from this checkpoint (default: the first model).")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many questions of each file.")] = None,
    text_tokens: Annotated[int, typer.Option("--text-tokens", min=16, help="About how many tokens of a text are read.")] = 2048,
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", min=1, help="Most tokens of an answer.")] = 512,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, help="0 takes the most likely token; above, tokens are drawn.")
    ] = 0.0,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Answers to each maths and code question, averaged.")] = 1,
    pass_at: Annotated[
        str,
        typer.Option(
            "--pass-at", metavar="K,…", help="Also pass@k, the chance that one of k answers is right, estimated from --samples answers."
        ),
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Start of the random numbers for a temperature above 0.")] = 0,
    max_thinking: MaxThinking = None,
    min_thinking: MinThinking = 0,
    ignore_end: IgnoreEnd = 0,
    thinking_end: ThinkingEnd = "</think>",
    wait: Wait = "Wait",
    raw: Annotated[bool, typer.Option("--raw", help="Questions without the chat template.")] = False,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Time limit of a program that a model wrote.")] = 10.0,
    memory: Annotated[int, typer.Option("--memory", min=64, help="Its memory limit, in MiB.")] = 1024,
    answers: Annotated[
        Path | None,
        typer.Option("--answers", metavar="FILE", help="Keep what the models wrote; the same command then goes on where it stopped."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write every figure to this file, as JSON.")] = None,
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--md", help="Print the table as Markdown.")] = False,
    threads: Threads = None,
    verbose: Verbose = False,
) -> None:
    """Score checkpoints and bundles on text, maths, multiple choice and code.

    text: perplexity, and KL divergence from the reference. maths: exact match; lines as in MATH-500, GSM8K or AIME.
    choice: {"question", "choices", "answer"}. code: pass@1; lines as in HumanEval, MBPP, APPS or LiveCodeBench, each program run
    without network, without your files, and without the right to write any. Shares have their 95 % interval behind them.

    \b
    Examples:
      firsttoken evaluate path/to/checkpoint out/tflite-xnnpack --tasks text=held_out.txt
      firsttoken evaluate teacher out/student out/bundles/tflite-xnnpack -t text=held_out.txt -t maths=gsm8k.jsonl --limit 100 --answers answers.jsonl
      firsttoken evaluate out/bundles/tflite-xnnpack -t code=livecodebench.jsonl --samples 10 --pass-at 1,5,10 --temperature 0.8
    """
    from firsttoken.atomic_file import check_file_destination, write_text
    from firsttoken.errors import FirstTokenError
    from firsttoken.evaluate.evaluate import EvaluationSettings
    from firsttoken.evaluate.evaluate import evaluate as work
    from firsttoken.evaluate.sandbox import Limits, unguarded
    from firsttoken.report.evaluation_table import json_text, markdown_text, terminal_table
    from firsttoken.report.progress_bar import progress_bar

    refuse_file_after_json(as_json, models, "model")
    if as_json and markdown:
        raise FirstTokenError("--json and --md together; choose one form")
    for option, file in (("--answers", answers), ("--output", output)):
        if file is not None:
            check_file_destination(file, option)
    for missing in unguarded() if any(task.startswith("code=") for task in tasks) else ():
        typer.echo(f"note: a program that a model writes is not kept from all here: {missing}", err=True)
    settings = EvaluationSettings(
        limit,
        text_tokens,
        max_tokens,
        temperature,
        samples,
        whole_numbers(pass_at, "--pass-at"),
        thinking_bounds(max_thinking, min_thinking, ignore_end, thinking_end, wait),
        seed,
        raw,
        Limits(seconds, memory << 20),
    )
    with progress_bar() as report:
        scores = work(models, tasks, settings, reference, answers, threads, report)
    if output is not None:
        write_text(output, json_text(scores))
    out = Output(as_json)
    out.show(markdown_text(scores) if markdown else terminal_table(scores))
    out.document(scores)


def whole_numbers(given: str, option: str) -> tuple[int, ...]:
    """The numbers of a list with commas, each once. Raises `FirstTokenError`."""
    from firsttoken.errors import FirstTokenError

    words = [word.strip() for word in given.split(",")] if given.strip() else []
    if not all(word.isascii() and word.isdigit() and 0 < int(word) < 1_000_000 for word in words):
        raise FirstTokenError(f"{option} {given!r}: expected whole numbers from 1 with commas between, such as 1,5,10")
    return tuple(dict.fromkeys(map(int, words)))
