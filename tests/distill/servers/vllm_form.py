"""A real model's log probabilities in the form in which vLLM's server gives them (vllm/entrypoints/openai: completion and tokenize protocols)."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch


class VllmForm:
    """Serves a transformers model and a tokenizer; a context manager. ``change`` may spoil each reply's object before it is sent."""

    def __init__(self, model, tokenizer, change=None, owner="vllm", most=20, fail_after=None) -> None:
        self.model, self.tokenizer, self.change, self.most = model, tokenizer, change, most
        self.asked, self.lock = 0, threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def send(self, status: int, value: dict) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                self.send(200, {"object": "list", "data": [{"id": "big", "object": "model", "owned_by": owner, "max_model_len": 2048}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/tokenize":
                    tokens = server.tokenizer.encode(body["prompt"], begin=False)
                    return self.send(200, {"count": len(tokens), "max_model_len": 2048, "tokens": tokens, "token_strs": None})
                if self.path == "/detokenize":
                    return self.send(200, {"prompt": server.tokenizer.decode(body["tokens"], special=True)})
                with server.lock:
                    server.asked += 1
                    if fail_after is not None and server.asked > fail_after:
                        return self.send(
                            500, {"error": {"message": "engine died", "type": "InternalServerError", "param": None, "code": 500}}
                        )
                    if body["prompt_logprobs"] > server.most:
                        said = f"Requested prompt logprobs of {body['prompt_logprobs']}, which is greater than max allowed: {server.most}"
                        return self.send(400, {"error": {"message": said, "type": "BadRequestError", "param": None, "code": 400}})
                    value = server.completion(body)
                if server.change:
                    server.change(value)
                self.send(200, value)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @torch.no_grad()
    def completion(self, body: dict) -> dict:
        """The reply to a completion of one token with ``prompt_logprobs``."""
        tokens, k = body["prompt"], body["prompt_logprobs"]
        logs = self.model(input_ids=torch.tensor([tokens])).logits[0].float().log_softmax(-1)
        entries: list = [None]
        for place, token in enumerate(tokens[1:]):
            best = logs[place].topk(k)
            named = dict(zip(best.indices.tolist(), best.values.tolist(), strict=True))
            named[token] = float(logs[place, token])
            order = logs[place].argsort(descending=True).argsort()
            entries.append({
                str(one): {"logprob": value, "rank": int(order[one]) + 1, "decoded_token": self.tokenizer.decode([one], special=True)}
                for one, value in named.items()
            })  # fmt: skip
        choice = {
            "index": 0, "text": "x", "logprobs": None, "finish_reason": "length", "stop_reason": None, "token_ids": [1],
            "prompt_logprobs": entries, "prompt_token_ids": tokens if body.get("return_token_ids") else None,
        }  # fmt: skip
        usage = {"prompt_tokens": len(tokens), "completion_tokens": 1, "total_tokens": len(tokens) + 1}
        return {"id": "cmpl-1", "object": "text_completion", "created": 0, "model": body["model"], "choices": [choice], "usage": usage}

    def __enter__(self) -> "VllmForm":
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
