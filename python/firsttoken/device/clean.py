"""`firsttoken device clean`: nothing of ours stays on the phone."""

from firsttoken.device import MEDIA, PACKAGE, STAGING
from firsttoken.device.adb import Adb, DeviceError
from firsttoken.device.ready import app_path
from firsttoken.device.untrusted import one_line

REMOVE_SECONDS = 300.0


def clean(adb: Adb, keep_app: bool = False) -> list[str]:
    """Removes staged bundles, measurements and (unless ``keep_app``) the app; returns what was there. Raises `DeviceError` if something stays."""
    removed = []
    adb.shell("am force-stop {}", PACKAGE)
    # the app first: it could write again what was just removed
    if not keep_app and app_path(adb) is not None:
        done = adb.shell("pm uninstall {}", PACKAGE, seconds=REMOVE_SECONDS)
        if app_path(adb) is not None:
            raise DeviceError(f"device {adb.name}: the app {PACKAGE} could not be removed ({one_line(done.stdout) or done.complaint})")
        removed.append(f"the app {PACKAGE}")
    for place in (STAGING, MEDIA):
        size = adb.shell("du -sk {} 2>/dev/null", place).text.split()
        if not _exists(adb, place):
            continue
        done = adb.shell("rm -rf {}", place, seconds=REMOVE_SECONDS)
        if _exists(adb, place):
            raise DeviceError(f"device {adb.name}: {place} could not be removed ({done.complaint})")
        removed.append(f"{place}{f' ({int(size[0]) / 1024:.1f} MiB)' if size and size[0].isdigit() else ''}")
    return removed


def _exists(adb: Adb, place: str) -> bool:
    return adb.shell("if [ -e {} ]; then echo there; fi", place).text.strip() == "there"
