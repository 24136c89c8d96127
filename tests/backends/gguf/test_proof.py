"""A GGUF bundle in llama.cpp: proven by the export, run by the verbs, and what is built wrong is found out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from gguf_fixtures import needs_llama_cpp, on_disk

from firsttoken import cli
from firsttoken.backends.gguf import tensors
from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError, GateError
from firsttoken.pipeline import export
from firsttoken.run.generate import generate
from firsttoken.run.open import open_runner
from firsttoken.tokenizer import open_tokenizer

HELD_OUT = checkpoint_path().parent / "held_out.txt"
SHORT = {"cache_length": 160, "prefill_chunk": 64}


@pytest.fixture(scope="module")
def proven(tmp_path_factory) -> Path:
    """The demo checkpoint in the default plan, proven with a short cache."""
    [made] = export(checkpoint_path(), tmp_path_factory.mktemp("gguf"), "fp16-attention", ("gguf",), **SHORT)
    return made


@needs_llama_cpp
@pytest.mark.slow
def test_the_proof_is_of_the_written_file(proven):
    manifest = read_manifest(proven)
    proof = manifest.need_proof()
    assert proof.passed and proof.last_position == 159 and proof.all.mean_kld < 1e-3 and proof.all.same_top > 0.97
    assert proof.twin.mean_kld <= proof.twin.allowed_kld and abs(proof.twin.scale - 1) < 0.002
    assert all(row.stored == row.asked == row.computed for row in manifest.cpu.audit)


@needs_llama_cpp
@pytest.mark.slow
def test_four_bits_pass(tmp_path):
    [made] = export(checkpoint_path(), tmp_path, "int4", ("gguf",), **SHORT)
    proof = read_manifest(made).need_proof()
    assert proof.passed and proof.twin.mean_kld <= proof.twin.allowed_kld and proof.all.mean_kld < 0.04


@needs_llama_cpp
@pytest.mark.slow
def test_a_fault_of_the_writer_is_found_out(tmp_path, monkeypatch):
    """Rows of keys left in the halves of their heads where llama.cpp turns neighbours: the file loads, and its proof refuses it."""
    monkeypatch.setattr(tensors, "interleave", np.arange)
    _, folder = on_disk("llama2", tmp_path / "checkpoint")
    with pytest.raises(GateError, match="not built as the plan says"):
        export(folder, tmp_path / "out", "fp16", ("gguf",), held_out=HELD_OUT, **SHORT)
    assert (tmp_path / "out" / "gguf.rejected").is_dir() and not (tmp_path / "out" / "gguf").exists()


@needs_llama_cpp
@pytest.mark.slow
def test_gelu_by_llama_cpps_table_is_the_plans(tmp_path):
    """Which is in float16: the twin has it too, so a Gemma is told from one that is built wrong."""
    _, folder = on_disk("gemma", tmp_path / "checkpoint")
    [made] = export(folder, tmp_path / "out", "fp16", ("gguf",), held_out=HELD_OUT, **SHORT)
    assert read_manifest(made).need_proof().passed


@needs_llama_cpp
def test_it_generates_what_the_tflite_does(proven, tmp_path):
    [other] = export(checkpoint_path(), tmp_path, "fp32", prove=False, **SHORT)
    [ours] = export(checkpoint_path(), tmp_path, "fp32", ("gguf",), prove=False, **SHORT)
    said = []
    for folder in (ours, other):
        runner = open_runner(folder)
        said.append(list(generate(runner, open_tokenizer(folder, read_manifest(folder)), "def first_token(", 32)))
        runner.close()
    assert said[0] == said[1] and len(said[0]) > 10


@needs_llama_cpp
def test_llama_cpps_own_interface_says_the_same_without_us(tmp_path):
    """Tokenizer, begin token, end token and chat template out of the file alone."""
    from llama_cpp import Llama

    [ours] = export(checkpoint_path(), tmp_path, "fp32", ("gguf",), prove=False, **SHORT)
    runner, tokenizer = open_runner(ours), open_tokenizer(ours, read_manifest(ours))
    said = "".join(generate(runner, tokenizer, "def first_token(", 24, chat=False))
    runner.close()
    theirs = Llama(str(ours / "model.gguf"), n_ctx=160, n_threads=1, verbose=False, type_k=0, type_v=0, flash_attn=False)
    assert theirs.create_completion("def first_token(", max_tokens=24, temperature=0.0)["choices"][0]["text"] == said
    assert [theirs.token_eos()] == tokenizer.end_tokens()[:1] and theirs.metadata["tokenizer.chat_template"]
    theirs.close()


@needs_llama_cpp
@pytest.mark.slow
def test_the_verbs_take_it(proven, tmp_path, capsys):
    assert cli.run(["generate", str(proven), "--prompt", "def close(", "--raw", "-n", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"][0]["prompt"] == "def close("
    assert cli.run(["bench", str(proven), "--prompts", "16", "--repeat", "2", "-o", str(tmp_path / "a.measurement.json")]) == 0
    [result] = json.loads((tmp_path / "a.measurement.json").read_text())["results"]
    assert result["runtime_version"].startswith("llama-cpp-python ") and not result["failures"]
    capsys.readouterr()
    assert cli.run(["evaluate", str(proven), "-t", f"text={HELD_OUT}", "--text-tokens", "100", "--json"]) == 0
    capsys.readouterr()


@needs_llama_cpp
@pytest.mark.parametrize(("keep", "said"), [(0.5, "truncated"), (0, "does not begin with GGUF|expected llama.cpp")])
def test_a_damaged_file_is_one_line(proven, tmp_path, keep, said):
    from firsttoken.backends.registry import find_backend

    damaged = shutil.copytree(proven, tmp_path / "damaged")
    raw = (damaged / "model.gguf").read_bytes()
    (damaged / "model.gguf").write_bytes(raw[: int(len(raw) * keep)])
    with pytest.raises(FirstTokenError, match="hash|SHA|bytes"):
        open_runner(damaged)
    with pytest.raises(FirstTokenError, match=said):
        find_backend("gguf-llamacpp").verify(damaged, read_manifest(damaged).cpu)


@needs_llama_cpp
def test_what_llama_cpp_refuses_is_one_line_with_its_words(tmp_path):
    from firsttoken.backends.gguf.llamacpp import load

    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(FirstTokenError, match=r"bad.gguf: llama.cpp does not load it \(.+\); export again"):
        load(tmp_path / "bad.gguf")


def test_without_llama_cpp_it_is_written_but_not_proven(tmp_path, monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    assert cli.run(["export", str(checkpoint_path()), "-t", "gguf", "-o", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    assert (
        "the proof of a GGUF file (or leave it out with --no-prove) needs llama_cpp" in line
        and "pip install 'firsttoken[gguf-run]'" in line
    )
    assert not (tmp_path / "out").exists()
    assert cli.run(["export", str(checkpoint_path()), "-t", "gguf", "-o", str(tmp_path / "out"), "--no-prove"]) == 0
    assert "not in llama.cpp itself, which is not installed" in capsys.readouterr().out
    from firsttoken.backends.gguf.llamacpp import library

    library.cache_clear()
    assert cli.run(["generate", str(tmp_path / "out" / "gguf"), "--prompt", "x"]) == 2
    assert "pip install 'firsttoken[gguf-run]'" in capsys.readouterr().err
