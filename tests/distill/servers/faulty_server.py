"""A server that answers chat requests as it is told to: one fault after another, then rightly."""

import json
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def right(body: dict, **changes) -> dict:
    """A whole reply: each sample says what was asked and its seed."""
    samples = changes.pop("samples", body.get("n", 1))
    said = body["messages"][-1]["content"]
    choices = [
        {
            "index": n,
            "message": {"role": "assistant", "content": f"{said}! {body.get('seed', '')} {n}", "reasoning_content": None},
            "finish_reason": "stop",
        }
        for n in range(samples)
    ]
    usage = {"prompt_tokens": 10, "completion_tokens": 5 * samples, "total_tokens": 10 + 5 * samples}
    return {"id": "x", "object": "chat.completion", "model": "named-by-server", "choices": choices, "usage": usage, **changes}


class FaultyServer:
    """A context manager. ``faults`` are functions on the request handler and the request, each used once; ``bodies`` and ``keys`` are what was asked."""

    def __init__(self, *faults, always=None, models=("m",), delay=0.0) -> None:
        self.faults, self.always, self.models, self.delay = deque(faults), always, models, delay
        self.bodies, self.keys, self.times, self.flying, self.most = [], [], [], 0, 0
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def send(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), "Content-Type": kind, **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                server.keys.append(self.headers.get("Authorization"))
                models = {"object": "list", "data": [{"id": name, "owned_by": "test"} for name in server.models]}
                self.send(200, json.dumps(models).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.bodies.append(body)
                    server.keys.append(self.headers.get("Authorization"))
                    server.times.append(time.monotonic())
                    fault = server.faults.popleft() if server.faults else server.always
                    server.flying += 1
                    server.most = max(server.most, server.flying)
                time.sleep(server.delay)
                with server.lock:
                    server.flying -= 1
                if fault is None:
                    self.send(200, json.dumps(right(body)).encode())
                else:
                    fault(self, body)

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:  # a client that gave up
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self) -> "FaultyServer":
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def status(code: int, message: str = "broken", **headers: str):
    """A fault: a status with a message where OpenAI has it."""
    return lambda handler, body: handler.send(code, json.dumps({"error": {"message": message}}).encode(), **headers)


def reply(**changes):
    """A reply with changes."""
    return lambda handler, body: handler.send(200, json.dumps(right(body, **changes)).encode())


def raw(content: bytes, kind: str = "application/json"):
    """Any bytes."""
    return lambda handler, body: handler.send(200, content, kind)


def cut(handler, body) -> None:
    """The line goes dead in the middle of the reply."""
    whole = json.dumps(right(body)).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(whole)))
    handler.end_headers()
    handler.wfile.write(whole[: len(whole) // 2])
    handler.wfile.flush()
    handler.close_connection = True


def slow(seconds: float):
    """A reply that comes too late."""

    def answer(handler, body) -> None:
        time.sleep(seconds)
        handler.send(200, json.dumps(right(body)).encode())

    return answer


def streamed(pieces: list[dict], done: bool = True):
    """Server-sent events, with or without the last one."""
    text = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + ("data: [DONE]\n\n" if done else "")
    return raw(text.encode(), "text/event-stream")
