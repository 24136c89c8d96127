"""Setting up the emulated machine: part by part, complete or not at all, nothing the second time."""

import os
import shutil
import subprocess
import sys

import pytest

from firsttoken.arm import debian, setup, wheels
from firsttoken.arm.folder import FOLDER_VARIABLE, PARTS, missing_parts
from firsttoken.errors import FirstTokenError
from firsttoken.setup_folder import STAMP


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Returns a function that makes a `Setup` whose parts are written here instead of fetched; ``made.built`` lists them."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "machine"))
    monkeypatch.setattr(debian, "obstacles", list)
    monkeypatch.setattr(wheels, "obstacles", list)

    def new(fail_at: str | None = None, said=None):
        one = setup.Setup(say=(said if said is not None else []).append)
        for name, recipe in one.recipes.items():

            def build(part, downloads, name=name):
                (part / "file").write_text("whole")
                if name == fail_at:
                    raise KeyboardInterrupt
                new.built.append(name)

            one.recipes[name] = setup.PartRecipe(recipe.packages, build, recipe.megabytes)
        return one

    new.built = []
    return new


def test_every_part_has_a_recipe(made):
    assert list(made().recipes) == list(PARTS)


def test_all_parts_then_nothing(made, tmp_path):
    said = []
    made(said=said).run()
    assert made.built == list(PARTS) and missing_parts() == []
    assert "MB of disk" in said[0] and said[-1].endswith(f"delete {tmp_path / 'machine'} to undo it")
    again = []
    made(said=again).run()
    assert made.built == list(PARTS) and again == []


def test_an_interrupted_run_is_continued_and_leaves_no_half_part(made, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        made(fail_at="litert").run()
    finished = made.built.copy()
    assert missing_parts() == [name for name in PARTS if name not in finished]
    left = sorted(path.name for path in (tmp_path / "machine").iterdir())
    assert left == sorted([".lock", *finished])
    made().run()
    assert made.built == list(PARTS) and missing_parts() == []


def test_what_a_killed_run_left_is_removed(made, tmp_path):
    litter = tmp_path / "machine" / ".building-dead"
    litter.mkdir(parents=True)
    made().run()
    assert not litter.exists()


def test_a_part_made_from_another_version_is_made_again(made, tmp_path):
    made().run()
    stamp = tmp_path / "machine" / "executorch" / STAMP
    stamp.write_text("executorch==1.4.0\n")
    made.built.clear()
    made().run()
    assert made.built == ["executorch"] and "1.4.0" not in stamp.read_text()


def test_what_is_lacking_is_told_before_any_work(made, monkeypatch):
    monkeypatch.setattr(debian, "obstacles", lambda: ["apt-get is not installed"])
    with pytest.raises(FirstTokenError, match="cannot be set up here: apt-get is not installed .it needs a Debian system"):
        made().run()
    monkeypatch.setattr(debian, "obstacles", list)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 5_000_000))
    with pytest.raises(FirstTokenError, match=rf"5 MB free, about .* MB are needed.*{FOLDER_VARIABLE}"):
        made().run()
    assert made.built == []


def test_versions_are_those_of_this_environment(made):
    from importlib.metadata import version

    recipes = made().recipes
    assert recipes["litert"].packages == (f"ai-edge-litert=={version('ai-edge-litert')}",)
    assert recipes["executorch"].packages == (f"executorch=={version('executorch')}",)


def test_the_command_is_one_line_on_errors(tmp_path):
    environment = {**os.environ, FOLDER_VARIABLE: str(tmp_path / "machine"), "PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "firsttoken.arm.setup"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "apt-get is not installed" in done.stderr
    assert not (tmp_path / "machine").exists()


def test_a_complete_machine_needs_nothing_to_say_so(emulated_arm, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "firsttoken.arm.setup"], env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
