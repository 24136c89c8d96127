"""Ctrl-C: what is kept is said by the verbs that go on from it, once, and by no others."""

import pytest

from firsttoken import cli, pipeline
from firsttoken.demo import checkpoint_path
from firsttoken.search import sensitivity
from firsttoken.search import smooth as smoothing


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("verb", ["sensitivity", "search"])
def test_the_measuring_verbs_say_that_they_go_on(monkeypatch, capsys, tmp_path, verb):
    monkeypatch.setattr(sensitivity, "measured_damages", interrupted)
    monkeypatch.setattr(smoothing, "choose", interrupted)
    more = ["--max-size", "3MiB", "-o", str(tmp_path / "plan.toml")] if verb == "search" else []
    assert cli.run(["plan", verb, str(checkpoint_path()), *more]) == 130
    said = capsys.readouterr().err
    assert said == "interrupted; damages measured so far are kept: give the same command again, it goes on from there\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("int4-gptq", "interrupted; integers chosen so far are kept: give the same command again, it goes on from there\n"),
        ("int8", ""),
        ("nonsense", ""),
    ],
)
def test_an_export_says_it_where_integers_are_chosen(monkeypatch, capsys, tmp_path, plan, said):
    monkeypatch.setattr(pipeline, "export", interrupted)
    assert cli.run(["export", str(checkpoint_path()), "--plan", plan, "-o", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == said
