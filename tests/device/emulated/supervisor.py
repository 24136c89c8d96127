"""Runs inside the namespaces: mounts the phones' file systems, starts adb's server and an adbd for each phone, answers for Android.

Commands come as JSON lines on standard input, one answer line each. It ends, and all with it, when its input ends.
"""

import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import outputs  # noqa: E402  after its path
import services  # noqa: E402

SERVICES = ("getprop", "dumpsys", "settings", "input", "wm", "ln", "pidof", "logcat", "pm", "am")
# Each of Android's own programs hands its arguments to the supervisor and prints the answer.
FORWARD = """#!/system/bin/sh
reply=/emulated/reply.$$
mkfifo "$reply"
printf '%s\\0' "$$" "${0##*/}" "$@" "END" > /emulated/calls
exec 3< "$reply"
IFS= read -r code <&3
while IFS= read -r line <&3; do print -r -- "$line"; done
exit "$code"
"""
CLUSTERS = (2265600, 2265600, 3148800, 3148800, 3148800, 2956800, 2956800, 3398400)


os.environ["PATH"] += ":/usr/sbin:/sbin"  # where mount and chroot may be, and users' PATH may not lead


def loopback_up():
    """``ip link set lo up``, without iproute2."""
    up, set_flags = 0x1 | 0x40, 0x8914  # IFF_UP | IFF_RUNNING, SIOCSIFFLAGS
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH14s", b"lo", up, b""))


def run(*command: str | Path):
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


class Phone:
    """One emulated phone: a root of its own with Android's shell and commands, and an adbd in it."""

    def __init__(self, folder: Path, name: str, port: int, adbd_files: Path, data_bytes: int, state: dict):
        self.root, self.port = folder / name, port
        self.android = services.Android(self.root, services.default_state(**state))
        self.adbd: subprocess.Popen | None = None
        self._build(adbd_files, data_bytes)
        self.calls = os.open(self.root / "emulated/calls", os.O_RDWR | os.O_NONBLOCK)
        self.pending = b""

    def _build(self, files: Path, data_bytes: int):
        root = self.root
        root.mkdir()
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", root)
        for name in (
            "usr",
            "proc",
            "dev",
            "system/bin",
            "system/emulated",
            "data",
            "storage/emulated",
            "tmp",
            "emulated",
            "sys/devices/system/cpu",
            "etc",
        ):
            (root / name).mkdir(parents=True)
        run("mount", "--bind", files / "usr", root / "usr")
        for name in ("lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        (root / "bin").symlink_to("system/bin")
        (root / "system/bin/sh").symlink_to("/usr/bin/mksh")
        toys = subprocess.run(["chroot", root, "/usr/bin/toybox"], capture_output=True, text=True, check=True).stdout.split()
        for toy in toys:
            if toy not in ("sh", *SERVICES):
                (root / "system/bin" / toy).symlink_to("/usr/bin/toybox")
        for service in SERVICES:
            path = root / "system/emulated" / service
            path.write_text(FORWARD)
            path.chmod(0o755)
        run("mount", "-t", "tmpfs", "-o", f"size={data_bytes},mode=771", "tmpfs", root / "data")
        for name in ("local/tmp", "media/0", "app"):
            (root / "data" / name).mkdir(parents=True)
        (root / "storage/emulated/0").mkdir()
        run("mount", "--bind", root / "data/media/0", root / "storage/emulated/0")
        (root / "sdcard").symlink_to("storage/emulated/0")
        run("mount", "-t", "proc", "proc", root / "proc")
        for name, text in (("meminfo", outputs.MEMINFO), ("cpuinfo", outputs.CPUINFO)):
            (root / "emulated" / name).write_text(text)
            run("mount", "--bind", root / "emulated" / name, root / "proc" / name)
        for device in ("null", "zero", "urandom", "random"):
            (root / "dev" / device).touch()
            run("mount", "--bind", f"/dev/{device}", root / "dev" / device)
        cpu = root / "sys/devices/system/cpu"
        (cpu / "possible").write_text("0-7\n")
        for number, frequency in enumerate(CLUSTERS):
            (cpu / f"cpu{number}/cpufreq").mkdir(parents=True)
            (cpu / f"cpu{number}/cpufreq/cpuinfo_max_freq").write_text(f"{frequency}\n")
            (cpu / f"cpu{number}/cpufreq/scaling_governor").write_text("walt\n")
        os.mkfifo(root / "emulated/calls")

    def start(self):
        environment = {"PATH": "/system/emulated:/system/bin", "ADBD_PORT": str(self.port), "HOME": "/data", "TMPDIR": "/data/local/tmp"}
        with open(self.root.parent / f"{self.root.name}.adbd", "ab") as log:
            self.adbd = subprocess.Popen(
                [shutil.which("chroot"), str(self.root), "/usr/lib/android-sdk/platform-tools/adbd"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self):
        """As when the cable is pulled: adbd and what it started are gone, the app runs on."""
        if self.adbd is not None:
            self.adbd.kill()
            self.adbd.wait()
            self.adbd = None

    def answer_calls(self):
        try:
            self.pending += os.read(self.calls, 1 << 16)
        except BlockingIOError:
            return
        while b"\0END\0" in self.pending:
            call, _, self.pending = self.pending.partition(b"\0END\0")
            number, program, *arguments = call.decode(errors="replace").split("\0")
            try:
                code, text = self.android.answer(program, arguments)
            except Exception as error:  # as Android's own services: the caller gets it
                code, text = 1, f"{type(error).__name__}: {error}\n"
            try:
                # without waiting: a caller that was killed reads no more
                reply = os.open(self.root / f"emulated/reply.{number}", os.O_RDWR | os.O_NONBLOCK)
            except OSError:
                continue
            try:
                # the caller waits for this, so it is there before we close
                with open(
                    self.root / f"emulated/reply.{number}", "wb", opener=lambda path, flags: os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                ) as stream:
                    stream.write(f"{code}\n{text}".encode())
                    stream.flush()
                services.wait_for(lambda reply=reply: not _unread(reply), 2)
            except (OSError, TimeoutError):
                pass
            os.close(reply)
            os.unlink(self.root / f"emulated/reply.{number}")


def _unread(descriptor: int) -> int:
    return struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0]


def main():
    settings = json.loads(sys.argv[1])
    folder, files = Path(settings["folder"]), Path(settings["adbd"])
    loopback_up()
    phones: dict[str, Phone] = {}
    environment = {**os.environ, "HOME": str(folder), "ADB_MDNS": "0"}
    with open(folder / "server.log", "wb") as log:
        server = subprocess.Popen(
            [*settings["adb"], "nodaemon", "server"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    print(json.dumps("ready"), flush=True)
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is not sys.stdin:
                key.data.answer_calls()
                continue
            line = sys.stdin.readline()
            if not line:
                server.kill()
                os._exit(0)
            try:
                answer = {"value": obey(json.loads(line), phones, selector, folder, files)}
            except Exception as error:  # the test that asked gets it
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


def obey(command: dict, phones: dict[str, Phone], selector: selectors.BaseSelector, folder: Path, files: Path):
    """Carries out one command of a test and returns its answer."""
    name, phone = command["name"], phones.get(command["name"])
    match command["do"]:
        case "new":
            phones[name] = phone = Phone(folder, name, command["port"], files, command["data_bytes"], command["state"])
            selector.register(phone.calls, selectors.EVENT_READ, phone)
            if command["installed"]:
                services.install_directly(phone.root)
            phone.start()
        case "plug":
            phone.start()
        case "unplug":
            phone.stop()
        case "reboot":
            phone.stop()
            phone.android.reboot()
            phone.start()
        case "set":
            phone.android.state.update(command["state"])
        case "state":
            return {**phone.android.state, "app_pid": phone.android._pid()}
        case "remove":
            phone.stop()
            phone.android.reboot()
            selector.unregister(phone.calls)
            os.close(phone.calls)
            run("umount", "-R", "-l", phone.root)
            del phones[name]
    return None


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main()
