import pytest
from budget_fixtures import measurement

from firsttoken.errors import FirstTokenError
from firsttoken.measure.bench import BenchSettings
from firsttoken.measure.budget import Budget, Budgets, load_budget


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "budget is missing"),
        ("[[budget]]\nfirst_token_ms = 3\n", "prompt_tokens is missing"),
        ("[[budget]]\nbundle = 'x'\n", "no limit is given"),
        ("[[budget]]\nfirst_tokn_ms = 3\n", "not a known field"),
        ("[[budget]]\nprompt_tokens = 4\nfirst_token_ms = -1\n", "greater than 0"),
        ("[[budget]]\nprompt_tokens = 4\nfirst_token_ms = inf\n", "finite"),
        ("[[budget]]\nprompt_tokens = 4\nload_ms = 4\n", 'add state = "cold"'),
        ("[[budget", "cannot be read as TOML"),
    ],
)
def test_bad_files(tmp_path, text, said):
    (tmp_path / "b.toml").write_text(text)
    with pytest.raises(FirstTokenError, match=said):
        load_budget(tmp_path / "b.toml")


@pytest.mark.parametrize(
    ("limits", "settings", "said"),
    [
        ({"bundle": "bb", "artifact_mib": 1}, BenchSettings((8,)), "matches none of the bundles b"),
        ({"prompt_tokens": 9, "first_token_ms": 1}, BenchSettings((8,)), "9 prompt tokens, which are not measured"),
        ({"prompt_tokens": 8, "first_token_ms": 1, "state": "cold"}, BenchSettings((8,)), "add --cold"),
        ({"peak_memory_mib": 1, "state": "cold"}, BenchSettings((8,)), "add --cold"),
        ({"prompt_tokens": 8, "decode_tokens_per_second": 1}, BenchSettings((8,), decode_tokens=0), "no token is decoded"),
        ({"prompt_tokens": 8, "decode_times": 1}, BenchSettings((8,), decode_tokens=0), "no token is decoded"),
        ({"mean_kld": 1}, BenchSettings((8,)), "has no proof"),
    ],
)
def test_limits_that_the_bench_would_not_answer(limits, settings, said):
    with pytest.raises(FirstTokenError, match=said):
        Budgets(budget=(Budget(**limits),)).check_answerable([measurement(proof=False).results[0].bundle], settings)


def test_the_written_example_is_a_budget(tmp_path):
    from firsttoken.measure import budget

    text = "\n".join(line.strip() for line in budget.__doc__.split("::")[1].splitlines())
    (tmp_path / "b.toml").write_text(text.replace('state = "warm"', 'state = "cold"'))  # load_ms is of cold runs
    assert len(load_budget(tmp_path / "b.toml").budgets[0].limits) == 10
