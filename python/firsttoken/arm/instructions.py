"""Counting the instructions that an emulated ARM core executes for one prefill and one decode step.

qemu logs every executed block; a small C program (count_log.c) adds them up while they come. Counted is the runtime's
own library (for .tflite, where the guest is Python) or all that runs between call and answer (for .pte). The counts
repeat exactly or nearly so; they are not time: no cache, no memory, no dual issue is in them.
"""

import os
import shutil
import subprocess
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firsttoken.arm.build import log_counter
from firsttoken.arm.cores import Core
from firsttoken.arm.emulator import Runtime, check_parts
from firsttoken.arm.instruction_kinds import count_kinds
from firsttoken.arm.runner import ArmRunner
from firsttoken.bundle.manifest import read_manifest
from firsttoken.errors import FirstTokenError
from firsttoken.pipes import piped

STEPS = {"prefill": 1, "decode": 5}  # step -> region of the log; the second of two decode steps, whose shapes are already set
LIBRARIES = {"litert": "libLiteRt.so", "tflite-2.16": "_pywrap_tensorflow_interpreter_wrapper.so"}
NOWHERE = "0x0..0x1"
TRIES = 5  # the library's address is known once it is loaded, and holds for the next start of the same kind
MOST_UNKNOWN = 0.005  # of the executed blocks; threads of the start can garble the log of a few, by chance more


class UntoldBlocks(FirstTokenError):
    """The log does not tell enough of what was executed; another run usually does."""


@dataclass(frozen=True)
class Counts:
    """Instructions executed in one step: all of them, and by kind (`firsttoken.arm.instruction_kinds.KINDS`)."""

    total: int
    kinds: dict[str, int]


class InstructionCounter:
    """Counts on emulated cores. Raises `FirstTokenError` where the machine, a C compiler or ``setarch`` is missing."""

    def __init__(self) -> None:
        self.program = log_counter()
        if shutil.which("setarch") is None:
            raise FirstTokenError("counting instructions needs setarch, which fixes addresses; install the package util-linux")
        self._ranges: dict[tuple[str, str], str] = {}

    def count(self, bundle: str | Path, core: Core, runtime: Runtime, tokens: int = 64) -> dict[str, Counts]:
        """Returns the counts of a prefill of ``tokens`` tokens and of a decode step after it, by step.

        Raises `FirstTokenError` for a bundle without room for that, or one that the runtime refuses.
        """
        check_parts([runtime])
        manifest = read_manifest(bundle)
        if not 1 <= tokens <= manifest.target.prefill_chunk or tokens + 2 > manifest.cache_length:
            raise FirstTokenError(
                f"{tokens} tokens: a prefill is counted in one call, which takes up to {manifest.target.prefill_chunk} here, "
                f"with 2 more in the cache of {manifest.cache_length}; give fewer"
            )
        prompt = np.arange(tokens + 2, dtype=np.int32) % manifest.checkpoint.vocab_size
        with tempfile.TemporaryDirectory(prefix="firsttoken-arm-") as scratch:
            packed = None
            if runtime.key == "litert":
                # weights packed in a run of its own: in the counted one, each block of it would be a line of the log
                packed = Path(scratch, "packed")
                ArmRunner(bundle, core, runtime, weight_cache=packed).close()
            failure = None
            for _ in range(TRIES):
                lines = self._logged(Path(scratch), bundle, core, runtime, prompt, packed)
                if lines is None:
                    continue
                try:
                    return summed(lines)
                except UntoldBlocks as error:
                    failure = error
        raise failure or FirstTokenError(f"{LIBRARIES[runtime.key]} was loaded at another address each of {TRIES} times; run again")

    def _logged(
        self, scratch: Path, bundle: str | Path, core: Core, runtime: Runtime, prompt: np.ndarray, packed: Path | None
    ) -> list[str] | None:
        """Runs prefill and two decode steps under log; None where the log was limited to addresses that were not the library's."""
        pipe, counted = scratch / "log", scratch / "counts"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        library = LIBRARIES.get(runtime.key)
        asked = self._ranges.get((core.name, runtime.key), NOWHERE)
        limit = ("-dfilter", asked) if library else ()
        with open(counted, "w+", encoding="ascii") as output:
            counter = subprocess.Popen([self.program, pipe], stdout=output, stderr=subprocess.PIPE, text=True)
            try:
                log = (*limit, "-d", "in_asm,exec,nochain,strace", "-D", str(pipe))
                runner = ArmRunner(bundle, core, runtime, log, packed, fixed_addresses=True)
                try:
                    if library:
                        found = addresses(runner.process_id, library)
                        self._ranges[core.name, runtime.key] = found
                        if found != asked:
                            return None
                    runner.prefill(prompt[:-2])
                    runner.decode(int(prompt[-2]))
                    runner.decode(int(prompt[-1]))
                finally:
                    runner.close()
                said = counter.communicate()[1]
            except FirstTokenError:
                if counter.poll():  # the reader of the log died first, and took the emulator with it
                    raise FirstTokenError(f"counting instructions failed: {piped(counter.stderr).read().strip()}") from None
                raise
            finally:
                if counter.poll() is None:
                    counter.kill()
                    counter.wait()
                piped(counter.stderr).close()
            if counter.returncode:
                raise FirstTokenError(f"counting instructions failed: {said.strip() or f'status {counter.returncode}'}")
            output.seek(0)
            return output.read().splitlines()


def addresses(process_id: int, library: str) -> str:
    """Returns the address range of a loaded library as qemu's ``-dfilter`` takes it."""
    ends = []
    for line in Path(f"/proc/{process_id}/maps").read_text().splitlines():
        if line.endswith(f"/{library}"):
            ends += [int(end, 16) for end in line.split()[0].split("-")]
    if not ends:
        raise FirstTokenError(f"{library} is not loaded in the emulated process; this is a fault of firsttoken")
    return f"{min(ends):#x}..{max(ends) - 1:#x}"


def summed(lines: list[str]) -> dict[str, Counts]:
    """Adds up the lines that count_log.c prints, by step. Raises `UntoldBlocks` where too much is not known."""
    words, blocks = defaultdict(list), {}
    for line in lines:
        name, *values = line.split()
        if name == "region":
            words[int(values[0])].append((int(values[1], 16), int(values[2])))
        elif name == "blocks":
            blocks[int(values[0])] = int(values[1]), int(values[2])
    counts = {}
    for step, region in STEPS.items():
        known, unknown = blocks.get(region, (0, 0))
        if not known or unknown > MOST_UNKNOWN * known:
            raise UntoldBlocks(f"the log tells {known} executed blocks of the {step} step and does not tell {unknown}; run again")
        counts[step] = Counts(sum(count for _, count in words[region]), count_kinds(*zip(*words[region], strict=True)))
    return counts
