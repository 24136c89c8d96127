"""`firsttoken device install`: the app on a phone, pushed only if it is not there already."""

import re
import zipfile
import zlib
from pathlib import Path

from firsttoken.device import OLDEST_SDK, PACKAGE
from firsttoken.device.adb import Adb, DeviceError
from firsttoken.device.carried import Carried, read_carried
from firsttoken.device.identify import identify
from firsttoken.device.phone_file import open_phone_file
from firsttoken.device.ready import app_path
from firsttoken.device.staging import HASH_SECONDS, INCOMING, check_space, push
from firsttoken.device.untrusted import one_line
from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import hash_file
from firsttoken.progress import Report, silent

INSTALL_SECONDS = 600.0
LARGEST_MANIFEST = 4 << 20  # bytes
# What the package manager says, and what to do about it.
ADVICE = {
    "INSTALL_FAILED_UPDATE_INCOMPATIBLE": "an app signed with another key is installed; remove it with `firsttoken device clean` first",
    "INSTALL_FAILED_VERSION_DOWNGRADE": "a newer version is installed; remove it with `firsttoken device clean` first",
    "INSTALL_FAILED_INSUFFICIENT_STORAGE": "free space on the phone, or remove what earlier profiles left with `firsttoken device clean`",
    "INSTALL_FAILED_NO_MATCHING_ABIS": "the APK has no native code for this phone's processor; build it for arm64-v8a",
    "INSTALL_FAILED_OLDER_SDK": "the phone's Android is older than the app needs",
    "INSTALL_FAILED_USER_RESTRICTED": "allow it on the phone (Xiaomi: Developer options, Install via USB; a work profile may forbid it)",
    "INSTALL_FAILED_ABORTED": "accept the question on the phone's screen",
    "INSTALL_FAILED_VERIFICATION_FAILURE": "Play Protect or the vendor's check refused it; switch off Verify apps over USB in Developer options",
    "INSTALL_FAILED_INVALID_APK": "the APK is damaged; build or download it again",
    "INSTALL_PARSE_FAILED_NO_CERTIFICATES": "the APK is not signed; build it with scripts/build_apk, which signs it",
    "INSTALL_PARSE_FAILED_NOT_APK": "the file is not a complete APK; build or download it again",
}


def check_apk(path: Path) -> None:
    """Raises `FirstTokenError` for a file that is not an APK of the firsttoken app."""
    if not path.is_file():
        raise FirstTokenError(
            f"{path}: {'is a folder' if path.is_dir() else 'does not exist'}; expected the app's APK, as scripts/build_apk writes it"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("AndroidManifest.xml")
            if info.file_size > LARGEST_MANIFEST:
                raise FirstTokenError(f"{path}: its manifest has {info.file_size} bytes; that is not an APK of this app")
            manifest = archive.read(info)
    except (zipfile.BadZipFile, zlib.error, KeyError, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        raise FirstTokenError(
            f"{path}: not an APK ({one_line(str(error), 80)}); expected the app's APK, as scripts/build_apk writes it"
        ) from None
    # the binary manifest keeps its texts as UTF-8 or UTF-16
    if PACKAGE.encode() not in manifest and PACKAGE.encode("utf-16-le") not in manifest:
        raise FirstTokenError(
            f"{path}: not the firsttoken app (its manifest does not name {PACKAGE}); expected the APK that scripts/build_apk writes"
        )


def install(adb: Adb, path: Path, report: Report = silent) -> bool:
    """Installs the app and returns whether that was needed. Raises `DeviceError` with the phone's reason and what to do."""
    phone = identify(adb)
    if phone.sdk < OLDEST_SDK:
        raise DeviceError(
            f"device {adb.name}: Android {phone.android} (API {phone.sdk}); the app needs Android 8 (API {OLDEST_SDK}) or newer"
        )
    sha256 = hash_file(path)
    if installed_hash(adb) == sha256:
        return False
    size = path.stat().st_size
    check_space(adb, 2 * size)  # once pushed, once installed
    remote = f"{INCOMING}/{sha256}.apk"
    try:
        adb.ask("mkdir -p {}", INCOMING)
        push(adb, path, remote, size, lambda done: report("push", done, size, "B"))
        done = adb.shell("pm install -r -t {}", remote, seconds=INSTALL_SECONDS)
        if reason := parse_install(done.text + "\n" + done.stderr.decode(errors="replace"), done.code):
            raise DeviceError(f"device {adb.name}: {path.name} was not installed ({reason})")
    finally:
        adb.shell("rm -f {}", remote)
    if installed_hash(adb) != sha256:
        raise DeviceError(
            f"device {adb.name}: the phone says {path.name} is installed, but another {PACKAGE} is there; remove it with `firsttoken device clean`, then run this again"
        )
    return True


def installed_hash(adb: Adb) -> str | None:
    """Returns the SHA-256 of the installed app's APK, or None where it is not installed or may not be read."""
    place = app_path(adb)
    text = adb.shell("sha256sum {}", place, seconds=HASH_SECONDS).text if place else ""
    return text[:64] if re.match(r"[0-9a-f]{64}\b", text) else None


def installed_runtimes(adb: Adb) -> Carried | None:
    """Returns what the installed app carries, or None where it is not installed or does not tell."""
    place = app_path(adb)
    if place is None:
        return None
    try:
        with open_phone_file(adb, place) as apk:
            return read_carried(apk, f"device {adb.name}: the app")
    except DeviceError:
        raise
    except (FirstTokenError, OSError):
        return None


def parse_install(text: str, code: int) -> str | None:
    """Returns why ``pm install`` failed, with advice where we know one, or None for success."""
    if failure := re.search(r"Failure \[([A-Z_0-9]+)(?::? ?([^\n]*?))?\]?\s*$", text, re.MULTILINE):
        advice = ADVICE.get(failure[1], one_line(failure[2] or "", 160))
        return f"{failure[1]}: {advice}" if advice else failure[1]
    if code == 0 and re.search(r"^Success\s*$", text, re.MULTILINE):
        return None
    return one_line(text, 200) or f"pm install: exit status {code}"
