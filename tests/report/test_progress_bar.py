"""The bar on a real terminal (a pseudo one), and its silence elsewhere."""

import os
import pty
import re
import subprocess
import sys

from firsttoken.progress import silent
from firsttoken.report.progress_bar import progress_bar

PROGRAM = """
import time
from firsttoken.report import progress_bar as module
with module.progress_bar() as report:
    for stage, total, unit in (("a: write", 30_000_000, "B"), ("b: proof", 20, "positions")):
        for step in range(20):
            report(stage, total * step / 20, total, unit)
            time.sleep({pause})
        report(stage, total, total, unit)
print("done")
"""


def on_a_terminal(pause: float) -> str:
    """What a terminal is sent, without the control sequences."""
    main, other = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(pause=pause)], stdout=other, stderr=other, close_fds=True)
    os.close(other)
    seen = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(main)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())


def test_stage_share_and_rate_are_shown():
    seen = on_a_terminal(0.12)
    assert "a: write" in seen and "b: proof" in seen
    assert re.search(r"\d+ of 30 MB, \d+ MB/s", seen) and re.search(r"of 20 positions, [\d.]+ positions/s", seen)
    assert "%" in seen and seen.rstrip().endswith("done")


def test_short_work_shows_no_bar():
    assert on_a_terminal(0.001).strip() == "done"


def test_nothing_without_a_terminal(capsys):
    with progress_bar() as report:
        assert report is silent
