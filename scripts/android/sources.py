"""Where libraries come from beside Maven's own repository: further repositories, and files that are at hand."""

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from android.failure import BuildError

VARIABLE = "FIRSTTOKEN_MAVEN_REPOSITORIES"
# What only Google's repository holds. Gradle knows it as google(); Maven does not ask it unless it is told to.
GOOGLES = ("com.android.tools", "com.google.ai.edge", "androidx.")
HINT = "Google's Maven repository, which Maven does not ask by itself, has {part}: give that repository's address with --repository"
ADDRESS = re.compile(r"(https?|file)://\S+")


@dataclass
class Sources:
    repositories: tuple[str, ...] = ()
    files: dict[str, Path] = field(default_factory=dict)  # by name, such as litert-2.3.0.aar

    def file(self, artifact: str, version: str) -> Path | None:
        """Returns the AAR or jar of a library, where one was given."""
        return next((self.files[name] for end in ("aar", "jar") if (name := f"{artifact}-{version}.{end}") in self.files), None)

    def pom(self) -> str:
        """Returns the repositories as Maven reads them."""
        listed = "".join(
            f"<repository><id>further-{number}</id><url>{escape(url)}</url></repository>"
            for number, url in enumerate(self.repositories, start=1)
        )
        return f"<repositories>{listed}</repositories>" if listed else ""

    def stamp(self, wanted: list[tuple[str, str, str]]) -> list:
        """Returns what tells these sources of ``wanted`` from others: the given files by their bytes, and the repositories where one is asked."""
        given = [self.file(artifact, version) for _, artifact, version in wanted]
        hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in given if path]
        return [hashes, list(self.repositories) if None in given else []]


SOURCES = Sources()  # of this run; the command line fills it


def read(repositories: list[str], places: list[Path], known: set[str]):
    """Fills `SOURCES` from the options and the environment; ``known`` are the names of libraries that the app can be built with. Raises `BuildError`."""
    addresses = [*os.environ.get(VARIABLE, "").split(), *repositories]
    for address in addresses:
        if not ADDRESS.fullmatch(address):
            raise BuildError(f"--repository {address}: not the address of a Maven repository; expected https://… or file:///…")
    SOURCES.repositories = tuple(dict.fromkeys(addresses))
    for place in places:
        if place.is_dir():
            found = [path for path in sorted(place.iterdir()) if path.name in known]
            if not found:
                raise BuildError(f"--aar {place}: holds none of {', '.join(sorted(known))}; the names are those they have in Maven")
        elif not place.is_file():
            raise BuildError(f"--aar {place}: not there; expected an AAR or jar, or a folder of such")
        elif place.name not in known:
            raise BuildError(f"--aar {place}: not a name that the app is built with; expected one of {', '.join(sorted(known))}")
        else:
            found = [place]
        SOURCES.files.update({path.name: path.resolve() for path in found})


def advice(parts: list[tuple[str, str, str]]) -> str:
    """Returns what to do where ``parts``, each of group, artifact and version, cannot be had; empty where only the network can be at fault."""
    googles = [f"{artifact} {version}" for group, artifact, version in parts if group.startswith(GOOGLES)]
    return HINT.format(part=" and ".join(googles)) if googles else ""
