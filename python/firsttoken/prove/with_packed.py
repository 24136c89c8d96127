"""A bundle's packed weights against the artifact's own: the same logits to the bit, or they are another model's."""

from pathlib import Path

import numpy as np

from firsttoken.backends.runner import Runner
from firsttoken.bundle.manifest import Manifest
from firsttoken.bundle.packed_facts import PackedProof
from firsttoken.run.open import open_runner

PROMPT, DECODED = 32, 8  # tokens


def logits_of(runner: Runner, tokens: np.ndarray) -> list[np.ndarray]:
    """The logits after a prompt and after each of some tokens that follow it in ``tokens``."""
    runner.reset()
    rows = [runner.prefill(tokens[:PROMPT]).copy()]
    rows += [runner.decode(int(token)).copy() for token in tokens[PROMPT : PROMPT + DECODED]]
    runner.reset()
    return rows


def packed_proof(folder: Path, manifest: Manifest, tokens: np.ndarray, wanted: list[np.ndarray], threads: int | None) -> PackedProof | None:
    """What the bundle gives with its packed weights beside ``wanted``, without. None where it has none for this CPU, or no others: `packing` compared those."""
    if manifest.packed is None or manifest.packed.only:
        return None
    runner = open_runner(folder, threads, check=False, prefix=False)
    try:
        if runner.packed_for is None:
            return None
        found = logits_of(runner, tokens)
    finally:
        runner.close()
    equal = all(np.array_equal(one, other) for one, other in zip(wanted, found, strict=True))
    return PackedProof(isa=runner.packed_for, equal_bits=equal, positions=len(found))


def missed_packed(proof: PackedProof | None) -> list[str]:
    if proof is None or proof.equal_bits:
        return []
    return [f"the packed weights for {proof.isa} give other logits than the artifact's own; they are of another artifact: export again"]
