"""One server over HTTP: requests with the key in their header, and every way to fail sorted into three."""

import asyncio
import email.utils
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from firsttoken import plain_file
from firsttoken.distill.servers.limits import Pace
from firsttoken.distill.servers.settings import Server
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible
from firsttoken.special_tokens import LONE_SURROGATE

LONGEST_REPLY = 512 << 20  # bytes
SECRET = 8  # characters: what is shorter (EMPTY, none) keeps nobody out, and is a word of answers
LONGEST_SAID = 300  # characters of what a server says about an error
BUSY = (408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529)


class AgainError(Exception):
    """The same request may succeed later; ``after`` are seconds that the server asked for, ``busy`` says that the request is not to blame.

    ``worked``: the server may have written an answer, and want to be paid for it.
    """

    def __init__(self, why: str, after: float | None = None, busy: bool = False, worked: bool = True) -> None:
        super().__init__(why)
        self.after, self.busy, self.worked = after, busy, worked


class RefusedError(Exception):
    """The server will not answer this request, however often it is asked."""


class GoneError(Exception):
    """The server will not answer any request of ours."""


class MissingError(GoneError):
    """The server has nothing at that address."""


class SilentError(FirstTokenError):
    """A server did not answer now, and may later."""


class Connection:
    """Requests to one server. ``client`` follows no redirect, so that no key goes to another host."""

    def __init__(self, server: Server, client: httpx2.AsyncClient) -> None:
        self.server, self.client, self.pace = server, client, Pace(server)
        self._key = server.key()
        self._secret = self._key if self._key and len(self._key) >= SECRET else None

    async def get(self, url: str) -> dict[str, Any]:
        """Returns the JSON object at an address of this server. Raises as `post` does."""
        return self._object(await self._whole("GET", url, None))

    async def post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """Returns the JSON object that a request is answered with. Raises `AgainError`, `RefusedError` or `GoneError`."""
        return self._object(await self._whole("POST", url, body))

    async def events(self, url: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Returns the objects of a stream of server-sent events that ended as one should, with ``[DONE]``. Raises as `post` does."""
        found: list[dict[str, Any]] = []
        async with self._asked("POST", url, body) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise AgainError("answered a request for a stream with something else")
            size = 0
            async for event in httpx2.EventSource(response, max_event_size=LONGEST_REPLY):
                if event.data.strip() == "[DONE]":
                    return found
                size += len(event.data)
                if size > LONGEST_REPLY:
                    raise RefusedError("its stream does not end")
                found.append(self._object(event.data.encode()))
        raise AgainError("its stream was cut off")

    async def _whole(self, method: str, url: str, body: dict[str, Any] | None) -> bytes:
        async with self._asked(method, url, body) as response:
            return await _read(response, LONGEST_REPLY)

    @asynccontextmanager
    async def _asked(self, method: str, url: str, body: dict[str, Any] | None) -> AsyncIterator[httpx2.Response]:
        """A response of status 2xx whose body is still to be read; what fails on the way or while it is read is one of the three errors."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        await self.pace.wait()
        try:
            async with (
                asyncio.timeout(self.server.timeout),
                self.client.stream(method, url, json=body, headers=headers) as response,
            ):
                if response.status_code // 100 != 2:
                    raise await self._failure(response)
                yield response
        except TimeoutError:
            raise AgainError(f"no whole answer within {self.server.timeout:g} s (timeout)") from None
        except (httpx2.ConnectError, httpx2.UnsupportedProtocol) as error:
            if isinstance(error.__cause__, ssl.SSLError) or "CERTIFICATE" in str(error):
                raise GoneError(f"its certificate is not trusted ({self.said(error)})") from None
            raise AgainError(f"cannot be reached ({self.said(error)})", worked=False) from None
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.SSEError) as error:
            raise AgainError(f"the connection broke ({type(error).__name__}: {self.said(error)})") from None

    async def _failure(self, response: httpx2.Response) -> Exception:
        status = response.status_code
        if response.is_redirect or status // 100 == 3:
            to = urlsplit(str(response.headers.get("location", "")))
            where = f"{to.scheme}://{to.netloc}" if to.netloc else to.path
            return GoneError(
                f"redirects to {self.said(where or 'nowhere')}; nothing is sent there, give that address if it is the right one"
            )
        if status in (401, 403):
            # what a server says here may repeat parts of the key
            how = (
                f"with the key in {self.server.key_variable}"
                if self.server.key_variable
                else "without a key; name its variable with key_variable"
            )
            return GoneError(f"refuses access (status {status}) {how}")
        said = self.said(_message(await _read(response, 1 << 20)))
        if status in BUSY:
            return AgainError(f"status {status}: {said}", retry_after(response.headers.get("retry-after")), status == 429, worked=False)
        if status in (404, 405, 501):
            return MissingError(f"status {status} at {response.url.path}: {said}; is the address right, and the model's name?")
        if status == 402:
            return GoneError(f"wants to be paid first (status 402): {said}")
        return RefusedError(f"status {status}: {said}")

    def _object(self, raw: bytes) -> dict[str, Any]:
        text = raw.decode("utf-8", "replace")
        try:
            value = self.clean(plain_file.parse_json(text))
        except (ValueError, RecursionError) as error:
            raise AgainError(f"answered with no JSON ({self.said(error)}): {self.said(text)[:80]!r}") from None
        if not isinstance(value, dict):
            raise AgainError(f"answered with JSON that is no object: {self.said(text)[:80]!r}")
        if isinstance(value.get("error"), dict | str) and "choices" not in value:
            raise AgainError(f"answered with an error and status 200: {self.said(_message(raw))}")
        return value

    def clean(self, value: Any) -> Any:
        """Parsed JSON, since there a key may stand in escapes, without the key; and halves of characters, which no file can hold, as what bytes that are no text become."""
        if isinstance(value, str):
            text = LONE_SURROGATE.sub("\ufffd", value)
            return text.replace(self._secret, "[key]") if self._secret else text
        if isinstance(value, list):
            return [self.clean(one) for one in value]
        return {self.clean(name): self.clean(one) for name, one in value.items()} if isinstance(value, dict) else value

    def said(self, what: object) -> str:
        """Words of a server, or about it, fit to show, without the key."""
        text = str(what)
        return visible(text.replace(self._secret, "[key]") if self._secret else text, LONGEST_SAID)


@asynccontextmanager
async def open_client(connections: int) -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client for so many requests at a time; it follows no redirect and leaves time to our own limits."""
    limits = httpx2.Limits(max_connections=connections + 4, max_keepalive_connections=connections + 4)
    timeout = httpx2.Timeout(None, connect=30.0)
    async with httpx2.AsyncClient(follow_redirects=False, limits=limits, timeout=timeout) as client:
        yield client


async def served_model(connection: Connection) -> tuple[str, str]:
    """Returns the model to ask for and who its server is (``owned_by``): the one named, else the only one that ``/v1/models`` lists.

    Raises `FirstTokenError` where that cannot be told.
    """
    server = connection.server
    try:
        listed = (await connection.get(f"{server.url}/models")).get("data")
    except (AgainError, RefusedError, GoneError) as error:
        if server.model and isinstance(error, RefusedError | MissingError):  # has no list
            return server.model, ""
        kind = SilentError if isinstance(error, AgainError) else FirstTokenError
        raise kind(f"{server.url}: {error}") from None
    models = [one for one in listed if isinstance(one, dict) and isinstance(one.get("id"), str)] if isinstance(listed, list) else []
    names = [one["id"] for one in models]
    if server.model is None and len(names) != 1:
        some = f"one of {', '.join(visible(name, 60) for name in names[:8])}" if names else "its name"
        raise FirstTokenError(f"{server.url}: lists {len(names)} models; say which with --model (or model = …): {some}")
    chosen = server.model or names[0]
    owner = next((one.get("owned_by") for one in models if one["id"] == chosen), models[0].get("owned_by") if len(models) == 1 else "")
    return chosen, owner if isinstance(owner, str) else ""


async def _read(response: httpx2.Response, most: int) -> bytes:
    found = bytearray()
    async for piece in response.aiter_bytes():
        found += piece
        if len(found) > most:
            raise RefusedError(f"its answer has more than {most >> 20} MiB")
    return bytes(found)


def _message(raw: bytes) -> str:
    """What a server says of an error: the message in the usual places of JSON, else the text."""
    text = raw.decode("utf-8", "replace")
    try:
        value = plain_file.parse_json(text)
    except ValueError:
        return text
    if not isinstance(value, dict):
        return text
    for name in ("error", "message", "detail"):
        found = value.get(name)
        if isinstance(found, dict):
            found = found.get("message")
        if isinstance(found, str):
            return found
    return text


def retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date (RFC 9110, 10.2.3); None for neither."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (email.utils.parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if seconds < 86_400 else None
