"""A world of emulated phones for tests: namespaces around a real adb server and a real adbd for each phone."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ADBD = Path(__file__).parents[3] / ".work" / "adbd"
UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"]
FIRST_PORT = 6601  # adb takes 5555 and those after it for Android emulators, and lists them a second time


def why_not() -> str | None:
    """Returns why emulated phones cannot run here, with what to do, or None."""
    if not (ADBD / "ready").is_file():
        return "adbd is not set up: run scripts/setup_adbd (Debian or Ubuntu)"
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    for program in ("unshare", "nsenter", "mount", "chroot"):
        if not shutil.which(program, path=path):
            return f"{program} not found: install util-linux and coreutils"
    probe = subprocess.run(
        [*UNSHARE, "sh", "-c", "mount -t tmpfs none /mnt && mkdir /mnt/p && mount -t proc proc /mnt/p"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )
    if probe.returncode:
        return f"user, network and mount namespaces are not permitted here ({' '.join(probe.stderr.split())[:200]}): allow them (sysctl kernel.unprivileged_userns_clone=1, or kernel.apparmor_restrict_unprivileged_userns=0)"
    return None


class World:
    """Namespaces with an adb server. ``bin`` holds an ``adb`` that reaches it, to be put first on PATH."""

    def __init__(self, folder: Path):
        self.folder, self.bin, self.lock = folder, folder / "bin", threading.Lock()
        self.bin.mkdir(parents=True)
        library = ADBD / "usr/lib/x86_64-linux-gnu"
        loader = next((ADBD / "usr/lib64").glob("ld-linux-*"))
        adb = [
            str(loader),
            "--argv0",
            "adb",
            "--library-path",
            f"{library}:{library}/android",
            str(ADBD / "usr/lib/android-sdk/platform-tools/adb"),
        ]
        settings = json.dumps({"folder": str(folder), "adbd": str(ADBD), "adb": adb})
        supervisor = [sys.executable, str(Path(__file__).with_name("supervisor.py")), settings]
        self.process = subprocess.Popen([*UNSHARE, *supervisor], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert json.loads(self.process.stdout.readline()) == "ready"
        enter = ["nsenter", "--preserve-credentials", "--user", "--net", "--target", str(self.process.pid), "--"]
        words = " ".join(f"'{word}'" for word in (*enter, *adb))
        (self.bin / "adb").write_text(f"#!/bin/sh\nexport HOME='{folder}'\nexec {words} \"$@\"\n")
        (self.bin / "adb").chmod(0o755)
        self.phones: dict[str, EmulatedPhone] = {}
        self.next_port = FIRST_PORT
        deadline = time.monotonic() + 20
        while self.adb("devices").returncode and time.monotonic() < deadline:
            time.sleep(0.05)

    def command(self, **command):
        with self.lock:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["value"]

    def adb(self, *arguments: str, **more) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(self.bin / "adb"), *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, **more
        )

    def inside(self, *command: str) -> list[str]:
        """Returns the command line that runs ``command`` in the world's network."""
        return ["nsenter", "--preserve-credentials", "--user", "--net", "--target", str(self.process.pid), "--", *command]

    def phone(self, name: str = "phone", data_bytes: int = 256 << 20, installed: bool = True, **state) -> "EmulatedPhone":
        """Adds a phone, switched on and connected."""
        port, self.next_port = self.next_port, self.next_port + 1
        self.command(do="new", name=f"{name}-{port}", port=port, data_bytes=data_bytes, state=state, installed=installed)
        self.phones[name] = phone = EmulatedPhone(self, f"{name}-{port}", port)
        phone.connect()
        return phone

    def remove_phones(self):
        for phone in self.phones.values():
            self.adb("disconnect", phone.serial)
            self.command(do="remove", name=phone.name)
        self.phones.clear()

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.stdout.close()


class EmulatedPhone:
    """A handle on one phone. ``root`` is its file system, seen through the supervisor."""

    def __init__(self, world: World, name: str, port: int):
        self.world, self.name, self.serial = world, name, f"localhost:{port}"

    @property
    def root(self) -> Path:
        # the mounts are the supervisor's own, so the way leads through its root
        return Path(f"/proc/{_child(self.world.process.pid)}/root{self.world.folder}") / self.name

    @property
    def staging(self) -> Path:
        return self.root / "data/local/tmp/firsttoken"

    @property
    def media(self) -> Path:
        return self.root / "data/media/0/Android/media/dev.firsttoken.demo"

    def connect(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            self.world.adb("connect", self.serial)
            if self.world.adb("-s", self.serial, "get-state").stdout.strip() == "device":
                return
            time.sleep(0.05)
        raise TimeoutError(f"{self.serial} does not connect")

    def set(self, **state):
        self.world.command(do="set", name=self.name, state=state)

    def state(self) -> dict:
        return self.world.command(do="state", name=self.name)

    def unplug(self):
        self.world.command(do="unplug", name=self.name)

    def plug(self):
        self.world.command(do="plug", name=self.name)

    def reboot(self):
        self.world.command(do="reboot", name=self.name)

    def shell(self, command: str) -> subprocess.CompletedProcess:
        return self.world.adb("-s", self.serial, "shell", command)

    def commands(self) -> list[list[str]]:
        """Every call of an Android program so far."""
        path = self.world.folder / f"{self.name}.commands"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def files(self) -> dict[str, int]:
        """Everything under /data but apps: path and size."""
        top = self.root / "data"
        return {
            str(path.relative_to(top)): path.stat().st_size
            for path in top.rglob("*")
            if path.is_file() and not str(path.relative_to(top)).startswith("app/")
        }


def _child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0])


def with_world(world: World) -> dict[str, str]:
    """The environment in which ``adb`` reaches the world."""
    return {**os.environ, "PATH": f"{world.bin}:{os.environ['PATH']}"}
