"""Whether a process ends with the one that started it."""

import os
import subprocess
import sys
import time

import pytest

CHILD = "from firsttoken.parent_death import end_with_parent; end_with_parent({parent}); print('started', flush=True); import time; time.sleep(60)"
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1].replace("{parent}", str(os.getpid()))], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asked of Linux's kernel")


def lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_it_is_gone_when_its_parent_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert lives(child)
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not lives(child):
            return
        time.sleep(0.1)
    raise AssertionError("it outlived its parent by ten seconds")


def test_it_does_not_begin_where_its_parent_has_ended():
    done = subprocess.run([sys.executable, "-c", CHILD.format(parent=1 << 22)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
