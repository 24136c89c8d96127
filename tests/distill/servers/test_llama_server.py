"""llama.cpp's own server, where it is built (scripts/setup_llama_server): answers, thoughts and log probabilities of a program that is not ours."""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import httpx2
import pytest
from gguf_writer import write_model
from test_cache import compare, values  # noqa: F401

from firsttoken.demo import checkpoint_path
from firsttoken.distill.ask_teacher import cache as local_cache
from firsttoken.distill.models import load_decoder
from firsttoken.distill.recipe import check_recipe
from firsttoken.distill.servers.cache import cache_from_servers
from firsttoken.distill.servers.generate import generate_from_servers
from firsttoken.distill.servers.settings import Asking, load_servers
from firsttoken.errors import FirstTokenError

VARIABLE = "FIRSTTOKEN_LLAMA_SERVER"
BUILT = Path(__file__).parents[3] / ".work" / "llama-server" / "bin" / "llama-server"
SERVER = Path(os.environ.get(VARIABLE) or BUILT)
pytestmark = pytest.mark.skipif(
    not SERVER.is_file(), reason=f"llama-server is not built: run scripts/setup_llama_server, or name it with {VARIABLE}"
)
KEY = "a-key-of-the-test"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a llama-server with the demo checkpoint in FP32, behind a key."""
    folder = tmp_path_factory.mktemp("served")
    tokenizer = json.loads((checkpoint_path() / "tokenizer.json").read_text())
    known = tokenizer["model"]["vocab"] | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    texts = {number: text for text, number in known.items()}
    special = {token["id"] for token in tokenizer["added_tokens"]}
    size = max(texts) + 1
    words = {
        "tokens": [texts.get(n, f"[unused {n}]") for n in range(size)],
        "kinds": [3 if n in special else 1 if n in texts else 5 for n in range(size)],
        "merges": [one if isinstance(one, str) else " ".join(one) for one in tokenizer["model"]["merges"]],
        "pre": "qwen2", "eos": known["<|im_end|>"],
        "template": json.loads((checkpoint_path() / "tokenizer_config.json").read_text())["chat_template"],
    }  # fmt: skip
    path = write_model(folder / "demo.gguf", load_decoder(checkpoint_path()), words=words)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(SERVER),
        "-m",
        str(path),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "-c",
        "2048",
        "-np",
        "2",
        "-t",
        "1",
        "-ctk",
        "f32",
        "-ctv",
        "f32",
        "--alias",
        "demo",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "LLAMA_API_KEY": KEY})
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx2.get(f"{url}/health").status_code == 200:
                    break
            except httpx2.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


def test_answers_of_llama_cpp(served, prompts, tmp_path, monkeypatch):
    monkeypatch.setenv("LLAMA_KEY", KEY)
    asking = Asking(samples=3, temperature=0.8, max_tokens=12, seed=4)
    many = prompts([{"prompt": f"Explain module {name}"} for name in ("json", "math", "os", "csv")])
    facts = [
        generate_from_servers(load_servers(served, key_variable="LLAMA_KEY", stream=stream), many, tmp_path / f"{stream}.jsonl", asking)
        for stream in (False, True)
    ]
    for stream, found in zip((False, True), facts, strict=True):
        lines = [json.loads(line) for line in (tmp_path / f"{stream}.jsonl").read_text().splitlines()]
        everything = lines + [json.loads(line) for line in _lines(tmp_path / f"{stream}.rejected.jsonl")]
        assert sorted((line["line"], line["sample"]) for line in everything) == [(n, s) for n in range(1, 5) for s in range(3)]
        assert found["answers"] == len(lines) > 6 and found["servers"][f"{served}/v1"]["models"] == ["demo"]
        assert len({line["answer"] for line in lines}) > 6  # samples are no copies
        assert {line["stopped"] for line in lines} <= {"end", "length"}
    with pytest.raises(FirstTokenError, match="refuses access"):
        generate_from_servers(load_servers(served), many, tmp_path / "no.jsonl", asking)


def test_greedy_answers_are_the_checkpoints(served, prompts, tmp_path, monkeypatch):
    from firsttoken.distill.generate import AnswerSettings, generate

    monkeypatch.setenv("LLAMA_KEY", KEY)
    many = prompts([{"prompt": "def read(self"}, {"prompt": "Explain module json"}])
    generate_from_servers(load_servers(served, key_variable="LLAMA_KEY"), many, tmp_path / "served.jsonl", Asking(max_tokens=10))
    generate(checkpoint_path(), many, tmp_path / "local.jsonl", AnswerSettings(max_tokens=10))
    said = [
        {line["prompt"]: line["answer"].strip() for line in map(json.loads, _lines(tmp_path / f"{name}.jsonl"))}
        for name in ("served", "local")
    ]
    assert said[0] == said[1] and all(said[0].values())


def test_log_probabilities_of_llama_cpp_are_the_checkpoints(served, values, tmp_path, monkeypatch):  # noqa: F811
    """In FP32 on both sides."""
    monkeypatch.setenv("LLAMA_KEY", KEY)
    recipe = check_recipe(values)
    local_cache(recipe, tmp_path / "local", top=20)
    facts = cache_from_servers(recipe, tmp_path / "served", load_servers(served, key_variable="LLAMA_KEY", concurrency=2), 20)
    assert facts["teacher"] == {"model": "demo", "server": "llamacpp"} and facts["tokens_proven"] > 3900
    assert compare(values, tmp_path / "served", tmp_path / "local", 1e-3) > 100


def _lines(path):
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
