"""Prompts, and rounds of asking again that do not take seconds."""

import json
import sys
from pathlib import Path

import pytest

from firsttoken.distill.servers import pool

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(pool, "LONGEST_WAIT", 0.02)


@pytest.fixture
def prompts(tmp_path):
    """Returns a function that writes lines of prompts, by default five questions."""

    def write(lines: list | None = None) -> Path:
        path = tmp_path / "prompts.jsonl"
        made = lines or [{"prompt": f"question {n}"} for n in range(5)]
        path.write_text("".join(json.dumps(line) + "\n" for line in made), encoding="utf-8")
        return path

    return write
