"""The files that are damaged: small ones, and as many kinds of each as there are."""

import base64
import json
import pickle
import shutil
import tomllib
import zipfile
import zlib
from pathlib import Path

import numpy as np
from compressed_folders import compress_folder, scheme_of
from exact_checkpoints import CASES, SIZES, write_case
from generated_measurements import host_measurement, phone_measurement
from manifest_variants import demo_manifest, gpu_manifest, npu_manifest
from module_subjects import picture_program
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from firsttoken.checkpoint import Checkpoint
from firsttoken.declarations import declaration_folder

WORDS = ["Hello world and a tab two spaces café family def read(self): return 1234 fi n s t"] * 9
AUTO_GPTQ = Path(__file__).parents[1] / "quantized" / "auto_gptq.safetensors"
SPECIAL = ["<unk>", "<s>", "</s>"]
TEMPLATES = (
    (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    (
        "{{ bos_token }}{% set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'system' %}{% set ns.found = true %}{% endif %}"
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content | trim }}{{ eos_token }}{% endgeneration %}{% else %}[INST] {{ m.content }} [/INST]{% endif %}"
        "{% endfor %}{% if not ns.found and tools is not none %}{{ tools | tojson(indent=2) }}{% endif %}"
    ),
    (
        "{%- macro turn(m) %}{{ '<start_of_turn>' ~ m['role'] ~ '\\n' ~ m['content'].split('</think>')[-1].lstrip('\\n') }}{% endmacro -%}"
        "{%- if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif -%}"
        "{%- for m in messages -%}{{ turn(m) }}<end_of_turn>\n{% if loop.index0 > 9 %}{% break %}{% endif %}{%- endfor -%}"
        "{{ strftime_now('%d %b %Y')[:0] }}{%- if add_generation_prompt -%}<start_of_turn>model\n{%- endif -%}"
    ),
)
BUDGET = """
[[budget]]
bundle = "tflite-*"
prompt_tokens = 128
state = "warm"
first_token_ms = 60
decode_tokens_per_second = 40
[[budget]]
peak_memory_mib = 900
mean_kld = 0.02
same_top = 0.92
"""
LINES = (
    {"text": "def f(): pass", "domain": "code", "difficulty": 1.5},
    {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "domain": "chat"},
    {"prompt": "p", "answer": "a", "difficulty": 2},
    {"problem": "1+1", "answer": 2, "solution": "\\boxed{2}"},
    {"question": "q", "choices": ["a", "b"], "answer": "B"},
    {"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"},
    {"prompt": "def f(x):\n", "test": "def check(f): assert f(1)", "entry_point": "f"},
    {"text": "add", "test_list": ["assert add(1,2)==3"], "test_setup_code": ""},
    {"question": "read", "input_output": json.dumps({"inputs": ["1\n"], "outputs": ["1\n"]})},
    {"question_content": "read", "public_test_cases": json.dumps([{"input": "1", "output": "1", "testtype": "stdin"}]), "metadata": "{}",
     "private_test_cases": base64.b64encode(zlib.compress(pickle.dumps("[]"))).decode()},
    {"key": "1:abc", "difficulty": 0.5, "model": "m", "length": 8},
    {"key": "abc", "model": "m", "prompt": "p", "answer": "a"},
)  # fmt: skip


def checkpoint(folder: Path) -> Path:
    """One file of weights, small ones: what is damaged is what is said of them."""
    folder = write_case("llama-biases", folder)
    tokenizers(folder)
    return folder


def packed(folder: Path) -> None:
    """Weights that compressed-tensors' own compressor packed in INT4."""
    source = checkpoint(folder / "floats")
    compress_folder(source, folder / "packed", scheme_of(4, 32))
    shutil.rmtree(source)
    for path in list((folder / "packed").iterdir()):
        path.rename(folder / path.name)


def auto_gptq(folder: Path) -> None:
    """One weight that AutoGPTQ packed, under a layer's name."""
    tensors = load_file(AUTO_GPTQ)
    kept = {
        f"model.layers.0.mlp.up_proj.{name.partition('.')[2]}": value for name, value in tensors.items() if name.startswith("int4-g32.")
    }
    save_file(kept, folder / "model.safetensors")
    scheme = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": scheme}))


def sharded(folder: Path) -> None:
    """The same in two files, with an index."""
    whole = write_case("llama-biases", folder) / "model.safetensors"
    raw = whole.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header, shards = json.loads(raw[8 : 8 + length]), {}
    for number in range(2):
        name, part, data = f"model-{number}.safetensors", {}, b""
        for tensor in list(header)[number::2]:
            begin, end = header[tensor]["data_offsets"]
            part[tensor] = {**header[tensor], "data_offsets": [len(data), len(data) + end - begin]}
            data += raw[8 + length + begin : 8 + length + end]
            shards[tensor] = name
        text = json.dumps(part).encode()
        (folder / name).write_bytes(len(text).to_bytes(8, "little") + text + data)
    whole.unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": len(raw)}, "weight_map": shards}, indent=1))


def program(folder: Path) -> None:
    """A small program of torch.export, and its graph by itself."""
    path = picture_program(folder / "good.pt2")
    with zipfile.ZipFile(path) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("models/model.json")]
        (folder / "graph.json").write_bytes(archive.read(name))


def samples(folder: Path) -> None:
    np.savez(folder / "samples.npz", picture=np.zeros((2, 2, 6, 6), np.float32), labels=np.array([0, 1]))


def module_manifests(folder: Path) -> None:
    """A manifest with every part of it."""
    plan = tomllib.loads((declaration_folder("quant/modules") / "module-int8.toml").read_text())
    facts = {"source": "s", "sha256": "0" * 64, "count": 3, "random": False}
    tensor = {"name": "x", "file_name": "x", "dtype": "int8", "shape": ["batch", 3], "scale": 0.5, "zero_point": -1}
    output = {"name": "x", "max_error": 0.1, "mean_error": 0.1, "cosine": 1.0, "worst_cosine": 1.0, "magnitude_ratio": 1.0}
    manifest = {
        "schema_version": 2,
        "kind": "module",
        "module": {"name": "m", "fingerprint": "0" * 64, "parameters": 3, "lengths": {"batch": [1]}},
        "lineage": {"recipe": "r", "recipe_sha256": "0", "teachers": {"teacher": 0.5}},
        "plan": plan,
        "layers": [{"name": "a", "kind": "linear", "precision": "int8", "shape": [3, 3]}],
        "calibration": facts,
        "target": {"name": "t", "runtime": "r", "delegate": "d"},
        "artifact": {
            "file": "model.x",
            "backend": "b",
            "needs": {"runtime": "r", "min_runtime": "1"},
            "methods": [{"name": "run", "inputs": [tensor], "outputs": [tensor], "sizes": {"batch": 1}}],
        },
        "labels": ["a"],
        "proof": {"samples": facts, "outputs": [output], "passed": True},
        "packages": {},
        "files": {"model.x": {"sha256": "0" * 64, "bytes": 1}},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def configurations(folder: Path) -> None:
    """One ``config.json`` of every case."""
    for case, changes in CASES.items():
        (folder / f"{case}.json").write_text(json.dumps({**SIZES, **changes}))


def tokenizers(folder: Path) -> None:
    """A byte-level BPE, with the settings that lie beside it."""
    engine = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    engine.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    engine.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Metaspace()])
    engine.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    engine.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=150, special_tokens=SPECIAL, show_progress=False))
    engine.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    engine.add_tokens([AddedToken("<|im_end|>", special=True), AddedToken("tool", lstrip=True)])
    engine.save(str(folder / "tokenizer.json"))
    settings = {
        "add_bos_token": True, "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "model_max_length": 10**30, "chat_template": TEMPLATES[0],
        "added_tokens_decoder": {"1": {"content": "<s>", "special": True}}, "tokenizer_class": "PreTrainedTokenizerFast",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 150], "temperature": 0.7}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))


def more_tokenizers(folder: Path) -> None:
    """The other kinds of model, each a folder's ``tokenizer.json``."""
    tokenizers(folder)
    (folder / "bpe.json").write_bytes((folder / "tokenizer.json").read_bytes())
    level = Tokenizer(models.BPE())
    level.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern_of(r"'s|\p{N}| ?\p{L}+|\s+(?!\S)|\s+"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    level.decoder, level.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=False)
    level.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, show_progress=False))
    level.save(str(folder / "level.json"))
    pieces = Tokenizer(models.Unigram([("<unk>", 0.0), *((letter, -float(n)) for n, letter in enumerate("▁Helowrdnabtsp", 1))], 0, False))
    pieces.pre_tokenizer, pieces.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    pieces.save(str(folder / "unigram.json"))
    words = Tokenizer(models.WordPiece({"[UNK]": 0, "hello": 1, "##s": 2, "a": 3, "world": 4}, unk_token="[UNK]"))
    words.normalizer, words.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words.post_processor, words.decoder = processors.BertProcessing(("a", 3), ("hello", 1)), decoders.WordPiece()
    words.save(str(folder / "wordpiece.json"))


def pattern_of(text: str):
    from tokenizers import Regex

    return Regex(text)


def templates(folder: Path) -> None:
    tokenizers(folder)
    for number, text in enumerate(TEMPLATES):
        (folder / f"{number}.jinja").write_text(text)


def manifests(folder: Path) -> None:
    for name, manifest in (("demo", demo_manifest()), ("npu", npu_manifest()), ("gpu", gpu_manifest())):
        (folder / f"{name}.json").write_text(manifest.model_dump_json(by_alias=True))


def measurements(folder: Path) -> None:
    host_measurement(repeat=2).write(folder / "host.json")
    phone_measurement().write(folder / "phone.json")


def declarations(kind: str, ending: str = "toml"):
    """Returns a function that copies the built-in files of ``kind``."""

    def copied(folder: Path) -> None:
        for path in declaration_folder(kind).glob(f"*.{ending}"):
            shutil.copy(path, folder)

    return copied


def budgets(folder: Path) -> None:
    (folder / "budget.toml").write_text(BUDGET)


SERVERS = """omit = ["seed"]
[request]
top_k = 20
[[server]]
url = "http://localhost:8000/v1"
model = "big"
concurrency = 4
timeout = 30.5
[[server]]
url = "https://example.com"
price_in = 0.5
price_out = 2
stream = true
"""


def servers(folder: Path) -> None:
    (folder / "servers.toml").write_text(SERVERS)


def server_replies(folder: Path) -> None:
    """What servers say: a chat's answer, a piece of a stream, log probabilities as vLLM has them."""
    message = {"role": "assistant", "content": "four", "reasoning_content": "hm"}
    entry = {"3": {"logprob": -0.1, "rank": 1, "decoded_token": "a"}, "4": {"logprob": -2.5, "rank": 2, "decoded_token": "b"}}
    choice = {"index": 0, "finish_reason": "stop", "message": message, "delta": {"content": "fo"}, "prompt_logprobs": [None, entry, entry]}
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    (folder / "reply.json").write_text(json.dumps({"model": "m", "choices": [choice, choice], "usage": usage}))


def lines(folder: Path) -> None:
    for number, line in enumerate(LINES):
        (folder / f"{number}.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(line) + "\n")


def bundle(target: str):
    """Returns a function that writes a bundle for ``target`` of a small checkpoint, not proven."""

    def written(folder: Path) -> None:
        from firsttoken.pipeline import export

        source = checkpoint(folder.parent / f"{folder.name}-checkpoint")
        [made] = export(
            source, folder.parent / f"{folder.name}-out", "fp16-attention", (target,), prove=False, cache_length=48, prefill_chunk=16
        )
        folder.rmdir()
        made.rename(folder)

    return written


def apks(folder: Path) -> None:
    """Those of tests/device, which are small, and their resource tables."""
    for apk in (Path(__file__).parents[1] / "device" / "apks").glob("*.apk"):
        shutil.copy(apk, folder / apk.name)
        with zipfile.ZipFile(apk) as archive:
            (folder / f"{apk.stem}.arsc").write_bytes(archive.read("resources.arsc"))


def ggufs(folder: Path) -> None:
    """A Llama with quantized matrices and Llama 3's frequencies, and a Qwen2; small, so that damage hits the header."""
    from families_on_disk import random_model
    from gguf_writer import byte_level_words, write_model

    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
    small = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "num_hidden_layers": 1,
        "vocab_size": 264,
    }
    words = byte_level_words(264)
    llama = random_model("llama3", **small, head_dim=32, rope_parameters=rope)
    write_model(folder / "llama.gguf", llama, {"q_proj.weight": "Q8_0", "down_proj.weight": "Q4_1"}, words)
    write_model(folder / "qwen.gguf", random_model("qwen2", **small), {"up_proj.weight": "BF16"}, words)


def adapter(folder: Path) -> None:
    """A base checkpoint with a LoRA adapter in its own folder: a matrix and a bias."""
    import torch
    from safetensors.torch import save_file

    checkpoint(folder)
    shape = Checkpoint(folder).tensors["model.layers.0.mlp.up_proj.weight"].shape
    name = "base_model.model.model.layers.0.mlp.up_proj"
    tensors = {f"{name}.lora_A.weight": torch.ones(2, shape[1]), f"{name}.lora_B.weight": torch.ones(shape[0], 2)}
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "rank_pattern": {"up_proj": 2},
        "use_rslora": True,
        "target_modules": ["up_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))


def file_of_a_stranger(folder: Path) -> None:
    """A .litertlm with its checkpoint beside it."""
    bundle("litertlm-cpu")(folder)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder.parent / f"{folder.name}-checkpoint" / name, folder / name)
