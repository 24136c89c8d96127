"""Which target an APK gets, and which bundles run on it."""

import shutil
from pathlib import Path

import pytest
from manifest_variants import demo_manifest

from firsttoken.demo import checkpoint_path
from firsttoken.device.carried import Carried
from firsttoken.device.fitting_target import APK_NAME, DEFAULT_TARGET, IN_ORDER, instead, refusal, runnable, targets_to_export
from firsttoken.errors import FirstTokenError

APKS = Path(__file__).parent / "apks"
TFLITE, BOTH = APKS / "tensorflow-lite.apk", APKS / "litert-executorch.apk"


def chosen(output, said=None, plan="fp16-attention", targets=(), for_apk=None, cache_length=None):
    said = [] if said is None else said
    return list(targets_to_export(checkpoint_path(), output, plan, targets, for_apk, cache_length, said.append))


@pytest.mark.parametrize(
    ("versions", "runs"),
    [
        ({"TensorFlow Lite": "2.16.1"}, ["tflite-compat"]),
        ({"LiteRT": "2.3.0"}, ["tflite-xnnpack", "tflite-compat"]),
        ({"LiteRT": "2.3.0", "ExecuTorch": "1.5.1"}, list(IN_ORDER)),
        ({"ExecuTorch": "1.5.1"}, ["executorch-xnnpack"]),
        ({"TensorFlow Lite": "2.15.0"}, []),
        ({}, []),
    ],
)
def test_what_runs_on_an_apk(versions, runs):
    assert runnable(Carried(versions)) == runs
    assert instead(Carried(versions)) == (
        f"export for what it carries (-t {runs[0]}), or install one that carries more"
        if runs
        else "build the app again with scripts/build_apk"
    )


def test_without_an_apk_the_default_is_what_it_was(tmp_path):
    said = []
    assert chosen(tmp_path, said) == chosen(tmp_path / "absent") == [DEFAULT_TARGET]
    assert said == []


def test_the_apk_beside_the_bundles_decides_where_no_target_is_given(tmp_path):
    shutil.copy(TFLITE, tmp_path / APK_NAME)
    said = []
    assert chosen(tmp_path, said) == ["tflite-compat"]
    assert said == [f"exporting for tflite-compat: {tmp_path / APK_NAME} carries TensorFlow Lite 2.16.1 (another target: -t)"]
    assert chosen(tmp_path, targets=("litertlm-cpu", "tflite-xnnpack")) == ["litertlm-cpu", "tflite-xnnpack"]
    assert chosen(tmp_path, for_apk=BOTH) == ["tflite-xnnpack"]


def test_an_apk_beside_the_bundles_that_does_not_help_is_named_and_passed_over(tmp_path):
    shutil.copy(TFLITE, tmp_path / APK_NAME)
    said = []
    assert chosen(tmp_path, said, plan="int4") == [DEFAULT_TARGET]
    assert len(said) == 1 and "exporting for tflite-xnnpack, not for the APK" in said[0] and "int4 is not possible" in said[0]
    (tmp_path / APK_NAME).write_text("cut off")
    assert chosen(tmp_path, said) == [DEFAULT_TARGET]
    assert "does not say which runtimes it carries" in said[1]


def test_an_apk_that_is_asked_for_decides_or_is_an_error(tmp_path):
    assert chosen(tmp_path, for_apk=TFLITE) == ["tflite-compat"]
    # INT4 only where a target that the APK runs has it
    assert chosen(tmp_path, for_apk=BOTH, plan="int4") == ["tflite-xnnpack"]
    bad = {
        "so the target would be tflite-compat, but plan 'int4'": {"for_apk": TFLITE, "plan": "int4"},
        "carries no runtime, which runs none of": {"for_apk": APKS / "no-runtime.apk"},
        "No such file": {"for_apk": tmp_path / "absent.apk"},
        "leave out -t, or --for-apk": {"for_apk": TFLITE, "targets": ("tflite-compat",)},
        "plan 'itn8' is unknown": {"for_apk": TFLITE, "plan": "itn8"},
        "cache_length 4096 is longer": {"for_apk": TFLITE, "cache_length": 4096},
    }
    for said, how in bad.items():
        with pytest.raises(FirstTokenError, match=said):
            chosen(tmp_path, **how)


def test_a_state_that_the_app_does_not_feed_is_refused_by_its_kind():
    manifest = demo_manifest()
    manifest.cpu.states.append(manifest.cpu.states[0].model_copy(update={"kind": "recurrent", "advances": "replace"}))
    assert "have a state (kind 'recurrent') that the app does not feed yet" in refusal(Carried({"LiteRT": "2.3.0"}), manifest)


def test_a_tflite_that_the_app_could_compute_wrong_is_refused():
    manifest = demo_manifest()
    manifest.checkpoint.family = "gemma4_text"
    assert "loses track of it as its workspace grows" in refusal(Carried({"LiteRT": "2.3.0"}), manifest)
    manifest.cpu.file = "model.pte"
    assert "workspace" not in str(refusal(Carried({"LiteRT": "2.3.0"}), manifest))


def test_a_bundle_of_an_unknown_backend_does_not_run(tmp_path):
    manifest = demo_manifest()
    assert refusal(Carried({"LiteRT": "2.3.0"}), manifest) is None
    manifest.cpu.backend = "mlx-metal"
    assert "a runtime that the app does not have" in refusal(Carried({"LiteRT": "2.3.0"}), manifest)


def test_an_artifact_without_weights_of_its_own_is_refused_by_name():
    manifest, carried = demo_manifest(), Carried({"LiteRT": "2.3.0"})
    assert refusal(carried, manifest) is None, "packed weights beside the artifact's own are left where they are"
    manifest.packed.only = True
    assert "only packed weights, which the app's native runner alone takes, and this APK was built without it" in refusal(carried, manifest)
    assert refusal(Carried({"LiteRT": "2.3.0"}, native_runner=True), manifest) is None
    older = refusal(Carried({"LiteRT": "2.3.1"}, native_runner=True), manifest)
    assert "only packed weights, made by LiteRT 2.3.0, and the app carries LiteRT 2.3.1" in older and "--packed-only" in older
