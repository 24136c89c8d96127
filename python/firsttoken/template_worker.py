"""The process that renders chat templates, which are programs of strangers: ``python -m firsttoken.template_worker``.

One JSON line asks, one answers. A template that computes for longer than `SECONDS` ends the process by a signal, one that wants more than
`MEMORY` fails, and so does one that writes more than `LONGEST` characters; none of it touches the process that asked.
"""

import json
import resource
import signal
import sys
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, Never

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from firsttoken.template_limits import LONGEST, MEMORY, PATIENCE_SECONDS, SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2.parser import Parser


class Clock:
    """What a template is told of the date: that of its request, at noon, else now; ``asked`` says whether it wanted to know."""

    def __init__(self) -> None:
        self.today: date | None = None
        self.asked = False

    def strftime(self, form: str) -> str:
        self.asked = True
        return (datetime.now() if self.today is None else datetime.combine(self.today, time(12))).strftime(form)


class Generation(Extension):
    """``{% generation %}`` … ``{% endgeneration %}``: what the assistant says, marked for training; here just its text."""

    tags = {"generation"}  # noqa: RUF012 as jinja2 declares it

    def parse(self, parser: "Parser") -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    @staticmethod
    def _said(caller: "Callable[[], str]") -> str:
        return caller()


def environment(clock: Clock) -> ImmutableSandboxedEnvironment:
    """Jinja with the helpers and settings that transformers gives templates (transformers.utils.chat_template_utils)."""

    def raise_exception(message: str) -> Never:
        raise jinja2.TemplateError(message)

    def tojson(
        value: object,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = clock.strftime
    return made


def answer(template: jinja2.Template, values: dict[str, Any]) -> dict[str, str]:
    """Returns the rendered ``text``, or the ``error`` that the template raised."""
    pieces, length = [], 0
    for piece in template.generate(values):
        pieces.append(piece)
        length += len(piece)
        if length > LONGEST:
            return {"error": f"it writes more than {LONGEST} characters"}
    return {"text": "".join(pieces)}


def chats(template: jinja2.Template, request: dict[str, Any]) -> list[list[str] | dict[str, str]]:
    """Each chat's texts, of as many of its messages as are asked for, or its error; each has the limit on computing for itself."""
    found: list[list[str] | dict[str, str]] = []
    for chat in request["chats"]:
        limit()
        texts: list[str] = []
        try:
            for count, generation in chat["asked"]:
                values = {
                    **request["values"],
                    "messages": chat["messages"][:count],
                    "tools": chat["tools"],
                    "add_generation_prompt": generation,
                }
                said = answer(template, values)
                if "error" in said:
                    raise jinja2.TemplateError(said["error"])
                texts.append(said["text"])
            found.append(texts)
        except MemoryError:
            raise
        except Exception as error:
            found.append({"error": f"{type(error).__name__}: {str(error)[:200]}"})
    return found


def limit() -> None:
    """Begins to count what is computed."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)


def answers(line: str, made: ImmutableSandboxedEnvironment, clock: Clock, known: dict[str, jinja2.Template]) -> dict[str, Any]:
    """Renders one request. A template may fail in any way."""
    try:
        request = json.loads(line)
        source = request["template"]
        if source not in known:
            known.clear()  # one at a time is what callers use
            known[source] = made.from_string(source)
        clock.today = date.fromisoformat(request["today"]) if request.get("today") else None
        clock.asked = False
        if "chats" in request:
            return {"chats": chats(known[source], request)}
        return {**answer(known[source], request["values"]), "dated": clock.asked}
    except MemoryError:
        return {"error": f"it needs more than {MEMORY >> 20} MiB of memory"}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error)[:200]}"}


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked, which closes the pipe
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    clock = Clock()
    made, known = environment(clock), dict[str, jinja2.Template]()
    for line in sys.stdin:
        limit()
        said = json.dumps(answers(line, made, clock, known))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(said, flush=True)


if __name__ == "__main__":
    main()
