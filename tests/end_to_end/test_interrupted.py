"""Commands that are killed, interrupted, or run out of disk or memory: what was good stays, the next run succeeds and leaves no litter."""

import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from interruptions import JOBS, SIGNALS, contents, environment, everything, forget, interrupt, prepare, stale
from small_disks import small_disk, small_memory

COMMAND = [sys.executable, "-c", "from firsttoken.cli import main; main()"]
MIB = 1 << 20
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("interrupted") / "work"
    folder.mkdir()
    prepare(folder, tiny_model)
    return folder


@pytest.fixture
def work(prepared, tmp_path):
    copy = shutil.copytree(prepared, tmp_path / "work")
    (copy / "recipe.toml").write_text((copy / "recipe.toml").read_text().replace(str(prepared), str(copy)))
    return copy


def run(work, name, **options):
    return subprocess.run([*COMMAND, *JOBS[name].arguments(work)], capture_output=True, text=True, env=environment(work), **options)


@pytest.mark.parametrize("name", ["export tflite", "distill", "distill generate", "evaluate", "bench"])
def test_interrupted_anywhere_nothing_is_lost_and_the_next_run_tidies_up(work, name):
    """Each signal once, at a moment of a seed; one run after them all."""
    job, dice = JOBS[name], random.Random(name)
    started = time.monotonic()
    assert run(work, name).returncode == 0
    seconds, good, names = time.monotonic() - started, contents(work / job.makes), everything(work)
    if not job.kept:
        forget(work, job)
    kept = 0
    for number in SIGNALS:
        process = subprocess.Popen(
            [*COMMAND, *job.arguments(work)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(work)
        )
        time.sleep(dice.uniform(0.3, 0.7) * seconds)
        interrupt(process.pid, number)
        code, said = process.wait(60), process.stderr.read()
        assert code in (0, 128 + number), said
        assert "Traceback" not in said and (said.count("error: ") == (code == 137)), said
        if code == 0 and not job.kept:  # it was faster than the first time
            forget(work, job)
            kept = 0
        if job.kept:
            assert contents(work / job.makes) == good
        if job.file and (work / job.file).exists():
            lines = (work / job.file).read_text().count("\n")
            assert lines >= kept
            kept = lines
    done = run(work, name)
    assert done.returncode == 0, done.stderr
    assert everything(work) == names and stale(work) == []
    if name != "bench":  # which measures
        assert contents(work / job.makes).keys() == good.keys()


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); from firsttoken.cli import main; main()"


@pytest.mark.parametrize("name", ["export tflite", "distill", "distill generate", "evaluate", "bench"])
def test_files_that_may_not_grow_are_one_line_and_no_loss(work, name):
    """A limit of the kernel, for where no small disk can be mounted."""
    command = [sys.executable, "-c", LIMITED.format(size=400), *JOBS[name].arguments(work)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(work))
    *notes, line = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: ") and all(note.startswith("note: ") for note in notes), done.stderr
    again = run(work, name)
    assert again.returncode == 0 and stale(work) == [], again.stderr


@pytest.mark.parametrize("name", ["export tflite", "distill"])
def test_a_full_disk_is_one_line_and_the_next_run_with_room_succeeds(work, tmp_path, name):
    with small_disk(tmp_path / "disk", 256 << 10) as disk:
        arguments = [argument.replace(f"{work}/out", f"{disk}/out").replace(f"{work}/student", f"{disk}/student") for argument in JOBS[name].arguments(work)]  # fmt: skip
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env=environment(work))
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr
        assert not list(disk.glob("out/*")) and not (disk / "student").exists()
        subprocess.run(["mount", "-o", f"remount,size={64 * MIB}", disk], check=True)
        again = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env=environment(work))
        assert again.returncode == 0, again.stderr
        assert not [path for path in disk.rglob("*") if path.name.startswith(".") or path.suffix in (".partial", ".work")]


def test_a_killed_export_for_want_of_memory_is_told_and_loses_nothing(work):
    """A control group with less memory than the libraries take."""
    name = "export executorch"
    assert run(work, "export tflite").returncode == 0
    good = contents(work / "out/tflite-xnnpack")
    with small_memory(f"firsttoken-test-{work.parent.name[-12:]}", 150 * MIB) as group:
        command = ["bash", "-c", f'echo $$ > {group}; exec "$@"', "bash", *COMMAND, *JOBS[name].arguments(work)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(work))
    assert done.returncode == 128 + signal.SIGKILL, done.stderr
    assert done.stderr.count("\n") == 1 and "most likely because memory ran out" in done.stderr
    assert contents(work / "out/tflite-xnnpack") == good
    assert run(work, "export tflite").returncode == 0  # which tidies up
    assert [path.name for path in (work / "out").iterdir()] == ["tflite-xnnpack"]


@pytest.mark.parametrize("name", ["prove", "distill", "distill generate", "evaluate", "bench"])
def test_a_command_without_memory_is_told_and_the_next_run_succeeds(work, name):
    """Killed by the system, or refused before it: one line either way."""
    before = contents(work / "bundle")
    with small_memory(f"firsttoken-test-{work.parent.name[-12:]}", 64 * MIB) as group:
        command = ["bash", "-c", f'echo $$ > {group}; exec "$@"', "bash", *COMMAND, *JOBS[name].arguments(work)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(work))
    assert done.returncode in (2, 128 + signal.SIGKILL), done.stderr
    assert done.stderr.count("error: ") == 1 and "memory" in done.stderr and "Traceback" not in done.stderr, done.stderr
    again = run(work, name)
    assert again.returncode == 0 and stale(work) == [], again.stderr
    assert contents(work / "bundle") == before
