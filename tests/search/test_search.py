"""A plan for a budget, from the command line to the exported and proven file; and budgets that cannot be kept."""

import json
import re

import pytest
from compressed_folders import compress_folder, scheme_of

from firsttoken.backends.registry import resolve
from firsttoken.bundle.manifest import read_manifest
from firsttoken.checkpoint import Checkpoint
from firsttoken.cli import run
from firsttoken.decoder.walk import open_decoder
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.quant.plan import load_plan
from firsttoken.search import search as searching
from firsttoken.search import smooth
from firsttoken.search.budget import Budget, misses, tighter
from firsttoken.search.choice import Bounds, Cost
from firsttoken.search.costs import Real, unrest
from firsttoken.search.search import opened, search
from firsttoken.targets.target import load_target

ASKED = ("fp16", "int8", "int4/32 gptq")


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def size_of(checkpoint, plan, folder):
    [bundle] = export(checkpoint, folder, plan, prove=False, force=True)
    manifest = read_manifest(bundle)
    return manifest.facts(manifest.cpu).bytes


def test_a_plan_within_a_size(tiny_model, tmp_path, capsys):
    small, large = size_of(tiny_model, "int8", tmp_path / "small"), size_of(tiny_model, "fp16", tmp_path / "large")
    most = (small + large) // 2
    plan = tmp_path / "plan.toml"
    flags = [flag for label in ASKED for flag in ("--precision", label)]
    assert run(["plan", "search", str(tiny_model), "-o", str(plan), "--tokens", "256", "--max-size", f"{most}B", "--json", *flags]) == 0, (
        capsys.readouterr().err
    )
    told = json.loads(capsys.readouterr().out)
    assert small * 0.9 < told["exported"]["bytes"] <= most
    assert told["predicted"]["bytes"] == pytest.approx(told["exported"]["bytes"], rel=0.01)
    chosen = load_plan(plan)
    precisions = resolve(chosen, open_decoder(Checkpoint(tiny_model)), load_target("tflite-xnnpack"))
    assert {"fp16", "int8"} <= set(precisions.values())
    [bundle] = export(tiny_model, tmp_path / "out", plan)  # its own gate, measured, passes
    manifest = read_manifest(bundle)
    assert manifest.facts(manifest.cpu).bytes == told["exported"]["bytes"]
    assert manifest.cpu.proof.all.mean_kld == pytest.approx(told["figures"]["mean_kld"], rel=1e-6)
    page = plan.with_suffix(".html").read_text()
    assert page.count("<svg") == 2 and "Quality by size" in page and 'match = "*"' not in page.replace("&quot;", "'")
    assert not re.search(r'(?:src|href)="(?!#)', page)  # it needs nothing else
    assert run(["plan", "search", str(tiny_model), "-o", str(plan), "--max-size", "1MiB"]) == 2
    assert f"output {plan}: exists; give another name, or --force" in capsys.readouterr().err


def test_the_smallest_plan_within_a_damage(tiny_model, tmp_path):
    with opened(tiny_model, "tflite-xnnpack", None, None, None, 256, lambda *_: None) as subject:
        loose = search(subject, Budget(kld=1e-2), ASKED)
        tight = search(subject, Budget(kld=1e-5), ASKED)
    assert loose.figures.mean_kld <= 1e-2 and tight.figures.mean_kld <= 1e-5
    assert loose.real.bytes < tight.real.bytes


def test_a_plan_within_a_time(tiny_model, tmp_path):
    with opened(tiny_model, "tflite-xnnpack", None, None, None, 256, lambda *_: None) as subject:
        found = search(subject, Budget(first_token=50.0, decode=50.0), ASKED, prompt=32, prove=False)
        assert found.timed and found.base.first_token > 0
        assert {one.label for one in found.choice.values()} >= {"fp16"}  # time enough for the best
        with pytest.raises(
            FirstTokenError, match=r"no plan is within this budget; within reach: .* times INT8's first token .*Give a wider budget"
        ):
            search(subject, Budget(first_token=0.01), ASKED, prompt=32, prove=False)


def test_what_cannot_be_reached_says_what_can(tiny_model, capsys, tmp_path):
    assert (
        run(
            [
                "plan",
                "search",
                str(tiny_model),
                "-o",
                str(tmp_path / "p.toml"),
                "--tokens",
                "256",
                "--max-size",
                "100KiB",
                "--precision",
                "int8",
                "--precision",
                "fp16",
            ]
        )
        == 2
    )
    said = capsys.readouterr().err
    assert re.search(r"error: no plan is within this budget; within reach: \d+ KiB \(\d+ in int8, .*Give a wider budget", said)
    assert not (tmp_path / "p.toml").exists() and not (tmp_path / "p.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no budget given; give --max-size, --max-kld, --max-first-token or --max-decode"),
        (["--max-size", "lots"], "'lots' is no size; expected a number with a unit (B, KiB, MiB, GiB, kB, MB, GB), as 120MiB"),
        (["--max-kld", "0.1", "-o", "plan.txt"], "output plan.txt: a plan's file ends in .toml"),
        (["--max-kld", "0.1", "--precision", "int7"], "precision 'int7' is unknown (did you mean 'int8'"),
        (["--max-kld", "0.1", "--times", "arm"], "no time is bounded; give --max-first-token or --max-decode too"),
        (["--max-first-token", "1.1", "--times", "arm", "--times", "x.json"], "--times arm stands alone"),
        (["--max-first-token", "1.1", "--times", "arm"], "emulated ARM is not set up (emulator is missing"),
        (["--max-first-token", "1.1", "--times", "nowhere.json"], "nowhere.json"),
        (["--max-first-token", "1.1", "--times", "text.md"], "text.md: cannot be read as JSON"),
        (
            ["--max-decode", "1.1", "--prompt", "100000"],
            "--prompt 100000: bundles are timed with 24 tokens after it, and target 'tflite-xnnpack' has a cache of 1280; expected 1256 at most",
        ),
        (["--max-kld", "0.1", "-t", "tflite-hexagon-sm8550"], "compiles for an NPU; damages are measured for what runs on the CPU"),
    ],
)
def test_bad_input(tiny_model, tmp_path, monkeypatch, capsys, arguments, said):
    def too_late(*_):
        raise AssertionError("it is said before anything is measured")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIRSTTOKEN_ARM", str(tmp_path / "arm"))
    monkeypatch.setattr(smooth, "choose", too_late)
    (tmp_path / "text.md").write_text("# Times")
    assert run(["plan", "search", str(tiny_model), "--tokens", "256", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("plan*"))


def test_a_missing_package_is_said_first(tiny_model, tmp_path, monkeypatch, capsys):
    from firsttoken import extras

    real = extras.missing
    monkeypatch.setattr(extras, "missing", lambda extra: ["scipy"] if extra == "search" else real(extra))
    assert run(["plan", "search", str(tiny_model), "-o", str(tmp_path / "p.toml"), "--max-size", "1MiB"]) == 2
    got = capsys.readouterr()
    assert "searching a plan needs scipy" in got.err and not got.out


def test_a_miss_makes_the_next_choice_tighter(tiny_model, monkeypatch):
    exports = []
    real = searching.real_costs

    def heavier(bundle, prompt, beside, report):  # as if the first export were 10 % larger than said
        exports.append(bundle)
        [found] = real(bundle, prompt, beside, report)
        return [Real(int(found.bytes * 1.1)) if len(exports) == 1 else found]

    monkeypatch.setattr(searching, "real_costs", heavier)
    said = []
    with opened(tiny_model, "tflite-xnnpack", None, None, None, 256, lambda *_: None) as subject:
        most = int(1.2 * search(subject, Budget(size=1 << 30), ("int8",)).base.bytes)
        exports.clear()
        found = search(subject, Budget(size=most), ASKED, say=said.append)
    assert found.tries == 2 and len(exports) == 2
    assert "so the next choice is tighter" in said[0] and "tighter" not in said[1]
    assert found.real.bytes <= most * 0.95


def test_the_plan_it_all_is_held_against_is_within_reach_of_its_own_times(tiny_model, monkeypatch):
    """Where an unquiet machine shows one choice slower than it can be, and nothing is left within what that tightens."""

    def slow(bundle, prompt, beside, report):
        manifest = read_manifest(bundle)
        real = Real(manifest.facts(manifest.cpu).bytes, 3e9, 3e9, 0.5) if beside else Real(10**9, 1e6, 1e6)
        return [real, Real(real.bytes, 1e6, 1e6)] if beside else [real]

    monkeypatch.setattr(searching, "real_costs", slow)
    said = []
    with opened(tiny_model, "tflite-xnnpack", None, None, None, 256, lambda *_: None) as subject:
        found = search(subject, Budget(first_token=1.02), ("fp16", "int8"), 32, say=said.append)
    assert {one.label for one in found.choice.values()} <= {"int8", "fp32"} and found.ratios == (1, 1) and found.tries == 2
    assert "its times vary by 50% from round to round, as on a machine that does something else besides" in said[0] and "tighter" in said[0]
    assert "instead of" not in said[1]


def test_unrest_is_how_far_rounds_are_from_their_median():
    quiet = [(2.0, 1.0), (4.0, 2.0), (6.0, 3.0)]
    assert unrest(quiet, [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]) == 0
    assert unrest([(1.0, 1.0), (1.2, 1.0), (0.5, 1.0)], [(1.0, 1.0)] * 3) == pytest.approx(0.2)


def test_a_checkpoint_of_integers_is_told_of_as_stored(tiny_model, tmp_path):
    compress_folder(tiny_model, tmp_path / "model", scheme_of(4, 32))
    with opened(tmp_path / "model", "tflite-xnnpack", None, None, None, 256, lambda *_: None) as subject:
        said = searching.stored_note(subject)
    assert (
        said is not None
        and said.startswith("14 layers are stored as integers (compressed-tensors: int4 in groups of 32)")
        and "--plan as-stored" in said
    )
    with opened(tiny_model, "tflite-xnnpack", None, None, None, 256, lambda *_: None) as subject:
        assert searching.stored_note(subject) is None


def test_a_miss_by_a_hair_can_be_read():
    [line] = misses(Budget(size=3 << 20), Real((3 << 20) + 700), Real(1), 0.0)
    assert line == "is 3,146,428 B instead of 3,145,728 B"
    [line] = misses(Budget(size=3 << 20), Real(4 << 20), Real(1), 0.0)
    assert line == "is 4.0 MiB instead of 3.0 MiB"


def test_what_is_missed_and_by_how_much():
    budget, base = Budget(100, 0.01, 1.1, 1.2), Real(80, 10.0, 5.0)
    over = Real(120, 13.0, 7.0)
    assert len(misses(budget, over, base, 0.02)) == 4
    assert misses(budget, Real(99, 10.9, 5.9), base, 0.009) == []
    asked = budget.bounds(base)
    assert asked == Bounds(0.01, 100, 11.0, 6.0)
    found = tighter(asked, asked, budget, Cost(0.008, 95, 10.8, 5.8), over, base, 0.02)
    assert found.bytes == 75  # 20 less than was predicted
    assert found.damage == pytest.approx(0.98 * 0.004)
    assert found.prefill == pytest.approx(0.98 * 10.8 * 1.1 / 1.3)
    assert found.decode == pytest.approx(0.98 * 5.8 * 1.2 / 1.4)
