"""Pages that the system has to clear for blocks that are freed and taken again: none within, many without, and all memory back afterwards."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource
from firsttoken.distill.kept_memory import OWN_CHOICE, kept_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        block = b"x" * (48 << 20)
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

without = faults()
start = resident()
with kept_memory() as kept:
    faults()
    within, held = faults(), resident()
print(json.dumps({"kept": kept, "without": without, "within": within, "held": held - start, "after": resident() - start}))
"""


def measured(**variables):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"))}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env={**clean, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other C libraries")
def test_blocks_are_taken_again_without_a_fault_and_given_back_at_the_end():
    found = measured()
    if not found["kept"]:
        pytest.skip("NOT TESTED, memory that a training keeps: this C library has no mallopt")
    pages = 20 * (48 << 20) // 4096
    assert found["without"] > pages / 600 and found["within"] < found["without"] / 10  # pages may be large ones, of 2 MB
    assert found["held"] > 40 << 20 and found["after"] < 8 << 20


def test_whoever_chose_how_memory_is_kept_is_left_alone():
    assert measured(MALLOC_ARENA_MAX="2")["kept"] is False
