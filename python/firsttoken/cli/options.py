"""Options that several verbs share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from firsttoken.cli import completion
from firsttoken.quiet import set_verbose

if TYPE_CHECKING:
    from firsttoken.run.thinking import Thinking


def _verbose(value: bool) -> bool:
    if value:
        set_verbose(True)
    return value


Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", callback=_verbose, help="Show what the underlying libraries say, and tracebacks.")
]
CHECKPOINT_KINDS = (
    "a folder with config.json and *.safetensors, a .gguf file, a hub id Owner/Name[@revision], smollm2, or demo, the embedded one"
)
Checkpoint = Annotated[
    Path, typer.Option("--checkpoint", "-c", metavar="CKPT", help=f"The checkpoint the bundle was made from: {CHECKPOINT_KINDS}.")
]
CheckpointArgument = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help=f"What to read: {CHECKPOINT_KINDS}.", show_default=False)]
Adapter = Annotated[
    Path | None,
    typer.Option(
        "--adapter", metavar="FOLDER", help="A LoRA adapter (PEFT's folder, or a hub id) to merge into the checkpoint as it is read."
    ),
]
HeldOut = Annotated[
    Path | None,
    typer.Option("--held-out", metavar="FILE", help="Text file to prove with (default: held_out.txt of the checkpoint, else the demo's)."),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads to run with (default: the cores, 4 at most).")]
Audit = Annotated[bool, typer.Option("--audit", help="Print every layer: asked, stored, computed, delegated.")]
NoWitness = Annotated[
    bool,
    typer.Option(
        "--no-witness",
        help="Do not ask transformers, where it is installed, whether it understands the checkpoint in the same way; the proof says so.",
    ),
]
BundleFolder = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A bundle folder, as `firsttoken export` wrote it.", show_default=False)
]
BundleOrFile = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE|FILE",
        help="A bundle folder, as `firsttoken export` wrote it, or anyone's .tflite, .litertlm or .pte file.",
        show_default=False,
    ),
]
CacheLength = Annotated[
    int | None,
    typer.Option("--cache-length", min=2, metavar="TOKENS", help="With a file that does not say it: tokens of prompt and answer together."),
]
RecipeFile = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="Your recipe's .toml or .yaml, or a name from `firsttoken distill recipes`.",
        show_default=False,
        autocompletion=completion.recipes,
    ),
]
DraftOption = Annotated[
    Literal["lookup"] | None,
    typer.Option(
        "--draft",
        help="Guess tokens that were said before and check several in one call: the same answer, sooner where it repeats the prompt. The bundle needs `export --draft-tokens`.",
        show_default=False,
    ),
]
MaxThinking = Annotated[
    int | None, typer.Option("--max-thinking", min=0, help="A reasoner's thinking is ended after that many tokens.", show_default=False)
]
MinThinking = Annotated[int, typer.Option("--min-thinking", min=0, help="It does not end before that many.")]
IgnoreEnd = Annotated[int, typer.Option("--ignore-end", min=0, help="So many times the end of thinking is replaced by --wait.")]
ThinkingEnd = Annotated[str, typer.Option("--thinking-end", metavar="TOKEN", help="The token that ends thinking.")]
Wait = Annotated[str, typer.Option("--wait", help="What goes in the place of an end of thinking that comes too early.")]
PromptLengths = Annotated[str, typer.Option("--prompts", "-p", metavar="N,N,…", help="Prompt lengths in tokens, template included.")]


def parse_lengths(text: str) -> list[int]:
    """Returns the numbers of a list like "32,128,512". Raises `FirstTokenError` for anything else."""
    from firsttoken.errors import FirstTokenError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise FirstTokenError(f"prompt lengths {text!r}; expected numbers of tokens with commas between, like 32,128,512") from None


def thinking_bounds(most: int | None, least: int, ignore: int, end: str, wait: str) -> "Thinking | None":
    """What the options of thinking ask for together; None where they bound nothing."""
    from firsttoken.run.thinking import Thinking

    return None if most is None and not least and not ignore else Thinking(most, least, ignore, end, wait)
