#!/usr/bin/env python3
"""What TRL 1.16 computes on batches that tests/distill/losses/test_against_trl.py makes again: writes trl_reference.json beside it.

  python -m venv build/trl && build/trl/bin/pip install trl==1.16.0 transformers==5.23.0 torch==2.13.0
  PYTHONPATH=python:tests build/trl/bin/python scripts/trl_reference.py

The batches are numpy's random numbers, so that the file holds TRL's results alone: the generalised Jensen-Shannon loss of its
GKDTrainer, and of its GOLDTrainer the sorted and the hybrid loss across vocabularies and how it aligns two tokenizers' tokens.
"""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
import trl
from other_tokenizer import write_tokenizer
from trl.experimental.gkd.gkd_trainer import GKDTrainer
from trl.experimental.gold.gold_trainer import ULDLoss

from firsttoken.demo import checkpoint_path, held_out_text
from firsttoken.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "tests/distill/losses/trl_reference.json"
BETAS, TEMPERATURES = (0.0, 0.1, 0.5, 0.9, 1.0), (1.0, 2.0)
ROWS, LENGTH, OURS, THEIRS = 2, 7, 23, 31
MATCHED = [(2, 5), (3, 4), (11, 0), (20, 30)]  # student's token, teacher's
CHARACTERS = 400  # of the held-out text, aligned


def logits(seed: int, vocabulary: int) -> torch.Tensor:
    """A batch of logits, float64 ``[ROWS, LENGTH, vocabulary]``."""
    return torch.from_numpy(2 * np.random.default_rng(seed).normal(size=(ROWS, LENGTH, vocabulary)))


def jensen_shannon() -> list[dict]:
    """GKD's loss, with two labels that do not count."""
    labels = torch.zeros(ROWS, LENGTH, dtype=torch.long)
    labels[0, :2] = -100
    found = []
    for beta in BETAS:
        for temperature in TEMPERATURES:
            value = GKDTrainer.generalized_jsd_loss(logits(0, OURS), logits(1, OURS), labels, beta=beta, temperature=temperature)
            found.append({"beta": beta, "temperature": temperature, "loss": value.item()})
    return found


def across(hybrid: bool, temperature: float, beta: float) -> float:
    """The loss between two vocabularies, position by position."""
    config = SimpleNamespace(
        uld_crossentropy_weight=0.0, uld_distillation_weight=1.0, uld_student_temperature=temperature, uld_teacher_temperature=temperature,
        uld_skip_student_eos=False, uld_skip_teacher_eos=False, use_extended_uld=False, uld_token_merge_strategy="observed",
        uld_use_hybrid_loss=hybrid, beta=beta,
    )  # fmt: skip
    loss = ULDLoss(config)
    if hybrid:
        loss._vocab_mapping = {theirs: ours for ours, theirs in MATCHED}
        loss._student_matched_ids, loss._teacher_matched_ids = {a for a, _ in MATCHED}, {b for _, b in MATCHED}
        loss.mapping_tensor = torch.full((max(loss._vocab_mapping) + 1,), -1)
        for theirs, ours in loss._vocab_mapping.items():
            loss.mapping_tensor[theirs] = ours
    ids = torch.zeros(ROWS, LENGTH, dtype=torch.long)
    return loss(logits(2, OURS), logits(3, THEIRS), ids, ids, ids, ids).item()


def byte_ends(tokenizer: Tokenizer, text: str) -> list[tuple[int, int]]:
    """Where every token begins and ends in the text's bytes."""
    before = np.cumsum([0, *(len(letter.encode()) for letter in text)])
    spans = tokenizer.engine.encode(text, add_special_tokens=False).offsets
    return [(int(before[a]), int(before[b])) for a, b in spans]


def groups(folder: Path) -> list[list[int]]:
    """The last tokens, student's and teacher's, of TRL's groups, in ASCII text."""
    text = "".join(letter for letter in held_out_text() if letter.isascii())[:CHARACTERS]
    ours, theirs = ULDLoss._align_by_byte_offsets(
        byte_ends(Tokenizer(checkpoint_path()), text), byte_ends(Tokenizer(write_tokenizer(folder)), text)
    )
    return [[a[-1], b[-1]] for a, b in zip(ours, theirs, strict=True) if a and b]


def main() -> None:
    """Write the file."""
    found = {
        "trl": trl.__version__,
        "jensen_shannon": jensen_shannon(),
        "uld": [{"temperature": t, "loss": across(False, t, 0.5)} for t in TEMPERATURES],
        "gold": [{"temperature": t, "beta": beta, "loss": across(True, t, beta)} for t in TEMPERATURES for beta in (0.2, 0.5)],
        "groups": groups(ROOT / "build/other_tokenizer"),
    }
    OUT.write_text(json.dumps(found) + "\n", encoding="utf-8")
    print(f"{OUT}: {len(found['groups'])} groups")


if __name__ == "__main__":
    main()
