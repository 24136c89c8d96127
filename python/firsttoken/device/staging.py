"""Getting files onto a phone: by hash, so that nothing is pushed twice and nothing counts before it is complete.

The layout is that of ``android-demo/PROTOCOL.md``. Hard links would save the copies of files that two bundles share,
but Android's SELinux policy lets the shell make none.
"""

import hashlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from firsttoken.bundle.files import check_files, file_facts
from firsttoken.bundle.manifest import MANIFEST_FILE, Manifest, read_manifest
from firsttoken.device import STAGING
from firsttoken.device.adb import Adb, DeviceError, DeviceGone, fill
from firsttoken.device.identify import free_space
from firsttoken.device.untrusted import one_line
from firsttoken.errors import FirstTokenError
from firsttoken.progress import Report, silent
from firsttoken.units import readable

INCOMING = f"{STAGING}/incoming"
KEY_DIGITS = 32
SPARE_BYTES = 64 << 20  # left free on the phone: Android warns and apps fail when there is nothing
SLOWEST_PUSH = 0.25e6  # bytes per second; slower than this, something is wrong
PUSH_SECONDS = 120.0
HASH_SECONDS = 1800.0


@dataclass(frozen=True)
class LocalFile:
    """A file of a bundle on this machine, under the name it has in the bundle."""

    name: str
    path: Path
    bytes: int
    sha256: str


@dataclass(frozen=True)
class LocalBundle:
    """A bundle on this machine, checked, with all that the app needs of it. ``key`` names it on the phone."""

    folder: Path
    manifest: Manifest
    files: tuple[LocalFile, ...]

    @property
    def key(self) -> str:
        lines = "".join(f"{file.sha256}  {file.name}\n" for file in sorted(self.files, key=lambda file: file.name))
        return hashlib.sha256(lines.encode()).hexdigest()[:KEY_DIGITS]

    @property
    def place(self) -> str:
        return f"{STAGING}/bundles/{self.key}"


def local_bundle(folder: str | Path, report: Report = silent) -> LocalBundle:
    """Reads and checks a bundle's manifest and files. Raises `FirstTokenError` for one that is damaged or not a bundle."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_files(folder, manifest, report)
    facts = {**manifest.files, MANIFEST_FILE: file_facts(folder / MANIFEST_FILE)}
    files = [LocalFile(name, (folder / name).absolute(), of.bytes, of.sha256) for name, of in facts.items()]
    return LocalBundle(folder, manifest, tuple(files))


def missing(adb: Adb, bundle: LocalBundle) -> list[LocalFile]:
    """Returns the files of ``bundle`` that the phone does not have in its place, complete; the manifest last."""
    if not bundle.files:
        return []
    # numbers come back, not names, so that no name has to be parsed
    commands = [f"echo {number} $(stat -c %s {{}} 2>/dev/null)" for number in range(len(bundle.files))]
    text = adb.ask("; ".join(commands), *(f"{bundle.place}/{file.name}" for file in bundle.files))
    sizes = {int(number): int(size) for number, size in re.findall(r"^(\d+) (\d+)$", text, re.MULTILINE)}
    absent = [file for number, file in enumerate(bundle.files) if sizes.get(number) != file.bytes]
    return sorted(absent, key=lambda file: file.name == MANIFEST_FILE)


def stage(adb: Adb, bundles: list[LocalBundle], report: Report = silent) -> int:
    """Puts ``bundles`` on the phone and returns the bytes that had to be pushed.

    Raises `DeviceError` where the phone has not enough space (before anything is pushed) or a file arrives damaged.
    """
    bundles = list({bundle.key: bundle for bundle in bundles}.values())
    _make_folders(adb, STAGING, f"{STAGING}/bundles", f"{STAGING}/requests", *(bundle.place for bundle in bundles))
    adb.ask("rm -rf {} && mkdir -p {}", INCOMING, INCOMING)
    wanted = [(bundle, file) for bundle in bundles for file in missing(adb, bundle)]
    check_space(adb, sum(file.bytes for _, file in wanted))
    contents = {file.sha256: file for _, file in wanted}
    copies = find_copies(adb, list(contents.values()))
    total = sum(file.bytes for sha256, file in contents.items() if sha256 not in copies)
    pushed = 0

    def arrived(before: int, done: int) -> None:
        report("push", before + done, total, "B")

    for bundle, file in wanted:
        arriving, destination = f"{INCOMING}/{file.sha256}", f"{bundle.place}/{file.name}"
        if file.sha256 in copies:
            _copy(adb, copies[file.sha256], arriving)
        else:
            push(adb, file.path, arriving, file.bytes, partial(arrived, pushed))
            pushed += file.bytes
        place(adb, arriving, destination, file.sha256)
        copies[file.sha256] = destination
    adb.ask("rm -rf {}", INCOMING)
    return pushed


def _make_folders(adb: Adb, *folders: str) -> None:
    spaces = " ".join("{}" for _ in folders)
    adb.ask(f"mkdir -p {spaces} && chmod 755 {spaces}", *folders, *folders)


def stage_text(adb: Adb, text: str, destination: str, folder: Path) -> None:
    """Writes a small text file on the phone, complete or not at all; ``folder`` is for the copy on this side."""
    data = text.encode()
    sha256 = hashlib.sha256(data).hexdigest()
    local = folder / f"{sha256}.json"
    local.write_bytes(data)
    try:
        _make_folders(adb, INCOMING, STAGING, destination.rpartition("/")[0])
        push(adb, local, f"{INCOMING}/{sha256}", len(data))
        place(adb, f"{INCOMING}/{sha256}", destination, sha256)
        adb.ask("rm -rf {}", INCOMING)
    finally:
        local.unlink(missing_ok=True)


def push(adb: Adb, local: Path, remote: str, size: int, progress: Callable[[int], None] = lambda done: None) -> None:
    """Pushes one file, saying every moment how many bytes have arrived. Raises `DeviceError` if it does not get there."""
    progress(0)
    watch = _Watch(adb, remote, progress)
    try:
        done = adb.run("push", str(local.absolute()), remote, seconds=PUSH_SECONDS + size / SLOWEST_PUSH, tick=watch.look)
    finally:
        watch.finish()
    if done.code:
        complaint = f"{done.stderr.decode(errors='replace')} {done.stdout.decode(errors='replace')}"
        if "No space left" in complaint:
            adb.shell("rm -f {}", remote)
            raise no_space(adb, size)
        adb.check(done)
        # the sync service may say that it failed before the connection notices that it is broken
        adb.shell("true")
        raise DeviceError(f"device {adb.name}: {local.name} could not be pushed ({one_line(done.stderr or done.stdout)})")
    progress(size)


class _Watch:
    """Asks the phone now and then how much of a push has arrived, from a thread, since the answer may be slow."""

    def __init__(self, adb: Adb, remote: str, progress: Callable[[int], None]) -> None:
        self.adb, self.remote, self.progress = adb.unstoppable(), remote, progress
        self.thread: threading.Thread | None = None

    def look(self) -> None:
        if self.thread is None or not self.thread.is_alive():
            self.finish()
            self.thread = threading.Thread(target=self._ask, daemon=True)
            self.thread.start()

    def _ask(self) -> None:
        try:
            answer = self.adb.run("shell", "-n", "-T", fill("stat -c %s {}", self.remote), seconds=5).text.strip()
        except FirstTokenError:
            return  # the push itself will tell what is wrong
        if answer.isdigit():
            self.progress(int(answer))

    def finish(self) -> None:
        if self.thread is not None:
            self.thread.join()


def place(adb: Adb, arrived: str, destination: str, sha256: str) -> None:
    """Moves a file that has arrived to its place if its hash is right. Raises `DeviceError` if it is not."""
    move = 'h=$(sha256sum {}) && echo "$h" && if [ "${{h%% *}}" = {} ]; then chmod 644 {} && mv {} {}; fi'
    got = adb.ask(move, arrived, sha256, arrived, arrived, destination, seconds=HASH_SECONDS)[:64]
    if got != sha256:
        adb.shell("rm -f {}", arrived)
        raise DeviceError(
            f"device {adb.name}: a file arrived damaged (SHA-256 {one_line(got, 12)}…, expected {sha256[:12]}…); try another cable or port, then run this again"
        )


def find_copies(adb: Adb, files: list[LocalFile]) -> dict[str, str]:
    """Returns by hash what files on the phone have the content of ``files``; only those of the same sizes are read there."""
    if not files:
        return {}
    sizes = " -o ".join("-size {}c" for _ in files)
    text = adb.shell(
        f"find {{}} -type f \\( {sizes} \\) -exec sha256sum {{{{}}}} \\;",
        f"{STAGING}/bundles",
        *(file.bytes for file in files),
        seconds=HASH_SECONDS,
    ).text
    lines = re.findall(rf"^([0-9a-f]{{64}})  ({re.escape(STAGING)}/bundles/[0-9a-f]{{{KEY_DIGITS}}}/[^\n/]+)$", text, re.MULTILINE)
    wanted = {file.sha256 for file in files}
    return {sha256: place for sha256, place in lines if sha256 in wanted}


def _copy(adb: Adb, source: str, destination: str) -> None:
    done = adb.shell("cp {} {}", source, destination, seconds=HASH_SECONDS)
    if done.code:
        adb.shell("rm -f {}", destination)
        if "No space left" in done.complaint:
            raise no_space(adb, 0)
        raise DeviceError(f"device {adb.name}: a file could not be copied on the phone ({done.complaint})")


def check_space(adb: Adb, needed: int) -> None:
    free = free_space(adb)
    if needed and free is not None and needed + SPARE_BYTES > free:
        raise no_space(adb, needed)


def no_space(adb: Adb, needed: int) -> DeviceError:
    """Returns the error of a full phone, with the figures as they are now."""
    try:
        free = free_space(adb)
    except DeviceGone:
        free = None
    return DeviceError(
        f"device {adb.name}: not enough space; needs {readable(needed + SPARE_BYTES)}{f', {readable(free)} are free' if free is not None else ''}; "
        "remove what earlier profiles left with `firsttoken device clean`, or free space on the phone"
    )
