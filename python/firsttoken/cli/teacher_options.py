"""Options for a teacher behind a server, and what they are made into."""

from pathlib import Path
from typing import Annotated, Any

import typer

from firsttoken.cli import completion
from firsttoken.cli.interrupts import goes_on
from firsttoken.cli.output import Output
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report

ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL|FILE", help="Ask a server in the place of the recipe's teacher: its address, or a .toml file of several."
    ),
]
Model = Annotated[str | None, typer.Option("--model", metavar="NAME", help="Server: which model (default: the only one that it lists).")]
KeyVariable = Annotated[
    str | None,
    typer.Option(
        "--key-variable", metavar="NAME", help="Server: the environment variable that holds its key; the key itself is written nowhere."
    ),
]
Concurrency = Annotated[int | None, typer.Option("--concurrency", min=1, max=4096, help="Server: requests at a time (default: 8).")]
Timeout = Annotated[float | None, typer.Option("--timeout", min=0.1, help="Server: seconds for a whole answer (default: 600).")]
Samples = Annotated[int, typer.Option("--samples", min=1, help="Server: answers to each prompt.")]
TopP = Annotated[float | None, typer.Option("--top-p", min=0, max=1, help="Server: share of the likeliest tokens to draw from.")]
System = Annotated[str | None, typer.Option("--system", metavar="TEXT", help="Server: system turn of prompts without one.")]
Check = Annotated[
    list[str] | None,
    typer.Option(
        "--check",
        metavar="maths|tests|length",
        help="Server: keep only right answers, code that passes its tests, what was not cut off; may be repeated.",
        autocompletion=completion.checks,
    ),
]
LeastTokens = Annotated[int, typer.Option("--least-tokens", min=0, help="Server: reject shorter answers.")]
MaxCost = Annotated[float | None, typer.Option("--max-cost", min=0, help="Server: what may be spent, over all runs of the same output.")]
PriceIn = Annotated[float | None, typer.Option("--price-in", min=0, help="Server: price of a million prompt tokens.")]
PriceOut = Annotated[float | None, typer.Option("--price-out", min=0, help="Server: price of a million answer tokens.")]
RequestsPerMinute = Annotated[float | None, typer.Option("--requests-per-minute", min=0.01, help="Server: the most requests a minute.")]
TokensPerMinute = Annotated[
    float | None, typer.Option("--tokens-per-minute", min=1, help="Server: the most tokens a minute, read and written.")
]
Retries = Annotated[int, typer.Option("--retries", min=0, help="Server: how often a failed request is asked again.")]

OF_A_SERVER = ("model", "key_variable", "concurrency", "requests_per_minute", "tokens_per_minute", "timeout", "price_in", "price_out")
DEFAULTS = {"samples": 1, "top_p": None, "system": None, "check": None, "least_tokens": 0, "max_cost": None, "retries": 6}
OF_SERVERS = (*OF_A_SERVER, *DEFAULTS)


def ask_servers(
    teacher: str,
    prompts: Path,
    output: Path,
    given: dict[str, Any],
    max_tokens: int,
    temperature: float,
    seed: int,
    of_checkpoints: bool,
    out: Output,
) -> bool:
    """Carries out ``distill generate`` where the teacher is a server; False where it is a checkpoint. ``given`` are the options of `OF_SERVERS`.

    Raises `FirstTokenError`, for options that the teacher's kind does not have, too.
    """
    from firsttoken.distill.servers.settings import Asking, is_server, load_servers

    if not is_server(teacher):
        refuse_without_server(given, f"the teacher {teacher} is a checkpoint; leave it out")
        return False
    if of_checkpoints:
        raise FirstTokenError(
            "--raw, budgets of thinking, --batch, --dtype, --device and --however-long are for a checkpoint; a server has its own template, and fields such as thinking_token_budget go into [request] of a .toml file"
        )
    from firsttoken.extras import need

    need("servers", "asking a server")
    from firsttoken.distill.servers.generate import generate_from_servers
    from firsttoken.report.progress_bar import progress_bar

    servers = load_servers(teacher, **{name: given[name] for name in OF_A_SERVER})
    own = {name: given[name] for name in DEFAULTS if name != "check"}
    asking = Asking(max_tokens=max_tokens, temperature=temperature, seed=seed, checks=tuple(given["check"] or ()), **own)
    with goes_on(lambda: f"what was answered is in {output}" if output.exists() else ""), progress_bar() as report:
        facts = generate_from_servers(servers, prompts, output, asking, report, out.say)
    out.show(
        f"{output}: {facts['answers']} answers, {sum(facts['rejected'].values())} rejected{', ' + format(facts['cost'], '.4g') + ' spent' if facts['cost'] else ''}"
    )
    out.show(*(f"  {number} rejected: {why}" for why, number in facts["rejected"].items()))
    out.document({"output": output, **facts})
    return True


def refuse_without_server(given: dict[str, Any], why: str) -> None:
    """Raises `FirstTokenError` for an option of servers that was given where there is none."""
    for name, value in given.items():
        if value != DEFAULTS.get(name):
            raise FirstTokenError(f"--{name.replace('_', '-')} is for a server, and {why}")


def cache_of_servers(
    recipe: str, output: Path, server: str, given: dict[str, Any], top: int, report: Report, out: Output
) -> dict[str, Any]:
    """Carries out ``distill cache --server``. Raises `FirstTokenError`."""
    from firsttoken.distill.servers.cache import cache_from_servers
    from firsttoken.distill.servers.settings import load_servers

    servers = load_servers(server, **{name: given[name] for name in OF_A_SERVER if name in given})
    return cache_from_servers(recipe, output, servers, top, given["retries"], report, out.say)
