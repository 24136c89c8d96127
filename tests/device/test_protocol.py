"""android-demo/PROTOCOL.md, the command and the app say the same: every name and bound of the page, in both codes.

What the sentences mean is tested where it is done: here in test_on_adbd*.py, in the app in BenchmarkActivityTest.kt and BenchmarkTest.kt.
"""

import json
import re
from pathlib import Path

import pytest

from firsttoken.device import ACTION, ACTIVITY, MEDIA, PACKAGE, PROTOCOL, STAGING, follow, request, result, step
from firsttoken.device.staging import KEY_DIGITS
from firsttoken.measure.measurement import Stages

DEMO = Path(__file__).parents[2] / "android-demo"
PAGE = (DEMO / "PROTOCOL.md").read_text(encoding="utf-8")
APP = "\n".join(path.read_text(encoding="utf-8") for path in sorted(DEMO.glob("*/src/main/kotlin/**/*.kt")))


def says(*sentences: str):
    page = " ".join(PAGE.split())
    for sentence in sentences:
        assert sentence in page, f"PROTOCOL.md does not say: {sentence}"


@pytest.mark.parametrize("place", [PACKAGE, f"`{ACTIVITY}`", f"`{ACTION}`", f"`{STAGING}/`", f"`{MEDIA}/`"])
def test_places_and_names_are_on_the_page(place):
    assert place in PAGE


def test_the_app_has_the_places_and_names():
    manifest = (DEMO / "app" / "src" / "main" / "AndroidManifest.xml").read_text(encoding="utf-8")
    assert ACTION in manifest and ".BenchmarkActivity" in manifest
    assert f'"{STAGING}"' in APP and "externalMediaDirs" in APP


def test_the_version_and_the_example_are_both_codes():
    says(f"Version {PROTOCOL}.")
    assert f"const val PROTOCOL = {PROTOCOL}" in APP
    example = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1].replace("0f3c…", "0f" * 16).replace("9ab1…", "9a" * 16))
    assert set(request.Request.model_validate(example).model_dump()) == {*example, "artifact"}


def test_bounds_are_the_same():
    bounds = {
        "threads": (1, request.MOST_THREADS),
        "repeat": (1, request.MOST_REPEATS),
        "decode_tokens": (0, request.MOST_DECODE_TOKENS),
        "prompts": (1, request.MOST_PROMPTS),
    }
    for field, (least, most) in bounds.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{field}` |"))
        assert re.search(rf"\b{least} to {most}\b", row), row
        assert re.search(rf'"{field}", .*\b{least}\.\.{most}\b', APP), field
    says(f"at most {request.LARGEST_REQUEST >> 20} MiB", "each length once")
    assert "LARGEST = 1L shl 20" in APP and request.LARGEST_REQUEST == 1 << 20
    says(
        f"first {KEY_DIGITS} hexadecimal digits", f"at most {result.LARGEST_RESULT >> 20} MiB", f"under {follow.LONGEST_PROGRESS >> 20} MiB"
    )


def test_events_and_their_fields_are_what_the_app_writes_and_the_command_reads():
    table = dict(re.findall(r"^\| `(started|phase|run|failed|refused|done)` \| ([^|]*)\|", PAGE, re.MULTILINE))
    assert set(table) == set(re.findall(r'= line\("(\w+)"\)', APP))
    for event, cell in table.items():
        fields = set(re.findall(r"`([a-z_]+)`", cell)) - {"loading", "warm-up", "running"}
        body = re.search(rf'= line\("{event}"\)\s*\{{(.*?)\n?\s*\}}', APP, re.DOTALL)[1]
        assert set(re.findall(r'name\("(\w+)"\)', body)) == fields, event
        assert fields <= set(follow.Event.model_fields), event
    for phase in re.findall(r"`phase`: ([^|]*)\|", PAGE)[0].replace("`", "").strip().split(", "):
        assert f'progress.phase("{phase}")' in APP
    assert set(follow.FINAL) == {"done", "refused"} and 'event == "done" || event == "refused"' in APP
    says("`refused` and `done` are final")


def test_stages_are_the_measurements():
    section = PAGE[PAGE.index("## Stages") :]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(Stages.model_fields)


def test_how_often_a_crash_is_tried_again():
    says(f"after {step.MOST_CRASHES} crashes")
