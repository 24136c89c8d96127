"""A bundle's artifact on an emulated ARM core, as a `Runner` like any other: the work is done by the guest process."""

import signal
from pathlib import Path

from firsttoken.arm.cores import Core
from firsttoken.arm.emulator import Runtime, guest_command, runtime_version
from firsttoken.backends.registry import find_backend
from firsttoken.backends.remote_runner import RemoteRunner
from firsttoken.bundle.files import check_files
from firsttoken.bundle.manifest import read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.last_words import signal_name

ILLEGAL = "the program used an instruction that this core does not have"


class ArmRunner(RemoteRunner):
    """Starts the emulator on ``bundle`` and waits until its artifact is loaded.

    ``log`` are options of qemu for its log, ``weight_cache`` a file for XNNPACK's packed weights (LiteRT only), ``read_only``: one that is whole.
    An artifact without weights of its own is run with the bundle's file for the core, if that fits. Raises `FirstTokenError` if the bundle is damaged, a part of the machine is missing, or the runtime refuses the artifact.
    """

    def __init__(
        self,
        bundle: str | Path,
        core: Core,
        runtime: Runtime,
        log: tuple[str, ...] = (),
        weight_cache: Path | None = None,
        fixed_addresses: bool = False,
        read_only: bool = False,
    ) -> None:
        folder = Path(bundle).absolute()
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        backend = find_backend(manifest.cpu.backend)
        backend.verify(folder, manifest.cpu)
        if manifest.packed is not None and manifest.packed.only and weight_cache is None:
            weight_cache, why = backend.packed_for(folder, manifest, core.isa, runtime_version(runtime))
            if weight_cache is None:
                raise FirstTokenError(f"bundle {folder}: its artifact has only packed weights, and none can be used on {core.name}: {why}")
            read_only = True
        self.core, self.runtime = core, runtime
        command, environment = guest_command(core, runtime, folder, manifest, weight_cache, read_only)
        command = [*(["setarch", "-R"] if fixed_addresses else []), command[0], *log, *command[1:]]
        super().__init__(manifest, command, environment, f"on emulated {core.name}")

    def _ended(self, code: int | None, said: str) -> str:
        if code is None:
            return f"{self._place}: {self.runtime.name} answered with something else than logits; run with -v to see its own log"
        lines = said.strip().splitlines()
        last = f"; it said: {lines[-1][:300]}" if lines else ""
        how = f"ended with status {code}"
        if code < 0:
            how = f"was ended by {signal_name(-code)}" + (f" ({ILLEGAL})" if -code == signal.SIGILL else "")
        return f"{self._place}: {self.runtime.name} {how}{last}; run with -v to see its own log"
