"""The demo bundles proven on emulated ARM, and a fault that no x86 machine shows. CI must run the slow ones."""

import json
import shutil
from pathlib import Path

import pytest

from firsttoken import cli
from firsttoken.arm.folder import FOLDER_VARIABLE
from firsttoken.bundle.manifest import MANIFEST_FILE, read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.pipeline import export
from firsttoken.prove.on_arm import prove_on_arm
from firsttoken.prove.prove import prove

FEW = (270, 128)  # tokens and positions: enough for the plan's bounds, and a dozen seconds


@pytest.fixture
def bundle_copy(demo_bundle, tmp_path):
    """Returns a function that copies a demo bundle, whose manifest a proof on ARM changes."""
    return lambda target: Path(shutil.copytree(demo_bundle(target), tmp_path / target))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "runtimes", "kernels"),
    [
        ("tflite-xnnpack", ["LiteRT"], {"sdot", "fmla.8h"}),
        ("executorch-xnnpack", ["ExecuTorch"], {"sdot", "fmla.8h"}),
        ("tflite-compat", ["LiteRT", "TensorFlow Lite"], {"sdot"}),
    ],
)
def test_the_demo_bundle_keeps_its_plan_on_arm(emulated_arm, bundle_copy, target, runtimes, kernels):
    bundle = bundle_copy(target)
    before = json.loads((bundle / MANIFEST_FILE).read_text())
    results = prove_on_arm(bundle, checkpoint_path(), "cortex-a76", most=FEW)
    assert [result.summary.runtime for result in results] == runtimes
    for result in results:
        assert result.arm.passed, result.misses
        assert result.arm.all.tokens == result.host.all.tokens >= 100
        assert result.arm.prefill.tokens >= 5 and result.arm.decode.tokens >= 80
        assert {kind for kind in ("sdot", "smmla", "fmla.8h") if kind in result.summary.kernels} == kernels
        # both are the plan's rounding away from FP32; other kernels round otherwise, but no more
        assert result.arm.all.mean_kld < 1.5 * result.host.all.mean_kld
        assert 0 < result.summary.arm_against_host.mean_kld < 2 * result.host.all.mean_kld
    after = json.loads((bundle / MANIFEST_FILE).read_text())
    recorded = after.pop("proven_on")
    assert [(entry["core"], entry["runtime"]) for entry in recorded] == [("cortex-a76", runtime) for runtime in runtimes]
    assert recorded[0]["arm"]["mean_kld"] == results[0].arm.all.mean_kld
    before.pop("proven_on")
    assert after == before


@pytest.fixture(scope="module")
def symmetric_bundle(tmp_path_factory):
    """INT8 for every TensorFlow Lite, as our export would be without `asymmetricQuantizeInputs`."""
    from firsttoken.backends.tflite import graph

    class FullyConnectedOptionsT(graph.schema.FullyConnectedOptionsT):
        asymmetricQuantizeInputs = property(lambda self: False, lambda self, value: None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph.schema, "FullyConnectedOptionsT", FullyConnectedOptionsT)
        [bundle] = export(checkpoint_path(), tmp_path_factory.mktemp("symmetric"), "int8", ("tflite-compat",), prove=False)
    return bundle


@pytest.mark.slow
def test_scales_that_only_the_oldest_runtime_on_arm_drops_are_caught(emulated_arm, symmetric_bundle, capsys):
    proof, _ = prove(symmetric_bundle, checkpoint_path())
    assert proof.passed, "the host sees nothing wrong"
    arguments = ["prove", str(symmetric_bundle), "--checkpoint", str(checkpoint_path()), "--on", "arm", "--windows", "2"]
    # the same proof through the command line, on less text
    with pytest.MonkeyPatch.context() as patch:
        from firsttoken.prove import places

        patch.setattr(places, "prove_on_arm", lambda bundle, checkpoint, core, held_out, windows, threads, report: prove_on_arm(
            bundle, checkpoint, core, held_out, None, threads, report, most=FEW
        ))  # fmt: skip
        assert cli.run(arguments) == 3
    said = capsys.readouterr().err
    assert "TensorFlow Lite 2.16.1 on cortex-a76: mean KL divergence" in said and "logit magnitude" in said and said.count("\n") == 1
    assert "LiteRT 2.3.0 on cortex-a76" not in said
    assert [(entry.core, entry.runtime) for entry in read_manifest(symmetric_bundle).proven_on] == [("cortex-a76", "LiteRT")]


@pytest.mark.slow
def test_a_kernel_that_does_not_run_is_a_miss(emulated_arm, bundle_copy, monkeypatch):
    """A core without FP16 and dot products, taken for one that has them."""
    from firsttoken.arm import cores

    pretended = cores.Core("cortex-a53", "", dot_product=True, half=True, matrix=False)
    monkeypatch.setitem(cores.CORES, "cortex-a53", pretended)
    bundle = bundle_copy("executorch-xnnpack")
    [result] = prove_on_arm(bundle, checkpoint_path(), "cortex-a53", most=(64, 32))
    assert any("layers of FP16 (layers.0.attention.q …), but no fmla.8h ran on cortex-a53" in miss for miss in result.misses)
    assert any("but no sdot or smmla ran on cortex-a53" in miss for miss in result.misses)
    assert read_manifest(bundle).proven_on == []


def test_another_checkpoint_is_refused(emulated_arm, demo_bundle, tiny_checkpoint):
    with pytest.raises(FirstTokenError, match="was made from another checkpoint"):
        prove_on_arm(demo_bundle("tflite-xnnpack"), tiny_checkpoint)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cpu", "cortex-a53"], "--cpu goes with --on arm"),
        (["--windows", "3"], "--windows goes with --on arm"),
        (["--on", "arm", "--cpu", "cortex-a67"], "core 'cortex-a67' is unknown (did you mean 'cortex-a76'"),
        (["--on", "arm", "--audit"], "leave out --on arm"),
        (["--on", "ram"], "--on"),
        (["--on", "arm", "--windows", "0"], "--windows"),
        (["--on", "arm"], "emulated ARM is not set up"),
    ],
)
def test_the_command_line_says_what_is_wrong_in_one_line(demo_bundle, monkeypatch, tmp_path, capsys, options, said):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert cli.run(["prove", str(demo_bundle("tflite-xnnpack")), "--checkpoint", str(checkpoint_path()), *options]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0]
