"""Waiting as a server asks, and the right words about its failures."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from faulty_server import FaultyServer, raw, status

from firsttoken.distill.servers.connection import AgainError, Connection, GoneError, RefusedError, open_client, retry_after
from firsttoken.distill.servers.settings import Server

KEY = "sk-abc/def-0123456789"


def test_retry_after_is_a_number_or_a_date():
    assert [retry_after(text) for text in ("2.5", "-1", "soon", None, "1e9", "nan")] == [2.5, 0.0, None, None, None, None]
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < retry_after(date) <= 60


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (status(403, "no"), GoneError, r"refuses access \(status 403\) without a key"),
        (status(404, "no such model"), GoneError, "status 404 at /v1/x: no such model; is the address right"),
        (status(402, "pay"), GoneError, "wants to be paid first"),
        (status(422, "bad field"), RefusedError, "status 422: bad field"),
        (status(418, "\x1b[31mred"), RefusedError, r"status 418: \\x1b\[31mred"),
        (status(529, "busy"), AgainError, "status 529: busy"),
        (raw(b"[" * 100_000), AgainError, "no JSON"),
        (raw(b"\xff\xfe"), AgainError, "no JSON"),
    ],
)
def test_failures_are_told_apart(fault, kind, said):
    async def ask(url):
        async with open_client(1) as client:
            await Connection(Server(url=url, timeout=5), client).post(f"{url}/x", {})

    with FaultyServer(fault) as server, pytest.raises(kind, match=said):
        asyncio.run(ask(server.url))


@pytest.mark.parametrize(
    ("key", "sent", "found"),
    [
        (KEY, r'{"a": "it is sk-abc\/def-0123456789", "sk-abc/def-0123456789": 1}', {"a": "it is [key]", "[key]": 1}),
        ("EMPTY", '{"a": "The set is EMPTY"}', {"a": "The set is EMPTY"}),
        ("token", '{"completion_tokens": 3}', {"completion_tokens": 3}),
        (None, r'{"a": "half \ud83d"}', {"a": "half \ufffd"}),
    ],
)
def test_a_key_is_taken_out_of_replies_and_words_are_not(key, sent, found, monkeypatch):
    monkeypatch.setenv("A_KEY", key or "")

    async def ask(url):
        async with open_client(1) as client:
            return await Connection(Server(url=url, timeout=5, key_variable="A_KEY" if key else None), client).post(f"{url}/x", {})

    with FaultyServer(raw(sent.encode())) as server:
        assert asyncio.run(ask(server.url)) == found
