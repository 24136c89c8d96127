"""The command line: one verb, one module; each calls one function of the package and prints.

Nothing heavy is imported here or at the top of a verb's module, so that ``--help`` answers at once.
"""

import errno
import sys
from itertools import pairwise

import typer

from firsttoken.cli import (
    bench,
    chat,
    demo,
    device,
    distill,
    doctor,
    evaluate,
    export,
    generate,
    get,
    interrupts,
    lists,
    plan,
    prove,
    report,
    watch,
)
from firsttoken.cli.options import Verbose
from firsttoken.errors import FirstTokenError
from firsttoken.quiet import is_verbose, set_verbose
from firsttoken.safe_text import harmless
from firsttoken.tokenizer_engine import PANIC

FAULT = " (this is a fault in firsttoken or a library; -v shows where)"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

app = typer.Typer(
    name="firsttoken",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="From a language-model checkpoint to its first token on a phone: .tflite and .pte bundles, quantized layer by layer, proven and run.\n\n"
    '\b\nStart with:\n  firsttoken demo\n  firsttoken export CHECKPOINT -o out\n  firsttoken generate out/tflite-xnnpack --prompt "Hello"',
)
app.command()(demo.demo)
app.add_typer(distill.app, name="distill")
app.command()(get.get)
app.command()(export.export)
app.command()(evaluate.evaluate)
app.command()(prove.prove)
app.command()(generate.generate)
app.command()(chat.chat)
app.command()(bench.bench)
app.command()(report.report)
app.command()(lists.plans)
app.add_typer(plan.app, name="plan")
app.command()(lists.targets)
app.command()(doctor.doctor)
app.add_typer(device.app)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"firsttoken {version('firsttoken')}")
        raise typer.Exit()


@app.callback()
def options(
    show_version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version and exit."),
    verbose: Verbose = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 2 bad input, 3 a missed proof, 130 interrupted, 1 a fault of ours."""
    set_verbose(False)
    watch.split()
    interrupts.end_politely()
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code. An error is one line on standard error (a traceback with -v)."""
    try:
        return app(args=arguments, prog_name="firsttoken", standalone_mode=False) or 0
    except FirstTokenError as error:
        return fail(error, error.exit_code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output went away
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.errno not in NO_ROOM:
            return fail(error, 1, prefix=f"{type(error).__name__}: ", hint=FAULT)
        place = f"{error.filename}: " if error.filename else ""
        return fail(FirstTokenError(f"{place}the disk is full ({error.strerror}); free some space and run the same command again"), 2)
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of the option parser
            context = getattr(error, "ctx", None)
            said = with_given(error.format_message(), getattr(error, "param", None), sys.argv[1:] if arguments is None else arguments)
            print(
                f"error: {harmless(said)} (see `{context.command_path if context else 'firsttoken'} --help`)",
                file=sys.stderr,
            )
            return 2
        if isinstance(error, MemoryError):
            error = MemoryError("out of memory; close other programs or use a larger machine")
        return fail(error, 1, prefix=f"{type(error).__name__}: ", hint=FAULT)
    except BaseException as error:
        if type(error).__name__ != PANIC:  # of a library in Rust, which Python does not count among its exceptions
            raise
        return fail(error, 1, prefix=f"{PANIC}: ", hint=FAULT)


def with_given(message: str, option: object, arguments: list[str]) -> str:
    """A usage error that says what an option's value should be, with the value that was given: the parser leaves that out."""
    before, found, after = message.partition("Input should be ")
    names = getattr(option, "opts", ())
    values = [value for name, value in pairwise(arguments) if name in names]
    values += [argument.partition("=")[2] for argument in arguments if argument.startswith(tuple(f"{name}=" for name in names))]
    return f"{before}{values[-1]!r} should be {after}" if found and values else message


def fail(error: BaseException, code: int, prefix: str = "", hint: str = "") -> int:
    """Prints an error as one line, with the traceback where the user asked to hear everything."""
    if is_verbose():
        import traceback

        print(harmless("".join(traceback.format_exception(error))), file=sys.stderr, end="")
    said = " ".join(str(error).split())
    print(harmless(f"error: {prefix}{said}{hint}"), file=sys.stderr)
    return code
