"""A system prompt that lies in the bundle: exact where it is kept in FP32, near where in fewer bits, noticed where it is another's; and used only where it fits."""

import json
import shutil

import numpy as np
import pytest

from firsttoken.backends.executorch import native_build
from firsttoken.backends.executorch import runner as executorch_runner
from firsttoken.bundle.manifest import read_manifest
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.file_hash import hash_file
from firsttoken.pipeline import export
from firsttoken.prove.prove import prove
from firsttoken.run.arrays_file import read_arrays, write_arrays
from firsttoken.run.generate import Statistics, generate
from firsttoken.run.open import open_runner
from firsttoken.run.sampling import Sampler
from firsttoken.run.turns import Chat
from firsttoken.tokenizer import open_tokenizer

SYSTEM = "Answer in one sentence. " + " ".join(f"Rule {number}: be brief." for number in range(20))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A function to a bundle that keeps the prompt in a precision."""
    folders = {}

    def make(stored="fp32", target="tflite-xnnpack"):
        if (stored, target) not in folders:
            output = tmp_path_factory.mktemp("kept")
            [folders[stored, target]] = export(
                checkpoint_path(), output, "int8", (target,), prove=False, system_prompt=SYSTEM, prefix_precision=stored
            )
        return folders[stored, target]

    return make


def answered(bundle, question="What does close do?", **more):
    runner, facts = open_runner(bundle, 1), Statistics()
    try:
        text = "".join(generate(runner, open_tokenizer(bundle, read_manifest(bundle)), question, 12, statistics=facts, **more))
    finally:
        runner.close()
    return text, facts


@pytest.mark.parametrize(
    "target",
    ["tflite-xnnpack", *(pytest.param(name, marks=pytest.mark.slow) for name in ("litertlm-cpu", "onnx-cpu", "executorch-xnnpack"))],
)
def test_the_first_question_costs_its_own_tokens(made, target, tmp_path):
    bundle = made(target=target)
    kept = read_manifest(bundle).prefix
    text, facts = answered(bundle)
    assert facts.kept_tokens == len(kept.tokens) > 100 and facts.prompt_tokens < len(kept.tokens) + 30
    plain = shutil.copytree(bundle, tmp_path / "plain")
    manifest = json.loads((plain / "manifest.json").read_text())
    del manifest["prefix"], manifest["files"][kept.file]
    (plain / "manifest.json").write_text(json.dumps(manifest))
    computed, whole = answered(plain, system=SYSTEM)
    assert whole.kept_tokens == 0 and whole.prompt_tokens == facts.prompt_tokens and computed == text
    assert answered(bundle, system="")[1].kept_tokens == 0, "another conversation begins otherwise"
    assert answered(bundle, system=SYSTEM + " ")[1].kept_tokens == 0
    assert answered(bundle, chat=False)[1].kept_tokens == 0


def test_a_conversation_begins_with_it_and_goes_back_to_it(made):
    bundle = made()
    runner = open_runner(bundle, 1)
    chat, facts = Chat(runner, open_tokenizer(bundle, read_manifest(bundle))), [Statistics() for _ in range(3)]
    assert chat.messages == [{"role": "system", "content": SYSTEM}]
    for question, one in zip(("What does close do?", "And open?"), facts, strict=False):
        "".join(chat.ask(question, Sampler(4096), 8, one))
    kept = len(read_manifest(bundle).prefix.tokens)
    assert facts[0].kept_tokens == kept < facts[1].kept_tokens
    del chat.messages[1:]
    "".join(chat.ask("Something else", Sampler(4096), 8, facts[2]))
    assert facts[2].kept_tokens >= kept
    runner.close()


@pytest.mark.parametrize(("stored", "worst"), [("fp32", 0), ("fp16", 1e-2), ("int8", 2e-2)])
def test_the_proof_says_how_near_it_is(made, stored, worst):
    bundle = made(stored)
    proof, _ = prove(bundle, checkpoint_path())
    assert proof.passed and proof.prefix.positions == 4
    assert proof.prefix.equal_bits == (stored == "fp32") and proof.prefix.worst_kld <= worst
    sizes = {name: (made(name) / "prefix.npz").stat().st_size for name in ("fp32", stored)}
    assert sizes[stored] < {"fp32": 1.01, "fp16": 0.6, "int8": 0.4}[stored] * sizes["fp32"]


@pytest.mark.slow
def test_the_proof_of_a_pte(made):
    bundle = made(target="executorch-xnnpack")
    proof, _ = prove(bundle, checkpoint_path())
    assert proof.passed and proof.prefix.equal_bits and proof.prefix.positions == 4
    assert read_manifest(bundle).prefix.computed_with.startswith("executorch 1.")


@pytest.mark.slow
def test_without_the_native_runner_it_is_computed_and_said(made, monkeypatch, capsys):
    bundle = made(target="executorch-xnnpack")
    kept, facts = answered(bundle)
    monkeypatch.setattr(executorch_runner, "native_library", lambda: (None, "no C++ compiler: install g++"))
    capsys.readouterr()
    text, computed = answered(bundle)
    assert computed.kept_tokens == 0 < facts.kept_tokens and computed.prompt_tokens == facts.prompt_tokens and text == kept
    said = capsys.readouterr().err
    assert "Python bindings, which pack the weights at every start: no C++ compiler: install g++" in said
    assert "the kept system prompt is computed each time" in said
    with pytest.raises(FirstTokenError, match=r"Python bindings keep the cache to themselves, .*install g\+\+$"):
        prove(bundle, checkpoint_path())


def test_a_pte_keeps_none_without_the_native_runner(monkeypatch, tmp_path):
    monkeypatch.setattr(native_build, "native_library", lambda: (None, "no C++ compiler: install g++"))
    with pytest.raises(
        FirstTokenError, match=r"'executorch-xnnpack': ExecuTorch's C\+\+ runtime cannot be used \(no C\+\+ compiler: install g\+\+\)"
    ):
        export(checkpoint_path(), tmp_path / "out", "int8", ("executorch-xnnpack",), witness=False, system_prompt=SYSTEM)
    assert not (tmp_path / "out").exists()


def changed(bundle, folder, change):
    """The bundle with another prefix file, whose hash its manifest knows."""
    copy = shutil.copytree(bundle, folder)
    path = copy / "prefix.npz"
    arrays = {name: array.copy() for name, array in read_arrays(path, "", "").items()}
    write_arrays(path, change(arrays))
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["prefix.npz"] = {"sha256": hash_file(path), "bytes": path.stat().st_size}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def test_a_prefix_of_something_else_is_noticed(made, tmp_path):
    def other(arrays):
        return {name: array[:, :, ::-1] if name.startswith("key") else array for name, array in arrays.items()}

    proof, _ = prove(changed(made(), tmp_path / "other", other), checkpoint_path())
    assert not proof.passed and "the kept system prompt gives other logits than computing it" in proof.misses[-1]
    with pytest.raises(FirstTokenError, match=r"kept system prompt .*prefix.npz: .*'key.0' is none; expected .*; export again"):
        answered(changed(made(), tmp_path / "less", lambda arrays: {n: a for n, a in arrays.items() if n != "key.0"}))
    with pytest.raises(FirstTokenError, match="NaN or infinite"):
        answered(changed(made(), tmp_path / "nan", lambda arrays: arrays | {"value.1": np.full_like(arrays["value.1"], np.nan)}))
    damaged = shutil.copytree(made(), tmp_path / "damaged")
    (damaged / "prefix.npz").write_bytes((damaged / "prefix.npz").read_bytes()[:-30])
    with pytest.raises(FirstTokenError, match="the manifest says"):
        open_runner(damaged, 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"system_prompt": " \n"}, "--system-prompt: is empty"),
        ({"cache_length": 64}, "the system prompt has .* tokens with the template, and the cache holds 64"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_any_work(tmp_path, options, said):
    with pytest.raises(FirstTokenError, match=said):
        export(checkpoint_path(), tmp_path / "out", "int8", **({"system_prompt": SYSTEM, "witness": False} | options))
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_a_template(tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "plain")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(FirstTokenError, match="goes through the chat template, and the checkpoint's has none; leave it out"):
        export(folder, tmp_path / "out", "int8", system_prompt=SYSTEM, witness=False)
