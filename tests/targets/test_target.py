"""Targets: the built-in ones, lengths replaced from the command line, and models that cannot keep to them."""

from dataclasses import replace

import pytest

from firsttoken.backends.registry import backend_of, open_target
from firsttoken.checkpoint import Checkpoint
from firsttoken.decoder.walk import open_decoder
from firsttoken.demo import checkpoint_path
from firsttoken.errors import FirstTokenError
from firsttoken.targets.target import load_target, target_names


@pytest.fixture(scope="module")
def config():
    return open_decoder(Checkpoint(checkpoint_path()))


@pytest.mark.parametrize("name", target_names())
def test_built_in_targets(name, config):
    target = load_target(name)
    assert target.name == name and target.summary and target.prefill_chunk < target.cache_length
    assert backend_of(target).artifact_file in ("model.tflite", "model.pte", "model.litertlm", "model.gguf", "model.onnx")
    backend_of(target).check_model(config, target)


def test_lengths_are_replaced():
    assert load_target("tflite-xnnpack", 2048).cache_length == 2048
    assert load_target("tflite-xnnpack", 2048, 512).prefill_chunk == 512
    assert load_target("tflite-xnnpack", 100).prefill_chunk == 99, "a chunk that no longer fits is shortened"


@pytest.mark.parametrize(
    ("cache", "chunk", "said"),
    [(100, 100, "does not fit cache_length 100"), (1, None, "cache_length"), (None, 0, "prefill_chunk"), (1 << 40, None, "cache_length")],
)
def test_lengths_that_cannot_be(cache, chunk, said):
    with pytest.raises(FirstTokenError, match=said):
        load_target("tflite-xnnpack", cache, chunk)


def test_models_that_cannot_keep_to_it(config, monkeypatch):
    target = load_target("tflite-xnnpack", 512)
    backend = backend_of(target)
    monkeypatch.setattr(type(backend), "features", backend.features - {"a sliding window of attention"})

    def windowed(tokens: int):
        last = config.layers[-1]
        attention = replace(last.attention, core=replace(last.attention.core, window=tokens))
        return replace(config, layers=(*config.layers[:-1], replace(last, attention=attention)))

    said = r"tflite-xnnpack cannot give a sliding window of attention, which qwen2 needs \(layers.3.attention.core\) at cache_length 512; .*--cache-length 256"
    with pytest.raises(FirstTokenError, match=said):
        backend.check_model(windowed(256), target)
    backend.check_model(windowed(512), target)
    with pytest.raises(FirstTokenError, match="300 positions.*--cache-length 300"):
        backend.check_model(replace(config, max_positions=300), target)


def test_a_users_file(tmp_path):
    good = 'summary = "mine"\nruntime = "tflite"\ndelegate = "xnnpack"\ncache_length = 64\nprefill_chunk = 32\nmin_runtime = "2.0"\n'
    (tmp_path / "mine.toml").write_text(good)
    assert load_target(tmp_path / "mine.toml").name == "mine"
    for old, new, said in (
        ('"tflite"', '"tfilte"', "no backend 'tfilte-xnnpack'.*did you mean 'tflite-xnnpack'"),
        ('"xnnpack"', '"metal"', "no backend 'tflite-metal'.*expected one of .*tflite-none"),
        ("cache_length = 64\n", "", "cache_length is missing"),
        ('"tflite"\ndelegate = "xnnpack"', '"executorch"\ndelegate = "none"', "no backend 'executorch-none'"),
        ("summary", "sumary", "mine.toml"),
    ):
        (tmp_path / "mine.toml").write_text(good.replace(old, new))
        with pytest.raises(FirstTokenError, match=said):
            open_target(tmp_path / "mine.toml")


NPU = 'summary = "mine"\nruntime = "tflite"\ndelegate = "xnnpack"\ncache_length = 64\nprefill_chunk = 32\nmin_runtime = "2.3"\n[npu]\nsoc = "SM8550"\nprefill_lengths = [16, 32]\n'


def test_a_mistyped_snapdragon():
    with pytest.raises(FirstTokenError, match="'tflite-hexagon-sm8555' is unknown .did you mean 'tflite-hexagon-sm8550'"):
        load_target("tflite-hexagon-sm8555")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "SM8550",
            "MT6989",
            r"npu.soc is 'MT6989'; a SoC of MediaTek's: .* wants MediaTek's own libraries.*docs/other-npus.md.*targets are for SM8450",
        ),
        ("SM8550", "E9965", "Samsung's own libraries"),
        ("SM8550", "Tensor_G4", "Google's own libraries"),
        ("SM8550", "LNL", "Intel's own libraries"),
        ("SM8550", "SM8555", r"npu.soc is 'SM8555'; not a Snapdragon .*did you mean 'SM8550'.*expected one of SM8450"),
        ("SM8550", "sm8650", "did you mean 'SM8650'"),
        ("SM8550", "SM8350", "not a Snapdragon that graphs can be compiled for"),
        ("[16, 32]", "[32, 16]", "ascending lengths"),
        ("[16, 32]", "[1, 16]", "at least 2 tokens"),
        ("[16, 32]", "[]", "npu.prefill_lengths"),
        ("[16, 32]", "[16, 64]", "do not fit cache_length 64"),
        ('delegate = "xnnpack"', 'delegate = "none"', "npu needs delegate 'xnnpack'"),
        ('soc = "SM8550"', 'compile = "ahead"', 'compile = "ahead" needs a soc'),
        ('soc = "SM8550"', 'soc = "SM8550"\ncompile = "device"', 'compile = "device" has none'),
        ("soc", "sock", "npu.sock is not a known field"),
    ],
)
def test_npu_tables_that_cannot_be(old, new, said, tmp_path):
    (tmp_path / "mine.toml").write_text(NPU)
    assert load_target(tmp_path / "mine.toml").npu.hexagon == "V73"
    (tmp_path / "mine.toml").write_text(NPU.replace(old, new))
    with pytest.raises(FirstTokenError, match=said):
        open_target(tmp_path / "mine.toml")


def test_generations_without_documented_fp16_are_marked():
    marks = {name: load_target(name).npu.fp16 for name in target_names() if name.startswith("tflite-hexagon-sm")}
    assert len(marks) == 6 and {name[-4:] for name, mark in marks.items() if mark == "unverified"} == {"8450", "8475"}
    assert all(("not verified on silicon" in load_target(name).summary) == (mark == "unverified") for name, mark in marks.items())


def test_a_target_without_an_npu_does_not_mention_one():
    assert "npu" not in load_target("tflite-xnnpack").model_dump_json() and "npu" in load_target("tflite-hexagon-sm8550").model_dump_json()
