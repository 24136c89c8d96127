"""A server that answers as the Hugging Face hub does where its client downloads a model: listing, facts of a file, its bytes."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """Serves ``folder`` as the repository ``Owner/Model``; a context manager. ``asked`` are the files whose bytes were asked for."""

    def __init__(self, folder: Path, revisions: tuple[str, ...] = ("main", COMMIT), cut: str = "") -> None:
        self.folder, self.revisions, self.cut, self.asked, self.ranges = folder, revisions, cut, [], []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def answer(self, code: int, body: bytes, **headers: str) -> None:
                self.send_response(code)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_GET(self) -> None:
                hub.answer(self, unquote(urlsplit(self.path).path).strip("/").split("/"))

            do_HEAD = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request, parts: list[str]) -> None:
        if parts[:1] == ["api"]:
            if parts[2:4] != ["Owner", "Model"]:
                return request.answer(401, b"{}", X_Error_Message="Repository not found", X_Error_Code="RepoNotFound")
            if len(parts) > 5 and parts[5] not in self.revisions:
                return request.answer(404, b"{}", X_Error_Message="Revision not found", X_Error_Code="RevisionNotFound")
            names = sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())
            if parts[4:5] == ["tree"]:
                tree = [{"type": "file", "path": name, "oid": "0" * 40, "size": (self.folder / name).stat().st_size} for name in names]
                return request.answer(200, json.dumps(tree).encode(), Content_Type="application/json")
            facts = {"id": "Owner/Model", "sha": COMMIT, "private": False, "siblings": [{"rfilename": name} for name in names]}
            return request.answer(200, json.dumps(facts).encode(), Content_Type="application/json")
        path = self.folder / "/".join(parts[4:])
        if parts[:3] != ["Owner", "Model", "resolve"] or not path.is_file():
            return request.answer(404, b"", X_Error_Code="EntryNotFound")
        body = path.read_bytes()
        headers = {"X_Repo_Commit": COMMIT, "ETag": f'"{hashlib.sha256(body).hexdigest()}"', "Accept_Ranges": "bytes"}
        if request.command == "GET":
            self.asked.append(path.name)
            if (wanted := request.headers.get("Range")) and wanted.startswith("bytes="):
                self.ranges.append((path.name, wanted))
                start = int(wanted.removeprefix("bytes=").partition("-")[0])
                return request.answer(206, body[start:], Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}", **headers)
            if path.name == self.cut:  # the line goes dead in the middle
                request.send_response(200)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    request.send_header(name.replace("_", "-"), value)
                request.end_headers()
                request.wfile.write(body[: len(body) // 2])
                request.wfile.flush()
                self.cut = ""
                request.close_connection = True
                return None
        return request.answer(200, body, **headers)

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
