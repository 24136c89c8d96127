"""Hub ids: downloaded by the hub's own client from a server that answers as the hub does, each in a process of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_server import COMMIT, HubServer
from safetensors.torch import save_file

from firsttoken.checkpoint_sources.hub import HubId, parse_id


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", HubId("Qwen/Qwen2.5-0.5B-Instruct", None)),
        ("a/b@main", HubId("a/b", "main")),
        ("a/b@refs/pr/1", HubId("a/b", "refs/pr/1")),
        ("a/b/c", None),
        ("a", None),
        ("./a", None),
        ("../a", None),
        ("a/..", None),
        ("a/b@", None),
        ("a/b@..", None),
        ("/a/b", None),
        ("~/a", None),
        ("a/b c", None),
        ("", None),
    ],
)
def test_ids(text, found):
    assert parse_id(text) == found


@pytest.fixture
def repository(tiny_checkpoint):
    for name in ("README.md", "consolidated.safetensors", "pytorch_model.bin", "onnx/model.safetensors", "chat_template.jinja"):
        (tiny_checkpoint / name).parent.mkdir(exist_ok=True)
        (tiny_checkpoint / name).write_text("x" if name != "chat_template.jinja" else "{{ messages[0].content }}")
    return tiny_checkpoint


def asked(tmp_path: Path, address: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs the command with an empty home, so that nothing of the user's is read or left behind."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    told = {
        "HF_ENDPOINT": address,
        "HF_HOME": str(tmp_path / "hub"),
        "HOME": str(tmp_path),
        "HF_HUB_ETAG_TIMEOUT": "2",
        "HF_HUB_DISABLE_XET": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "firsttoken", *arguments],
        env=clean | told | environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )


def test_an_id_is_downloaded_once_with_only_what_is_read(tmp_path, repository):
    with HubServer(repository) as hub:
        first = asked(tmp_path, hub.address, "get", "Owner/Model", "--json")
        assert first.returncode == 0, first.stderr
        read = {
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "generation_config.json",
            "chat_template.jinja",
        }
        assert set(hub.asked) == {name for name in read if (repository / name).exists()}
        assert '"checkpoint": "Owner/Model"' in first.stdout and COMMIT in first.stdout
        hub.asked.clear()
        assert asked(tmp_path, hub.address, "get", f"Owner/Model@{COMMIT}").returncode == 0 and not hub.asked
        missing = asked(tmp_path, hub.address, "get", "Owner/Model@v9")
        assert missing.returncode == 2 and "has no revision 'v9'" in missing.stderr and missing.stderr.count("\n") == 1
        unknown = asked(tmp_path, hub.address, "get", "Owner/Nothing")
        assert unknown.returncode == 2 and "no such repository, or it is private" in unknown.stderr
    offline = asked(tmp_path, hub.address, "get", "Owner/Model", HF_HUB_OFFLINE="1")  # what is in the cache needs no hub
    assert offline.returncode == 0 and offline.stdout.strip().endswith(COMMIT)


def test_a_download_that_broke_off_goes_on(tmp_path, repository):
    save_file({"w": torch.randn(8 << 20)}, repository / "model.safetensors")  # 32 MiB: the client keeps pieces of 10 MB
    with HubServer(repository, cut="model.safetensors") as hub:
        first = asked(tmp_path, hub.address, "get", "Owner/Model")
        done = first if first.returncode == 0 else asked(tmp_path, hub.address, "get", "Owner/Model")
        assert done.returncode == 0, done.stderr
        assert [name for name, _ in hub.ranges] == ["model.safetensors"] and "bytes=0-" not in hub.ranges[0][1]
    loaded = Path(done.stdout.strip()) / "model.safetensors"
    assert loaded.read_bytes() == (repository / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("environment", "why"), [({"HF_HUB_OFFLINE": "1"}, "hub cannot be asked"), ({}, "hub cannot be asked")])
def test_where_there_is_no_hub_one_line_says_what_to_run(tmp_path, environment, why):
    done = asked(tmp_path, "http://127.0.0.1:9", "export", "Owner/Model@v1", "-o", "out", **environment)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and why in done.stderr
    assert "run: hf download Owner/Model --revision v1 --local-dir Model, and give the folder Model" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_of_that_name_is_not_looked_for_elsewhere(tmp_path, repository):
    shutil.copytree(repository, tmp_path / "Owner" / "Model")
    done = asked(tmp_path, "http://127.0.0.1:9", "get", "Owner/Model")
    assert done.returncode == 0 and done.stdout.strip() == "Owner/Model"


def test_a_repository_without_safetensors(tmp_path):
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "config.json").write_text("{}")
    with HubServer(tmp_path / "repository") as hub:
        done = asked(tmp_path, hub.address, "get", "Owner/Model")
    assert done.returncode == 2 and "holds no *.safetensors; of a repository of GGUF files download one" in done.stderr


def test_a_teacher_may_be_an_id(tmp_path, repository):
    (repository / "chat_template.jinja").unlink()
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a"}\n')
    with HubServer(repository) as hub:
        command = ("distill", "generate", "Owner/Model", "prompts.jsonl", "-o", "answers.jsonl", "--raw", "-n", "3")
        done = asked(tmp_path, hub.address, *command)
    assert done.returncode == 0, done.stderr
    assert "model.safetensors" in hub.asked and '"answer"' in (tmp_path / "answers.jsonl").read_text()
