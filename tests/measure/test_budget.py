import pytest
from measurement_fixtures import values

from firsttoken.errors import FirstTokenError
from firsttoken.measure.bench import BenchSettings
from firsttoken.measure.budget import Budget, Budgets, check_budget, load_budget
from firsttoken.measure.measurement import parse_measurement


def measurement(times=(40, 50, 60), proof=True, peak=100 << 20):
    made = values()
    result = made["results"][0]
    [run] = result["runs"]
    result["runs"] = [
        run
        | {
            "stages": {"tokenize": 0, "prefill": ms * 10**6, "sample": 0, "detokenize": 0},
            "decode": {"tokens": 10, "nanoseconds": 10**9},
            "peak_memory_bytes": peak,
        }
        for ms in times
    ]
    if proof:
        result["bundle"]["proof"] = {"mean_kld": 0.01, "p99_kld": 0.1, "same_top": 0.95, "passed": True}
    return parse_measurement(made, "x")


def verdicts(measured, **limits):
    return check_budget(Budgets(budget=(Budget(prompt_tokens=8, **limits),)), measured)


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({"first_token_ms": 50}, True),
        ({"first_token_ms": 49.9}, False),
        ({"decode_tokens_per_second": 10}, True),
        ({"decode_tokens_per_second": 10.1}, False),
        ({"peak_memory_mib": 100}, True),
        ({"peak_memory_mib": 99}, False),
        ({"artifact_mib": 1e-5}, True),
        ({"artifact_mib": 9e-6}, False),
        ({"mean_kld": 0.01}, True),
        ({"mean_kld": 0.009}, False),
        ({"same_top": 0.95}, True),
        ({"same_top": 0.951}, False),
    ],
)
def test_each_limit_holds_at_its_bound(limits, kept):
    [verdict] = verdicts(measurement(), **limits)
    assert verdict.kept is kept and verdict.line.startswith("kept" if kept else "missed")


def test_the_line_says_figure_and_limit():
    [verdict] = verdicts(measurement(), first_token_ms=45)
    assert verdict.line == "missed  b: first_token_ms at 8 tokens, warm: 50 (median of 3, 40 to 60), at most 45"


def test_what_was_not_measured_is_missed():
    [verdict] = verdicts(measurement(times=()), first_token_ms=45)
    assert not verdict.kept and "not measured" in verdict.line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "budget is missing"),
        ("[[budget]]\nfirst_token_ms = 3\n", "prompt_tokens is missing"),
        ("[[budget]]\nbundle = 'x'\n", "no limit is given"),
        ("[[budget]]\nfirst_tokn_ms = 3\n", "not a known field"),
        ("[[budget]]\nprompt_tokens = 4\nfirst_token_ms = -1\n", "greater than 0"),
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
        ({"prompt_tokens": 8, "decode_tokens_per_second": 1}, BenchSettings((8,), decode_tokens=0), "no token is decoded"),
        ({"mean_kld": 1}, BenchSettings((8,)), "has no proof"),
    ],
)
def test_limits_that_the_bench_would_not_answer(limits, settings, said):
    with pytest.raises(FirstTokenError, match=said):
        Budgets(budget=(Budget(**limits),)).check_answerable([measurement(proof=False).results[0].bundle], settings)


def test_the_written_example_is_a_budget(tmp_path):
    from firsttoken.measure import budget

    text = "\n".join(line.strip() for line in budget.__doc__.split("::")[1].splitlines())
    (tmp_path / "b.toml").write_text(text)
    assert len(load_budget(tmp_path / "b.toml").budgets[0].limits) == 6
