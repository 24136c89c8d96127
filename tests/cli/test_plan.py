"""``firsttoken plan`` and the lists beside it: what is refused before the work, and help that shows how."""

import pytest

from firsttoken import cli
from firsttoken.demo import checkpoint_path


@pytest.mark.parametrize("verb", ["sensitivity", "ranges"])
def test_a_page_is_no_text_file(capsys, tmp_path, verb):
    page = tmp_path / "found.txt"
    assert cli.run(["plan", verb, str(checkpoint_path()), "-o", str(page)]) == 2
    assert capsys.readouterr().err == f"error: output {page}: a page's file ends in .html; --json prints the figures\n"
    assert not page.exists()


@pytest.mark.parametrize("verb", ["plan", "plans", "targets"])
def test_the_help_has_examples(capsys, verb):
    assert cli.run([verb, "--help"]) == 0
    examples = capsys.readouterr().out.partition("Examples:")[2].split("Options:")[0].strip().splitlines()
    assert len(examples) == 3 and all(line.strip().startswith("firsttoken ") for line in examples)
