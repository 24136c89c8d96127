"""Files out of Debian packages, fetched by apt into a private state and unpacked without installing anything.

apt checks the signature of the package index and the hash of every package against it. Nothing outside the folder
that is given is written, and no root rights are needed.
"""

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

from firsttoken.errors import FirstTokenError
from firsttoken.pipes import piped

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITES = ("bookworm", "bookworm-backports")
TOOLS = ("apt-get", "dpkg", "dpkg-deb")
NEEDS = "a Debian system, or one with the packages apt, dpkg and debian-archive-keyring"


def obstacles() -> list[str]:
    """Returns what is missing here for fetching Debian packages, one phrase each."""
    found = [f"{tool} is not installed" for tool in TOOLS if shutil.which(tool) is None]
    if not KEYRING.is_file():
        found.append("the package debian-archive-keyring is not installed")
    return found


def find_mirror() -> str:
    """Returns the address of the Debian archive that this machine's apt uses. Raises `FirstTokenError` where it uses none."""
    format_ = "$(ORIGIN)\t$(REPO_URI)"
    done = _run(["apt-get", "indextargets", "--format", format_, "Identifier: Packages"])
    for line in done.splitlines():
        origin, _, address = line.partition("\t")
        address = address.rstrip("/")
        # the origin is known only once apt has fetched its lists, the end of the address always
        if re.fullmatch(r".*/debian", address) and origin in ("Debian", "", "$(ORIGIN)"):
            return address
    raise FirstTokenError("apt on this machine uses no Debian archive; name one with --mirror (the address that ends in /debian)")


class Packages:
    """Debian packages of this machine's architecture and of ``others``. ``folder`` holds apt's private state."""

    def __init__(self, folder: Path, mirror: str, others: tuple[str, ...] = ("arm64",)) -> None:
        self.folder = folder
        self.archives = folder / "archives"
        for place in ("lists/partial", "cache/archives/partial", "archives", "nothing"):
            (folder / place).mkdir(parents=True, exist_ok=True)
        if not re.fullmatch(r"[a-z+]+:/[^\s\]\[]+", mirror):
            raise FirstTokenError(
                f"mirror {mirror!r}: not an address; expected one like those in this machine's apt sources, ending in /debian"
            )
        self.own = _run(["dpkg", "--print-architecture"]).strip()
        architectures = (self.own, *others)
        known = " ".join(f'"{name}";' for name in architectures)
        (folder / "sources.list").write_text(
            "".join(f"deb [arch={','.join(architectures)} signed-by={KEYRING}] {mirror} {suite} main\n" for suite in SUITES)
        )
        (folder / "status").write_text("")
        self.configuration = folder / "apt.conf"
        self.configuration.write_text(
            f'APT::Architecture "{self.own}";\nAPT::Architectures {{ {known} }};\n'
            'APT::Get::List-Cleanup "0";\nAPT::Sandbox::User "";\nAcquire::Languages "none";\nAcquire::PDiffs "0";\n'
            f'Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "0";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled "0";\n'
            f'Dir::State::status "{folder}/status";\nDir::State::lists "{folder}/lists";\nDir::Cache "{folder}/cache";\n'
            f'Dir::Etc::sourcelist "{folder}/sources.list";\nDir::Etc::sourceparts "{folder}/nothing";\n'
            f'Dir::Etc::preferences "{folder}/no-preferences";\nDir::Etc::preferencesparts "{folder}/nothing";\n'
        )
        self._updated = False

    def fetch(self, names: Iterable[str]) -> list[Path]:
        """Downloads packages, named as apt does (``name:arch``, ``name:arch/suite``), and returns their files."""
        if not self._updated:
            # an unreachable source is only a warning to apt, unless it is told otherwise
            _run(["apt-get", "update", "--error-on=any"], self.configuration)
            self._updated = True
        before = set(self.archives.iterdir())
        _run(["apt-get", "download", *names], self.configuration, self.archives)
        return sorted(set(self.archives.iterdir()) - before)


def unpack(package: Path, destination: Path, wanted: Callable[[str], bool] = lambda path: True) -> None:
    """Unpacks the files and links of a .deb whose path (like ``usr/bin/x``) is ``wanted``.

    Raises `FirstTokenError` for a damaged package, or one with a member that would lie outside ``destination``.
    """
    process = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE)
    files = piped(process.stdout)
    try:
        with tarfile.open(fileobj=files, mode="r|") as archive:
            for member in archive:
                path = os.path.normpath(member.name)
                if not member.isdir() and wanted(path):
                    _extract(archive, member, path, destination.resolve(), package)
        while files.read(1 << 16):  # the padding behind the last member, so that dpkg-deb ends well
            pass
    except tarfile.TarError as error:
        raise FirstTokenError(f"{package.name}: cannot be unpacked ({error}); run again to fetch it anew") from None
    finally:
        files.close()
        code = process.wait()
    if code:
        raise FirstTokenError(f"{package.name}: dpkg-deb cannot read it; run again to fetch it anew")


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, destination: Path, package: Path) -> None:
    place = destination / path
    place.parent.mkdir(parents=True, exist_ok=True)
    target = destination / os.path.normpath(f"{os.path.dirname(path)}/{member.linkname}".lstrip("/"))
    if member.issym() and os.path.isabs(member.linkname):  # absolute in a system: inside the folder here
        target = destination / os.path.normpath(member.linkname).lstrip("/")
    inside = all(part.resolve().is_relative_to(destination) for part in (place.parent, target.parent))
    if os.path.isabs(path) or not inside or not (member.isreg() or member.issym()):
        raise FirstTokenError(f"{package.name}: member {member.name!r} is not a file or link inside the package; it was not unpacked")
    place.unlink(missing_ok=True)
    if member.issym():
        place.symlink_to(os.path.relpath(target, place.parent))
        return
    content = archive.extractfile(member)
    assert content is not None, "a regular file has content"
    with open(place, "wb") as file:
        shutil.copyfileobj(content, file)
    place.chmod(member.mode & 0o777 | 0o600)


def _run(command: list[str], configuration: Path | None = None, folder: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C", **({"APT_CONFIG": str(configuration)} if configuration else {})}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines() or ["no message"]
        raise FirstTokenError(f"{' '.join(command[:2])} failed ({complaints[0]}); check the network and the mirror, then run again")
    return done.stdout
