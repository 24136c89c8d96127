"""Which servers are asked, from an address or a ``.toml`` file, and how an answer is asked for."""

import os
import re
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from firsttoken import plain_file
from firsttoken.declarations import first_problem
from firsttoken.errors import FirstTokenError
from firsttoken.safe_text import visible

OURS = ("messages", "model", "n", "stream", "stream_options")  # fields of a request that are not the user's


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Server(Part):
    """One server. Prices are per million tokens, in any one currency; the key itself is never here, only its variable's name."""

    url: str
    model: str | None = None  # none: the one that the server lists
    key_variable: str | None = None
    concurrency: int = Field(default=8, ge=1, le=4096)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    price_in: float | None = Field(default=None, ge=0)
    price_out: float | None = Field(default=None, ge=0)
    timeout: float = Field(default=600.0, gt=0)  # seconds for a whole answer
    stream: bool = False  # tokens as they come, for what cuts silent connections

    @model_validator(mode="before")
    @classmethod
    def _no_key(cls, values: Any) -> Any:
        if isinstance(values, dict) and any(name in values for name in ("key", "api_key", "token", "password")):
            raise ValueError("a key stands in no file; put it into an environment variable and name that with key_variable")
        return values

    @field_validator("key_variable")
    @classmethod
    def _a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise ValueError("key_variable is the name of an environment variable, not the key itself")
        return name

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an address such as http://localhost:8000/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("an address holds no name, password or parameters; a key comes from the variable that key_variable names")
        path = parts.path.rstrip("/").removesuffix("/chat/completions").removesuffix("/completions")
        return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"

    @model_validator(mode="after")
    def _both_prices(self) -> Self:
        if (self.price_in is None) != (self.price_out is None):
            raise ValueError("price_in and price_out go together; give both or none")
        return self

    @property
    def root(self) -> str:
        """The address without ``/v1``, where servers have what OpenAI's interface lacks."""
        return self.url.removesuffix("/v1")

    def key(self) -> str | None:
        """The key from the environment. Raises `FirstTokenError` where the variable is not set, or holds what no header can."""
        if self.key_variable is None:
            return None
        value = os.environ.get(self.key_variable, "").strip()
        if not value:
            # what does not look like a variable's name may be a key
            shown = self.key_variable if re.fullmatch("[A-Z][A-Z0-9_]*", self.key_variable) else "that key_variable names"
            raise FirstTokenError(f"{self.url}: the environment variable {shown} is not set; export it with the server's key")
        if not (value.isascii() and value.isprintable()):
            raise FirstTokenError(
                f"{self.url}: the environment variable {self.key_variable} holds no key: it has characters that no header can carry"
            )
        return value

    def price(self, tokens_in: int, tokens_out: int) -> float:
        """What so many tokens cost; 0 where no price is known."""
        return (tokens_in * (self.price_in or 0) + tokens_out * (self.price_out or 0)) / 1e6


class Servers(Part):
    """The servers of a run; ``request`` goes into every request as it is, ``omit`` stays out."""

    servers: tuple[Server, ...] = Field(alias="server", min_length=1)
    request: dict[str, Any] = {}
    omit: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _request_is_free(self) -> Self:
        if taken := [name for name in OURS if name in self.request]:
            raise ValueError(f"request.{taken[0]} is set by firsttoken; leave it out")
        urls = [server.url for server in self.servers]
        if twice := next((url for url in urls if urls.count(url) > 1), None):
            raise ValueError(f"{twice} is named twice; raise its concurrency instead")
        return self


def is_server(teacher: str | Path) -> bool:
    """Whether a teacher's name is an address or a file of servers, and no checkpoint."""
    text = str(teacher)
    return text.startswith(("http:/", "https:/")) or text.endswith(".toml")  # Path makes one slash of two


def load_servers(teacher: str | Path, **changes: Any) -> Servers:
    """Reads a file of servers, or takes an address; ``changes`` are fields of `Server` that win where they are not None.

    Raises `FirstTokenError` naming the first wrong field; for a key's variable that is not set, too.
    """
    text = str(teacher)
    if text.endswith(".toml") and not text.startswith(("http:/", "https:/")):
        try:
            values = tomllib.loads(plain_file.read_text(text))
        except FileNotFoundError:
            raise FirstTokenError(f"servers {text}: does not exist") from None
        except (OSError, ValueError, RecursionError) as error:
            raise FirstTokenError(f"servers {text}: cannot be read as TOML ({visible(plain_file.why(error))})") from None
    else:
        scheme, _, rest = text.partition(":")
        values = {"server": [{"url": f"{scheme}://{rest.lstrip('/')}"}]}
    given = {name: value for name, value in changes.items() if value is not None}
    if given and isinstance(values.get("server"), list):
        values["server"] = [{**one, **given} if isinstance(one, dict) else one for one in values["server"]]
    try:
        servers = Servers.model_validate(values)
    except ValidationError as error:
        raise FirstTokenError(f"servers {visible(_without_password(text))}: {_first(error, values)}") from None
    for server in servers.servers:
        server.key()
    return servers


def _first(error: ValidationError, values: dict) -> str:
    """The first complaint; of an address and a key's variable alone its reason, since one that is refused may hold a password or a key."""
    problem = error.errors()[0]
    if problem["loc"][-1:] in (("url",), ("key_variable",)) and problem["type"] == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    return first_problem(error, values, Servers)


def _without_password(text: str) -> str:
    return f"…@{text.rpartition('@')[2]}" if "@" in text else text.partition("?")[0]


@dataclass(frozen=True)
class Asking:
    """How answers are asked for, the same of every server. ``temperature`` 0 takes the most likely token."""

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float | None = None
    seed: int = 0
    samples: int = 1
    system: str | None = None
    checks: tuple[str, ...] = ()
    least_tokens: int = 0
    max_cost: float | None = None
    retries: int = 6

    def decides(self) -> dict[str, Any]:
        """What decides the answers; the limits on cost and retries do not."""
        return {name: value for name, value in asdict(self).items() if name not in ("max_cost", "retries")}
