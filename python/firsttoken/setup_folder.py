"""Folders that a set-up script fills without root rights: in the cache folder or where a variable says, one run at a time, a part whole or not at all."""

import argparse
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from firsttoken.cache_folder import cache_folder
from firsttoken.errors import FirstTokenError

STAMP = ".complete"  # written last into a part; its text is what the part was made from


def folder_of(variable: str, name: str, purpose: str) -> Path:
    """Returns ``$variable``, else ``name`` in firsttoken's cache folder, whether it exists or not. Raises `FirstTokenError` if there can be none."""
    if chosen := os.environ.get(variable):
        return Path(chosen).absolute()
    folder = cache_folder()
    if folder is None:
        raise FirstTokenError(f"no cache folder can be written; name a folder for {purpose} in {variable}")
    return folder / name


def command_of(script: str, module: str) -> str:
    """The command that sets it up: the repository's script where there is one, else the installed package's module."""
    path = Path(__file__).resolve().parents[2] / "scripts" / script
    if not path.is_file():
        return f"python -m {module}"
    return f"scripts/{script}" if Path.cwd() == path.parents[1] else str(path)


def need_room(folder: Path, needed: int, variable: str) -> None:
    """Raises `FirstTokenError` where ``folder``'s disk has less than ``needed`` bytes free."""
    place = next(above for above in (folder, *folder.parents) if above.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise FirstTokenError(
            f"{place}: {free / 1e6:.0f} MB free, about {needed / 1e6:.0f} MB are needed while setting up; "
            f"free some space, or name another folder in {variable}"
        )


@contextmanager
def building_in(folder: Path) -> Iterator[Path]:
    """A scratch folder inside ``folder``, while no other run has one; what an interrupted run left is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # two runs at once take turns
        for abandoned in folder.glob(".building-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=folder) as scratch:
            yield Path(scratch)


def put_in_place(built: Path, place: Path, stamp: str) -> None:
    """Marks a part as complete and moves it to ``place``, in the stead of an older one."""
    (built / STAMP).write_text(stamp, encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    built.rename(place)


def run_script(arguments: list[str] | None, program: str, description: str, epilog: str, work: Callable[[str | None], None]) -> int:
    """Runs ``work`` with the archive of ``--mirror``. Returns 0, or 2 after an error in one line on standard error."""
    parser = argparse.ArgumentParser(prog=program, description=description, epilog=epilog)
    parser.add_argument("--mirror", metavar="ADDRESS", help="Debian archive to fetch from (default: the one in this machine's apt sources)")
    options = parser.parse_args(arguments)
    try:
        work(options.mirror)
    except (FirstTokenError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
