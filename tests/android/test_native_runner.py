"""android-demo/native in a JVM: the app's own classes on LiteRT's library of the Python wheel, held against Python's runner byte for byte."""

import json
import shutil

import numpy as np
import pytest
from android.failure import BuildError
from android.natives.checks import tokens_of
from android.natives.machines import emulated_arm
from android.natives.native_runner import NAME, native_harness
from android.natives.steps import app_steps, python_steps
from building import give_up

from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.file_hash import hash_file
from firsttoken.pipeline import export
from firsttoken.run.open import open_runner

pytestmark = pytest.mark.slow
SYSTEM = "Answer in one sentence. " + " ".join(f"Rule {number}: be brief." for number in range(20))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The demo checkpoint in INT8, with a system prompt that the bundle keeps."""
    [made] = export(
        checkpoint_path(), tmp_path_factory.mktemp("kept"), plan="int8", targets=["tflite-xnnpack"], prove=False, system_prompt=SYSTEM
    )
    return made


def turns(bundle):
    """Prompts below and above the cache's first step, decoding across it, the next turn of a chat, a turn taken back, and a long one on top."""
    t = tokens_of(bundle, 900)
    return [
        ("prefill", t[:20]),
        ("decode", t[20:24]),
        ("reset", []),
        ("prefill", t[:250]),
        ("decode", t[250:262]),
        ("keep", t[:262] + t[300:340]),
        ("decode", t[5:8]),
        ("keep", t[:100] + t[600:620]),
        ("decode", t[:4]),
        ("keep", t[:100] + t[600:620] + t[:4] + t[10:500]),
        ("decode", t[:3]),
    ]


def same(said, mine, wanted, kept):
    assert [line.get("error") for line in said] == [None] * len(said)
    assert {line["runner"] for line in said} == {"native"}
    assert [line["kept"] for line in said if "kept" in line] == kept
    assert mine.size == wanted.size and np.abs(wanted).max() > 1
    assert mine.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("plan", ["int8", "fp16-attention"])
def test_logits_are_the_python_runners_bytes(native_x86, bundle, tmp_path, plan):
    made = bundle(plan, "tflite-xnnpack")
    steps = turns(made)
    said, mine = app_steps(native_x86, made, steps, tmp_path / "run")
    before, wanted = python_steps(made, steps)
    same(said, mine, wanted, before)
    assert before == [262, 100, 124]


def test_rows_of_a_kept_system_prompt(native_x86, kept, tmp_path):
    """The bundle's rows are taken where the tokens begin with the prompt's, again after other ones, and not where they do not."""
    t = tokens_of(kept, 400)
    rows = open_runner(kept).prefix.tokens.tolist()
    steps = [("keep", rows + t[:30]), ("decode", t[30:33]), ("keep", t[:40]), ("decode", t[40:42]), ("keep", rows + t[50:60])]
    said, mine = app_steps(native_x86, kept, steps, tmp_path / "run")
    before, wanted = python_steps(kept, steps)
    same(said, mine, wanted, before)
    assert before == [len(rows), 0, len(rows)] and len(rows) > 100


def test_packed_weights_are_kept_and_a_bad_file_is_noticed_before_it_is_used(native_x86, bundle, tmp_path):
    made = bundle("int8", "tflite-xnnpack")
    t = tokens_of(made, 30)
    steps = [("prefill", t[:20]), ("decode", t[20:22])]
    _, wanted = python_steps(made, steps)
    facts = read_manifest(made).facts(read_manifest(made).cpu)
    packed = tmp_path / "packed" / f"{facts.sha256}.litert-{native_x86.version}.cache"

    def start():
        said, mine = app_steps(native_x86, made, steps, tmp_path / "run")
        same(said, mine, wanted, [])
        assert sorted(path.name for path in packed.parent.iterdir()) == [
            f"{facts.sha256}.artifact.json",
            packed.name,
            f"{packed.name}.json",
        ]
        return packed.stat().st_mtime_ns, hash_file(packed)

    first = start()
    assert start() == first, "the second start packs nothing"
    whole = packed.read_bytes()
    assert len(whole) > facts.bytes / 4
    damages = {
        "zeros amid the weights": whole[: len(whole) // 2] + bytes(4096) + whole[len(whole) // 2 + 4096 :],
        "half": whole[: len(whole) // 2],
        "another model's": bytes(reversed(whole)),
    }
    for what, damaged in damages.items():
        packed.write_bytes(damaged)
        time, sha256 = start()
        assert (time != first[0], sha256) == (True, first[1]), what
    (packed.with_name(packed.name + ".json")).unlink()
    assert start()[1] == first[1], "a file without a note is packed anew"


def test_a_damaged_artifact_never_reaches_the_runtime(native_x86, bundle, tmp_path):
    made = shutil.copytree(bundle("int8", "tflite-xnnpack"), tmp_path / "bundle")
    model = made / read_manifest(made).cpu.file
    steps = [("prefill", [1, 2, 3])]
    whole = model.read_bytes()
    for damaged in (whole[:1000] + bytes(1000) + whole[2000:], whole[:-1000] + bytes(1000)):
        model.write_bytes(damaged)
        said, _ = app_steps(native_x86, made, steps, tmp_path / "run")
        assert "its SHA-256 is not the manifest's; it is damaged, copy the bundle again" in said[0]["error"]
    model.write_bytes(whole[:1000])
    assert "bytes" in app_steps(native_x86, made, steps, tmp_path / "run")[0][0]["error"]
    model.write_bytes(whole)
    assert "error" not in app_steps(native_x86, made, steps, tmp_path / "run")[0][0]


def test_what_is_wrong_is_said_and_ends_no_process(native_x86, bundle, tmp_path):
    made = bundle("int8", "tflite-xnnpack")
    manifest = read_manifest(made)
    whole = (made / manifest.cpu.file).read_bytes()
    files = {"empty": b"", "text": b"no model " * 1000, "half": whole[: len(whole) // 2], "head": bytes(64) + whole[64:]}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    [first] = [method for method in manifest.cpu.methods if method.name == "first"]
    tokens = 7
    job = {
        "mode": "misuse",
        "model": str(made / manifest.cpu.file),
        "damaged": [str(tmp_path / name) for name in (*files, "nowhere")],
        "tokens": tokens,
        "shapes": {t.name: [tokens if isinstance(n, str) else n for n in t.shape] for t in [*first.inputs, *first.outputs]},
        "into": str(tmp_path / "said"),
        "native": native_x86.native(tmp_path / "packed"),
    }
    native_x86.run(job)
    said = {line["what"]: line.get("error") for line in map(json.loads, (tmp_path / "said").read_text().splitlines())}
    fine = {"what is right to reserve", "what is right after all that", "close twice"}
    fine |= {f"kernels of {name}" for name in files}
    assert {what for what, error in said.items() if error is None} == fine and len(said) == 33
    assert "failed with status 501 (invalid flatbuffer); export the bundle again" in said["open half"]
    assert "libNoLiteRt.so" in said["no library"] and "has no LiteRtCreateEnvironment" in said["another library"]
    assert "expected [28] at most" in said["more than was reserved"]
    assert "returned 'key.0' of shape" in said["outputs that are too small"]
    assert "the model is closed" in said["run after close"] and "the model is closed" in said["a program's tensor after close"]


def test_without_the_library_the_reason_is_said(native_x86, bundle, tmp_path):
    """The Java way is next, which in this JVM has no library either."""
    made, steps = bundle("int8", "tflite-xnnpack"), [("prefill", [1, 2, 3])]
    said, mine = app_steps(native_x86, made, steps, tmp_path / "run", libraries=tmp_path)
    assert mine.size == 0 and "tensorflowlite_jni" in said[0]["error"]
    assert NAME not in said[0]["error"]


def test_on_an_emulated_arm_machine(apk_said, bundle, tmp_path):
    """Held against the wheel's library on this machine, whose kernels round otherwise: near, and the same top token."""
    try:
        machine = emulated_arm()
    except BuildError as error:
        give_up(f"the native runner is not run on ARM: {error}")
    made = bundle("fp32", "tflite-xnnpack")
    t = tokens_of(made, 300)
    steps = [("prefill", t[:20]), ("decode", t[20:22]), ("keep", t[:22] + t[40:60])]
    said, mine = app_steps(native_harness(machine), made, steps, tmp_path / "run")
    before, wanted = python_steps(made, steps)
    assert [line.get("error") for line in said] == [None] * 3 and {line["runner"] for line in said} == {"native"}
    assert [line["kept"] for line in said if "kept" in line] == before
    mine, wanted = (rows.reshape(4, -1) for rows in (mine, wanted))
    assert np.abs(mine - wanted).max() < 1e-4 * wanted.std()
    assert (mine.argmax(1) == wanted.argmax(1)).all()
