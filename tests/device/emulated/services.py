"""The Android side of an emulated phone: what getprop, pm, am, dumpsys, logcat and the others answer."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import outputs

PACKAGE = outputs.PACKAGE
APP = Path(__file__).with_name("app.py")
MEDIA = f"data/media/0/Android/media/{PACKAGE}"


class Android:
    """The state of one phone. ``root`` is its file system as seen from outside; tests change ``state`` while it runs."""

    def __init__(self, root: Path, state: dict):
        self.root, self.state = root, state
        self.app: subprocess.Popen | None = None
        self.exits: list[tuple[int, str, str]] = []  # pid, reason, description

    def answer(self, program: str, arguments: list[str]) -> tuple[int, str]:
        """Runs one command and returns its exit status and output."""
        self._log(program, arguments)
        method = getattr(self, f"do_{program}", None)
        return method(*arguments) if method else (127, f"/system/bin/sh: {program}: inaccessible or not found\n")

    def _log(self, program: str, arguments: list[str]):
        with open(self.root.parent / f"{self.root.name}.commands", "a") as stream:
            stream.write(json.dumps([program, *arguments]) + "\n")

    def do_getprop(self, name: str | None = None):
        text = outputs.GETPROP[self.state["model"]].replace(
            "]\n[ro.serialno]: [", f"]\n[ro.serialno]: [{self.state.get('serial_prefix', '')}"
        )
        if name is None:
            return 0, text
        return 0, next((line.partition("]: [")[2][:-1] for line in text.splitlines() if line.startswith(f"[{name}]")), "") + "\n"

    def do_dumpsys(self, service: str, *arguments: str):
        if service == "thermalservice":
            return 0, self._thermal()
        if service == "battery":
            return 0, outputs.BATTERY["android14-samsung"].replace("temperature: 357", f"temperature: {round(10 * self._heat())}").replace(
                "  level: 72", f"  level: {self.state['battery']}"
            )
        if service == "power":
            return 0, outputs.POWER["awake" if self.state["awake"] else "asleep"]
        if service == "window":
            return 0, outputs.policy(self.state["locked"] or self.state["swipe"], self.state["locked"], self.state["awake"], 14)
        if service == "trust":
            return 0, outputs.trust(self.state["locked"])
        if service == "activity" and arguments[:1] == ("exit-info",):
            if not self.exits:
                return 0, "ACTIVITY MANAGER PROCESS EXIT INFO (dumpsys activity exit-info)\n"
            pid, reason, description = self.exits[-1]
            return 0, outputs.EXIT_INFO.format(pid=pid, reason=reason, description=description)
        return 0, f"Can't find service: {service}\n"

    def _heat(self) -> float:
        return self.state["temperature"]

    def _thermal(self) -> str:
        if self.state.get("thermal_service") is False:
            return outputs.NO_SERVICE
        now, status = self._heat(), self.state["thermal_status"]
        # every look finds the phone a little cooler
        self.state["temperature"] = max(self.state["coolest"], now - self.state["cools_by"])
        if self.state["temperature"] <= self.state["coolest"]:
            self.state["thermal_status"] = 0
        sensors = [(now + 9.7, 0, "CPU0"), (now + 8.1, 0, "CPU7"), (now, 3, "skin"), (now - 1.5, 2, "battery"), (4.2, 6, "vbat")]
        lines = [f"\tTemperature{{mValue={value:.6f}, mType={kind}, mName={name}, mStatus={status}}}" for value, kind, name in sensors]
        return "\n".join(["IsStatusOverride: false", f"Thermal Status: {status}", "Cached temperatures:", lines[0].replace(f"{now + 9.7:.6f}", "99.0"), "HAL Ready: true",
                          "Current temperatures from HAL:", *lines, "Current cooling devices from HAL:", ""])  # fmt: skip

    def do_settings(self, *arguments: str):
        return 0, ("1\n" if self.state.get("battery_saver") else "0\n") if arguments == ("get", "global", "low_power") else "null\n"

    def do_input(self, *arguments: str):
        if arguments == ("keyevent", "KEYCODE_WAKEUP"):
            self.state["awake"] = True
        return 0, ""

    def do_wm(self, *arguments: str):
        if arguments == ("dismiss-keyguard",) and self.state["awake"]:
            self.state["swipe"] = False
        return 0, ""

    def do_ln(self, *arguments: str):
        # SELinux lets the shell make no hard links
        return 1, f"ln: cannot create link from '{arguments[0]}' to '{arguments[-1]}': Permission denied\n"

    def do_pidof(self, name: str):
        pid = self._pid()
        return (0, f"{pid}\n") if name == PACKAGE and pid else (1, "")

    def _pid(self) -> int | None:
        if self.app is not None and self.app.poll() is not None:
            self._noted_exit()
        return self.app.pid if self.app is not None else None

    def _noted_exit(self):
        pid, code, self.app = self.app.pid, self.app.returncode, None
        if code == 70:
            self.state["crash_log"] = outputs.JAVA_CRASH.format(pid=pid)
            self.exits.append((pid, "4 (APP CRASH(EXCEPTION))", "crash"))
        elif code == -signal.SIGABRT:
            self.state["crash_log"] = outputs.NATIVE_CRASH.format(pid=pid)
            self.exits.append((pid, "5 (APP CRASH(NATIVE))", "crash"))
        elif code == -signal.SIGKILL:
            self.exits.append((pid, "3 (LOW_MEMORY)", "null"))

    def do_logcat(self, *arguments: str):
        return 0, self.state.get("crash_log", "") if "crash" in arguments else ""

    def do_pm(self, command: str, *arguments: str):
        apk = self.root / "data/app" / f"{PACKAGE}-1" / "base.apk"
        if command == "path":
            return (0, f"package:/data/app/{PACKAGE}-1/base.apk\n") if arguments == (PACKAGE,) and apk.exists() else (1, "")
        if command == "install":
            if refusal := self.state.get("install_refusal"):
                return 1, f"Failure [{refusal}]\n"
            source = self.root / arguments[-1].lstrip("/")
            if not source.is_file():
                return 1, f"Error: failed to open {arguments[-1]}\n"
            apk.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, apk)
            return 0, "Success\n"
        if command == "uninstall" and arguments == (PACKAGE,):
            if not apk.exists():
                return 1, "Failure [DELETE_FAILED_INTERNAL_ERROR]\n"
            self._stop_app()
            shutil.rmtree(apk.parent)
            shutil.rmtree(self.root / MEDIA, ignore_errors=True)
            return 0, "Success\n"
        return 255, f"Unknown command: {command}\n"

    def do_am(self, command: str, *arguments: str):
        if command == "force-stop":
            self._stop_app()
            return 0, ""
        if command != "start":
            return 255, f"Unknown command: {command}\n"
        if not (self.root / "data/app" / f"{PACKAGE}-1").exists():
            return (
                1,
                f"Starting: Intent {{ cmp={PACKAGE}/.BenchmarkActivity }}\nError type 3\nError: Activity class {{{PACKAGE}/{PACKAGE}.BenchmarkActivity}} does not exist.\n",
            )
        options = list(arguments)
        if f"{PACKAGE}/.BenchmarkActivity" not in options:
            return 1, "Error: unknown component\n"
        if "--es" in options:
            where = options.index("--es")
            if options[where + 1] != "id" or f"{PACKAGE}.BENCHMARK" not in options:
                return 1, "Error: Unknown option\n"
            self._start_app(options[where + 2])
        state = "COLD"
        return (
            0,
            f"Starting: Intent {{ act={PACKAGE}.BENCHMARK cmp={PACKAGE}/.BenchmarkActivity (has extras) }}\nStatus: ok\nLaunchState: {state}\nActivity: {PACKAGE}/.BenchmarkActivity\nTotalTime: 312\nWaitTime: 318\nComplete\n",
        )

    def _start_app(self, request: str):
        if self._pid() is not None:
            return  # another benchmark runs; the real app would say so in its progress file
        behaviour = {**self.state["app"], "locked": self.state["locked"], "memory_kb": 11534336}
        self.app = subprocess.Popen(
            [sys.executable, "-S", str(APP), str(self.root), request, json.dumps(behaviour)], stdin=subprocess.DEVNULL
        )
        if "times" in self.state["app"]:  # how often it misbehaves
            self.state["app"]["times"] -= 1
            if self.state["app"]["times"] <= 0:
                self.state["app"] = {name: value for name, value in self.state["app"].items() if name == "seconds"}
        self.state["starts"] = self.state.get("starts", 0) + 1

    def _stop_app(self):
        if self._pid() is not None:
            self.app.kill()
            self.app.wait()
            self.app = None

    def reboot(self):
        """All processes end; the files stay."""
        self._stop_app()


def default_state(**changes) -> dict:
    state = {
        "model": "android14-samsung", "battery": 72, "temperature": 29.0, "coolest": 27.0, "cools_by": 0.0, "thermal_status": 0,
        "awake": True, "locked": False, "swipe": False, "app": {"seconds": 0.02},
    }  # fmt: skip
    return {**state, **changes}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wait_for(condition, seconds: float = 10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(str(condition))
        time.sleep(0.0005)


def install_directly(root: Path, data: bytes = b"an APK"):
    """Puts the app on the phone without going through adb."""
    folder = root / "data/app" / f"{PACKAGE}-1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "base.apk").write_bytes(data)
    os.sync()
