"""The files of a run: answers, rejected answers, a line for every answered request, and the manifest of what was asked of which model.

A request's answers are on the disk before its line in ``NAME.requests.jsonl``, which says how long both other files were then: whatever a crash
left behind that is cut off, and the run goes on with exactly what is missing.
"""

import fcntl
import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from firsttoken.atomic_file import write_text
from firsttoken.checkpoint import read_json
from firsttoken.distill.work_folder import first_difference, shorten
from firsttoken.errors import FirstTokenError
from firsttoken.json_lines import append_lines, json_lines

FORMAT = 1
LISTED = 100  # prompts without an answer that the manifest names


class Ledger:
    """The files of one output, locked against a second run until `close`. ``asked`` decides the answers and must not change on the way.

    Raises `FirstTokenError` for files that are not of this command, or of other prompts, models or settings.
    """

    def __init__(self, output: Path, asked: dict[str, Any]) -> None:
        self.output = output
        self.rejected = output.with_name(f"{output.stem}.rejected.jsonl")
        self.requests = output.with_name(f"{output.stem}.requests.jsonl")
        self.manifest = output.with_name(f"{output.name}.json")
        self.asked: dict[str, Any] = json.loads(json.dumps(asked))  # as a file has it
        self.done: dict[int, set[int]] = {}  # samples by line of the prompts
        self.kept, self.spent = 0, 0.0
        self._servers: dict[str, dict[str, Any]] = {}
        self._why: Counter[str] = Counter()
        begun = self._check()
        self._lock = self._locked()
        try:
            if begun:
                self._reopen()
            else:
                self._write_manifest([], {})
        except BaseException:
            self.close()
            raise

    def _check(self) -> bool:
        """Whether an earlier run began these files."""
        if not self.output.parent.is_dir():
            raise FirstTokenError(f"output {self.output}: folder {self.output.parent} does not exist; make it or choose another with -o")
        if not self.manifest.exists():
            for path in (self.output, self.rejected, self.requests):
                is_lock = path == self.requests and path.exists() and not path.stat().st_size  # of a run that could not begin
                if path.exists() and not is_lock:
                    raise FirstTokenError(f"output {path}: exists, and not from this command; choose another with -o")
            return False
        began = read_json(self.manifest, "").get("asked")
        if not isinstance(began, dict):
            raise FirstTokenError(f"output {self.output}: was begun with a teacher that is no server; choose another with -o")
        if changed := first_difference(began, self.asked):
            where, before, now = changed
            raise FirstTokenError(
                f"output {self.output}: was begun with {where} = {shorten(before)}, now it is {shorten(now)}; put it back to go on, or choose another with -o"
            )
        return True

    def _locked(self) -> int:
        try:
            held = os.open(self.requests, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise FirstTokenError(f"output {self.requests}: cannot be written ({error.strerror}); choose another with -o") from None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(held)
            raise FirstTokenError(f"output {self.output}: another run is at work on it; wait for it, or choose another with -o") from None
        return held

    def close(self) -> None:
        """Lets another run have the files."""
        os.close(self._lock)

    def _reopen(self) -> None:
        _cut(self.requests, _whole_lines(self.requests))
        sizes = [0, 0]
        for number, record in json_lines(self.requests):
            try:
                self._count(record)
                sizes = [int(size) for size in record["bytes"]]
            except (KeyError, TypeError, ValueError, AttributeError):
                raise FirstTokenError(f"{self.requests}, line {number}: is not of this command; choose another output with -o") from None
        for path, size in zip((self.output, self.rejected), sizes, strict=True):
            there = path.stat().st_size if path.exists() else 0
            if there < size:
                raise FirstTokenError(
                    f"{path}: has {there} bytes, and {size} were written; it was changed, so choose another output with -o"
                )
            if there > size:
                _cut(path, size)

    def add(self, record: dict[str, Any], kept: list[dict[str, Any]], rejected: list[dict[str, Any]]) -> None:
        """Writes what a request brought. ``record`` has line, samples, server, model, tokens_in, tokens_out, cost. Raises `FirstTokenError`."""
        why = Counter(line["rejected"].partition(":")[0] for line in rejected)
        try:
            sizes = [
                append_lines(path, lines) if lines else _size(path) for path, lines in ((self.output, kept), (self.rejected, rejected))
            ]
            record = {**record, "kept": len(kept), "rejected": dict(why), "at": _now(), "bytes": sizes}
            append_lines(self.requests, [record])
        except OSError as error:
            raise FirstTokenError(
                f"output {self.output}: answers cannot be written ({error.strerror}); free space and run the same command again, it goes on"
            ) from None
        self._count(record)

    def _count(self, record: dict[str, Any]) -> None:
        self.done.setdefault(record["line"], set()).update(record["samples"])
        self.kept += record["kept"]
        self.spent += record["cost"]
        self._why.update(record["rejected"])
        server = self._servers.setdefault(
            record["server"],
            {
                "models": [],
                "requests": 0,
                "samples": 0,
                "tokens_in": 0,
                "tokens_out": 0,
                "uncounted": 0,
                "cost": 0.0,
                "first": record["at"],
            },
        )
        if record["model"] not in server["models"]:
            server["models"].append(record["model"])
        server["requests"] += 1
        server["samples"] += len(record["samples"])
        server["uncounted"] += record["tokens_out"] is None
        server["tokens_in"] += record["tokens_in"] or 0
        server["tokens_out"] += record["tokens_out"] or 0
        server["cost"] += record["cost"]
        server["last"] = record["at"]

    def finish(self, unanswered: list[tuple[int, str]], prices: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Writes the manifest and returns it."""
        if not self.output.exists():
            self.output.touch()
        return self._write_manifest(unanswered, prices)

    def _write_manifest(self, unanswered: list[tuple[int, str]], prices: dict[str, dict[str, Any]]) -> dict[str, Any]:
        servers = {url: {**facts, "cost": round(facts["cost"], 8), **prices.get(url, {})} for url, facts in self._servers.items()}
        dates = [facts[name] for facts in servers.values() for name in ("first", "last")]
        facts = {
            "format": FORMAT,
            "asked": self.asked,
            "answers": self.kept,
            "rejected": dict(self._why),
            "unanswered": [{"line": line, "why": why} for line, why in unanswered[:LISTED]],
            "cost": round(self.spent, 8),
            "from": min(dates, default=None),
            "to": max(dates, default=None),
            "servers": servers,
        }
        write_text(self.manifest, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        return facts


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def _whole_lines(path: Path) -> int:
    """Bytes up to the last newline, looked for from the end."""
    with open(path, "rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - (1 << 16))
            stream.seek(start)
            place = stream.read(end - start).rfind(b"\n")
            if place >= 0:
                return start + place + 1
            end = start
    return 0
