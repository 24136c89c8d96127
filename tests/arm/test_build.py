"""Programs are built when needed, once for each source, and the counter reads qemu's log right."""

import os
import shutil
import subprocess
import threading

import pytest

from firsttoken.arm import build
from firsttoken.arm.folder import FOLDER_VARIABLE
from firsttoken.errors import FirstTokenError

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler on this machine: install gcc")


@pytest.fixture
def counter(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "machine"))
    return build.log_counter()


def count(counter, tmp_path, log: str) -> list[str]:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(log,))
    writer.start()
    done = subprocess.run([counter, pipe], capture_output=True, text=True, check=True)
    writer.join()
    return done.stdout.splitlines()


def block(pc: int, *words: int) -> str:
    return (
        "----------------\nIN: \n"
        + "".join(f"0x{pc + 4 * n:012x}:  {word:08x}  .byte    0x41, 0x7c\n" for n, word in enumerate(words))
        + "\n"
    )


def ran(host: int, pc: int) -> str:
    return f"Trace 0: 0x{host:x} [00000000/{pc:016x}/00000111/ff200000] \n"


MARK = "4242 getppid() = 4241\n"


def test_a_program_is_built_once_and_anew_for_another_source(counter, monkeypatch, tmp_path):
    assert build.log_counter() == counter and os.access(counter, os.X_OK)
    changed = tmp_path / "sources"
    changed.mkdir()
    (changed / "count_log.c").write_text("int main(void) { return 0; }")
    monkeypatch.setattr(build, "__file__", str(changed / "build.py"))
    assert build.log_counter() != counter
    assert [path.name for path in counter.parent.iterdir() if path.name.startswith(".")] == []


def test_what_the_compiler_complains_of_is_the_error(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "machine"))
    (tmp_path / "count_log.c").write_text("int main(void) { return nothing; }")
    monkeypatch.setattr(build, "__file__", str(tmp_path / "build.py"))
    with pytest.raises(FirstTokenError, match="count_log.c: cannot be compiled .*nothing"):
        build.log_counter()
    assert [path.name for path in (tmp_path / "machine" / "built").iterdir()] == []


def test_executions_are_counted_in_the_region_they_are_in(counter, tmp_path):
    log = block(0x1000, 0xAA, 0xBB) + ran(0x9000, 0x1000) + ran(0x9000, 0x1000)
    log += MARK + ran(0x9000, 0x1000) + block(0x2000, 0xCC) + ran(0x9100, 0x2000) + ran(0x9100, 0x2000) + ran(0x9000, 0x1000)
    log += MARK + ran(0x9100, 0x2000)
    lines = count(counter, tmp_path, log)
    regions = sorted(line for line in lines if line.startswith("region"))
    assert regions == [
        "region 0 000000aa 2",
        "region 0 000000bb 2",
        "region 1 000000aa 2",
        "region 1 000000bb 2",
        "region 1 000000cc 2",
        "region 2 000000cc 1",
    ]
    assert [line for line in lines if line.startswith("blocks")] == ["blocks 0 2 0", "blocks 1 4 0", "blocks 2 1 0"]
    assert sorted(line for line in lines if line.startswith("translated")) == [
        "translated 000000aa 1",
        "translated 000000bb 1",
        "translated 000000cc 1",
    ]


def test_a_block_translated_anew_at_an_old_place_counts_as_the_new_one(counter, tmp_path):
    log = MARK + block(0x1000, 0xAA) + ran(0x9000, 0x1000) + block(0x3000, 0xDD, 0xDD) + ran(0x9000, 0x3000) + ran(0x9000, 0x3000)
    regions = sorted(line for line in count(counter, tmp_path, log) if line.startswith("region"))
    assert regions == ["region 1 000000aa 1", "region 1 000000dd 4"]


def test_another_threads_line_between_translation_and_execution_hides_nothing(counter, tmp_path):
    log = block(0x1000, 0xAA) + block(0x2000, 0xBB) + ran(0x9100, 0x2000) + ran(0x9000, 0x1000) + ran(0x9000, 0x1000)
    lines = count(counter, tmp_path, log)
    assert sorted(line for line in lines if line.startswith("region")) == ["region 0 000000aa 2", "region 0 000000bb 1"]
    assert [line for line in lines if line.startswith("blocks")] == ["blocks 0 3 0"]


def test_blocks_that_the_log_does_not_tell_are_counted_as_unknown(counter, tmp_path):
    # 0x7000 was never told; at 0x9000 something else runs later that was not told either
    log = block(0x1000, 0xAA) + ran(0x8000, 0x7000) + ran(0x9000, 0x1000) + ran(0x9000, 0x1000) + ran(0x9000, 0x6000)
    assert [line for line in count(counter, tmp_path, log) if line.startswith("blocks")] == ["blocks 0 2 2"]


def test_a_log_that_is_not_there_is_an_error(counter, tmp_path):
    assert subprocess.run([counter, tmp_path / "nothing"], capture_output=True).returncode == 1
