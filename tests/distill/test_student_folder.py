"""A student's folder and a run's own folder are replaced only where all in them was written by `firsttoken distill`."""

import json

import pytest

from firsttoken.distill.student_folder import check_student_destination, files_in
from firsttoken.distill.work_folder import open_work, remove_work
from firsttoken.errors import FirstTokenError


@pytest.fixture
def student(tmp_path):
    folder = tmp_path / "student"
    (folder / "float").mkdir(parents=True)
    for name in ("config.json", "float/config.json"):
        (folder / name).write_text("{}")
    (folder / "distillation.json").write_text(json.dumps({"files": [*files_in(folder), "distillation.json"]}))
    return folder


def test_a_student_is_replaced_by_force_only(student):
    check_student_destination(student, force=True)
    with pytest.raises(FirstTokenError, match="exists; replace it with --force"):
        check_student_destination(student, force=False)
    check_student_destination(student.with_name("new"), force=False)
    student.with_name("empty").mkdir()
    check_student_destination(student.with_name("empty"), force=True)


@pytest.mark.parametrize("name", ["notes.txt", "float/notes.txt", "mine/"])
def test_what_someone_put_into_it_protects_it(student, name):
    if name.endswith("/"):
        (student / name).mkdir()
    else:
        (student / name).write_text("mine")
    with pytest.raises(FirstTokenError, match=f"holds '{name.rstrip('/')}', which `firsttoken distill` did not write"):
        check_student_destination(student, force=True)


def test_other_folders_files_and_links_are_not_students(student, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(student)
    for name, message in (("thesis", "not a student"), ("file", "a file or a link"), ("link", "a file or a link")):
        with pytest.raises(FirstTokenError, match=message):
            check_student_destination(tmp_path / name, force=True)
    (student / "distillation.json").write_text("{}")
    with pytest.raises(FirstTokenError, match="names no files"):
        check_student_destination(student, force=True)


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_of_the_name_of_a_runs_is_not_taken(tmp_path, restart):
    work = tmp_path / "student.work"
    work.mkdir()
    (work / "notes.txt").write_text("mine")
    with pytest.raises(FirstTokenError, match=r"holds 'notes.txt', which is not a run's; move it away"):
        open_work(work, {}, restart)
    assert (work / "notes.txt").read_text() == "mine"


def test_what_a_kill_left_of_a_runs_start_is_taken_over(tmp_path):
    import os

    work = tmp_path / "student.work"
    work.mkdir()
    (work / ".identity.json.12-abc_1.partial").write_text("{")
    (work / "stage-0").mkdir()
    os.close(open_work(work, {"a": 1}, restart=False))
    os.close(open_work(work, {"a": 2}, restart=True))
    assert json.loads((work / "identity.json").read_text()) == {"a": 2} and not (work / "stage-0").exists()


def test_a_finished_run_leaves_what_is_not_its_own(tmp_path):
    work, said = tmp_path / "student.work", []
    (work / "stage-0").mkdir(parents=True)
    (work / "notes.txt").write_text("mine")
    remove_work(work, said.append)
    assert [path.name for path in work.iterdir()] == ["notes.txt"] and "stays" in said[0]
    (work / "notes.txt").unlink()
    remove_work(work, said.append)
    assert not work.exists() and len(said) == 1
