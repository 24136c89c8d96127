"""`firsttoken device profile` against a real adbd whose connection, phone or command ends in the middle."""

import os
import signal
import threading

import pytest
from flow import OUT, SHORT, background, counts, measured, profile, rewrite_bundle, sessions, until

from firsttoken.device import step
from firsttoken.device.staging import local_bundle

pytestmark = pytest.mark.slow
SLOW = {"seconds": 0.25}  # a run, so that something can happen in its middle


@pytest.fixture
def large_bundle(bundle, tmp_path):
    """A bundle whose artifact takes a moment to push."""
    return rewrite_bundle(bundle, tmp_path / "large", artifact=os.urandom(96 << 20))


def incoming(phone, bundle) -> int:
    """How many bytes of the bundle's artifact have arrived so far."""
    path = phone.staging / "incoming" / local_bundle(bundle).files[0].sha256
    return path.stat().st_size if path.exists() else 0


def test_adbd_killed_in_the_middle_of_a_push(phone, large_bundle, capsys):
    seen = []

    def pull_the_cable():
        until(lambda: incoming(phone, large_bundle))
        phone.unplug()
        seen.append(incoming(phone, large_bundle))

    thread = threading.Thread(target=pull_the_cable)
    thread.start()
    assert profile(large_bundle, *SHORT) == 2
    thread.join()
    assert 0 < seen[0] < 96 << 20
    assert "does not answer any more" in capsys.readouterr().err.splitlines()[-1]
    place = phone.staging / "bundles" / local_bundle(large_bundle).key
    assert not (place / "model.tflite").exists() and not (place / "manifest.json").exists()
    phone.plug()
    phone.connect()
    assert profile(large_bundle, *SHORT) == 0
    assert (place / "model.tflite").stat().st_size == 96 << 20 and not (phone.staging / "incoming").exists()
    assert counts(measured()) == [{(32, "warm-up"): 1, (32, "warm"): 2}]


def unplug_while_running(phone, meanwhile=lambda: None) -> threading.Thread:
    """Pulls the cable once the app has finished a run; then ``meanwhile``."""

    def work():
        until(lambda: phone.media.exists() and any('"event": "run"' in path.read_text() for path in phone.media.rglob("*.progress")))
        phone.unplug()
        meanwhile()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_cable_that_is_plugged_in_again(phones, bundle, capsys):
    """The app goes on meanwhile, and the command only goes on reading."""
    phone = phones(app=SLOW)
    thread = unplug_while_running(phone, lambda: (threading.Event().wait(0.5), phone.plug(), phone.connect()))
    assert profile(bundle, "--prompts", "32", "--repeat", "6") == 0
    thread.join()
    out = capsys.readouterr().out
    assert "waiting 60 s for it" in out and "is back" in out
    assert counts(measured()) == [{(32, "warm-up"): 1, (32, "warm"): 6}]
    assert phone.state()["starts"] == 1 and sessions() == []


def test_a_cable_that_stays_away(phones, two_bundles, capsys, monkeypatch):
    """The first bundle is kept; the second is finished by the phone alone, and the same command later finds it done."""
    monkeypatch.setattr(step, "RECONNECT_SECONDS", 0.3)
    phone = phones(app=SLOW)

    def second_bundle():
        until(lambda: phone.state().get("starts", 0) == 2, 60)
        unplug_while_running(phone)

    thread = threading.Thread(target=second_bundle)
    thread.start()
    assert profile(*two_bundles, "--prompts", "32", "--repeat", "3") == 2
    thread.join()
    line = capsys.readouterr().err.splitlines()[-1]
    assert "3 of 6 runs" in line and "the same command goes on from there" in line
    assert counts(measured()) == [{(32, "warm-up"): 1, (32, "warm"): 3}]
    assert len(sessions()) == 1
    until(lambda: phone.state()["app_pid"] is None)
    phone.plug()
    phone.connect()
    assert profile(*two_bundles, "--prompts", "32", "--repeat", "3", "--resume") == 0
    assert counts(measured()) == [{(32, "warm-up"): 1, (32, "warm"): 3}] * 2
    assert phone.state()["starts"] == 2 and sessions() == []


def test_a_phone_that_restarts(phones, bundle, capsys):
    """The process is gone with it; the same request is started again and keeps its finished runs."""
    phone = phones(app=SLOW)
    thread = unplug_while_running(phone, lambda: (phone.reboot(), phone.connect()))
    assert profile(bundle, "--prompts", "32", "--repeat", "4") == 0
    thread.join()
    assert counts(measured())[0][32, "warm"] == 4 and counts(measured())[0][32, "warm-up"] == 2
    assert phone.state()["starts"] == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_profile_leaves_a_valid_file(phones, bundle, number, code):
    phone = phones(app=SLOW)
    arguments = (bundle, "--prompts", "32", "--repeat", "30")
    process = background("profile", *arguments, "-o", OUT)
    until(
        lambda: phone.media.exists() and any(path.read_text().count('"event": "run"') > 2 for path in phone.media.rglob("*.progress")), 60
    )
    process.send_signal(number)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in err
    assert "interrupted: samsung SM-S928B: " in err and "of 30 runs, the finished ones are in phone.measurement.json" in err
    finished = counts(measured())[0][32, "warm"]
    assert 2 < finished < 30 and phone.state()["app_pid"] is None
    assert measured().results[0].after is None
    phone.set(app={"seconds": 0.01})
    kept = [one.model_dump() for one in measured().results[0].runs]
    assert profile(*arguments) == 0
    assert counts(measured())[0][32, "warm"] == 30
    assert [one.model_dump() for one in measured().results[0].runs][: len(kept)] == kept
    assert measured().results[0].after is not None and sessions() == []


def test_a_killed_command_finds_the_app_still_running(phones, bundle):
    phone = phones(app=SLOW)
    arguments = (bundle, "--prompts", "32", "--repeat", "8")
    process = background("profile", *arguments, "-o", OUT)
    until(lambda: phone.media.exists() and any('"event": "run"' in path.read_text() for path in phone.media.rglob("*.progress")), 60)
    process.kill()
    process.communicate()
    assert not OUT.exists() and len(sessions()) == 1 and phone.state()["app_pid"]
    assert profile(*arguments) == 0
    assert counts(measured()) == [{(32, "warm-up"): 1, (32, "warm"): 8}]
    assert phone.state()["starts"] == 1
