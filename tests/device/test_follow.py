"""Progress lines and the start of the activity."""

import json

import pytest

from firsttoken.device.adb import DeviceError
from firsttoken.device.follow import parse_events, parse_start


def test_whole_lines_count_and_the_rest_waits():
    events, rest = parse_events(b'{"event": "started", "pid": 7, "time": 1, "new": {}}\n\n{"event": "run", "done": 1}\n{"event": "do', "x")
    assert [event.event for event in events] == ["started", "run"] and events[0].pid == 7 and rest == b'{"event": "do'
    assert parse_events(rest + b'ne"}\n', "x")[0][0].event == "done"
    assert parse_events(b"", "x") == ([], b"")


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[1]",
        b'{"event": 5}',
        b'{"event": "run", "done": "many"}',
        b'{"event": "started", "pid": 1e999}',
        b'{"event": "run", "done": true}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"done": 1}',
    ],
)
def test_malformed_lines(line):
    with pytest.raises(DeviceError) as error:
        parse_events(line + b"\n", "progress")
    assert "is the app the one" in str(error.value) and len(str(error.value)) < 400


def test_huge_but_valid():
    events, _ = parse_events(b"".join(json.dumps({"event": "run", "done": n}).encode() + b"\n" for n in range(1000)), "x")
    assert len(events) == 1000


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("Starting: Intent { act=x cmp=y }\nStatus: ok\nLaunchState: COLD\nComplete\n", 0, None),
        ("Starting: Intent { }\nWarning: Activity not started, its current task has been brought to the front\nStatus: ok\n", 0, None),
        # Android 8 exits with 0
        ("Starting: Intent { }\nError type 3\nError: Activity class {a/b} does not exist.\n", 0, "Error type 3"),
        (
            "Starting: Intent { }\njava.lang.SecurityException: Permission Denial: starting Intent { } not exported from uid 10345\n",
            0,
            "java.lang.SecurityException: Permission Denial",
        ),
        ("Security exception: Permission Denial\n", 255, "Security exception"),
        ("", 1, "exit status 1"),
    ],
)
def test_start(text, code, said):
    found = parse_start(text, code)
    assert found is None if said is None else said in found
