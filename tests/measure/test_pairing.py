"""Which bundles are paired, what makes a comparison not like for like, and the errors when nothing fits."""

import pytest
from generated_measurements import make_bundle, make_conditions, make_measurement, make_result, make_run

from firsttoken.errors import FirstTokenError
from firsttoken.measure.measurement import Cpu, RanArtifact
from firsttoken.measure.pairing import compare_measurements, match

RUNS = [make_run(32, "warm", prefill=10**6 + number) for number in range(6)]


def measured(*bundles, **more):
    return make_measurement([make_result(bundle, RUNS, **more) for bundle in bundles])


def plans(found):
    return [(pair.a.bundle.plan, pair.b.bundle.plan) for pair in found.pairs]


def test_bundles_are_paired_by_checkpoint_plan_and_target():
    a = measured(make_bundle("int8"), make_bundle("int4"), make_bundle("int8", "executorch-xnnpack"), make_bundle("fp16"))
    b = measured(
        make_bundle("int8", "executorch-xnnpack", name="moved"),
        make_bundle("int4"),
        make_bundle("int8"),
        make_bundle("int8", checkpoint="other"),
    )
    found = match(a, b)
    assert plans(found) == [("int8", "int8"), ("int4", "int4"), ("int8", "int8")]
    assert [pair.a.bundle.target for pair in found.pairs] == [pair.b.bundle.target for pair in found.pairs]
    assert [result.bundle.plan for result in found.only_a] == ["fp16"] and [result.bundle.checkpoint for result in found.only_b] == [
        "other"
    ]
    assert all(pair.differences == [] and len(pair.comparisons) == 1 for pair in found.pairs)


def test_a_renamed_checkpoint_is_the_same_and_a_retrained_one_is_said_to_differ():
    renamed = match(
        measured(make_bundle(checkpoint="a", fingerprint="1" * 64)), measured(make_bundle(checkpoint="b", fingerprint="1" * 64))
    ).pairs[0]
    assert renamed.differences == ["checkpoint: a against b"]
    retrained = match(
        measured(make_bundle(fingerprint="1" * 64), make_bundle("int4")), measured(make_bundle(fingerprint="2" * 64), make_bundle("int8"))
    ).pairs[0]
    assert retrained.differences == [f"checkpoint's content: {'1' * 12} against {'2' * 12}"]


def test_of_several_the_same_threads_are_paired():
    def by_threads(*counts):
        return make_measurement([make_result(make_bundle(), RUNS, threads=count) for count in counts])

    found = match(by_threads(1, 2, 4), by_threads(4, 1))
    assert [(pair.a.threads, pair.b.threads) for pair in found.pairs] == [(1, 1), (4, 4)] and found.only_a[0].threads == 2
    [pair] = match(by_threads(4), by_threads(8)).pairs
    assert pair.differences == ["threads: 4 against 8"]


def test_of_several_the_same_name_or_artifact_are_paired():
    def named(*names):
        return measured(*(make_bundle(name=name, artifact_sha256=sha * 64) for name, sha in names))

    found = match(named(("x", "1"), ("y", "2")), named(("y", "3"), ("x", "4")))
    assert [(pair.a.bundle.name, pair.b.bundle.name) for pair in found.pairs] == [("x", "x"), ("y", "y")]
    assert "artifact: 111111111111 against 444444444444" in found.pairs[0].changes
    found = match(named(("x", "1"), ("y", "2")), named(("z", "2"), ("w", "1")))
    assert [pair.b.bundle.name for pair in found.pairs] == ["w", "z"]
    ambiguous = match(named(("x", "1"), ("y", "1")), named(("z", "2"), ("w", "2")))
    assert ambiguous.pairs == [] and len(ambiguous.only_a) == 2


def test_a_single_bundle_each_is_compared_whatever_it_is():
    [pair] = match(measured(make_bundle("fp16")), measured(make_bundle("int8", "executorch-xnnpack"))).pairs
    assert {"plan: fp16 against int8", "target: tflite-xnnpack against executorch-xnnpack"} <= set(pair.differences)


def test_everything_that_is_not_alike_is_said():
    a = make_measurement(
        [make_result(make_bundle(), RUNS, before=make_conditions(governors=["performance"], charging=False, thermal_status=0))],
        identity="aa",
        soc="SM8650",
    )
    b = make_measurement(
        [make_result(make_bundle(cache_length=64), RUNS, runtime_version="new", threads=8, chat=True, before=make_conditions(governors=["schedutil"], charging=True, thermal_status=1))],
        model="other", identity="bb", system="Linux 7", soc="SM8750", cpu=Cpu(model="x", cores=64),
    )  # fmt: skip
    [pair] = match(a, b).pairs
    said = "; ".join(pair.differences)
    for what in (
        "device: ",
        "serial",
        "SoC: SM8650 against SM8750",
        "processor: ",
        "system",
        "cache length: 1280 against 64",
        "runtime: ",
        "threads: 2 against 8",
    ):
        assert what in said
    for what in (
        "chat template: not used against used",
        "governor: performance against schedutil",
        "charging: no against yes",
        "thermal status before: 0 against 1",
    ):
        assert what in said


def test_what_one_side_did_not_read_is_not_a_difference():
    a = make_measurement([make_result(make_bundle(), RUNS, before=make_conditions(charging=True, thermal_status=0))], identity="aa")
    assert match(a, make_measurement([make_result(make_bundle(), RUNS)])).pairs[0].differences == []


def test_proofs_are_said_to_have_changed():
    [pair] = match(measured(make_bundle(proof=None)), measured(make_bundle())).pairs
    assert pair.changes == ["proof: none against mean KLD 1.10e-03, same top 98.50%"]


def test_nothing_in_common_names_both_sides():
    with pytest.raises(
        FirstTokenError, match="no bundle of old is in new.*demo, int8, tflite-xnnpack; demo, int4.*demo, fp16.*measure the same bundles"
    ):
        compare_measurements(
            measured(make_bundle("int8"), make_bundle("int4")), measured(make_bundle("fp16"), make_bundle("fp32")), "old", "new"
        )


def test_no_prompt_length_in_common():
    a, b = make_measurement([make_result(runs=[make_run(32)])]), make_measurement([make_result(runs=[make_run(64, "cold"), make_run(128)])])
    with pytest.raises(FirstTokenError, match="32 tokens warm in the first and 64 tokens cold, 128 tokens warm in the second"):
        compare_measurements(a, b, "old", "new")
    with pytest.raises(FirstTokenError, match="no runs in the first"):
        compare_measurements(make_measurement([make_result()]), b, "old", "new")


def test_the_same_artifact_of_two_is_paired_and_another_is_said_to_be():
    def on(*kinds):
        artifacts = {"npu": RanArtifact(kind="npu", sha256="1" * 64, bytes=7), "cpu": RanArtifact(kind="cpu", sha256="2" * 64, bytes=8)}
        return make_measurement([make_result(make_bundle(), RUNS).model_copy(update={"artifact": artifacts[kind]}) for kind in kinds])

    found = match(on("npu", "cpu"), on("cpu", "npu"))
    assert [(pair.a.processor, pair.b.processor) for pair in found.pairs] == [("NPU", "NPU"), ("CPU", "CPU")]
    assert all(pair.differences == [] and pair.changes == [] for pair in found.pairs)
    [pair] = match(on("cpu"), on("npu")).pairs
    assert pair.differences == ["ran on: CPU against NPU"] and "size: 8 bytes against 7 bytes" in pair.changes


def test_load_heat_and_memory_that_differ_are_named():
    runs = [make_run(32, other_load=0.1, temperature=40)] * 3
    hot = [make_run(32, other_load=1.1, temperature=61)] * 3
    quiet = make_measurement([make_result(runs=runs, before=make_conditions(available_memory_bytes=8 << 30))])
    busy = make_measurement([make_result(runs=hot, before=make_conditions(available_memory_bytes=2 << 30))])
    [pair] = match(quiet, busy).pairs
    assert pair.differences == [
        "other work beside the runs: 0.1 cores against 1.1 cores",
        "temperature of the runs: 40 °C against 61 °C",
        "free memory before: 8.0 GiB against 2.0 GiB",
    ]
    near = make_measurement([make_result(runs=[make_run(32, other_load=0.3, temperature=44)] * 3)])
    assert match(quiet, near).pairs[0].differences == []
