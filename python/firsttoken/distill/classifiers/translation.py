"""Texts translated by an OpenAI-compatible server, one a request, several requests at a time."""

import asyncio
from collections.abc import Sequence

from firsttoken.distill.classifiers.recipe import Augment
from firsttoken.errors import FirstTokenError
from firsttoken.extras import need

RETRIES = 2  # what was made is kept, and the same command goes on


def translate(augment: Augment, language: str, texts: Sequence[str]) -> list[str]:
    """Returns a translation of each text; of an empty one nothing. Raises `FirstTokenError` saying what the server answered, or that the key's variable is not set."""
    need("servers", "a server that translates")
    return asyncio.run(_translated(augment, language, texts))


async def _translated(augment: Augment, language: str, texts: Sequence[str]) -> list[str]:
    from firsttoken.distill.servers.connection import Connection, RefusedError, open_client
    from firsttoken.distill.servers.pool import Job, Pool
    from firsttoken.distill.servers.reply import read_reply
    from firsttoken.distill.servers.settings import load_servers

    assert augment.server is not None, "the recipe was checked"
    [server] = load_servers(augment.server, model=augment.model, key_variable=augment.key_variable).servers
    answers = [""] * len(texts)

    async def ask(connection: Connection, job: Job) -> None:
        asked = f"Translate the text below into {language}. Answer with the translation alone.\n\n{job.what}"
        body = {
            "model": augment.model,
            "messages": [{"role": "user", "content": asked}],
            "temperature": 0,
            "max_tokens": augment.max_tokens,
        }
        reply = read_reply(await connection.post(f"{server.url}/chat/completions", body), 1)
        if reply.answers[0].stopped != "end":
            raise RefusedError(f"a translation was not finished, stopped by {reply.answers[0].stopped}; raise max_tokens")
        answers[job.number] = reply.answers[0].text.rpartition("</think>")[2].strip()

    async with open_client(server.concurrency) as client:
        pool = Pool([Connection(server, client)], ask, RETRIES, lambda _: None, needs_all=True)
        await pool.run(Job(number, text) for number, text in enumerate(texts) if text.strip())
    if pool.stopped:
        raise FirstTokenError(f"augment: {server.url} gave no translation: {pool.stopped}; what was made is kept, run again")
    return answers
