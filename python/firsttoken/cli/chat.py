"""``firsttoken chat``"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from firsttoken.cli.options import BundleFolder, DraftOption, Threads, Verbose
from firsttoken.cli.output import Json, Output

if TYPE_CHECKING:
    from firsttoken.run.generate import Statistics
    from firsttoken.run.sampling import Sampler
    from firsttoken.run.turns import Chat


def chat(
    bundle: BundleFolder,
    system: Annotated[
        str | None,
        typer.Option("--system", help="The system message the conversation begins with (default: that which the bundle keeps, if any)."),
    ] = None,
    session: Annotated[
        Path | None,
        typer.Option(
            "--session",
            metavar="FILE",
            help="Go on with the conversation in this file, if there is one, and keep it there after each turn.",
        ),
    ] = None,
    when_full: Annotated[
        Literal["stop", "drop"],
        typer.Option("--when-full", help="When the cache has no room for another turn: stop with an error, or drop the oldest turns."),
    ] = "stop",
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", min=1, help="Most tokens of one answer.")] = 256,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, help="0 takes the most likely token; above, tokens are drawn.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Start of the random numbers for a temperature above 0.")] = 0,
    draft: DraftOption = None,
    threads: Threads = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Hold a conversation with a bundle, on this machine. Questions are read from standard input, one a line.

    The cache keeps the conversation, so a turn computes what is new since the last one, and no more. Ctrl-C ends an answer, and at a question the
    conversation; so does the end of the input.

    \b
    Examples:
      firsttoken chat out/tflite-xnnpack
      firsttoken chat out/tflite-xnnpack --system "Answer briefly." --session trip.npz
      printf "What is a KV cache?\nWhy is it needed?\n" | firsttoken chat out/executorch-xnnpack --when-full drop --json
    """
    import sys
    from contextlib import ExitStack

    from firsttoken.atomic_file import check_file_destination
    from firsttoken.bundle.manifest import read_manifest
    from firsttoken.errors import FirstTokenError
    from firsttoken.run.chat_file import resume_chat, save_chat
    from firsttoken.run.generate import Statistics
    from firsttoken.run.open import open_runner
    from firsttoken.run.sampling import Sampler
    from firsttoken.run.turns import Chat
    from firsttoken.tokenizer import open_tokenizer

    manifest = read_manifest(bundle)
    resumed = session is not None and session.exists()
    if session is not None:
        check_file_destination(session, "--session")
        if resumed and system is not None:
            raise FirstTokenError(f"--system: the conversation in {session} has begun already; leave it out, or name another file")
    sampler = Sampler(manifest.tokenizer.vocab_size, temperature, seed)
    out, turns = Output(as_json), []
    with ExitStack() as stack:
        runner = open_runner(bundle, threads)
        stack.callback(runner.close)
        talk = Chat(runner, open_tokenizer(bundle, manifest), system, when_full, draft)
        if resumed and session is not None:
            note = resume_chat(talk, manifest, session)
            say(f"going on after {count(talk.turns, 'turn')} in {session}" + (f"; {note}" if note else ""))
        while (question := read_question(as_json)) is not None:
            facts, before = Statistics(), talk.dropped
            answer_one(talk, question, sampler, max_tokens, facts, as_json)
            out.show("")
            say(described(talk, facts, talk.dropped - before))
            turns.append({"question": question, "answer": talk.messages[-1]["content"], "kept_tokens": facts.kept_tokens, **facts.as_run()})
            if session is not None:
                save_chat(talk, manifest, session)
    out.document({"bundle": bundle, "turns": turns, "dropped": talk.dropped})
    if not as_json and sys.stdin.isatty():
        print()


def read_question(as_json: bool) -> str | None:
    """The next line that has something in it, or None where there is no other."""
    import sys

    while True:
        if sys.stdin.isatty() and not as_json:
            print("> ", end="", flush=True)
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            return None
        if not line:
            return None
        if line.strip():
            return line.rstrip("\r\n")


def answer_one(talk: "Chat", question: str, sampler: "Sampler", max_tokens: int, facts: "Statistics", as_json: bool) -> None:
    """Prints the answer as it comes. Ctrl-C ends it where it is."""
    from firsttoken.safe_text import harmless

    try:
        for piece in talk.ask(question, sampler, max_tokens, facts):
            if not as_json:
                print(harmless(piece), end="", flush=True)
    except KeyboardInterrupt:
        if not facts.new_tokens:
            raise
        say("stopped here")


def described(talk: "Chat", facts: "Statistics", dropped: int) -> str:
    """What a turn cost, in a line."""
    from firsttoken.cli.generate import per_call
    from firsttoken.run.generate import STOPPED

    gone = f"; {count(dropped, 'old turn')} dropped for room" if dropped else ""
    return (
        f"first token {facts.first_token:.3f} s: {facts.prompt_tokens - facts.kept_tokens} of {facts.prompt_tokens} prompt tokens computed; "
        f"{facts.new_tokens} tokens{f', {facts.tokens_per_second:.1f} tokens/s' if facts.tokens_per_second else ''}{per_call(facts)}; "
        f"stopped: {STOPPED[facts.stopped]}; {talk.runner.position} of {talk.runner.cache_length} in the cache{gone}"
    )


def count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def say(line: str) -> None:
    import sys

    print(f"[{line}]", file=sys.stderr, flush=True)
