"""Names that tell results apart, devices told apart, proofs in words."""

from generated_measurements import host_measurement, make_bundle, make_measurement, make_result, make_run, phone_measurement

from firsttoken.measure.measurement import ProofFigures, RanArtifact
from firsttoken.report.page.against import runtime_against_runtime
from firsttoken.report.page.sources import Source
from firsttoken.report.page.subjects import device_groups, proof_of


def sources(*measurements):
    return [Source(f"{number}.json", None, measurement, str(number)) for number, measurement in enumerate(measurements)]


def titles(*results):
    return [subject.title for subject in device_groups(sources(make_measurement(list(results))))[0].subjects]


def test_only_what_differs_is_added():
    assert titles(make_result(make_bundle("int8"))) == ["int8 · tflite-xnnpack"]
    assert titles(make_result(threads=1), make_result(threads=4), make_result(make_bundle("int8"))) == [
        "fp16-attention · tflite-xnnpack · 1 thread",
        "fp16-attention · tflite-xnnpack · 4 threads",
        "int8 · tflite-xnnpack",
    ]
    assert titles(make_result(make_bundle(checkpoint="a")), make_result(make_bundle(checkpoint="b")))[1].endswith("· b")
    assert titles(make_result(chat=True), make_result())[1].endswith("· no chat template")


def test_equal_results_are_numbered_or_named_by_their_file():
    assert titles(make_result(), make_result()) == ["fp16-attention · tflite-xnnpack · 1", "fp16-attention · tflite-xnnpack · 2"]
    one, two = make_measurement(), make_measurement()
    [group] = device_groups(sources(one, two))
    assert [subject.title[-6:] for subject in group.subjects] == ["0.json", "1.json"] and [s.number for s in group.subjects] == [0, 1]


def test_devices_are_told_apart():
    groups = device_groups(sources(host_measurement(repeat=1), phone_measurement(), host_measurement(seed=2, repeat=1)))
    assert [group.title for group in groups] == ["AMD EPYC 9B14", "samsung SM-S928B"]
    assert [len(group.subjects) for group in groups] == [10, 3]
    assert "8 cores (1 × 3.19 GHz + 5 × 2.96 GHz + 2 × 2.27 GHz)" in " ".join(groups[1].facts) and "Hexagon v75" in groups[1].facts
    twins = device_groups(sources(make_measurement(identity="aa"), make_measurement(identity="bb")))
    assert [group.title for group in twins] == ["AMD EPYC 9B14 (device aa)", "AMD EPYC 9B14 (device bb)"]


def test_prompts_are_those_measured_without_warm_up():
    [group] = device_groups(sources(make_measurement([make_result(runs=[make_run(99, "warm-up"), make_run(64), make_run(8, "cold")])])))
    assert group.prompts == [8, 64]


def test_proofs_in_words():
    assert proof_of(make_result(make_bundle(proof=None))).short == "no proof"
    assert proof_of(make_result()).short == "KLD 1.1e-03, same top 98.5%"
    failed = proof_of(make_result(make_bundle(proof=ProofFigures(mean_kld=1.5, p99_kld=9, same_top=0.25, passed=False))))
    assert (failed.state, failed.short) == ("failed", "proof failed, KLD 1.5e+00, same top 25.0%")


def test_the_artifact_that_ran_is_in_the_title_and_its_reason_in_the_detail():
    def on(kind, **more):
        return make_result(runs=[make_run(32)]).model_copy(update={"artifact": RanArtifact(kind=kind, sha256="1" * 64, bytes=7, **more)})

    npu = on("npu", soc="SM8650", proof=ProofFigures(mean_kld=2e-4, p99_kld=0.01, same_top=0.99, passed=True))
    [group] = device_groups(sources(make_measurement([npu, on("cpu"), on("cpu", fallback="the DSP crashed")])))
    assert [subject.title for subject in group.subjects] == [
        "fp16-attention · tflite-xnnpack · NPU",
        "fp16-attention · tflite-xnnpack · CPU · 2",
        "fp16-attention · tflite-xnnpack · CPU · 3",
    ]
    assert group.subjects[0].detail.endswith("on the NPU (SM8650)") and group.subjects[0].proof.mean_kld == "2.0e-04"
    assert group.subjects[1].detail.endswith("on the CPU, as asked") and group.subjects[2].detail.endswith(
        "on the CPU, not on the NPU: the DSP crashed"
    )
    [duel] = runtime_against_runtime(group).duels
    assert (duel.a, duel.b) == (group.subjects[0].title, group.subjects[1].title), "the NPU and the CPU are held against each other"
