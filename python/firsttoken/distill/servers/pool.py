"""Work shared by several servers: each takes what it can, and what one cannot finish goes to the others."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from firsttoken.distill.servers.connection import AgainError, Connection, GoneError, RefusedError
from firsttoken.errors import FirstTokenError

LONGEST_WAIT = 60.0  # seconds between two rounds of our own
LONGEST_ASKED = 900.0  # seconds that a server may ask us to wait
SURELY = 3  # requests refused before any was answered: it is the server, not the request


class StopError(Exception):
    """No more is to be asked of anyone; the reason is the user's own limit."""


@dataclass
class Job:
    """One thing to ask for. ``number`` is told to the user."""

    number: int
    what: Any
    tries: int = 0


@dataclass
class Lane:
    """A server and how it does. ``rounds`` of failures in a row, each with all requests that were on their way."""

    connection: Connection
    gone: str = ""
    answered: int = 0
    refused: int = 0
    rounds: int = 0
    failed_at: float = 0.0
    suspects: dict[int, Job] = field(default_factory=dict)  # failed since the last answer


Work = Callable[[Connection, Job], Awaitable[None]]


class Pool:
    """Asks for all jobs. ``work`` raises `AgainError`, `RefusedError` or `GoneError` where a server fails, `StopError` to end.

    ``say`` is told when a server is given up. With ``needs_all`` the first job that fails ends it.
    """

    def __init__(
        self, connections: list[Connection], work: Work, retries: int, say: Callable[[str], None], needs_all: bool = False
    ) -> None:
        self.lanes = [Lane(connection) for connection in connections]
        self.work, self.retries, self.say, self.needs_all = work, retries, say, needs_all
        self.failed: list[tuple[Job, str]] = []
        self.stopped = ""
        self._back: deque[Job] = deque()
        self._flying = 0
        self._is_dry = False  # no jobs are left but those that come back
        self._changed = asyncio.Event()

    async def run(self, jobs: Iterable[Job]) -> None:
        """Returns when every job is done or has failed (``failed``), or `StopError` ended it (``stopped``).

        Raises `FirstTokenError` where no server is left, and whatever else ``work`` raises.
        """
        self._jobs = iter(jobs)
        tasks = [asyncio.create_task(self._serve(lane)) for lane in self.lanes for _ in range(lane.connection.server.concurrency)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if all(lane.gone for lane in self.lanes) and (self._back or next(self._jobs, None) is not None):
            why = "; ".join(f"{lane.connection.server.url} {lane.gone}" for lane in self.lanes)
            raise FirstTokenError(f"no server is left: {why}; what was answered is kept, run the same command again when one answers")

    async def _serve(self, lane: Lane) -> None:
        while not lane.gone and not self.stopped:
            if not self._is_done() and (rest := lane.connection.pace.rest()):
                self._changed.clear()  # no job is held meanwhile: whoever is free has it
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), rest)
                continue
            job = self._take()
            if job is not None:
                await self._try(lane, job)
            elif not self._flying:
                self._changed.set()
                return
            else:  # what others have on their way may come back
                self._changed.clear()
                await self._changed.wait()

    def _take(self) -> Job | None:
        if self._back:
            return self._back.popleft()
        job = next(self._jobs, None)
        self._is_dry = job is None
        return job

    def _is_done(self) -> bool:
        return self._is_dry and not self._back and not self._flying

    async def _try(self, lane: Lane, job: Job) -> None:
        self._flying += 1
        began = time.monotonic()
        try:
            await self.work(lane.connection, job)
            lane.answered += 1
            lane.rounds = 0
            lane.suspects.clear()
        except StopError as error:
            self._back.append(job)
            self.stopped = str(error)
        except GoneError as error:
            self._back.append(job)
            self._give_up(lane, str(error))
        except RefusedError as error:
            self._refused(lane, job, str(error))
        except AgainError as error:
            self._again(lane, job, error, began)
        finally:
            self._flying -= 1
            self._changed.set()

    def _refused(self, lane: Lane, job: Job, why: str) -> None:
        lane.refused += 1
        if not lane.answered and lane.refused >= SURELY:
            self._back.append(job)
            self._give_up(lane, f"refuses every request: {why}")
        else:
            self._fail(job, why)

    def _fail(self, job: Job, why: str) -> None:
        self.failed.append((job, why))
        if self.needs_all:
            self.stopped = why

    def _again(self, lane: Lane, job: Job, error: AgainError, began: float) -> None:
        lane.suspects[job.number] = job
        if began >= lane.failed_at:  # else it was on its way when the last round failed
            lane.rounds += 1
            lane.failed_at = time.monotonic()
            wait = min(LONGEST_WAIT, 2.0 ** (lane.rounds - 1)) * random.uniform(0.5, 1.0)
            lane.connection.pace.pause(max(wait, min(error.after or 0.0, LONGEST_ASKED)))
        job.tries += not error.busy
        others = any(not other.gone for other in self.lanes if other is not lane)
        if job.tries <= self.retries or not lane.answered:
            self._back.append(job)
        elif self.needs_all and others:
            self._back.append(job)
            self._give_up(lane, f"failed {job.tries} times at the same: {error}")
        else:
            self._fail(job, str(error))
        if (error.after or 0.0) > LONGEST_ASKED:
            self._give_up(lane, f"asks to wait {error.after:,.0f} s")
        elif lane.rounds > self.retries and (error.busy or not lane.answered or len(lane.suspects) > 1):
            self._give_up(lane, f"failed {lane.rounds} times in a row: {error}")

    def _give_up(self, lane: Lane, why: str) -> None:
        if not lane.gone:
            lane.gone = why
            # what failed while the server went down is not to blame
            cleared = [job for job, _ in self.failed if job.number in lane.suspects]
            self.failed = [(job, said) for job, said in self.failed if job.number not in lane.suspects]
            for job in [*lane.suspects.values(), *cleared]:
                job.tries = 0
            self._back.extend(cleared)
            if left := sum(not other.gone for other in self.lanes):
                self.say(f"{lane.connection.server.url}: {why}; goes on with {left} other server{'s' if left > 1 else ''}")
