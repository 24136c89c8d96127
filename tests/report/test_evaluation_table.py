"""Scores as a table: a row a model, and of many figures a row a figure."""

from firsttoken.evaluate.evaluate import Score
from firsttoken.report.evaluation_table import cells, markdown_text

FEW = {
    "teacher": [Score("text", "perplexity", 10.0, 99), Score("maths", "exact match", 0.5, 4, 0.15, 0.85)],
    "student": [Score("text", "perplexity", 12.0, 99), Score("text", "KLD", 0.4, 99), Score("maths", "exact match", 0.25, 4, 0.05, 0.7)],
}


def test_changes_are_against_the_first_model_and_a_tasks_figures_stay_together():
    header, rows = cells(FEW)
    assert header == ["", "text: perplexity", "text: KLD", "maths: exact match"]
    assert rows[0] == ("teacher", "10.000", "", "50.0 % (15-85)")
    assert rows[1] == ("student", "12.000 +20.00%", "0.4", "25.0 % -25.0 (5-70)")


def test_many_figures_get_a_row_each():
    more = [Score("code", "pass@1", 0.0, 2, 0.0, 0.6), Score("choice", "right", 1.0, 2, 0.3, 1.0)]
    header, rows = cells({name: each + more for name, each in FEW.items()})
    assert header == ["", "teacher", "student"]
    assert [row[0] for row in rows] == ["text: perplexity", "text: KLD", "maths: exact match", "code: pass@1", "choice: right"]
    assert rows[0] == ("text: perplexity", "10.000", "12.000 +20.00%") and len(markdown_text(FEW).splitlines()) == 4
