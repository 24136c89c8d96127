"""Answers of teachers behind servers, as training data: several samples a prompt, checked, counted, resumed after any crash."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from firsttoken.distill.servers.checks import Checker, check_names
from firsttoken.distill.servers.connection import AgainError, Connection, RefusedError, SilentError, open_client, served_model
from firsttoken.distill.servers.ledger import Ledger
from firsttoken.distill.servers.limits import Budget
from firsttoken.distill.servers.pool import Job, Pool, StopError
from firsttoken.distill.servers.prompts import Prompt, read_teacher_prompts
from firsttoken.distill.servers.reply import Reply, joined, read_reply
from firsttoken.distill.servers.settings import Asking, Servers
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need
from firsttoken.progress import Report, silent

PER_MESSAGE = 64  # tokens that a template puts around a message, at most; a token of text has at least one byte


def generate_from_servers(
    servers: Servers,
    prompts: str | Path,
    output: str | Path,
    asking: Asking = Asking(),
    report: Report = silent,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Asks for ``asking.samples`` answers to every line of ``prompts`` and writes those that pass its checks to ``output`` (JSONL).

    Beside it: rejected answers with the reason (``NAME.rejected.jsonl``), a line a request (``NAME.requests.jsonl``) and the manifest (``OUTPUT.json``),
    which is returned. What an earlier run with the same prompts, models and settings got is not asked for again. Raises `FirstTokenError`; what was
    answered until then is kept.
    """
    need("servers", "asking a server")
    checks = check_names(asking.checks)
    if asking.samples > 1 and asking.temperature == 0:
        raise FirstTokenError(
            f"--samples {asking.samples} at temperature 0 are the same answer {asking.samples} times; give a --temperature"
        )
    lines = read_teacher_prompts(Path(prompts), checks, asking.system)
    _check_cost(servers, asking)
    return asyncio.run(_generate(servers, lines, Path(output), asking, checks, report, say))


async def _models(connections: list[Connection], say: Callable[[str], None]) -> dict[str, str]:
    """The model to ask each server for. One that is silent now is asked later where its model is named, and else left out, which is said.

    Raises `FirstTokenError` where all are silent, or one says that there is no such model.
    """
    models: dict[str, str] = {}
    silent: list[tuple[Connection, SilentError]] = []
    for connection in connections:
        try:
            models[connection.server.url] = (await served_model(connection))[0]
        except SilentError as error:
            silent.append((connection, error))
    if not models:
        raise silent[0][1]
    for connection, why in silent:
        if connection.server.model:
            models[connection.server.url] = connection.server.model
        else:
            say(f"{why}; goes on without it, name its model to have it asked again")
    return models


async def _generate(
    servers: Servers, lines: list[Prompt], output: Path, asking: Asking, checks: tuple[str, ...], report: Report, say: Callable[[str], None]
) -> dict[str, Any]:
    async with open_client(sum(server.concurrency for server in servers.servers)) as client:
        connections = [Connection(server, client) for server in servers.servers]
        models = await _models(connections, say)
        connections = [connection for connection in connections if connection.server.url in models]
        asked = {
            "prompts": hashlib.sha256(json.dumps([asdict(prompt) for prompt in lines]).encode()).hexdigest(),
            "settings": {**asking.decides(), "checks": list(checks)},
            "request": servers.request,
            "omit": list(servers.omit),
            "models": sorted(set(models.values())),
        }
        ledger = Ledger(output, asked)
        try:
            run = _Run(servers, models, ledger, asking, checks, len(lines), report)
            pool = Pool(connections, run.work, asking.retries, say)
            try:
                await pool.run(run.jobs(lines))
            finally:
                unanswered = [(job.number, why) for job, why in pool.failed]
                facts = ledger.finish(unanswered, run.prices())
        finally:
            ledger.close()
    _tell(pool, facts, len(lines), ledger, say)
    return facts


def _tell(pool: Pool, facts: dict[str, Any], prompts: int, ledger: Ledger, say: Callable[[str], None]) -> None:
    """Says what was left. Raises `FirstTokenError` where nothing at all was answered."""
    if pool.failed:
        job, why = pool.failed[0]
        text = f"{len(pool.failed)} of {prompts} prompts have no answer, the first in line {job.number}: {why}"
        if not any(ledger.done.values()):
            raise FirstTokenError(text)
        say(f"{text}; the same command asks for them again")
    if pool.stopped:
        say(pool.stopped)


class _Run:
    """One run's requests. ``work`` is what the pool calls for each job, whose ``what`` are a prompt and the numbers of its missing samples."""

    def __init__(
        self,
        servers: Servers,
        models: dict[str, str],
        ledger: Ledger,
        asking: Asking,
        checks: tuple[str, ...],
        prompts: int,
        report: Report,
    ) -> None:
        self.servers, self.models, self.ledger, self.asking, self.report = servers, models, ledger, asking, report
        self.checker = Checker(checks, asking.least_tokens)
        self.budget = Budget(asking.max_cost, ledger.spent)
        self.total = prompts * asking.samples
        self._at_once: dict[str, int] = {}  # samples that a server gives for one request
        self.finished = sum(map(len, ledger.done.values()))

    def jobs(self, lines: list[Prompt]) -> Iterator[Job]:
        """What is still to be asked for, in the order of the lines."""
        for prompt in lines:
            missing = [n for n in range(self.asking.samples) if n not in self.ledger.done.get(prompt.number, ())]
            if missing:
                yield Job(prompt.number, (prompt, missing))

    def prices(self) -> dict[str, dict[str, Any]]:
        """What the manifest says of each server beside what was counted."""
        return {
            server.url: {"asked_for": self.models[server.url], "price_in": server.price_in, "price_out": server.price_out}
            for server in self.servers.servers
            if server.url in self.models
        }

    async def work(self, connection: Connection, job: Job) -> None:
        """Asks for the missing samples of a prompt until all are there: a server may give fewer at a time than it was asked for."""
        prompt, missing = job.what
        while missing:
            # tokens of several samples are counted together, and each has to be long enough
            most = 1 if self.checker.least_tokens else self._at_once.get(connection.server.url, len(missing))
            try:
                got = await self._ask(connection, prompt, missing[:most])
            except RefusedError:
                if min(most, len(missing)) == 1:
                    raise
                # llama.cpp gives no more samples at once than it has slots, others give one
                self._at_once[connection.server.url] = min(most, len(missing)) // 2
            else:
                del missing[:got]

    async def _ask(self, connection: Connection, prompt: Prompt, missing: list[int]) -> int:
        server = connection.server
        body = request_body(prompt, self.models[server.url], missing, self.asking, self.servers, server.stream)
        most = _most_tokens(prompt, body)
        taken = await self.budget.take(server.price(*most))
        if taken is None:
            raise StopError(
                f"--max-cost {self.asking.max_cost:g}: {self.ledger.spent:.4g} are spent, and the next answer may cost {server.price(*most):.4g} more; "
                "raise it and run the same command again to go on"
            )
        cost = 0.0
        try:
            reply = await ask_for(connection, body, len(missing))
            counted = reply.tokens_in is not None and reply.tokens_out is not None
            cost = server.price(reply.tokens_in or 0, reply.tokens_out or 0) if counted else server.price(*most)
            connection.pace.count((reply.tokens_in or 0) + (reply.tokens_out or 0))
        except (AgainError, asyncio.CancelledError) as error:  # Ctrl-C: what is on its way is paid, too
            if getattr(error, "worked", True) and (cost := server.price(*most)):
                self._record(connection, prompt, [], None, cost)
            raise
        finally:
            self.budget.settle(taken, cost)
        samples = missing[: len(reply.answers)]
        await self._write(connection, prompt, samples, reply, cost)
        return len(samples)

    async def _write(self, connection: Connection, prompt: Prompt, samples: list[int], reply: Reply, cost: float) -> None:
        kept, rejected = [], []
        model = reply.model or self.models[connection.server.url]
        for sample, answer in zip(samples, reply.answers, strict=True):
            counted = {"tokens": answer.tokens} if answer.tokens is not None else {}
            line = {**prompt.line(answer), "stopped": answer.stopped, **counted, "line": prompt.number, "sample": sample, "teacher": model}
            wrong = await self.checker.wrong(prompt, answer)
            if wrong:
                rejected.append({**line, "rejected": wrong})
            else:
                kept.append(line)
        self._record(connection, prompt, samples, reply, cost, kept, rejected)
        self.finished += len(samples)
        self.report("answering", self.finished, self.total, "samples")

    def _record(
        self,
        connection: Connection,
        prompt: Prompt,
        samples: list[int],
        reply: Reply | None,
        cost: float,
        kept: list[dict[str, Any]] | None = None,
        rejected: list[dict[str, Any]] | None = None,
    ) -> None:
        """Notes a request; without a reply it is one whose answer was lost on the way, and may have to be paid."""
        url = connection.server.url
        record = {
            "line": prompt.number,
            "samples": samples,
            "server": url,
            "model": reply.model if reply and reply.model else self.models[url],
            "tokens_in": reply.tokens_in if reply else None,
            "tokens_out": reply.tokens_out if reply else None,
            "cost": cost,
        }
        self.ledger.add(record, kept or [], rejected or [])


def request_body(prompt: Prompt, model: str, samples: list[int], asking: Asking, servers: Servers, stream: bool) -> dict[str, Any]:
    """The chat request for some samples of a prompt. Each has a seed of its own, so that the same sample is asked for in the same words again."""
    body: dict[str, Any] = {
        "model": model,
        "messages": prompt.messages,
        "max_tokens": asking.max_tokens,
        "temperature": asking.temperature,
    }
    if asking.temperature > 0:
        body["seed"] = sample_seed(asking.seed, prompt.number, samples[0])
    if asking.top_p is not None:
        body["top_p"] = asking.top_p
    if len(samples) > 1:
        body["n"] = len(samples)
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    body |= servers.request
    return {name: value for name, value in body.items() if name not in servers.omit}


def sample_seed(seed: int, line: int, sample: int) -> int:
    """31 bits that differ from sample to sample, from SHA-256."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{line}:{sample}".encode()).digest()[:4], "big") >> 1


async def ask_for(connection: Connection, body: dict[str, Any], samples: int) -> Reply:
    """Asks once. Raises `AgainError`, `RefusedError` or `GoneError`."""
    url = f"{connection.server.url}/chat/completions"
    # pieces of a stream may each have a part of the key, or half a character
    value = connection.clean(joined(await connection.events(url, body))) if body.get("stream") else await connection.post(url, body)
    reply = read_reply(value, samples)
    if not reply.answers:
        raise AgainError("answered without choices")
    return reply


def _most_tokens(prompt: Prompt, body: dict[str, Any]) -> tuple[int, int]:
    """The most tokens that a request and its answers can have."""
    asked = sum(len(json.dumps(turn, ensure_ascii=False).encode()) + PER_MESSAGE for turn in prompt.messages)
    longest = max(body.get("max_tokens", 0), body.get("max_completion_tokens", 0))  # of both, servers do not take the same
    return asked, longest * body.get("n", 1)


def _check_cost(servers: Servers, asking: Asking) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        if name in servers.request and type(servers.request[name]) is not int:
            raise FirstTokenError(f"request.{name} is {servers.request[name]!r}; expected a whole number")
    if asking.max_cost is None:
        return
    for server in servers.servers:
        if server.price_in is None:
            raise FirstTokenError(
                f"--max-cost needs the prices of {server.url}: --price-in and --price-out (or price_in, price_out), per million tokens"
            )
    if "max_tokens" in servers.omit and "max_completion_tokens" not in servers.request:
        raise FirstTokenError("--max-cost needs a longest answer; leave max_tokens out of omit, or give request.max_completion_tokens")
