"""The README's table of families says what the tests run."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_table_is_of_now():
    done = subprocess.run([sys.executable, ROOT / "scripts" / "families_table.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
