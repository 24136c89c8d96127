"""The app's measurement as untrusted input, and the merging of requests."""

import copy

import pytest
from flow import with_gpu, with_npu

from firsttoken.device.adb import DeviceError
from firsttoken.device.request import ProfileSettings, Request, check_settings, prompts_for
from firsttoken.device.result import check_result
from firsttoken.device.session import new_session, read_session, same_work, session_file
from firsttoken.device.staging import local_bundle
from firsttoken.errors import FirstTokenError
from firsttoken.measure.measurement import Conditions, Cpu, Device, Failure, identify_bundle, parse_measurement

MEMORY = 8 << 30
DEVICE = Device(kind="phone", model="X", system="Android 14", identity="abc", cpu=Cpu(model="x", cores=8), memory_bytes=MEMORY)


@pytest.fixture(scope="module")
def made(demo_bundle):
    return local_bundle(demo_bundle("tflite-xnnpack"))


def request_for(bundle, **changes) -> Request:
    values = {
        "id": "0" * 32,
        "bundle": bundle.key,
        "state": "warm",
        "threads": 4,
        "repeat": 2,
        "decode_tokens": 8,
        "chat": False,
        "prompts": [{"tokens": 32, "text": "x"}],
    }
    return Request.model_validate({**values, **changes})


def run_of(state="warm", at=1.0, **changes):
    return {
        "prompt_tokens": 32,
        "state": state,
        "page_cache": "cached",
        "at_seconds": at,
        "stages": {"tokenize": 1, "prefill": 10**6, "sample": 1, "detokenize": 1},
        **changes,
    }


def document(bundle, runs, failures=()):
    identity = identify_bundle(bundle.key, bundle.manifest).model_dump(exclude_none=True)
    result = {
        "bundle": identity,
        "runtime_version": "LiteRT 2.3.0",
        "threads": 4,
        "chat": False,
        "before": {"time": "t"},
        "runs": runs,
        "failures": list(failures),
    }
    device = DEVICE.model_dump(exclude_none=True)
    return {"schema_version": 1, "writer": {"name": "app", "version": "1"}, "device": device, "results": [result]}


def checked(bundle, values, **changes):
    return check_result(parse_measurement(values, "result"), request_for(bundle, **changes), bundle, MEMORY, "result")


def test_a_good_one(made):
    result = checked(
        made, document(made, [run_of("warm-up"), run_of(), run_of()], [{"stage": "pre\x1bfill", "message": "bad\n\x07" + 10_000 * "x"}])
    )
    assert len(result.runs) == 3
    assert "\x1b" not in result.failures[0].stage and "\n" not in result.failures[0].message and len(result.failures[0].message) == 500


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values, result, run: values["results"].append(copy.deepcopy(result)), "holds 2 results"),
        (lambda values, result, run: result["bundle"].update(name="1" * 32), "is about bundle"),
        (lambda values, result, run: result["bundle"].update(artifact_sha256="f" * 64), "artifact_sha256"),
        (lambda values, result, run: result["bundle"].update(plan="faster"), "plan of its bundle is 'faster'"),
        (lambda values, result, run: result.update(threads=8), "threads is 8, expected 4"),
        (lambda values, result, run: result.update(chat=True), "chat is True"),
        (lambda values, result, run: run.update(prompt_tokens=7), "7 prompt tokens, which were not asked for"),
        (lambda values, result, run: run.update(state="cold"), "run 1 is cold, expected warm"),
        (lambda values, result, run: result["runs"].extend([run, run]), "more than 2 warm runs of 32 tokens"),
        (lambda values, result, run: run["stages"].update(prefill=10**18), "impossible time"),
        (lambda values, result, run: run.update(stages={"tokenize": 0, "prefill": 0, "sample": 0, "detokenize": 0}), "impossible time"),
        (lambda values, result, run: run.update(at_seconds=1e300), "impossible time"),
        (lambda values, result, run: run.update(decode={"tokens": 9, "nanoseconds": 5}), "decoded 9 tokens"),
        (lambda values, result, run: run.update(peak_memory_bytes=10**15), "bytes of memory on a phone of"),
        (lambda values, result, run: run.update(temperature=4000.0), "4000.0 °C"),
        (lambda values, result, run: result.update(failures=[{"stage": "x", "message": "y"}] * 1001), "1001 failures"),
    ],
)
def test_bad_ones(made, change, said):
    values = document(made, [run_of(), run_of()])
    change(values, values["results"][0], values["results"][0]["runs"][0])
    with pytest.raises(DeviceError) as error:
        checked(made, values)
    assert said in str(error.value)


def test_requests_fit_what_the_app_takes(made):
    chat, prompts = prompts_for(made, ProfileSettings(prompts=(32, 64), chat=False))
    assert not chat and [prompt.tokens for prompt in prompts] == [32, 64]
    with pytest.raises(FirstTokenError, match="do not fit its cache of"):
        prompts_for(made, ProfileSettings(prompts=(made.manifest.cache_length,)))
    with pytest.raises(FirstTokenError, match="more than the 1048576 the app takes"):
        request_for(made, prompts=[{"tokens": 1, "text": "x" * (1 << 20)}]).text()
    for wrong in (
        {"prompts": ()},
        {"prompts": (8, 8)},
        {"prompts": (0,)},
        {"prompts": tuple(range(1, 40))},
        {"repeat": 0},
        {"repeat": 1001},
        {"threads": 17},
        {"decode_tokens": -1},
    ):
        with pytest.raises(FirstTokenError):
            check_settings(ProfileSettings(**wrong))


def test_a_session_merges_its_requests(made, tmp_path):
    settings = ProfileSettings(prompts=(32,), repeat=2, cold=True, chat=False)
    session = new_session(DEVICE, settings, ["fast"], [made])
    assert [step.state for step in session.steps] == ["warm", "cold", "cold"] and session.runs_total() == 4
    assert session.measurement([made]) is None
    for number, step in enumerate(session.steps):
        step.before, step.began = Conditions(time=f"host {number}", temperatures={"skin/s": 30.0 + number}), 100.0 * number
    session.steps[0].result = checked(made, document(made, [run_of("warm-up", 1), run_of("warm", 2), run_of("warm", 3)]))
    session.steps[1].failure = Failure(stage="crash", message="gone", state="cold")
    session.steps[0].after, session.steps[0].ended = Conditions(time="after"), True
    output = tmp_path / "x.measurement.json"
    session.write(output)
    [result] = read_session(output).measurement([made]).results
    assert result.bundle.name == "fast" and [run.at_seconds for run in result.runs] == [1, 2, 3] and result.failures[0].stage == "crash"
    assert result.before.time == "host 0" and result.before.temperatures == {"skin/s": 30.0} and result.after is None
    assert session.runs_done() == 2 and [step.state for step in session.left()] == ["cold", "cold"]
    session.steps[1].failure = None
    for number in (1, 2):
        session.steps[number].result = checked(made, document(made, [run_of("cold", 0.5, page_cache="unknown")]), state="cold", repeat=1)
        session.steps[number].ended, session.steps[number].after = True, Conditions(time=f"end {number}")
    [result] = session.measurement([made]).results
    assert [run.at_seconds for run in result.runs] == [1, 2, 3, 100.5, 200.5] and result.after.time == "end 2"


def test_a_session_goes_on_only_with_the_same_work(made, tmp_path):
    settings = ProfileSettings(prompts=(32,))
    session = new_session(DEVICE, settings, ["fast"], [made])
    assert same_work(session, DEVICE, settings, [made]) is None
    assert "another phone" in same_work(session, DEVICE.model_copy(update={"identity": "else"}), settings, [made])
    assert same_work(session, DEVICE, settings.model_copy(update={"repeat": 9}), [made]) == "it has repeat 5"
    assert "of the bundles fast" in same_work(session, DEVICE, settings, [])
    output = tmp_path / "x.measurement.json"
    assert read_session(output) is None
    for damaged in ("", "{}", "[]", '{"version": 1, "steps": 5}', session.model_dump_json().replace('"bundle":0', '"bundle":9')):
        session_file(output).write_text(damaged)
        with pytest.raises(FirstTokenError, match="start over with --force"):
            read_session(output)


@pytest.fixture(scope="module")
def with_two_artifacts(demo_bundle, tmp_path_factory):
    return local_bundle(with_npu(demo_bundle("tflite-xnnpack"), tmp_path_factory.mktemp("npu") / "npu"))


def two(bundle, kind, runs=None, **more):
    manifest = bundle.manifest
    artifact = manifest.facts(manifest.npu_artifact if kind == "npu" and manifest.npu_artifact else manifest.cpu)
    values = document(bundle, [run_of("warm-up"), run_of()] if runs is None else runs)
    values["results"][0]["artifact"] = {"kind": kind, "sha256": artifact.sha256, "bytes": artifact.bytes} | more
    return values


def test_the_runner_that_ran(made):
    values = document(made, [run_of()])
    values["results"][0]["runner"] = {"kind": "java", "fallback": "no\n\x07" + 10_000 * "x", "unpacked": "no\nfile"}
    told = checked(made, values).runner
    assert told.kind == "java" and "\n" not in told.fallback and len(told.fallback) == 500
    values["results"][0]["runner"] = {"kind": "native"}
    assert checked(made, values).runner.fallback is None


def test_the_artifact_that_ran(with_two_artifacts):
    result = checked(with_two_artifacts, two(with_two_artifacts, "npu"))
    assert (result.processor, result.artifact.soc, result.ran_bytes) == ("NPU", "SM8650", len(b"compiled for an NPU"))
    told = checked(
        with_two_artifacts,
        two(
            with_two_artifacts,
            "cpu",
            fallback="no\n\x07" + 10_000 * "x",
            soc="SM1",
            proof={"mean_kld": 0, "p99_kld": 0, "same_top": 1, "passed": True},
        ),
    )
    assert "\n" not in told.artifact.fallback and len(told.artifact.fallback) == 500
    assert told.artifact.soc is None and told.proof == told.bundle.proof, "what the phone says of the bundle is not taken over"


@pytest.mark.parametrize(
    ("kind", "asked", "change", "said"),
    [
        ("npu", "cpu", {}, "is of the NPU artifact, expected the CPU's"),
        ("cpu", "npu", {}, "is of the CPU artifact, expected the NPU's"),
        ("npu", "auto", {"sha256": "f" * 64}, "its NPU artifact has SHA-256 ffffffffffff"),
        ("cpu", "auto", {"bytes": 7}, "and 7 bytes, expected"),
    ],
)
def test_another_artifact_than_asked_for_is_refused(with_two_artifacts, kind, asked, change, said):
    with pytest.raises(DeviceError, match=said):
        checked(with_two_artifacts, two(with_two_artifacts, kind, **change), artifact=asked)


def test_a_gpus_artifact_that_ran_and_one_that_the_bundle_lacks(with_two_artifacts, demo_bundle, tmp_path):
    bundle = local_bundle(with_gpu(demo_bundle("tflite-xnnpack"), tmp_path / "gpu"))
    facts = bundle.manifest.facts(bundle.manifest.gpu_artifact)
    ran = {"sha256": facts.sha256, "bytes": facts.bytes}
    result = checked(bundle, two(bundle, "gpu", **ran))
    assert (result.processor, result.artifact.place, result.ran_bytes) == ("GPU", "on the GPU", len(b"graphs for a GPU"))
    fallen = checked(bundle, two(bundle, "cpu", fallback="no accelerator", instead_of="gpu"))
    assert fallen.artifact.place == "on the CPU, not on the GPU: no accelerator"
    with pytest.raises(DeviceError, match="is of the GPU artifact, which the bundle does not have"):
        checked(with_two_artifacts, two(with_two_artifacts, "gpu"))
    with pytest.raises(DeviceError, match="is of the NPU artifact, which the bundle does not have"):
        checked(bundle, two(bundle, "npu", **ran))


def test_an_app_that_does_not_say_which_ran_is_refused(with_two_artifacts, made):
    with pytest.raises(DeviceError, match="does not say which of the bundle's artifacts ran"):
        checked(with_two_artifacts, document(with_two_artifacts, [run_of()]))
    assert checked(with_two_artifacts, document(with_two_artifacts, [], [{"stage": "load", "message": "m"}])).artifact is None
    values = document(made, [run_of()])
    values["results"][0]["artifact"] = {"kind": "cpu", "sha256": "f" * 64, "bytes": 7}
    with pytest.raises(DeviceError, match="of a bundle that has but one"):
        checked(made, values)


def test_runs_of_both_artifacts_are_two_results(with_two_artifacts):
    """A phone whose NPU failed in one cold run of two: its figures are not mixed with the other's."""
    settings = ProfileSettings(prompts=(32,), repeat=2, cold=True, decode_tokens=8)
    session = new_session(DEVICE, settings, ["two"], [with_two_artifacts])
    kinds = ("npu", "npu", "cpu")
    for step, kind in zip(session.steps, kinds, strict=True):
        step.before, step.began = Conditions(time="t"), 0.0
        runs = [run_of(step.state)]
        step.result = checked(
            with_two_artifacts,
            two(with_two_artifacts, kind, runs, **({"fallback": "the DSP crashed"} if kind == "cpu" else {})),
            state=step.state,
        )
    results = session.measurement([with_two_artifacts]).results
    assert [(result.title, [run.state for run in result.runs]) for result in results] == [
        ("two (NPU)", ["warm", "cold"]),
        ("two (CPU)", ["cold"]),
    ]
    assert results[1].artifact.fallback == "the DSP crashed"
    session.steps[2].result, session.steps[2].failure = None, Failure(stage="crash", message="gone", state="cold")
    [result] = session.measurement([with_two_artifacts]).results
    assert result.processor == "NPU" and [failure.message for failure in result.failures] == ["gone"]
