"""`firsttoken device` against a real adbd: the whole flow, what is pushed, what stays on the phone."""

import hashlib
import json
import shutil
import stat
import zipfile
from pathlib import Path

import pytest
from flow import OUT, SHORT, counts, measured, profile, rewrite_bundle, run, sessions

from firsttoken import cli
from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.device.fitting_target import APK_NAME
from firsttoken.device.staging import local_bundle
from firsttoken.measure.measurement import identify_bundle

pytestmark = pytest.mark.slow
APKS = Path(__file__).parent / "apks"


def test_the_whole_flow(phone, two_bundles, capsys):
    """Two bundles, warm and cold, to one measurement file with everything in it."""
    assert profile(*two_bundles, "--prompts", "32,64", "--repeat", "2", "--cold") == 0
    out = capsys.readouterr().out
    measurement = measured()
    assert counts(measurement) == [{(64, "warm-up"): 1, (32, "warm"): 2, (64, "warm"): 2, (32, "cold"): 2, (64, "cold"): 2}] * 2
    device = measurement.device
    assert (device.kind, device.model, device.manufacturer, device.hexagon) == ("phone", "SM-S928B", "samsung", "V75")
    assert device.soc == "Snapdragon 8 Gen 3 (SM8650-AC)" and device.system == "Android 14 (API 34)"
    assert (
        device.cpu.cores == 8
        and device.cpu.clusters == {"3398400": 1, "3148800": 3, "2956800": 2, "2265600": 2}
        and "i8mm" in device.cpu.flags
    )
    assert device.memory_bytes == 11534336 * 1024 and len(device.identity) == 12
    for folder, result in zip(two_bundles, measurement.results, strict=True):
        assert result.bundle == identify_bundle(folder.name, read_manifest(folder))
        assert result.runtime_version == "LiteRT 2.3.0 (emulated)" and result.threads == 4 and not result.failures
        for state in (result.before, result.after):
            # from adb, which knows the sensors; the app's own has none
            assert state.temperatures["skin/skin"] == 29.0 and state.battery_percent == 72 and state.charging is False
            assert state.governors == ["walt"] and state.available_memory_bytes == 6291456 * 1024
        times = [one.at_seconds for one in result.runs]
        assert times == sorted(times)
        assert {one.page_cache for one in result.runs if one.state == "cold"} == {"unknown"}
        assert all((one.stages.load is not None) == (one.state == "cold") for one in result.runs)
        assert len({one.stages.first_token for one in result.runs}) == len(result.runs)
        assert any(one.temperature == 38.7 for one in result.runs)
    assert measurement.results[1].runs[0].at_seconds > measurement.results[0].runs[-1].at_seconds
    assert sessions() == []
    assert "tflite-xnnpack" in out and "SM-S928B" in out and str(OUT) in out
    # on the phone only the bundles stay, the app is stopped
    assert sorted({path.split("/")[3] for path in phone.files()}) == ["bundles"]
    assert phone.state()["app_pid"] is None


def test_nothing_is_pushed_twice(phone, two_bundles, capsys):
    first, second = (local_bundle(folder) for folder in two_bundles)
    assert profile(first.folder, *SHORT) == 0
    place = phone.staging / "bundles" / first.key
    before = {path.name: path.stat().st_ino for path in place.iterdir()}
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in place.iterdir()} == {
        file.name: file.sha256 for file in first.files
    }
    assert "pushed" in capsys.readouterr().out
    # another bundle with the same tokenizer, and the first one again
    assert profile(first.folder, second.folder, *SHORT, output=Path("two.measurement.json")) == 0
    shared = {file.sha256 for file in first.files}
    new = sum(file.bytes for file in second.files if file.sha256 not in shared)
    from firsttoken.units import readable

    assert new < sum(file.bytes for file in second.files)
    assert f"{readable(new)} pushed" in capsys.readouterr().out
    assert {path.name: path.stat().st_ino for path in place.iterdir()} == before
    assert profile(second.folder, first.folder, *SHORT, output=Path("again.measurement.json")) == 0
    assert "nothing to push" in capsys.readouterr().out


def test_staged_files_may_be_read_by_apps_and_by_nobody_changed(phone, bundle):
    assert profile(bundle, *SHORT) == 0
    for path in phone.staging.rglob("*"):
        facts = path.lstat()
        assert stat.S_IMODE(facts.st_mode) == (0o755 if path.is_dir() else 0o644) and (path.is_dir() or stat.S_ISREG(facts.st_mode)), path


def test_a_file_of_the_wrong_size_on_the_phone_is_pushed_again(phone, bundle, capsys):
    key = local_bundle(bundle).key
    assert profile(bundle, *SHORT) == 0
    tokenizer = phone.staging / "bundles" / key / "tokenizer.json"
    tokenizer.write_bytes(tokenizer.read_bytes()[:-1])
    capsys.readouterr()
    assert profile(bundle, *SHORT, "--force") == 0
    assert "nothing to push" not in capsys.readouterr().out
    assert tokenizer.read_bytes() == (bundle / "tokenizer.json").read_bytes()


HOSTILE = "-rf $(touch pwned) `touch pwned`; touch pwned & 'a' \"b\" \\ *?~ ü"


def test_hostile_names_are_only_names(phone, bundle, tmp_path, capsys):
    """Spaces, quotes, $(), newlines and leading dashes in the bundle's folder, the artifact and the output."""
    folder = rewrite_bundle(bundle, tmp_path / (HOSTILE + "\n\x1b[31mred"), artifact=b"an artifact of its own", name=HOSTILE + ".tflite")
    output = Path(f"./{HOSTILE}\n.measurement.json")
    assert profile(folder, *SHORT, output=output) == 0
    [result] = measured(output).results
    assert result.bundle.name == folder.name and len(result.runs) == 3
    assert (phone.staging / "bundles" / local_bundle(folder).key / (HOSTILE + ".tflite")).read_bytes() == b"an artifact of its own"
    assert not list(phone.root.rglob("pwned")) and not list(Path().rglob("pwned")) and not list(tmp_path.glob("pwned"))
    captured = capsys.readouterr()
    assert "\x1b[31m" not in captured.out + captured.err


def test_an_artifact_name_that_is_no_plain_name_is_refused(phone, bundle, tmp_path, capsys):
    folder = rewrite_bundle(bundle, tmp_path / "newline", name="model\n.tflite")
    assert profile(folder, *SHORT) == 2
    assert "not a plain, printable name" in capsys.readouterr().err
    assert phone.files() == {}


def test_install_list_and_clean(phones, bundle, capsys, tmp_path):
    phone = phones(installed=False)
    assert profile(bundle, *SHORT) == 2
    assert "firsttoken device install APK" in capsys.readouterr().err
    apk = tmp_path / "-app's $(x).apk"
    with zipfile.ZipFile(apk, "w") as archive:
        archive.writestr("AndroidManifest.xml", b"\x03\0" + "dev.firsttoken.demo".encode("utf-16-le"))
        archive.writestr("classes.dex", b"dex")
    assert run("install", apk) == 0
    assert "installed" in capsys.readouterr().out
    assert (phone.root / "data/app/dev.firsttoken.demo-1/base.apk").read_bytes() == apk.read_bytes()
    assert phone.files() == {}
    assert run("install", apk) == 0
    assert "installed already" in capsys.readouterr().out
    assert sum(call[:2] == ["pm", "install"] for call in phone.commands()) == 1
    assert run("list") == 0
    listed = capsys.readouterr().out
    assert all(text in listed for text in (phone.serial, "samsung SM-S928B", "V75", "14 (API 34)", "ready"))
    assert run("list", "--json") == 0
    [listed] = json.loads(capsys.readouterr().out)["devices"]
    assert (listed["serial"], listed["state"], listed["kind"], listed["model"]) == (phone.serial, "device", "phone", "SM-S928B")
    assert listed["memory_bytes"] == 11534336 * 1024 and listed["free_bytes"] > 0
    assert profile(bundle, *SHORT, "--json") == 0
    [told] = json.loads(capsys.readouterr().out)["phones"]
    assert told["runs"] == told["total"] > 0 and told["failed"] == [] and told["output"] == str(OUT)
    assert told["measurement"] == json.loads(OUT.read_text())
    phone.shell(
        "mkdir -p /sdcard/Android/media/dev.firsttoken.demo/measurements && touch /sdcard/Android/media/dev.firsttoken.demo/measurements/x.json"
    )
    capsys.readouterr()
    assert run("clean") == 0
    out = capsys.readouterr().out
    assert "/data/local/tmp/firsttoken (" in out and "the app" in out
    assert phone.files() == {} and not phone.staging.exists() and not phone.media.exists()
    assert not (phone.root / "data/app/dev.firsttoken.demo-1").exists()
    assert run("clean") == 0
    assert "nothing of ours" in capsys.readouterr().out


def test_clean_may_keep_the_app(phone, bundle, capsys):
    assert profile(bundle, *SHORT) == 0
    assert run("clean", "--keep-app") == 0
    assert not phone.staging.exists() and (phone.root / "data/app/dev.firsttoken.demo-1").exists()


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ("INSTALL_FAILED_UPDATE_INCOMPATIBLE: Package dev.firsttoken.demo signatures do not match", "device clean"),
        ("INSTALL_FAILED_USER_RESTRICTED: Install canceled by user", "Install via USB"),
        ("INSTALL_FAILED_SOMETHING_NEW: because", "INSTALL_FAILED_SOMETHING_NEW: because"),
    ],
)
def test_install_refused(phones, capsys, tmp_path, refusal, said):
    phone = phones(installed=False, install_refusal=refusal)
    apk = tmp_path / "app.apk"
    with zipfile.ZipFile(apk, "w") as archive:
        archive.writestr("AndroidManifest.xml", "dev.firsttoken.demo")
    assert run("install", apk) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert phone.files() == {}


def test_two_phones_at_once(phones, bundle, capsys):
    first, second = phones("first"), phones("second", model="android15-oneplus")
    assert profile(bundle, *SHORT) == 2
    assert "--serial" in capsys.readouterr().err and not OUT.exists()
    assert run("profile", bundle, *SHORT, "--all", "-o", "both.measurement.json") == 0
    found = {path.name: measured(path) for path in Path().glob("*.measurement.json")}
    assert len(found) == 2 and all(name.startswith("both-") for name in found)
    assert {one.device.model: one.device.hexagon for one in found.values()} == {"SM-S928B": "V75", "CPH2653": "V79"}
    assert all(counts(one) == [{(32, "warm-up"): 1, (32, "warm"): 2}] for one in found.values())
    # one of them alone, by its serial number
    assert profile(bundle, *SHORT, "--serial", second.serial) == 0
    assert measured().device.model == "CPH2653"
    assert first.state()["starts"] == 1 and second.state()["starts"] == 2


def test_one_of_two_phones_fails(phones, bundle, capsys):
    phones("good")
    phones("locked", model="android15-oneplus", locked=True)
    assert run("profile", bundle, *SHORT, "--all") == 2
    assert "locked" in capsys.readouterr().err
    [done] = Path().glob("*.measurement.json")
    assert measured(done).device.model == "SM-S928B"


def test_a_phone_without_thermal_service(phones, two_bundles, capsys):
    """As on Android 8: nothing is known of its heat but the battery's."""
    phones(model="android8-pixel2", thermal_service=False)
    assert profile(*two_bundles, *SHORT, "--cooldown", "1") == 0
    measurement = measured()
    assert measurement.device.hexagon is None and measurement.device.soc == "msm8998"
    assert measurement.results[0].before.thermal_status is None or measurement.results[0].before.thermal_status == 0
    assert list(measurement.results[0].before.temperatures) == ["battery/battery"]


def test_what_the_installed_app_does_not_run_is_refused_before_anything_is_copied(phones, two_bundles, capsys):
    phone = phones(installed=False)
    assert run("install", APKS / "tensorflow-lite.apk") == 0
    assert "installed; it carries TensorFlow Lite 2.16.1, and runs what `firsttoken export CHECKPOINT --for-apk" in capsys.readouterr().out
    assert profile(*two_bundles, *SHORT) == 2
    said = capsys.readouterr().err
    assert "the app there does not run tflite-xnnpack (it needs LiteRT 2.0 or newer, and the app carries TensorFlow Lite 2.16.1)" in said
    assert "-t tflite-compat" in said and "nothing was copied" in said and "not run tflite-compat" not in said
    assert phone.files() == {} and not OUT.exists() and sessions() == []
    assert run("install", APKS / "litert-executorch.apk") == 0
    assert profile(*two_bundles, *SHORT) == 0


def test_the_defaults_meet_whatever_the_apk_carries(phones, tmp_path, capsys):
    """An APK, an export without a target and a profile: what is written for the APK in the folder is what the app there runs."""
    phones(installed=False)
    for apk, target in (("tensorflow-lite", "tflite-compat"), ("litert-executorch", "tflite-xnnpack")):
        out = tmp_path / apk
        out.mkdir()
        shutil.copy(APKS / f"{apk}.apk", out / APK_NAME)
        assert run("install", out / APK_NAME) == 0
        assert cli.run(["export", str(checkpoint_path()), "-o", str(out), "--no-prove"]) == 0
        assert f"exporting for {target}" in capsys.readouterr().out
        assert profile(out, *SHORT, output=Path(f"{apk}.measurement.json")) == 0
        [result] = measured(Path(f"{apk}.measurement.json")).results
        assert result.bundle.name == target and result.bundle.target == target
        assert "left out" not in capsys.readouterr().out


def test_of_a_folder_of_bundles_what_the_app_runs_is_measured(phones, two_bundles, tmp_path, capsys):
    phone = phones(installed=False)
    assert run("install", APKS / "tensorflow-lite.apk") == 0
    folder = tmp_path / "out"
    for name, bundle in {"one": two_bundles[0], "two": two_bundles[1], "two.rejected-2": two_bundles[1]}.items():
        shutil.copytree(bundle, folder / name)
    (folder / "notes").mkdir()
    assert profile(folder, *SHORT) == 0
    assert [result.bundle.name for result in measured().results] == ["two"]
    assert "left out, since the app there does not run it: one (it needs LiteRT 2.0 or newer" in capsys.readouterr().out
    assert len(list((phone.staging / "bundles").iterdir())) == 1
    shutil.rmtree(folder / "two")
    assert profile(folder, *SHORT, "--force") == 2
    assert "does not run one (it needs LiteRT 2.0" in capsys.readouterr().err
    assert profile(folder / "notes", *SHORT, "--force") == 2
    assert "manifest.json" in capsys.readouterr().err
