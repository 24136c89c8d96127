"""A `Runner` whose work another process does: `backends.remote` is that one's end."""

import struct
import subprocess
import tempfile
from abc import abstractmethod
from collections.abc import Mapping

import numpy as np

from firsttoken.backends.remote import DECODE, FAILED, PREFILL, RESET
from firsttoken.backends.runner import Runner, RunnerFacts
from firsttoken.errors import FirstTokenError
from firsttoken.pipes import piped
from firsttoken.quiet import is_verbose

MOST_BYTES = 64 << 20  # of an answer; a larger one is not ours


class RemoteRunner(Runner):
    """Starts ``command`` and waits until it has loaded its artifact. ``place`` begins its errors, as in "on emulated cortex-a76".

    Raises `FirstTokenError` where the process refuses the artifact, or dies.
    """

    def __init__(self, facts: RunnerFacts, command: list[str], environment: Mapping[str, str], place: str) -> None:
        super().__init__(facts)
        self.all_can_be_taken_back = False  # there is no request for it: what is kept of a prefix is all or nothing
        self._place = place
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if is_verbose() else self._said,
            start_new_session=True,
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    @property
    def process_id(self) -> int:
        """The process that does the work."""
        return self._process.pid

    @abstractmethod
    def _ended(self, code: int | None, said: str) -> str:
        """What is told of a process that did not answer: its exit status (None: it goes on) and all that it wrote to standard error."""

    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        return self._ask(PREFILL, tokens)[-self.vocab_size :]  # a program that checks drafts gives several rows

    def _decode(self, token: int) -> np.ndarray:
        return self._ask(DECODE, np.array([token], np.int32))

    def reset(self) -> None:
        super().reset()
        self._ask(RESET, np.array([], np.int32))

    def _forget(self, length: int) -> None:
        assert length == 0, "all or nothing"
        self._ask(RESET, np.array([], np.int32))

    def _ask(self, operation: int, tokens: np.ndarray) -> np.ndarray:
        request = struct.pack("<iii", operation, self.position, len(tokens)) + tokens.astype("<i4").tobytes()
        try:
            piped(self._process.stdin).write(request)
            piped(self._process.stdin).flush()
        except BrokenPipeError:
            pass  # it died; reading its answer says how
        return self._answer()

    def _answer(self) -> np.ndarray:
        status, count = struct.unpack("<ii", self._read(8))
        if status == FAILED:
            raise FirstTokenError(f"{self._place}: {self._read(count).decode('utf-8', 'replace')}")
        return np.frombuffer(self._read(4 * count), "<f4")

    def _read(self, size: int) -> bytes:
        body = piped(self._process.stdout).read(size) if 0 <= size <= MOST_BYTES else b""
        if len(body) != size:
            raise FirstTokenError(self._death())
        return body

    def _death(self) -> str:
        piped(self._process.stdout).close()
        code: int | None
        try:
            code = self._process.wait(10)
        except subprocess.TimeoutExpired:
            code = None
        self._said.seek(0)
        return self._ended(code, self._said.read().decode("utf-8", "replace"))

    def close(self) -> None:
        """Ends the process. Closing its input lets it end by itself, so that what it logs is complete."""
        if self._process.poll() is None:
            try:
                piped(self._process.stdin).close()
                self._process.wait(5)
            except (BrokenPipeError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait()
        piped(self._process.stdout).close()
        self._said.close()
