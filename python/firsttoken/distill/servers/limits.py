"""How fast a server may be asked, and how much may be spent."""

import asyncio
import time

from firsttoken.distill.servers.settings import Server


class Pace:
    """Spaces requests evenly by a server's limits a minute; tokens are counted when they are known, and paid back by waiting."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._free = 0.0  # of time.monotonic: when the next request may go
        self._line = asyncio.Lock()

    async def wait(self) -> None:
        """Returns when the next request may go."""
        async with self._line:
            while (left := self._free - time.monotonic()) > 0:
                await asyncio.sleep(left)  # again: it may have been put off meanwhile
            if self.server.requests_per_minute:
                self._free = max(self._free, time.monotonic()) + 60 / self.server.requests_per_minute

    def rest(self) -> float:
        """Seconds until the next request may go."""
        return max(0.0, self._free - time.monotonic())

    def count(self, tokens: int) -> None:
        """Counts the tokens of an answered request."""
        if self.server.tokens_per_minute:
            self._free = max(self._free, time.monotonic()) + 60 * tokens / self.server.tokens_per_minute

    def pause(self, seconds: float) -> None:
        """Lets no request go for so long."""
        self._free = max(self._free, time.monotonic() + seconds)


class Budget:
    """What may be spent. A request sets the most that it can cost aside, and gives back what it did not cost."""

    def __init__(self, most: float | None, spent: float) -> None:
        self.most, self.spent = most, spent
        self._aside: dict[object, float] = {}
        self._changed = asyncio.Event()

    async def take(self, cost: float) -> object | None:
        """Sets ``cost`` aside, waiting for requests on their way to give back theirs.

        Returns what `settle` wants to have; None where it cannot be afforded even then.
        """
        while self.most is not None and self.spent + sum(self._aside.values()) + cost > self.most:
            if not self._aside:
                return None
            self._changed.clear()
            await self._changed.wait()
        taken = object()
        self._aside[taken] = cost
        return taken

    def settle(self, taken: object, cost: float) -> None:
        """Gives back what was set aside, and counts what the request did cost."""
        del self._aside[taken]
        self.spent += cost
        self._changed.set()
