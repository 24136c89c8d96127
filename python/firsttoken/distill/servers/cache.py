"""A teacher's log probabilities from a server, in the cache that `distill` trains from (`firsttoken.distill.cache`).

Of every position the server says the ``k`` likeliest tokens; what is left of one is the mass of all others, at temperature 1 and no other.
"""

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from firsttoken.atomic_file import write_text
from firsttoken.checkpoint import read_json
from firsttoken.distill.cache import FACTS, cache_facts, start
from firsttoken.distill.documents import training_windows
from firsttoken.distill.losses.divergence import IGNORED
from firsttoken.distill.recipe import Recipe, load_recipe
from firsttoken.distill.servers.connection import Connection, RefusedError, open_client, served_model
from firsttoken.distill.servers.dialects import Dialect, Row, check_row, dialect_of
from firsttoken.distill.servers.pool import Job, Pool
from firsttoken.distill.servers.same_tokens import prove_same_tokens
from firsttoken.distill.servers.settings import Servers
from firsttoken.distill.students import tokenizer_folder
from firsttoken.distill.windows import Windows
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need
from firsttoken.progress import Report, silent
from firsttoken.tokenizer import Tokenizer

LEAST_REST = 1e-7  # probability; below, the rest is lost in the float32 that servers compute in
SAVE_EVERY = 16  # windows
ENOUGH = 16  # positions of a window that all leave nothing to other tokens are no accident


def cache_from_servers(
    recipe: str | Path | Recipe,
    output: str | Path,
    servers: Servers,
    top: int = 64,
    retries: int = 6,
    report: Report = silent,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Writes the ``top`` most likely tokens at every position that is learned, as the servers' model sees them. Returns the facts of the cache.

    Goes on where an interrupted run stopped. Raises `FirstTokenError`, for a recipe with another temperature than 1 and for a server whose tokens are
    not the student's, too.
    """
    need("servers", "asking a server")
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    ends = {t for t in (chosen.temperature.start, chosen.temperature.end) if t is not None}
    if ends != {1.0}:
        raise FirstTokenError(
            f"the recipe's temperature is {' to '.join(f'{t:g}' for t in sorted(ends))}, and a server says its probabilities at 1 alone; set temperature = 1, or "
            "make the cache from the checkpoint"
        )
    if not chosen.data.attend_across_documents:
        raise FirstTokenError(
            "attend_across_documents = false: a server reads a window as one text, where tokens see the document before; expected true, or make the cache from the checkpoint"
        )
    tokenizer = Tokenizer(tokenizer_folder(chosen))
    windows = training_windows(chosen, tokenizer, report)
    asyncio.run(_fill(Path(output), windows, tokenizer, servers, top, retries, report, say))
    return read_json(Path(output) / FACTS, "")


async def _fill(
    folder: Path,
    windows: Windows,
    tokenizer: Tokenizer,
    servers: Servers,
    top: int,
    retries: int,
    report: Report,
    say: Callable[[str], None],
) -> None:
    async with open_client(sum(server.concurrency for server in servers.servers)) as client:
        connections = [Connection(server, client) for server in servers.servers]
        dialects: dict[str, Dialect] = {}
        models = set()
        proven = 0
        for connection in connections:
            model, owner = await served_model(connection)
            dialects[connection.server.url] = dialect = dialect_of(connection.server.url, owner)
            models.add((model, dialect.name))
            proven = await prove_same_tokens(dialect, connection, model, tokenizer)
        if len(models) > 1:
            raise FirstTokenError(
                f"the servers have different models ({', '.join(sorted(model for model, _ in models))}); one cache is of one teacher"
            )
        [(model, kind)] = models
        identity = {"teacher": {"model": model, "server": kind}, "tokens_proven": proven}
        facts = cache_facts(windows, tokenizer.vocab_size, top, (1.0, 1.0), identity)
        arrays, done = start(folder, facts)
        filling = _Filling(folder, facts, arrays, windows, dialects, model, done, report)
        pool = Pool(connections, filling.work, retries, say, needs_all=True)
        try:
            await pool.run(Job(number, None) for number in range(done, len(windows)))
        finally:
            filling.save()
    if pool.failed:
        job, why = pool.failed[0]
        raise FirstTokenError(
            f"window {job.number} of {len(windows)} ({windows.source[job.number]}): {why}; what was answered is kept, run the same command again"
        )


class _Filling:
    """The arrays of a cache while they are filled, in any order; ``done`` counts the windows before the first that is missing."""

    def __init__(
        self,
        folder: Path,
        facts: dict[str, Any],
        arrays: dict[str, np.memmap],
        windows: Windows,
        dialects: dict[str, Dialect],
        model: str,
        done: int,
        report: Report,
    ) -> None:
        self.folder, self.facts, self.arrays, self.windows, self.dialects, self.model = folder, facts, arrays, windows, dialects, model
        self.done, self.saved, self.report = done, -1, report
        self._ahead: set[int] = set()

    async def work(self, connection: Connection, job: Job) -> None:
        """Asks for one window. Raises `AgainError`, `RefusedError` or `GoneError`."""
        tokens = [int(token) for token in self.windows.tokens[job.number]]
        places = [int(place) for place in np.flatnonzero(self.windows.labels[job.number][1:] != IGNORED)]
        k, vocabulary = self.facts["k"], self.facts["vocabulary"]
        rows = await self.dialects[connection.server.url].rows(connection, self.model, tokens, places, k)
        for row in rows:
            check_row(row, k, vocabulary)
        if len(rows) >= ENOUGH and all(_log_rest(_best(row, k)[1]) <= math.log(LEAST_REST) for row in rows):
            raise RefusedError("leaves no probability to tokens that it does not name: it cuts them off (top-k, top-p) before it says them")
        self._keep(job.number, places, rows)
        self._ahead.add(job.number)
        while self.done in self._ahead:
            self._ahead.remove(self.done)
            self.done += 1
        if self.done - self.saved >= SAVE_EVERY:
            self.save()
        self.report("asking the teacher", self.done + len(self._ahead), len(self.windows), "windows")

    def _keep(self, window: int, places: list[int], rows: list[Row]) -> None:
        k, vocabulary = self.facts["k"], self.facts["vocabulary"]
        # what is not learned was not asked for: all tokens alike
        self.arrays["tokens"][window] = np.arange(k)
        self.arrays["logits"][window] = 0
        self.arrays["rest"][window] = math.log(vocabulary - k)
        for place, row in zip(places, rows, strict=True):
            tokens, values = _best(row, k)
            self.arrays["tokens"][window, place] = tokens
            self.arrays["logits"][window, place] = [value - values[0] for value in values]
            self.arrays["rest"][window, place] = _log_rest(values) - values[0]

    def save(self) -> None:
        """Notes how many windows are whole, when they are on the disk."""
        if self.done == self.saved:
            return
        for array in self.arrays.values():
            array.flush()
        write_text(self.folder / FACTS, json.dumps({**self.facts, "done": self.done}, indent=1) + "\n")
        self.saved = self.done


def _best(row: Row, k: int) -> tuple[list[int], list[float]]:
    best = sorted(row.items(), key=lambda item: (-item[1], item[0]))[:k]
    return [token for token, _ in best], [value for _, value in best]


def _log_rest(values: list[float]) -> float:
    """The log mass of all tokens but those with these log probabilities."""
    return math.log(max(LEAST_REST, 1.0 - math.fsum(map(math.exp, values))))
