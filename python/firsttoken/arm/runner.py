"""A bundle's artifact on an emulated ARM core, as a `Runner` like any other: the work is done by the guest process."""

import signal
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from firsttoken.arm.cores import Core
from firsttoken.arm.emulator import Runtime, guest_command
from firsttoken.arm.guest import DECODE, FAILED, PREFILL, RESET
from firsttoken.backends.registry import find_backend
from firsttoken.backends.runner import Runner
from firsttoken.bundle.files import check_files
from firsttoken.bundle.manifest import read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.last_words import signal_name
from firsttoken.pipes import piped
from firsttoken.quiet import is_verbose

MOST_BYTES = 64 << 20  # of an answer; a larger one is not ours
ILLEGAL = "the program used an instruction that this core does not have"


class ArmRunner(Runner):
    """Starts the emulator on ``bundle`` and waits until its artifact is loaded.

    ``log`` are options of qemu for its log, ``weight_cache`` a file for XNNPACK's packed weights (LiteRT only). Raises
    `FirstTokenError` if the bundle is damaged, a part of the machine is missing, or the runtime refuses the artifact.
    """

    def __init__(
        self,
        bundle: str | Path,
        core: Core,
        runtime: Runtime,
        log: tuple[str, ...] = (),
        weight_cache: Path | None = None,
        fixed_addresses: bool = False,
    ) -> None:
        folder = Path(bundle).absolute()
        manifest = read_manifest(folder)
        super().__init__(manifest)
        check_files(folder, manifest)
        find_backend(manifest.cpu.backend).verify(folder, manifest.cpu)
        self.core, self.runtime = core, runtime
        command, environment = guest_command(core, runtime, folder, manifest, weight_cache)
        command = [*(["setarch", "-R"] if fixed_addresses else []), command[0], *log, *command[1:]]
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
        """The emulator's process."""
        return self._process.pid

    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        return self._ask(PREFILL, tokens)

    def _decode(self, token: int) -> np.ndarray:
        return self._ask(DECODE, np.array([token], np.int32))

    def reset(self) -> None:
        super().reset()
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
            raise FirstTokenError(f"on emulated {self.core.name}: {self._read(count).decode('utf-8', 'replace')}")
        return np.frombuffer(self._read(4 * count), "<f4")

    def _read(self, size: int) -> bytes:
        body = piped(self._process.stdout).read(size) if 0 <= size <= MOST_BYTES else b""
        if len(body) != size:
            raise FirstTokenError(self._death())
        return body

    def _death(self) -> str:
        piped(self._process.stdout).close()
        try:
            code = self._process.wait(10)
        except subprocess.TimeoutExpired:
            return f"on emulated {self.core.name}: {self.runtime.name} answered with something else than logits; run with -v to see its own log"
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        said = f"; it said: {lines[-1][:300]}" if lines else ""
        how = f"ended with status {code}"
        if code < 0:
            how = f"was ended by {signal_name(-code)}" + (f" ({ILLEGAL})" if -code == signal.SIGILL else "")
        return f"on emulated {self.core.name}: {self.runtime.name} {how}{said}; run with -v to see its own log"

    def close(self) -> None:
        """Ends the emulator. Closing its input lets it end by itself, so that its log is complete."""
        if self._process.poll() is None:
            try:
                piped(self._process.stdin).close()
                self._process.wait(5)
            except (BrokenPipeError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait()
        piped(self._process.stdout).close()
        self._said.close()
