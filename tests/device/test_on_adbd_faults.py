"""`firsttoken device profile` against a real adbd when the phone or the app does not play along."""

import json
from pathlib import Path

import pytest
from flow import OUT, SHORT, counts, measured, profile, rewrite_bundle, run, sessions

from firsttoken.device import staging
from firsttoken.device.staging import local_bundle

pytestmark = pytest.mark.slow
COMPLETE = {(32, "warm-up"): 1, (32, "warm"): 2}


def complaint(capsys) -> str:
    """The last line on standard error, which must be the error."""
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and "\x1b" not in line
    return line


def test_no_space_is_told_before_anything_is_pushed(phones, bundle, capsys):
    phone = phones(data_bytes=32 << 20)
    assert profile(bundle, *SHORT) == 2
    line = complaint(capsys)
    assert "not enough space; needs 68.7 MiB, 32.0 MiB are free" in line and "device clean" in line
    assert phone.files() == {} and not OUT.exists() and sessions() == []


def test_space_that_runs_out_in_the_middle_of_a_push(phones, bundle, capsys, monkeypatch):
    """As when another app fills the phone meanwhile: ENOSPC from the phone itself, and the partial file does not stay."""
    monkeypatch.setattr(staging, "check_space", lambda adb, needed: None)
    phone = phones(data_bytes=3 << 20)
    assert profile(bundle, *SHORT) == 2
    assert "not enough space" in complaint(capsys)
    assert not [path for path in phone.files() if local_bundle(bundle).files[0].sha256 in path]


def test_locked(phones, bundle, capsys):
    phone = phones(locked=True)
    assert profile(bundle, *SHORT) == 2
    assert "locked; unlock it" in complaint(capsys)
    assert phone.files() == {}


def test_a_dark_screen_and_a_lock_without_secret_are_no_obstacle(phones, bundle):
    phone = phones(awake=False, swipe=True)
    assert profile(bundle, *SHORT) == 0
    assert ["input", "keyevent", "KEYCODE_WAKEUP"] in phone.commands() and ["wm", "dismiss-keyguard"] in phone.commands()


def test_too_hot_then_cool(phones, bundle, capsys):
    phone = phones(temperature=41.0, thermal_status=2, cools_by=1.0, coolest=30.0)
    assert profile(bundle, *SHORT, "--max-temp", "34", "--cooldown", "60") == 0
    assert "cooling, 60 s at most (40.0 °C, thermal status moderate)" in capsys.readouterr().out
    assert measured().results[0].before.temperatures["skin/skin"] <= 34
    assert phone.state()["starts"] == 1


@pytest.mark.parametrize(
    ("heat", "options", "said"),
    [
        ({"temperature": 41.0}, ("--max-temp", "34"), "too hot (41.0 °C, above --max-temp 34)"),
        ({"temperature": 44.0, "thermal_status": 3}, (), "too hot (thermal status severe at 44.0 °C"),
    ],
)
def test_too_hot(phones, bundle, capsys, heat, options, said):
    phones(**heat)
    assert profile(bundle, *SHORT, "--cooldown", "0.1", *options) == 2
    assert said in complaint(capsys) and not OUT.exists()


def test_cooling_between_bundles(phones, two_bundles, capsys):
    """Hot only after the first bundle: the second one waits, the first one did not."""
    phone = phones(temperature=30.0, coolest=30.0, app={"seconds": 0.3})
    from threading import Thread

    def warm_up():
        from flow import until

        until(lambda: phone.state()["app_pid"])
        phone.set(temperature=38.0, thermal_status=1, cools_by=2.0)

    thread = Thread(target=warm_up)
    thread.start()
    assert profile(*two_bundles, *SHORT) == 0
    thread.join()
    assert "cooling" in capsys.readouterr().out
    _first, second = measured().results
    assert second.before.temperatures["skin/skin"] <= 32.0


@pytest.mark.parametrize(
    ("dies", "said"),
    [
        (
            "java",
            "java.lang.IllegalStateException: Internal error: Failed to apply XNNPACK delegate (Caused by: java.lang.OutOfMemoryError",
        ),
        ("native", "signal 6 (SIGABRT): In function evaluate(), assert failed (tensor): out of range in libc.so (abort+168)"),
        ("memory", "Android killed it because memory ran out at 1.9GB resident"),
    ],
)
def test_a_crash_is_told_with_its_reason_and_the_other_bundle_goes_on(phones, two_bundles, capsys, dies, said):
    phone = phones(app={"seconds": 0.02, "dies": dies, "times": 1})
    assert profile(*two_bundles, *SHORT) == 3
    captured = capsys.readouterr()
    assert said in captured.out and said in captured.err
    crashed, done = measured().results
    assert not crashed.runs[1:] and crashed.failures[0].stage == "crash" and said in crashed.failures[0].message and crashed.after is None
    assert counts(measured())[1] == COMPLETE and not done.failures
    # the same command does what is left, and only that
    starts = phone.state()["starts"]
    assert profile(*two_bundles, *SHORT) == 0
    assert "2 of 4 runs are done" in capsys.readouterr().out
    assert counts(measured())[1] == COMPLETE and not measured().results[0].failures and counts(measured())[0][32, "warm"] == 2
    assert phone.state()["starts"] == starts + 1 and sessions() == []


def test_a_crash_after_finished_runs_is_tried_again_at_once(phones, bundle, capsys):
    phone = phones(app={"seconds": 0.02, "dies": "java", "after": 1, "times": 1})
    assert profile(bundle, "--prompts", "32", "--repeat", "4") == 0
    assert "starting it again, 1 of 4 runs are kept" in capsys.readouterr().out
    assert counts(measured()) == [{(32, "warm-up"): 2, (32, "warm"): 4}]
    assert phone.state()["starts"] == 2


def test_a_failing_prompt_is_a_failure_and_the_others_go_on(phones, bundle, capsys):
    phones(app={"seconds": 0.02, "fails_at": 64})
    assert profile(bundle, "--prompts", "32,64", "--repeat", "2") == 3
    assert "prefill: not enough memory for the cache" in capsys.readouterr().err
    [result] = measured().results
    assert counts(measured())[0][32, "warm"] == 2 and [failure.prompt_tokens for failure in result.failures] == [64]


def test_the_app_refuses(phones, bundle, capsys):
    phones(app={"seconds": 0.02, "refuse": "no engine for executorch in this APK"})
    assert profile(bundle, *SHORT) == 3
    assert "the app refused: no engine for executorch in this APK" in capsys.readouterr().err
    assert not OUT.exists()  # there is nothing in it yet


def test_what_was_measured_before_the_app_refused_is_kept(phones, bundle, capsys):
    phones(app={"seconds": 0.02, "full_after": 2})
    assert profile(bundle, "--prompts", "32", "--repeat", "4") == 3
    assert "the app refused: the measurement cannot be written (No space left on device)" in capsys.readouterr().err
    assert counts(measured())[0][32, "warm"] == 2


SPOILT = {
    "truncated": "not valid JSON",
    "deep": "not valid JSON",
    "huge": "1073741824 bytes; expected a measurement of at most",
    "gone": "there is no measurement file",
    "field": "is not a known field",
    "hash": "artifact_sha256 of its bundle is 'ffff",
    "infinite": "Infinity is not a JSON number",
}


def test_bad_measurement_files_are_refused(phone, bundle, capsys):
    for spoils, said in SPOILT.items():
        phone.set(app={"seconds": 0.01, "spoils": spoils})
        assert profile(bundle, "--prompts", "32", "--repeat", "1", "--force") == 3, spoils
        captured = capsys.readouterr()
        assert said in captured.err, spoils
        assert "\x1b" not in captured.err + captured.out and "Traceback" not in captured.err
        assert not OUT.exists()
    # a good one later, under the same id
    phone.set(app={"seconds": 0.01})
    phone.shell("rm -rf /sdcard/Android/media/dev.firsttoken.demo")
    assert profile(bundle, "--prompts", "32", "--repeat", "1") == 0
    assert not measured().results[0].failures


def test_bad_progress_lines_are_refused(phone, bundle, capsys):
    for line in ("not json", '{"event": "run", "done": "many"}'):
        phone.set(app={"seconds": 0.02, "progress": line})
        assert profile(bundle, *SHORT, "--force") == 2, line
        assert "progress of request" in complaint(capsys)


def test_unknown_progress_is_ignored(phones, bundle):
    phones(app={"seconds": 0.02, "progress": '{"event": "mood", "of": "the phone"}'})
    assert profile(bundle, *SHORT) == 0


def test_a_damaged_file_on_the_way(phones, bundle, capsys, tmp_path, monkeypatch):
    """The file changes after it was hashed here, as a bad cable would change it."""
    folder = rewrite_bundle(bundle, tmp_path / "changing", artifact=b"right" * 1000)
    phone = phones()
    real = staging.push

    def push(adb, local, remote, size, progress=lambda done: None):
        real(adb, local, remote, size, progress)
        if local.suffix == ".tflite":
            path = phone.root / remote.lstrip("/")
            path.write_bytes(b"wrong" + path.read_bytes()[5:])

    monkeypatch.setattr(staging, "push", push)
    assert profile(folder, *SHORT) == 2
    assert "arrived damaged" in complaint(capsys)
    assert not [path for path in phone.files() if path.endswith(".tflite")]


def test_no_phone_and_which_phone(phones, bundle, capsys):
    assert run("list") == 1 and "No phone connected" in capsys.readouterr().out
    assert run("list", "--json") == 1
    told = capsys.readouterr()
    assert json.loads(told.out) == {"devices": []} and told.err.startswith("No phone connected")
    assert profile(bundle, *SHORT) == 2
    assert "no device connected; switch on USB debugging" in complaint(capsys)
    phones("a"), phones("b")
    assert profile(bundle, *SHORT) == 2
    assert "2 devices are connected (localhost:" in complaint(capsys)
    assert profile(bundle, *SHORT, "--serial", "x; touch pwned") == 2
    assert "'x; touch pwned' is not connected" in complaint(capsys)
    assert not Path("pwned").exists()


def test_too_old_an_android(phones, bundle, capsys, monkeypatch):
    from firsttoken.device import ready

    monkeypatch.setattr(ready, "OLDEST_SDK", 35)
    phones()
    assert profile(bundle, *SHORT) == 2
    assert "Android 14 (API 34); the app needs Android 8" in complaint(capsys)


def test_low_battery_and_saver_are_noted(phones, bundle, capsys):
    phones(battery=9, battery_saver=True)
    assert profile(bundle, *SHORT) == 0
    out = capsys.readouterr().out
    assert "battery at 9 %" in out and "battery saver is on" in out


def test_what_must_not_be_lost(phone, two_bundles, bundle, capsys):
    """A finished measurement is not overwritten, an unfinished one not mixed with another."""
    assert profile(bundle, *SHORT, "--resume") == 2
    assert "no unfinished profile" in complaint(capsys)
    assert profile(bundle, *SHORT) == 0
    finished = OUT.read_bytes()
    assert profile(bundle, *SHORT) == 2
    assert "already exists; replace it with --force" in complaint(capsys) and OUT.read_bytes() == finished
    phone.set(app={"seconds": 0.02, "dies": "java", "times": 1})
    assert profile(*two_bundles, *SHORT, "--force") == 3
    capsys.readouterr()
    for other in ((*two_bundles, *SHORT, "--threads", "2"), (bundle, *SHORT)):
        assert profile(*other) == 2
        assert "an unfinished profile is there, but it" in complaint(capsys)
    Path(sessions()[0]).write_text("{}")
    assert profile(*two_bundles, *SHORT) == 2
    assert "start over with --force" in complaint(capsys)
    assert profile(*two_bundles, *SHORT, "--force") == 0
    assert counts(measured()) == [COMPLETE] * 2


def test_a_bundle_given_twice(phone, bundle, tmp_path, capsys):
    assert profile(bundle, bundle, *SHORT) == 2
    assert "give each once" in complaint(capsys)


def test_an_output_that_cannot_be_written(phone, bundle, capsys):
    assert profile(bundle, *SHORT, output=Path("nowhere/x.measurement.json")) == 2
    assert "folder nowhere does not exist" in complaint(capsys)
    assert phone.files() == {}
