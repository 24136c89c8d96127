"""Files read where they lie on a phone, over a real adbd."""

import os
import random
import zipfile

import pytest

from firsttoken.device.adb import Adb
from firsttoken.device.install import installed_runtimes
from firsttoken.device.phone_file import BLOCK, open_phone_file

pytestmark = pytest.mark.slow
PLACE = "/data/local/tmp/it's $(a) file"


def test_it_reads_as_the_file_itself(phone):
    content = os.urandom(3 * BLOCK + 777)
    (phone.root / PLACE.lstrip("/")).write_bytes(content)
    rng = random.Random(1)
    with open_phone_file(Adb(phone.serial), PLACE) as stream:
        assert stream.seek(0, os.SEEK_END) == len(content)
        for _ in range(20):
            at, count = rng.randrange(len(content) + 10), rng.choice([1, 22, 5000, 2 * BLOCK])
            stream.seek(at)
            assert stream.read(count) == content[at : at + count]
        stream.seek(-10, os.SEEK_END)
        assert stream.read() == content[-10:]


def test_of_an_archive_only_what_is_read_is_fetched(phone):
    with zipfile.ZipFile(phone.root / PLACE.lstrip("/"), "w") as archive:
        archive.writestr("large", os.urandom(20 * BLOCK))
        archive.writestr("small", b"a few bytes")
    adb, asked = Adb(phone.serial), []
    shell = adb.shell
    adb.shell = lambda *arguments, **more: asked.append(arguments) or shell(*arguments, **more)
    with open_phone_file(adb, PLACE) as stream, zipfile.ZipFile(stream) as archive:
        assert archive.read("small") == b"a few bytes"
    assert len(asked) <= 3, "its size, and the end of it"


def test_what_the_phone_does_not_give(phone):
    adb = Adb(phone.serial)
    for place in ("/data/local/tmp/absent", "/data/local/tmp"):
        with pytest.raises(OSError, match="the phone does not"), open_phone_file(adb, place) as stream:
            stream.read(1)


def test_an_app_that_does_not_say_what_it_carries_is_no_error(phone):
    assert installed_runtimes(Adb(phone.serial)) is None, "the emulated phone's own app is no APK"
