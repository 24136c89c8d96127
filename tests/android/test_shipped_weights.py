"""The app's native runner with packed weights that came with the bundle, in a JVM: used where they fit, never written to, and otherwise told before anything is computed."""

import os
import re

import numpy as np
import pytest
from android.failure import BuildError
from android.natives.checks import tokens_of
from android.natives.machines import emulated_arm
from android.natives.native_runner import SOURCES, native_harness
from android.natives.steps import app_steps, python_steps
from building import give_up
from packed_fixtures import change, copied, packed_file, record, say_of_packed

from firsttoken.backends.isa import host_isa
from firsttoken.backends.tflite.kernel_check import graph_without_weights
from firsttoken.demo import checkpoint_path
from firsttoken.file_hash import hash_file
from firsttoken.pipeline import export

pytestmark = pytest.mark.slow
ALONE = "its artifact has only packed weights, and none can be used here: "


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """A bundle with packed weights beside its own (False), and one with nothing else (True)."""
    found = {}
    for only in (False, True):
        output = tmp_path_factory.mktemp("packed")
        [found[only]] = export(checkpoint_path(), output, "int8", prove=False, pack_for=["host"], packed_only=only)
    return found


@pytest.fixture(scope="module")
def steps(bundles):
    tokens = tokens_of(bundles[False], 60)
    return [("prefill", tokens[:20]), ("decode", tokens[20:23]), ("keep", tokens[:23] + tokens[30:50])]


@pytest.fixture(scope="module")
def expected(bundles, steps):
    return python_steps(bundles[False], steps)[1]


@pytest.mark.parametrize("only", [False, True])
def test_they_are_used_and_give_the_python_runners_bytes(native_x86, bundles, steps, expected, tmp_path, only):
    file = packed_file(bundles[only])
    before = (file.stat().st_mtime_ns, file.stat().st_ctime_ns)
    for start in ("first", "second"):
        said, mine = app_steps(native_x86, bundles[only], steps, tmp_path / "run")
        assert "error" not in said[0], said
        assert {(line["runner"], line["packed_for"], line["unpacked"]) for line in said} == {("native", host_isa(), None)}, start
        assert mine.tobytes() == expected.tobytes()
    assert (file.stat().st_mtime_ns, file.stat().st_ctime_ns) == before
    left = sorted(path.name for path in (tmp_path / "packed").iterdir())
    assert not [name for name in left if not name.endswith(".artifact.json")], "nothing was packed, and no file is left behind"
    kinds = {name.split(".")[1].split("-")[0] for name in left if name.startswith(hash_file(file))}
    assert kinds == ({"artifact", "kernels", "answer"} if only else {"artifact", "kernels"})


def flip(bundle):
    with open(packed_file(bundle), "r+b") as file:
        file.seek(100_000)
        byte = file.read(1)
        file.seek(100_000)
        file.write(bytes([byte[0] ^ 0x55]))


def other_kernels(bundle):
    """A file that is as the manifest says, of a format that the runtime does not take."""
    with open(packed_file(bundle), "r+b") as file:
        file.write(b"\x03")
    record(bundle, packed_file(bundle))


def of_another_cpu(bundle):
    """The table is whole, and says that its kernels pack other numbers."""
    content = bytearray(packed_file(bundle).read_bytes())
    content[24:40] = bytes(byte ^ 0x55 for byte in content[24:40])
    packed_file(bundle).write_bytes(content)
    record(bundle, packed_file(bundle))


def other_length(bundle):
    os.truncate(packed_file(bundle), 1 << 20)
    record(bundle, packed_file(bundle))


FAULTS = {
    "another CPU's": (lambda bundle: say_of_packed(bundle, isa="sme"), f"they are for sme, and this CPU is {host_isa()}"),
    "another version's": (lambda bundle: say_of_packed(bundle, version="2.2.0"), "was packed by ai-edge-litert 2.2.0, and 2.3.0 is what runs"),
    "another artifact's": (lambda bundle: say_of_packed(bundle, artifact_sha256="ab" * 32), "was packed from another model.tflite"),
    "damaged": (flip, "its SHA-256 is not the manifest's; it is damaged, copy the bundle again"),
    "cut": (lambda bundle: os.truncate(packed_file(bundle), 1 << 20), "bytes"),
    "missing": (lambda bundle: packed_file(bundle).unlink(), "missing"),
    "of another format": (other_kernels, "is for other kernels than ai-edge-litert 2.3.0 takes on this CPU"),
    "of other kernels": (of_another_cpu, "is for other kernels"),
    "cut, and known to be": (other_length, "is for other kernels"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("only", [False, True])
def test_one_that_does_not_fit_is_told(native_x86, bundles, steps, expected, tmp_path, only, fault):
    bundle, (plant, told) = copied(bundles[only], tmp_path / "bundle"), FAULTS[fault]
    plant(bundle)
    file = packed_file(bundle)
    before = hash_file(file) if file.exists() else None
    said, mine = app_steps(native_x86, bundle, steps if not only else steps[:1], tmp_path / "run")
    if only:
        assert mine.size == 0 and ALONE in said[0]["error"] and told in said[0]["error"] and "--packed-only" in said[0]["error"]
    else:
        assert "error" not in said[0], said
        assert said[-1]["runner"] == "native" and said[-1]["packed_for"] is None and told in said[-1]["unpacked"]
        assert mine.tobytes() == expected.tobytes(), "the artifact's own weights are packed"
    assert (hash_file(file) if file.exists() else None) == before, "the runtime never writes into a bundle"


def test_weights_of_another_model_are_told_by_the_test_prompt(native_x86, bundles, tmp_path):
    """The file is of these kernels and as the manifest says; its numbers are not this model's."""
    bundle = copied(bundles[True], tmp_path / "bundle")
    content = bytearray(packed_file(bundle).read_bytes())
    block = content[200_000:600_000]
    block[::3] = bytes(len(block[::3]))
    content[200_000:600_000] = block
    packed_file(bundle).write_bytes(content)
    record(bundle, packed_file(bundle))
    for start in ("first", "second"):
        said, mine = app_steps(native_x86, bundle, [("prefill", [1, 2, 3])], tmp_path / "run")
        assert mine.size == 0 and "it is not this artifact's, export again" in said[0]["error"], start


def test_without_the_native_runner_what_has_no_other_weights_is_refused(native_x86, bundles, tmp_path):
    """And what has some is for the Java way, which in this JVM has no library."""
    for only, told in ((True, "which the native runner alone takes, and this app was built without"), (False, "tensorflowlite_jni")):
        said, mine = app_steps(native_x86, bundles[only], [("prefill", [1, 2, 3])], tmp_path / "run", libraries=tmp_path)
        assert mine.size == 0 and told in said[0]["error"]


def test_the_graph_that_kernels_are_asked_with_is_pythons():
    """It is in the library's sources, since an app has nothing that writes graphs."""
    numbers = re.findall(r"0x([0-9a-f]{2})\b", (SOURCES / "graph_without_weights.h").read_text())
    assert bytes.fromhex("".join(numbers)) == graph_without_weights()


def test_on_an_emulated_arm_machine(apk_said, steps, expected, tmp_path):
    """Packed on the host for the core that the JVM then runs on, without weights of the artifact's own."""
    try:
        machine = emulated_arm()
    except BuildError as error:
        give_up(f"the native runner is not run on ARM: {error}")
    [made] = export(checkpoint_path(), tmp_path / "out", "int8", prove=False, pack_for=["dotprod"], packed_only=True)
    said, mine = app_steps(native_harness(machine), made, steps[:1], tmp_path / "run")
    assert "error" not in said[0], said
    assert said[0]["packed_for"] == "dotprod"
    wanted = expected.reshape(-1, mine.size)[0]
    assert mine.argmax() == wanted.argmax() and np.abs(mine - wanted).max() < 0.05 * np.abs(wanted).max()


def test_what_was_found_is_asked_again_when_the_file_has_changed(native_x86, bundles, tmp_path):
    bundle = copied(bundles[True], tmp_path / "bundle")
    assert "error" not in app_steps(native_x86, bundle, [("prefill", [1, 2, 3])], tmp_path / "run")[0][0]
    flip(bundle)
    assert "it is damaged" in app_steps(native_x86, bundle, [("prefill", [1, 2, 3])], tmp_path / "run")[0][0]["error"]
    flip(bundle)
    change(bundle, lambda manifest: manifest["packed"]["files"][0].update(largest=[0.0] * len(manifest["packed"]["files"][0]["largest"])))
    assert "other logits than the recorded" in app_steps(native_x86, bundle, [("prefill", [1, 2, 3])], tmp_path / "run")[0][0]["error"]
