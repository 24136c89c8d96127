"""The app's side of android-demo/PROTOCOL.md, played by a script: reads the request, checks it, writes progress and measurement.

    app.py ROOT ID BEHAVIOUR

Written against the page alone, not with firsttoken's own code. BEHAVIOUR is JSON: how long a run takes, and what goes wrong.
"""

import hashlib
import json
import os
import random
import re
import signal
import stat
import sys
import time
from pathlib import Path

PACKAGE = "dev.firsttoken.demo"


class Refused(Exception):
    pass


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "+00:00"


class App:
    def __init__(self, root: Path, request_id: str, behaviour: dict):
        self.staging, self.behaviour, self.id = root / "data/local/tmp/firsttoken", behaviour, request_id
        self.folder = root / f"data/media/0/Android/media/{PACKAGE}/measurements"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.opened = time.monotonic_ns()

    def tell(self, event: str, **fields):
        with open(self.folder / f"{self.id}.progress", "a") as stream:
            stream.write(json.dumps({"event": event, "time": int(time.time() * 1000), **fields}) + "\n")

    def read(self, path: Path) -> bytes:
        """Reads a staged file as an app may: plain, world-readable, in folders that others may enter."""
        for folder in path.parents:
            if folder == self.staging.parent:
                break
            if stat.S_IMODE(folder.stat().st_mode) & 0o005 != 0o005:
                raise Refused(f"{folder.name} may not be entered")
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1 or stat.S_IMODE(facts.st_mode) != 0o644:
            raise Refused(f"{path.name} is not a plain file of mode 644")
        return path.read_bytes()

    def run(self):
        if not re.fullmatch(r"[0-9a-f]{32}", self.id):
            return
        try:
            self.check()
        except (Refused, OSError, KeyError, TypeError, ValueError) as error:
            self.tell("refused", message=str(error) or type(error).__name__)
            return
        self.carry_out()

    def check(self):
        if message := self.behaviour.get("refuse"):
            raise Refused(message)
        if self.behaviour["locked"]:
            raise Refused("the phone is locked")
        data = self.read(self.staging / "requests" / f"{self.id}.json")
        if len(data) > 1 << 20:
            raise Refused("the request is too large")
        self.request = request = json.loads(data)
        if request.setdefault("artifact", "auto") not in ("auto", "cpu", "gpu", "npu"):
            raise Refused("malformed request")
        if (
            set(request) - {"artifact"} != {"protocol", "id", "bundle", "state", "threads", "repeat", "decode_tokens", "chat", "prompts"}
            or request["protocol"] != 1
            or request["id"] != self.id
        ):
            raise Refused("malformed request")
        bounds = (
            (request["threads"], 1, 16),
            (request["repeat"], 1, 1000),
            (request["decode_tokens"], 0, 4096),
            (len(request["prompts"]), 1, 32),
        )
        if not all(type(value) is int and least <= value <= most for value, least, most in bounds) or request["state"] not in (
            "warm",
            "cold",
        ):
            raise Refused("malformed request")
        if request["state"] == "cold" and (request["repeat"] != 1 or len(request["prompts"]) != 1):
            raise Refused("a cold request has one prompt and one run")
        if not re.fullmatch(r"[0-9a-f]{32}", request["bundle"]):
            raise Refused("malformed bundle key")
        bundle = self.staging / "bundles" / request["bundle"]
        names = sorted(path.name for path in bundle.iterdir())
        contents = {name: self.read(bundle / name) for name in names}
        lines = "".join(f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in names)
        if hashlib.sha256(lines.encode()).hexdigest()[:32] != request["bundle"]:
            raise Refused("the bundle is not complete")
        self.manifest = json.loads(contents["manifest.json"])
        for name, facts in self.manifest["files"].items():
            if hashlib.sha256(contents[name]).hexdigest() != facts["sha256"]:
                raise Refused(f"{name} is not the manifest's")

    def carry_out(self):
        request, file = self.request, self.folder / f"{self.id}.json"
        kept = json.loads(file.read_text())["results"][0] if file.exists() else None
        self.result = kept or {
            "bundle": self.identity(),
            "runtime_version": {"tflite": "LiteRT 2.3.0 (emulated)", "executorch": "ExecuTorch 1.5.1 (emulated)"}[
                self.manifest["target"]["runtime"]
            ],
            "threads": request["threads"],
            "chat": request["chat"],
            "before": {"time": now(), "thermal_status": 0, "available_memory_bytes": 5 << 30},
            "runs": [],
            "failures": [],
            **self.artifact(),
        }
        self.begun = time.monotonic() - (self.result["runs"][-1]["at_seconds"] if self.result["runs"] else 0)
        finished = [run["prompt_tokens"] for run in self.result["runs"] if run["state"] == request["state"]]
        todo = [
            prompt for number in range(request["repeat"]) for prompt in request["prompts"] if finished.count(prompt["tokens"]) <= number
        ]
        self.tell("started", pid=os.getpid(), total=len(todo), kept=len(finished))
        self.tell("phase", phase="loading")
        time.sleep(self.behaviour["seconds"])
        if request["state"] == "warm" and todo:
            self.tell("phase", phase="warm-up")
            self.measure(max(request["prompts"], key=lambda prompt: prompt["tokens"]), "warm-up")
        self.tell("phase", phase="running")
        given_up = set()  # what failed once would fail again
        for number, prompt in enumerate(todo, start=1):
            self.misbehave(number - 1)
            if number - 1 == self.behaviour.get("full_after"):
                self.tell("refused", message="the measurement cannot be written (No space left on device); free some space on the phone")
                return
            if prompt["tokens"] in given_up:
                continue
            if prompt["tokens"] == self.behaviour.get("fails_at"):
                given_up.add(prompt["tokens"])
                self.result["failures"].append(
                    {
                        "prompt_tokens": prompt["tokens"],
                        "state": request["state"],
                        "stage": "prefill",
                        "message": "not enough memory for\nthe cache\x1b[31m",
                    }
                )
                self.write()
                self.tell("failed", prompt_tokens=prompt["tokens"], stage="prefill", message="not enough memory")
                continue
            total = self.measure(prompt, request["state"])
            self.tell("run", prompt_tokens=prompt["tokens"], state=request["state"], done=number, total=len(todo), first_token_ns=total)
        self.result["after"] = {"time": now(), "thermal_status": 1, "available_memory_bytes": 4 << 30}
        self.write()
        self.spoil(file)
        self.tell("done", runs=len(self.result["runs"]), failures=len(self.result["failures"]))

    def measure(self, prompt: dict, state: str) -> int:
        """A run that takes as long as it says, with the prompt's length in it."""
        random.seed()
        begun = time.monotonic_ns()
        time.sleep(self.behaviour["seconds"] * (0.5 + random.random()))
        stages = {
            name: int(nanoseconds * (0.9 + 0.2 * random.random()))
            for name, nanoseconds in (("tokenize", 90_000), ("sample", 60_000), ("detokenize", 20_000), ("render", 8_000_000))
        }
        if state == "cold":
            stages["load"] = begun - self.opened
        stages["prefill"] = time.monotonic_ns() - begun + prompt["tokens"] * int(200_000 + 20_000 * random.random())
        run = {
            "prompt_tokens": prompt["tokens"], "state": state, "page_cache": "unknown" if state == "cold" else "cached",
            "at_seconds": time.monotonic() - self.begun, "stages": stages, "peak_memory_bytes": (300 << 20) + prompt["tokens"] * 4096, "thermal_status": 0,
        }  # fmt: skip
        if tokens := self.request["decode_tokens"]:
            run["decode"] = {"tokens": tokens, "nanoseconds": tokens * int(9e6 + 2e6 * random.random())}
        self.result["runs"].append(run)
        self.write()
        return sum(stages.values())

    def write(self):
        document = {
            "schema_version": 1,
            "writer": {"name": "firsttoken demo app", "version": "0.1.0"},
            "device": {
                "kind": "phone", "model": "SM-S928B", "manufacturer": "samsung", "system": "Android 14",
                "cpu": {"model": "unknown", "cores": 8, "flags": [], "clusters": {}}, "memory_bytes": self.behaviour["memory_kb"] * 1024,
            },
            "results": [self.result],
        }  # fmt: skip
        partial = self.folder / f"{self.id}.json.partial"
        partial.write_text(json.dumps(document))
        os.replace(partial, self.folder / f"{self.id}.json")

    def identity(self) -> dict:
        manifest, cpu = self.manifest, self.manifest["artifacts"][0]
        facts = manifest["files"][cpu["file"]]
        found = {
            "name": self.request["bundle"], "checkpoint": manifest["checkpoint"]["name"], "fingerprint": manifest["checkpoint"]["fingerprint"],
            "plan": manifest["plan"]["name"], "target": manifest["target"]["name"], "runtime": manifest["target"]["runtime"],
            "delegate": manifest["target"]["delegate"], "artifact_sha256": facts["sha256"], "artifact_bytes": facts["bytes"],
            "cache_length": manifest["target"]["cache_length"],
        }  # fmt: skip
        if proof := cpu.get("proof"):
            found["proof"] = {**{name: proof["all"][name] for name in ("mean_kld", "p99_kld", "same_top")}, "passed": proof["passed"]}
        return found

    def artifact(self) -> dict:
        """Which artifact a phone with an SM8650 and a GPU runs, in the result of a bundle that has several."""
        cpu, *others = self.manifest["artifacts"]
        asked, missed = self.request["artifact"], {}
        for other in others:
            kind = "npu" if other.get("npu") else "gpu"
            soc = other["needs"].get("soc")
            reason = self.behaviour.get(f"{kind}_fails") or (
                f"it is compiled for {soc}, and this phone has SM8650-AC" if kind == "npu" and soc != "SM8650" else None
            )
            if asked not in ("auto", kind):
                continue
            if not reason:
                return {"artifact": self.ran(kind, other) | missed}
            missed = missed or ({"fallback": reason, "instead_of": kind} if asked == "auto" else {})
        return {"artifact": self.ran("cpu", cpu) | missed} if others else {}

    def ran(self, kind: str, artifact: dict) -> dict:
        facts = self.manifest["files"][artifact["file"]]
        return {"kind": kind, "sha256": facts["sha256"], "bytes": facts["bytes"]}

    def misbehave(self, finished: int):
        """Ends the process as the real one may end, once so many runs are finished."""
        if finished != self.behaviour.get("after", 0):
            return
        if self.behaviour.get("dies") == "java":
            os._exit(70)
        if self.behaviour.get("dies") == "native":
            os.abort()
        if self.behaviour.get("dies") == "memory":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.behaviour.get("progress"):
            with open(self.folder / f"{self.id}.progress", "a") as stream:
                stream.write(self.behaviour["progress"] + "\n")

    def spoil(self, file: Path):
        """Makes the finished measurement file a bad one."""
        how = self.behaviour.get("spoils")
        document = json.loads(file.read_text())
        [result] = document["results"]
        if how == "truncated":
            file.write_text(file.read_text()[:-40])
            return
        if how == "huge":
            os.truncate(file, 1 << 30)  # sparse: a gigabyte of zeros
            return
        if how == "deep":
            file.write_text('{"schema_version": 1, "results": ' + "[" * 200_000)
            return
        if how == "gone":
            file.unlink()
            return
        if how == "bundle":
            result["bundle"]["name"] = "0" * 32
        elif how == "hash":
            result["bundle"]["artifact_sha256"] = "f" * 64
        elif how == "time":
            result["runs"][-1]["stages"]["prefill"] = 10**30
        elif how == "infinite":
            result["runs"][-1]["at_seconds"] = float("inf")
        elif how == "many":
            result["runs"] += [run for run in result["runs"] if run["state"] != "warm-up"]
        elif how == "length":
            result["runs"][-1]["prompt_tokens"] = 7
        elif how == "memory":
            result["runs"][-1]["peak_memory_bytes"] = 1 << 60
        elif how == "field":
            result["runs"][-1]["\x1b]0;owned\x07"] = 1
        elif how == "newer":
            document["schema_version"] = 99
        else:
            return
        file.write_text(json.dumps(document))


if __name__ == "__main__":
    App(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])).run()
