"""Why the app is gone, from logs of Android 8 to 15."""

import outputs
import pytest

from firsttoken.device.crash import parse_crash, parse_exit_info, parse_low_memory


def test_a_java_exception_with_its_last_cause():
    text = outputs.JAVA_CRASH.format(pid=100) + outputs.JAVA_CRASH.replace("IllegalStateException", "Error").format(pid=200)
    expected = "java.lang.IllegalStateException: Internal error: Failed to apply XNNPACK delegate (Caused by: java.lang.OutOfMemoryError: Failed to allocate a 536870928 byte allocation)"
    assert parse_crash(text, 100) == expected
    assert parse_crash(text, None).startswith("java.lang.Error")  # the last one
    assert parse_crash(text, 300) is None and parse_crash("", None) is None


def test_a_native_crash():
    assert (
        parse_crash(outputs.NATIVE_CRASH.format(pid=100), 100)
        == "signal 6 (SIGABRT): In function evaluate(), assert failed (tensor): out of range in libc.so (abort+168)"
    )
    other = outputs.NATIVE_CRASH.replace("dev.firsttoken.demo", "com.example.other")
    assert parse_crash(other.format(pid=100), 100) is None


@pytest.mark.parametrize(
    ("reason", "description", "said"),
    [
        ("3 (LOW_MEMORY)", "null", "Android killed it because memory ran out at 1.9GB resident"),
        ("4 (APP CRASH(EXCEPTION))", "crash", "an uncaught exception: crash"),
        ("5 (APP CRASH(NATIVE))", "crash", "a crash in native code: crash"),
        (
            "10 (USER REQUESTED)",
            "stop dev.firsttoken.demo due to from pid 9",
            "it was stopped by the user or a command: stop dev.firsttoken.demo due to from pid 9",
        ),
        ("99 (NEW REASON)", "null", "NEW REASON"),
    ],
)
def test_exit_info(reason, description, said):
    text = outputs.EXIT_INFO.format(pid=100, reason=reason, description=description)
    assert parse_exit_info(text, 100) == said
    assert parse_exit_info(text, 101) is None and parse_exit_info("", None) is None


@pytest.mark.parametrize("android", ["android8", "android10", "android12", "died"])
def test_the_low_memory_killer(android):
    text = outputs.LOW_MEMORY_LOG[android].format(pid=100)
    assert "memory" in parse_low_memory(text, 100) and parse_low_memory(text, 101) is None and parse_low_memory("", None) is None
