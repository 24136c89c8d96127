"""Commands that are interrupted at chosen moments, and what must hold afterwards: nothing lost, no litter, work goes on.

``python interruptions.py FOLDER MOMENTS [JOB…]`` interrupts each command at that many random moments with each signal, in
processes forked from one that has the libraries loaded, and prints a line for each; test_interrupted.py does a few.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
RECIPE = """summary = "test"
seed = 3
[[teacher]]
checkpoint = "{tiny}"
[student.cut]
layers = 1
intermediate_size = 48
[data]
held_out = ["{texts}/held_out.md"]
length = 32
held_out_windows = 4
[[data.train]]
files = ["{texts}/part.txt"]
[[loss]]
kind = "forward_kl"
[training]
steps = 12
batch = 4
evaluate_every = 3
"""


@dataclass(frozen=True)
class Job:
    """A command in a folder, what it makes there, and whether an older result stands until the new one is complete."""

    arguments: Callable[[Path], list[str]]
    makes: str
    kept: bool = False
    resumes: str = ""  # what the next run says or the file that grows
    file: str = ""


JOBS = {
    "export tflite": Job(lambda w: ["export", f"{w}/tiny", "-o", f"{w}/out", "--no-prove", "--force"], "out/tflite-xnnpack", True),
    "export executorch": Job(
        lambda w: ["export", f"{w}/tiny", "-o", f"{w}/out", "--no-prove", "--force", "-t", "executorch-xnnpack"], "out/executorch-xnnpack", True
    ),
    "prove": Job(lambda w: ["prove", f"{w}/bundle", "-c", f"{w}/tiny", "--held-out", f"{w}/texts/proof.txt"], "bundle", True),
    "distill": Job(lambda w: ["distill", f"{w}/recipe.toml", "-o", f"{w}/student"], "student", False, "going on from step"),
    "distill generate": Job(
        lambda w: ["distill", "generate", f"{w}/tiny", f"{w}/prompts.jsonl", "-o", f"{w}/answers.jsonl", "-n", "40"], "answers.jsonl", False, "", "answers.jsonl"
    ),
    "evaluate": Job(
        lambda w: ["evaluate", f"{w}/bundle", "-t", f"maths={w}/maths.jsonl", "--raw", "-n", "40", "--answers", f"{w}/kept.jsonl", "-o", f"{w}/scores.json"],
        "scores.json", False, "", "kept.jsonl",
    ),
    "bench": Job(lambda w: ["bench", f"{w}/bundle", "--prompts", "16,64", "--repeat", "4", "--processes", "1", "-o", f"{w}/host.json"], "host.json"),
}  # fmt: skip


def prepare(work: Path, tiny: Path) -> None:
    """Puts into ``work`` what the commands read."""
    from firsttoken.demo import held_out_text
    from firsttoken.pipeline import export

    text = held_out_text()
    shutil.copytree(tiny, work / "tiny")
    (work / "texts").mkdir()
    for name, part in (("part.txt", text[:6000]), ("held_out.md", text[20_000:24_000]), ("proof.txt", text[30_000:60_000])):
        (work / "texts" / name).write_text(part, encoding="utf-8")
    (work / "recipe.toml").write_text(RECIPE.format(tiny=work / "tiny", texts=work / "texts"))
    (work / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"What is {n}?"}) + "\n" for n in range(12)))
    (work / "maths.jsonl").write_text("".join(json.dumps({"question": f"What is {n} + {n}?", "answer": f"#### {n + n}"}) + "\n" for n in range(12)))  # fmt: skip
    [bundle] = export(work / "tiny", work / "first", prove=False)
    shutil.copytree(bundle, work / "bundle")
    shutil.rmtree(work / "first")
    (work / "tmp").mkdir()


def environment(work: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(work / "cache"), "TMPDIR": str(work / "tmp"), "OMP_NUM_THREADS": "1"}


def contents(path: Path) -> dict[str, str]:
    """SHA-256 of a file, or of every file of a folder but what is not the same twice."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def everything(work: Path) -> set[str]:
    """Names of all files and folders but those of the cache that count uses."""
    return {
        str(path.relative_to(work)) for path in work.rglob("*") if not str(path.relative_to(work)).startswith("cache/firsttoken/verified")
    }


def stale(work: Path) -> list[str]:
    """Half-made files in the cache."""
    return [str(path) for path in (work / "cache").rglob("*") if path.suffix in (".partial", ".new")]


class Forked:
    """A command in a fork of this process, which has loaded the libraries."""

    def __init__(self, work: Path, arguments: list[str]) -> None:
        self.out, self.err = work.parent / "said.out", work.parent / "said.err"
        self.started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            os.environ.update(environment(work))
            import tempfile

            tempfile.tempdir = None
            for number, path in ((1, self.out), (2, self.err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            from firsttoken import cli

            code = 1
            try:
                cli.main(arguments)
            except SystemExit as left:
                code = left.code or 0
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def wait(self) -> tuple[int, float, str]:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return code, time.monotonic() - self.started, self.err.read_text() + self.out.read_text()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def interrupt(pid: int, number: int) -> None:
    """SIGKILL ends the process that works, as the kernel does when memory runs out; the others are sent to the command, as a user does."""
    with suppress(OSError, IndexError):  # it has ended already
        os.kill(children(pid)[0] if number == signal.SIGKILL and children(pid) else pid, number)


def forget(work: Path, job: Job) -> None:
    """Removes what a command made, so that it has to make it again."""
    for made in filter(None, (job.makes, job.file)):
        path = work / made
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def matrix(folder: Path, moments: int, names: list[str]) -> None:
    import firsttoken.cli
    import firsttoken.distill.distill
    import firsttoken.evaluate.evaluate
    import firsttoken.measure.bench
    import firsttoken.pipeline  # noqa: F401
    from firsttoken.backends.executorch.runner import import_runtime

    import_runtime()
    import transformers.trainer  # noqa: F401

    dice = random.Random(20261129)
    work = folder / "work"
    for name in names or JOBS:
        job = JOBS[name]
        shutil.copytree(folder / "prepared", work)
        (work / "recipe.toml").write_text((work / "recipe.toml").read_text().replace(str(folder / "prepared"), str(work)))
        code, seconds, said = Forked(work, job.arguments(work)).wait()
        assert code in (0, 3), (name, code, said)
        good, names_after = contents(work / job.makes), everything(work)
        for number in SIGNALS:
            if not job.kept:
                forget(work, job)
            told = hit = grown = lost = 0
            before = 0
            for _ in range(moments):
                running = Forked(work, job.arguments(work))
                time.sleep(dice.uniform(0.02, 0.7 * seconds))
                interrupt(running.pid, number)
                code, _, said = running.wait()
                hit += code == 128 + number
                told += number == signal.SIGKILL and code == 137 and said.count("error: ") == 1 and "memory ran out" in said
                if job.kept:
                    lost += (set(contents(work / job.makes)) != set(good) and 1) or 0
                if job.file and (work / job.file).exists():
                    lines = (work / job.file).read_text().count("\n")
                    lost += lines < before
                    before = lines
                grown += bool(job.resumes and job.resumes in said)
                if code == 0 and not job.kept:
                    forget(work, job)
                    before = 0
            code, again, said = Forked(work, job.arguments(work)).wait()
            litter = sorted(everything(work) - names_after) + stale(work)
            missing = sorted(names_after - everything(work))
            same = contents(work / job.makes) == good
            print(
                f"{name:18} {signal.Signals(number).name:8} {hit} of {moments} interrupted, {told} told, {lost} lost; next run: exit {code}, {again:.1f} of {seconds:.1f} s, "
                f"{'same' if same else 'other'} result, kept lines {before}, resumed {grown + (bool(job.resumes) and job.resumes in said)}; litter {litter[:4]} missing {missing[:3]}"
                + (f" SAID {said[-300:]}" if code not in (0, 3) else ""),
                flush=True,
            )
        shutil.rmtree(work)


if __name__ == "__main__":
    matrix(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
