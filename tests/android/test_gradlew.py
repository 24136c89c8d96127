"""android-demo/gradlew: runs the distribution whose checksum stands in the properties, and no other.

Gradle itself is not to be had here: what is fetched is an archive laid out as Gradle's, whose bin/gradle says how it was called.
"""

import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from building import REPOSITORY

DEMO = REPOSITORY / "android-demo"
GRADLE = '#!/bin/sh\necho gradle was called with "$@"\n'

pytestmark = pytest.mark.skipif(not all(map(shutil.which, ("sh", "unzip", "curl"))), reason="unzip or curl is missing")


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with gradlew, a distribution of its own and the properties that name it."""
    distribution = tmp_path / "gradle-9.5.0-bin.zip"
    with zipfile.ZipFile(distribution, "w") as archive:
        entry = zipfile.ZipInfo("gradle-9.5.0/bin/gradle")
        entry.external_attr = 0o100755 << 16
        archive.writestr(entry, GRADLE)
    (tmp_path / "app with space" / "gradle" / "wrapper").mkdir(parents=True)
    shutil.copy(DEMO / "gradlew", tmp_path / "app with space" / "gradlew")
    properties(tmp_path, hashlib.sha256(distribution.read_bytes()).hexdigest(), distribution.as_uri())
    return tmp_path


def properties(place: Path, checksum: str, url: str):
    text = f"distributionSha256Sum={checksum}\ndistributionUrl={url.replace(':', chr(92) + ':')}\n"
    (place / "app with space" / "gradle" / "wrapper" / "gradle-wrapper.properties").write_text(text)


def gradlew(place: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = ["sh", place / "app with space" / "gradlew", *arguments]
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(place / "home")} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=variables, cwd=place)


def test_the_distribution_is_fetched_once_and_called_with_the_arguments(place):
    first = gradlew(place, "assembleDebug", "-P", "a b")
    assert first.stdout == f"gradle was called with --project-dir {place}/app with space assembleDebug -P a b\n", first.stderr
    assert "Fetching file:" in first.stderr
    (place / "gradle-9.5.0-bin.zip").unlink()
    again = gradlew(place, "--version")
    assert again.returncode == 0 and again.stderr == "" and "--version" in again.stdout


def test_another_checksum_is_not_run(place):
    properties(place, "0" * 64, (place / "gradle-9.5.0-bin.zip").as_uri())
    done = gradlew(place)
    assert done.returncode == 1 and done.stdout == ""
    assert f"expected {'0' * 64}" in done.stderr and "removed and not run" in done.stderr
    assert not list((place / "home").rglob("gradle-9.5.0*"))


def test_a_file_that_was_fetched_elsewhere_is_taken_and_checked(place):
    checksum = hashlib.sha256((place / "gradle-9.5.0-bin.zip").read_bytes()).hexdigest()
    elsewhere = place / "elsewhere.zip"
    (place / "gradle-9.5.0-bin.zip").rename(elsewhere)
    assert "without Gradle, scripts/build_apk builds the app too" in gradlew(place).stderr
    assert gradlew(place, GRADLE_ZIP=str(elsewhere)).returncode == 0
    elsewhere.write_bytes(b"no zip")
    properties(place, checksum[::-1], elsewhere.as_uri())
    assert "has SHA-256" in gradlew(place, GRADLE_ZIP=str(elsewhere)).stderr


def test_the_properties_name_a_checksum_and_no_jar_is_kept():
    text = (DEMO / "gradle" / "wrapper" / "gradle-wrapper.properties").read_text()
    values = dict(line.split("=", 1) for line in text.splitlines())
    assert len(values["distributionSha256Sum"]) == 64 and values["distributionUrl"].endswith("gradle-9.5.0-bin.zip")
    assert (DEMO / "gradlew").stat().st_mode & 0o111 and not list(DEMO.glob("gradle/**/*.jar"))
