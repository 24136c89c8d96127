"""Every kind of bad input: one line that says what to do, a non-zero exit, and nothing left behind."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from firsttoken import cli
from firsttoken.demo import checkpoint_path


def refused(capsys, tmp_path, arguments, *said, code=2):
    """Runs the command line, checks for one line that says all of ``said`` and that ``out`` does not exist."""
    capsys.readouterr()
    assert cli.run([str(a) for a in arguments]) == code
    got = capsys.readouterr()
    lines = got.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), got.err
    for text in said:
        assert text in lines[0]
    assert len(lines[0]) < 600
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def refused_export(capsys, tmp_path, checkpoint, *said, more=()):
    refused(capsys, tmp_path, ["export", checkpoint, "-o", tmp_path / "out", "--no-prove", *more], *said)


def change_config(checkpoint: Path, **changes):
    path = checkpoint / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(checkpoint: Path, change):
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_missing_file(capsys, tmp_path, tiny_checkpoint, name):
    (tiny_checkpoint / name).unlink()
    refused_export(capsys, tmp_path, tiny_checkpoint, name, "missing")


def test_only_a_sentencepiece_tokenizer(capsys, tmp_path, tiny_checkpoint):
    (tiny_checkpoint / "tokenizer.json").unlink()
    (tiny_checkpoint / "tokenizer.model").write_bytes(b"")
    refused_export(capsys, tmp_path, tiny_checkpoint, "tokenizer.model", "save_pretrained")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_a_file_that_is_not_json(capsys, tmp_path, tiny_checkpoint, name):
    (tiny_checkpoint / name).write_text("{not json")
    refused_export(capsys, tmp_path, tiny_checkpoint, name, "cannot be read")


def test_no_checkpoint_at_all(capsys, tmp_path):
    refused_export(capsys, tmp_path, tmp_path / "nowhere", "not a folder")


def test_pickle_weights(capsys, tmp_path, tiny_checkpoint):
    (tiny_checkpoint / "model.safetensors").rename(tiny_checkpoint / "pytorch_model.bin")
    refused_export(capsys, tmp_path, tiny_checkpoint, "pickle", "safe_serialization")


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.999])
def test_truncated_shard(capsys, tmp_path, tiny_checkpoint, keep):
    path = tiny_checkpoint / "model.safetensors"
    size = path.stat().st_size
    os.truncate(path, int(keep * size) if isinstance(keep, float) else keep)
    refused_export(capsys, tmp_path, tiny_checkpoint, "model.safetensors", "truncated")


def test_corrupted_header(capsys, tmp_path, tiny_checkpoint):
    path = tiny_checkpoint / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[8:40] = os.urandom(32)
    path.write_bytes(content)
    refused_export(capsys, tmp_path, tiny_checkpoint, "model.safetensors", "corrupted")


def test_index_naming_an_absent_shard(capsys, tmp_path, tiny_checkpoint):
    (tiny_checkpoint / "model.safetensors").rename(tiny_checkpoint / "model-00001-of-00002.safetensors")
    names = load_file(tiny_checkpoint / "model-00001-of-00002.safetensors").keys()
    weight_map = dict.fromkeys(names, "model-00001-of-00002.safetensors") | {"model.norm.weight": "model-00002-of-00002.safetensors"}
    (tiny_checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    refused_export(capsys, tmp_path, tiny_checkpoint, "model-00002-of-00002.safetensors", "absent")


def test_shape_that_is_not_the_configurations(capsys, tmp_path, tiny_checkpoint):
    change_weights(tiny_checkpoint, lambda t: t.update({"model.norm.weight": torch.ones(32)}))
    refused_export(capsys, tmp_path, tiny_checkpoint, "model.norm.weight", "[32]", "[64]")


def test_missing_tensor(capsys, tmp_path, tiny_checkpoint):
    change_weights(tiny_checkpoint, lambda t: t.pop("model.layers.1.mlp.up_proj.weight"))
    refused_export(capsys, tmp_path, tiny_checkpoint, "model.layers.1.mlp.up_proj.weight", "missing")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("tensor", ["model.layers.1.mlp.down_proj.weight", "model.embed_tokens.weight", "model.norm.weight"])
@pytest.mark.parametrize("target", ["tflite-xnnpack", pytest.param("executorch-xnnpack", marks=pytest.mark.slow)])
def test_weights_that_are_not_numbers(capsys, tmp_path, tiny_checkpoint, tensor, value, target):
    def damage(tensors):
        tensors[tensor].view(-1)[37] = value

    change_weights(tiny_checkpoint, damage)
    refused_export(capsys, tmp_path, tiny_checkpoint, tensor, "NaN or infinite", more=("--cache-length", "64", "-t", target))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": -1}, "hidden_size is -1"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"num_attention_heads": "four"}, "num_attention_heads is 'four'"),
        ({"num_key_value_heads": 3}, "not a multiple"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"rms_norm_eps": 7}, "rms_norm_eps is 7"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": -5}}, "rope_theta"),
        (
            {"rope_parameters": {"rope_type": "proportional", "rope_theta": 1e4}},
            "'proportional' is not supported; expected one of default, linear, llama3, yarn, longrope, dynamic",
        ),
        ({"model_type": "mamba"}, "model_type 'mamba' is not supported"),
        ({"model_type": None}, "model_type None is not supported"),
        ({"model_type": "theirs", "auto_map": {"AutoModel": "code.Model"}}, "needs code from the model's author"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "already quantized"),
    ],
)
def test_absurd_or_unsupported_configuration(capsys, tmp_path, tiny_checkpoint, changes, said):
    change_config(tiny_checkpoint, **changes)
    refused_export(capsys, tmp_path, tiny_checkpoint, said)


def test_cache_longer_than_the_model_knows_positions(capsys, tmp_path, tiny_checkpoint):
    change_config(tiny_checkpoint, max_position_embeddings=256)
    refused_export(capsys, tmp_path, tiny_checkpoint, "256 positions", "--cache-length 256")


def test_tokenizer_of_another_model(capsys, tmp_path, tiny_checkpoint):
    change_config(tiny_checkpoint, vocab_size=100)
    change_weights(tiny_checkpoint, lambda t: t.update({"model.embed_tokens.weight": t["model.embed_tokens.weight"][:100].clone()}))
    refused_export(capsys, tmp_path, tiny_checkpoint, "token ids up to 4095", "vocab_size 100", more=("--cache-length", "64"))


def test_broken_chat_template(capsys, tmp_path, tiny_checkpoint):
    (tiny_checkpoint / "chat_template.jinja").write_text("{% for message in %}")
    refused_export(capsys, tmp_path, tiny_checkpoint, "chat template", more=("--cache-length", "64"))


def test_output_that_is_a_file(capsys, tmp_path, tiny_checkpoint):
    (tmp_path / "taken").write_text("mine")
    for place in ("taken", "taken/deeper"):
        refused(capsys, tmp_path, ["export", tiny_checkpoint, "-o", tmp_path / place, "--cache-length", 64], "is a file", "-o")
    assert (tmp_path / "taken").read_text() == "mine"


def test_output_that_cannot_be_written(capsys, tmp_path, tiny_checkpoint):
    if os.geteuid() == 0:  # permissions do not stop root; this file system does
        place = Path("/proc/firsttoken/out")
    else:
        place = tmp_path / "locked"
        place.mkdir(mode=0o555)
    refused(capsys, tmp_path, ["export", tiny_checkpoint, "-o", place, "--cache-length", 64], str(place.parent), "choose another")


def run_limited(arguments, file_bytes: int, **environment):
    """Runs the command line in a process whose files cannot grow past ``file_bytes``, as on a full disk."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    command = [sys.executable, "-c", "from firsttoken.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, env={**os.environ, **environment})


def test_full_disk(tmp_path):
    for size in (0, 100_000, 4_000_000):
        done = run_limited(["export", checkpoint_path(), "-o", tmp_path / "out", "--no-prove"], size)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1 and "the disk is full" in done.stderr
        assert list(tmp_path.iterdir()) == []


def test_full_disk_keeps_the_old_bundle(tmp_path, demo_bundle):
    shutil.copytree(demo_bundle("tflite-xnnpack"), tmp_path / "out/tflite-xnnpack")
    before = (tmp_path / "out/tflite-xnnpack/manifest.json").read_bytes()
    done = run_limited(["export", checkpoint_path(), "-o", tmp_path / "out", "--force", "--no-prove", "--plan", "int8"], 1_000_000)
    assert done.returncode == 2
    assert (tmp_path / "out/tflite-xnnpack/manifest.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tflite-xnnpack"]


def test_no_room_is_said_before_the_work(capsys, tmp_path, tiny_checkpoint, monkeypatch):
    from firsttoken import preflight

    monkeypatch.setattr(preflight, "available_memory", lambda: 10 << 20)
    refused_export(capsys, tmp_path, tiny_checkpoint, "of memory", "10.0 MiB are available", more=("--cache-length", "64"))
    monkeypatch.setattr(preflight, "available_memory", lambda: 64 << 30)
    monkeypatch.setattr(preflight, "available_disk", lambda place: 1000)
    refused_export(capsys, tmp_path, tiny_checkpoint, "of disk", "1000 B are free", more=("--cache-length", "64"))


PLAN = (
    'summary = "test"\n[[rule]]\nmatch = "*"\nprecision = "int8"\n[gate]\nmean_kld = 1.0\np99_kld = 1.0\nsame_top = 0.5\nmagnitude = 0.5\n'
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PLAN.replace('"int8"', '"in8"'), ("'in8'", "did you mean 'int8'")),
        (PLAN.replace('"*"', '"layers.*.mpl.*"'), ("'layers.*.mpl.*' matches no layer",)),
        (PLAN.replace('"*"', '"layers.*"'), ("no rule matches layer 'embedding'",)),
        (PLAN.replace("[gate]", "[gaet]"), ("gaet is not a known field (did you mean 'gate'",)),
        (PLAN.replace("mean_kld = 1.0", "mean_kld = -1.0"), ("gate.mean_kld",)),
        ("summary = ", ("cannot be read as TOML",)),
        (PLAN, ("int8 is not possible for 'layers.0.attention.core'", "fp16")),
    ],
)
def test_plans_that_cannot_be(capsys, tmp_path, tiny_checkpoint, text, said):
    (tmp_path / "mine.toml").write_text(text)
    refused_export(capsys, tmp_path, tiny_checkpoint, "mine", *said, more=("--plan", str(tmp_path / "mine.toml"), "--cache-length", "64"))


def test_names_that_do_not_exist(capsys, tmp_path, tiny_checkpoint):
    refused_export(capsys, tmp_path, tiny_checkpoint, "plan 'int9'", "int8", more=("--plan", "int9"))
    refused_export(capsys, tmp_path, tiny_checkpoint, "target 'tflite-xnpack'", "tflite-xnnpack", more=("-t", "tflite-xnpack"))
    refused_export(capsys, tmp_path, tiny_checkpoint, "does not exist", more=("--plan", str(tmp_path / "nowhere.toml")))
    refused_export(
        capsys, tmp_path, tiny_checkpoint, "given twice", more=("-t", "tflite-xnnpack", "-t", "tflite-xnnpack", "--cache-length", "64")
    )


def test_held_out_text_that_is_not_there(capsys, tmp_path, tiny_checkpoint):
    refused(
        capsys,
        tmp_path,
        ["export", tiny_checkpoint, "-o", tmp_path / "out", "--cache-length", 64, "--held-out", tmp_path / "nowhere.txt"],
        "nowhere.txt",
        "cannot be read",
    )


def test_held_out_text_that_is_too_short(capsys, tmp_path, tiny_checkpoint):
    (tmp_path / "short.txt").write_text("short")
    refused(
        capsys,
        tmp_path,
        ["export", tiny_checkpoint, "-o", tmp_path / "out", "--cache-length", 64, "--held-out", tmp_path / "short.txt"],
        "at least 16",
        "--held-out",
    )


def test_cache_shorter_than_prefill(capsys, tmp_path, tiny_checkpoint):
    (tmp_path / "mine.toml").write_text(
        'summary = "t"\nruntime = "tflite"\ndelegate = "xnnpack"\ncache_length = 100\nprefill_chunk = 200\nmin_runtime = "2.0"\n'
    )
    refused_export(
        capsys, tmp_path, tiny_checkpoint, "prefill_chunk 200 does not fit cache_length 100", more=("-t", str(tmp_path / "mine.toml"))
    )
    refused_export(capsys, tmp_path, tiny_checkpoint, "prefill_chunk", more=("--prefill-chunk", "1280"))


def test_prompt_longer_than_the_cache(capsys, tmp_path, demo_bundle):
    refused(
        capsys,
        tmp_path,
        ["generate", demo_bundle("tflite-xnnpack"), "--prompt", "word " * 2000],
        "do not fit the cache of 1280",
        "--cache-length",
    )


def test_bundle_that_does_not_match_its_hash(capsys, tmp_path, demo_bundle):
    folder = shutil.copytree(demo_bundle("tflite-xnnpack"), tmp_path / "copy")
    content = bytearray((folder / "model.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.tflite").write_bytes(content)
    for verb in (["generate", folder, "--prompt", "x"], ["prove", folder, "--checkpoint", checkpoint_path()]):
        refused(capsys, tmp_path, verb, "SHA-256", "export or copy it again")


def test_folders_that_are_not_bundles(capsys, tmp_path, tiny_checkpoint):
    refused(capsys, tmp_path, ["generate", tmp_path / "nowhere", "--prompt", "x"], "not a folder")
    refused(capsys, tmp_path, ["generate", tiny_checkpoint, "--prompt", "x"], "manifest.json", "not a bundle")


def test_bundle_of_another_checkpoint(capsys, tmp_path, demo_bundle, tiny_checkpoint):
    refused(
        capsys, tmp_path, ["prove", demo_bundle("tflite-xnnpack"), "--checkpoint", tiny_checkpoint], "another checkpoint", "--checkpoint"
    )


def test_manifest_of_another_version_or_damaged(capsys, tmp_path, demo_bundle):
    folder = shutil.copytree(demo_bundle("tflite-xnnpack"), tmp_path / "copy")
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "schema_version": 99}))
    refused(capsys, tmp_path, ["generate", folder, "--prompt", "x"], "schema_version 99", "export the checkpoint again")
    path.write_text(json.dumps({key: value for key, value in values.items() if key != "rotations"}))
    refused(capsys, tmp_path, ["generate", folder, "--prompt", "x"], "rotations is missing")
