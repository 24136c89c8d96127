"""lm_eval's own tasks and runner on a checkpoint and a bundle, its numbers held against its ``hf`` model."""

import sys
from pathlib import Path

import pytest

from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.evaluate import harness
from firsttoken.extras import install_command

pytestmark = pytest.mark.slow
TASKS = ["held_out_texts", "held_out_choice", "held_out_rest", "frequent_words"]
LENGTH = 300  # tokens of a generated context


@pytest.fixture(scope="module")
def lm_eval():
    """The package, offline."""
    package = pytest.importorskip("lm_eval", reason=f"lm_eval is not installed, run: {install_command('lm-eval')}")
    harness.register()
    return package


@pytest.fixture(scope="module")
def scored(lm_eval, tmp_path_factory):
    """Returns a function from lm_eval's name of a model and its arguments to what lm_eval says, with every sample."""
    from lm_eval.api.registry import get_model
    from lm_eval.tasks import TaskManager

    home = tmp_path_factory.mktemp("huggingface")
    done = {}

    def run(name: str, **arguments):
        key = (name, *sorted(arguments.items()))
        if key not in done:
            metadata = {"pretrained": str(checkpoint_path()), "max_seq_lengths": [LENGTH]}
            manager = TaskManager(include_path=str(Path(__file__).with_name("tasks")), metadata=metadata)
            model = get_model(name).create_from_arg_obj(arguments, {"device": "cpu", "batch_size": 1})
            done[key] = lm_eval.simple_evaluate(
                model=model, tasks=TASKS, task_manager=manager, limit=2, bootstrap_iters=0, metadata=metadata
            )
        return done[key]

    with pytest.MonkeyPatch.context() as patch:
        for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            patch.setenv(variable, "1")
        patch.setenv("HF_HOME", str(home))
        yield run


def samples(found: dict, task: str, what: str) -> list:
    return [sample[what] for sample in found["samples"][task]]


def numbers(found: dict, task: str) -> list[float]:
    flat = [answer[0] for response in samples(found, task, "resps") for answer in response]
    return [float(one[0] if isinstance(one, tuple | list) else one) for one in flat]


def test_a_checkpoint_scores_as_lm_evals_own_model(scored):
    """Log probabilities, greediness, windows, generated text and what becomes of them, in FP32."""
    theirs = scored("hf", pretrained=str(checkpoint_path()), dtype="float32", max_length=2048)
    ours = scored("firsttoken", pretrained=str(checkpoint_path()))
    assert set(ours["results"]) == set(TASKS)
    for task in TASKS:
        assert samples(ours, task, "arguments") == samples(theirs, task, "arguments"), "both were asked the same"
    for task in ("held_out_texts", "held_out_choice"):
        assert numbers(ours, task) == pytest.approx(numbers(theirs, task), rel=1e-5, abs=1e-3)
        assert max(map(abs, numbers(ours, task))) > 10  # nats: they are no zeros
    greedy = [[answer[0][1] for response in samples(found, "held_out_choice", "resps") for answer in response] for found in (ours, theirs)]
    assert greedy[0] == greedy[1]
    assert samples(ours, "held_out_rest", "resps") == samples(theirs, "held_out_rest", "resps")
    assert samples(ours, "frequent_words", "resps") == samples(theirs, "frequent_words", "resps")
    for task, figures in theirs["results"].items():
        for name, value in figures.items():
            if isinstance(value, float):
                assert ours["results"][task][name] == pytest.approx(value, rel=1e-5), (task, name)


def test_short_windows_roll_as_there(lm_eval):
    from lm_eval.api.instance import Instance
    from lm_eval.api.registry import get_model

    text = "def read(self, size=-1):\n    return self.buffer.read(size)\n" * 6
    asked = [Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0)]
    long = Instance(request_type="loglikelihood", doc={}, arguments=(text, "def read(self):"), idx=0)
    theirs = get_model("hf")(pretrained=str(checkpoint_path()), dtype="float32", device="cpu", max_length=32)
    ours = get_model("firsttoken")(pretrained=str(checkpoint_path()), max_length=32)
    assert ours.loglikelihood_rolling(asked) == pytest.approx(theirs.loglikelihood_rolling(asked), rel=1e-5)
    [(value, greedy)], [(wanted, as_greedy)] = ours.loglikelihood([long]), theirs.loglikelihood([long])
    assert value == pytest.approx(wanted, rel=1e-4) and greedy == as_greedy
    empty = [Instance(request_type="loglikelihood", doc={}, arguments=("", " return self"), idx=0)]
    assert ours.loglikelihood(empty)[0][0] == pytest.approx(theirs.loglikelihood(empty)[0][0], rel=1e-4)
    with pytest.raises(FirstTokenError, match="a continuation of .* tokens; expected 32 at most"):
        ours.loglikelihood([Instance(request_type="loglikelihood", doc={}, arguments=("x", text), idx=0)])


def test_a_bundle_scores_as_its_plan_lets_it(scored, demo_bundle):
    """Near the checkpoint's numbers and not equal to them; in any order the same."""
    bundle = str(demo_bundle("tflite-xnnpack"))
    theirs, ours = scored("firsttoken", pretrained=str(checkpoint_path())), scored("firsttoken", bundle=bundle)
    perplexity = [found["results"]["held_out_texts"]["word_perplexity,none"] for found in (ours, theirs)]
    assert perplexity[0] == pytest.approx(perplexity[1], rel=0.2) and perplexity[0] != perplexity[1]
    assert numbers(ours, "held_out_choice") == pytest.approx(numbers(theirs, "held_out_choice"), rel=0.05)
    from lm_eval.api.instance import Instance
    from lm_eval.api.registry import get_model

    pairs = [tuple(pair) for pair in samples(ours, "held_out_choice", "arguments")[0]]
    model = get_model("firsttoken")(bundle=bundle)
    asked = [Instance(request_type="loglikelihood", doc={}, arguments=pair[:2], idx=0) for pair in pairs]
    assert model.loglikelihood(asked) == model.loglikelihood(asked[::-1])[::-1]


@pytest.mark.parametrize(
    "arguments,said",
    [
        ({}, "no model; expected bundle=FOLDER or pretrained=CHECKPOINT"),
        ({"bundle": "x", "pretrained": "y"}, "bundle and pretrained together"),
        ({"bundle": "x", "dtype": "float16"}, "unknown dtype; expected bundle=FOLDER or pretrained=CHECKPOINT"),
        ({"bundle": str(checkpoint_path())}, "is no bundle; give a checkpoint as pretrained="),
        ({"bundle": "x", "batch_size": 8}, "batch_size 8; expected 1"),
        ({"pretrained": "/no/such/model"}, "/no/such/model"),
        ({"pretrained": str(checkpoint_path()), "max_length": 9000}, "max_length 9000; expected 2 to"),
    ],
)
def test_bad_arguments_are_one_line(lm_eval, arguments, said):
    from lm_eval.api.registry import get_model

    with pytest.raises(FirstTokenError, match=said):
        get_model("firsttoken")(**arguments)


def command(monkeypatch, *words: str) -> None:
    """lm_eval's own command line with our model, in this process."""
    from firsttoken.evaluate.harness.__main__ import main

    tasks = str(Path(__file__).with_name("tasks"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setattr(sys, "argv", ["lm_eval", "run", "--model", "firsttoken", "--tasks", "held_out_rest", "--include_path", tasks, "--limit", "1", *words])  # fmt: skip
    main()


def test_the_command_prints_lm_evals_table(lm_eval, demo_bundle, monkeypatch, capfd):
    command(monkeypatch, "--model_args", f"bundle={demo_bundle('tflite-xnnpack')}")
    shown = capfd.readouterr().out
    assert "held_out_rest" in shown and "exact_match" in shown and "firsttoken" in shown


def test_the_commands_errors_are_a_line(lm_eval, monkeypatch, capfd):
    with pytest.raises(SystemExit) as left:
        command(monkeypatch, "--model_args", "bundle=/no/such/bundle")
    # the last line: lm_eval's logger holds the stream of the test before
    last = capfd.readouterr().err.splitlines()[-1]
    assert left.value.code == 2 and last.startswith("error: bundle=/no/such/bundle: is no bundle")


def test_without_the_extra_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(
        FirstTokenError, match=r"lm_eval's tasks needs lm_eval, which is not installed; run: pip install 'firsttoken\[lm-eval\]'"
    ):
        harness.register()
