"""Files out of Debian packages: which archive, what is unpacked, and what is refused."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from firsttoken.arm import debian
from firsttoken.errors import FirstTokenError

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed: install the package dpkg")


def program(folder: Path, name: str, script: str):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("targets", "mirror"),
    [
        ("Debian\tfile:/mirror/debian/\nDebian\tfile:/mirror/debian-security/", "file:/mirror/debian"),
        ("Other\tfile:/other/other/\n\tfile:/fresh/mirrors/debian", "file:/fresh/mirrors/debian"),
        ("Ubuntu\tfile:/archive/ubuntu/", None),
        ("Other\tfile:/third/debian", None),
        ("", None),
    ],
)
def test_the_archive_is_the_one_that_this_machines_apt_uses(monkeypatch, tmp_path, targets, mirror):
    program(tmp_path / "bin", "apt-get", f"printf '%s\\n' '{targets}'")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    if mirror:
        assert debian.find_mirror() == mirror
    else:
        with pytest.raises(FirstTokenError, match="--mirror"):
            debian.find_mirror()


def test_what_apt_complains_of_is_the_error(monkeypatch, tmp_path):
    program(tmp_path / "bin", "apt-get", "echo 'W: a warning' >&2; echo 'E: Unable to locate package qemu-user' >&2; exit 100")
    program(tmp_path / "bin", "dpkg", "echo amd64")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    packages = debian.Packages(tmp_path / "state", "file:/mirror/debian")
    with pytest.raises(FirstTokenError, match=r"apt-get update failed \(E: Unable to locate package qemu-user\)"):
        packages.fetch(["qemu-user:amd64"])


@pytest.mark.parametrize("mirror", ["", "mirror", "file:/a b/debian", "file:/a/debian] file:/b", "file:/a/debian\ndeb file:/b"])
def test_an_address_that_is_none_is_refused(tmp_path, mirror):
    with pytest.raises(FirstTokenError, match="not an address"):
        debian.Packages(tmp_path / "state", mirror)


def package(tmp_path: Path, members: list[tarfile.TarInfo]) -> Path:
    """Makes a .deb whose data has these members, whatever they are."""
    data, control = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for member in members:
            member.size = 3 if member.isreg() else 0
            archive.addfile(member, io.BytesIO(b"abc") if member.isreg() else None)
    with tarfile.open(fileobj=control, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("./control"))
    path = tmp_path / "made.deb"
    with open(path, "wb") as file:
        file.write(b"!<arch>\n")
        for name, body in (("debian-binary", b"2.0\n"), ("control.tar.gz", control.getvalue()), ("data.tar.gz", data.getvalue())):
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n".encode() + body + b"\n" * (len(body) % 2))
    return path


def member(name: str, kind=tarfile.REGTYPE, link: str = "", mode: int = 0o755) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


@needs_dpkg
def test_files_and_links_are_unpacked_and_links_stay_inside(tmp_path):
    members = [
        member("./usr", tarfile.DIRTYPE), member("./usr/bin/tool", mode=0o4755), member("./usr/bin/other"),
        member("./usr/bin/alias", tarfile.SYMTYPE, "tool"), member("./lib/library.so", tarfile.SYMTYPE, "/usr/bin/tool"),
    ]  # fmt: skip
    made = package(tmp_path, members)
    debian.unpack(made, tmp_path / "out", lambda path: path != "usr/bin/other")
    out = tmp_path / "out"
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if not path.is_dir()) == [
        "lib/library.so",
        "usr/bin/alias",
        "usr/bin/tool",
    ]
    assert (out / "lib/library.so").read_bytes() == (out / "usr/bin/alias").read_bytes() == b"abc"
    assert (out / "lib/library.so").readlink() == Path("../usr/bin/tool")
    assert (out / "usr/bin/tool").stat().st_mode & 0o7777 == 0o755, "no set-user-id bit"


@needs_dpkg
@pytest.mark.parametrize(
    "bad",
    [
        [member("../evil")], [member("/../../evil")], [member("./a/../../evil")], [member("./link", tarfile.SYMTYPE, "../../evil"), member("./link/x")],
        [member("./hard", tarfile.LNKTYPE, "/etc/passwd")], [member("./pipe", tarfile.FIFOTYPE)],
    ],
)  # fmt: skip
def test_members_outside_the_folder_are_refused(tmp_path, bad):
    made = package(tmp_path, bad)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FirstTokenError, match="not a file or link inside the package"):
        debian.unpack(made, tmp_path / "out")
    assert [path for path in sorted(tmp_path.rglob("*")) if "evil" in path.name] == [] and set(before) <= set(tmp_path.rglob("*"))


@needs_dpkg
def test_a_damaged_package_is_one_error(tmp_path):
    made = package(tmp_path, [member("./a")])
    made.write_bytes(made.read_bytes()[:-60])
    with pytest.raises(FirstTokenError, match="made.deb"):
        debian.unpack(made, tmp_path / "out")


@needs_dpkg
def test_real_tools_agree_with_the_packages_made_here(tmp_path):
    made = package(tmp_path, [member("./a")])
    assert "./a" in subprocess.run(["dpkg-deb", "--contents", made], capture_output=True, text=True, check=True).stdout
