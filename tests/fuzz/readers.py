"""Every reader of files that strangers write: which files it is given, how they are damaged, and what reads them."""

import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from fuzz import good_files, mutate
from fuzz.artifact_readers import read_file, run_bundle, run_bundle_of_weights, run_pte
from fuzz.module_readers import PROGRAMS, read_arrays, read_module_bundle, read_module_plan, read_program

from firsttoken.errors import FirstTokenError


@dataclass(frozen=True)
class Reader:
    """``write`` puts good files into an empty folder; one whose name matches ``pattern`` is damaged, and ``read`` reads it.

    ``native``: a library in C++ reads them, which may end the process.
    """

    name: str
    write: Callable[[Path], object]
    pattern: str
    mutate: mutate.Mutation
    read: Callable[[Path], object]
    native: bool = False
    imports: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def prepared(self, folder: Path) -> "Reader":
        """Writes the good files into ``folder`` and returns the reader that knows their names."""
        folder.mkdir(parents=True, exist_ok=True)
        self.write(folder)
        names = tuple(sorted(path.name for path in folder.glob(self.pattern)))
        assert names, f"{self.name}: no file is called {self.pattern}"
        return replace(self, files=names)

    def warm(self, good: Path) -> None:
        """Imports what reads the files, which every batch then finds done. Native libraries run nothing: threads do not live through a fork."""
        for module in self.imports:
            import_module(module)
        if self.name == "pte":
            from firsttoken.backends.executorch.runner import import_runtime

            import_runtime()
        if not self.native:
            for name in self.files:
                self.read(good / name)


def read_checkpoint(path: Path) -> None:
    from firsttoken.checkpoint import Checkpoint
    from firsttoken.decoder.walk import open_decoder

    with Checkpoint(path.parent) as checkpoint:
        open_decoder(checkpoint)
        for name, tensor in checkpoint.tensors.items():
            checkpoint.rows(name, 0, min(2, tensor.row_count))
        checkpoint.fingerprint()


def read_quantized(path: Path) -> None:
    """Reads integers and scales as a plan that keeps them does."""
    from firsttoken.checkpoint_sources.open import open_checkpoint
    from firsttoken.weight_source import Source

    with open_checkpoint(path.parent) as checkpoint:
        for name, tensor in checkpoint.tensors.items():
            source, rows = Source(name), min(2, tensor.row_count)
            checkpoint.rows(source, 0, rows)
            if len(tensor.shape) == 2 and checkpoint.lattice(source) is not None:
                checkpoint.stored_scales(source, 0, rows)
        checkpoint.fingerprint()


def read_gguf(path: Path) -> None:
    from firsttoken.decoder.walk import open_decoder
    from firsttoken.gguf_file.checkpoint import GgufCheckpoint

    with GgufCheckpoint(path) as checkpoint:
        open_decoder(checkpoint)
        for name, tensor in checkpoint.tensors.items():
            checkpoint.rows(name, 0, min(2, tensor.row_count))
        checkpoint.fingerprint()
        read_tokenizer(checkpoint.folder)


def read_adapter(path: Path) -> None:
    from firsttoken.checkpoint_sources.open import open_checkpoint

    with open_checkpoint(path.parent, path.parent) as checkpoint:
        for name, tensor in checkpoint.tensors.items():
            checkpoint.rows(name, 0, min(2, tensor.row_count))
        checkpoint.fingerprint()


def read_configuration(path: Path) -> None:
    from firsttoken.backends.registry import resolve
    from firsttoken.checkpoint import read_json
    from firsttoken.decoder.families import describe
    from firsttoken.decoder.features import features
    from firsttoken.decoder.walk import parameter_count, plan_layers, rotations, states, tensors
    from firsttoken.preflight import estimate
    from firsttoken.quant.plan import load_plan
    from firsttoken.targets.target import load_target

    decoder = describe(read_json(path, "it is needed"))
    target, plan = load_target("tflite-xnnpack"), load_plan("int4-mlp")
    for walk in (features, parameter_count, plan_layers, rotations, states):
        walk(decoder)
    list(tensors(decoder))
    estimate(decoder, resolve(plan, decoder, target), target, True)


def read_tokenizer(folder: Path) -> None:
    from firsttoken.tokenizer import TextStream, Tokenizer

    tokenizer = Tokenizer(folder)
    facts = tokenizer.facts()
    tokens = tokenizer.encode("Hello <s> wörld 12\n日本")
    stream = TextStream(tokenizer)
    "".join([*(stream.add(token) for token in [*tokens, *range(min(40, facts.vocab_size))]), stream.finish()])
    for name, token in list(facts.special.items())[:20]:
        tokenizer.encode(name)
        tokenizer.decode([token], special=True)


def read_tokenizer_file(path: Path) -> None:
    place = path.with_name("one")
    place.mkdir(exist_ok=True)
    (place / "tokenizer.json").unlink(missing_ok=True)
    (place / "tokenizer.json").symlink_to(path)
    read_tokenizer(place)


def read_words(path: Path) -> None:
    from firsttoken.chat import chat_affixes
    from firsttoken.special_tokens import check_special_tokens
    from firsttoken.tokenizer import Tokenizer

    folder = path.parent
    read_tokenizer(folder)
    check_special_tokens(folder, Tokenizer(folder).engine)
    chat_affixes(folder, Tokenizer(folder))
    place = folder / "copy"
    place.mkdir(exist_ok=True)
    Tokenizer(folder).copy_files(place)


def read_template(path: Path) -> None:
    from firsttoken.chat import chat_affixes
    from firsttoken.tokenizer import Tokenizer

    place = path.parent / "chat_template.jinja"
    place.unlink(missing_ok=True)
    place.symlink_to(path)
    chat_affixes(path.parent, Tokenizer(path.parent))


def read_plan(path: Path) -> None:
    from firsttoken.backends.registry import resolve
    from firsttoken.decoder.families import describe
    from firsttoken.quant.plan import load_plan
    from firsttoken.targets.target import load_target

    decoder = describe({**good_files.SIZES, **good_files.CASES["qwen2"]})
    resolve(load_plan(path), decoder, load_target("tflite-xnnpack"))


def read_target(path: Path) -> None:
    from firsttoken.backends.registry import backend_of
    from firsttoken.targets.target import load_target

    for lengths in ({}, {"cache_length": 64}):
        backend_of(load_target(path, **lengths))


def read_recipe(path: Path) -> None:
    from firsttoken.distill.classifiers.recipe import load_classifier
    from firsttoken.distill.recipe import is_classifier, load_recipe

    load_classifier(path) if is_classifier(path) else load_recipe(path)


def read_servers(path: Path) -> None:
    from firsttoken.distill.servers.settings import load_servers

    load_servers(path)


def read_server_reply(path: Path) -> None:
    """Whatever a server says is one of the errors that the pool knows, and never another."""
    from firsttoken.distill.servers.connection import AgainError, RefusedError
    from firsttoken.distill.servers.dialects import Vllm, check_row
    from firsttoken.distill.servers.reply import joined, read_reply
    from firsttoken.plain_file import parse_json, read_bytes

    try:
        value = parse_json(read_bytes(path))
    except (OSError, ValueError):
        return  # a server's reply is no file here
    if not isinstance(value, dict):
        return
    ways = (
        lambda: read_reply(value, 2), lambda: read_reply(joined([value, value]), 2),
        lambda: [check_row(row, 2, 5) for row in Vllm.read(value, [1, 3, 3], [0, 1])],
    )  # fmt: skip
    refused = ""
    for way in ways:
        try:
            way()
        except (AgainError, RefusedError) as error:
            refused = str(error)
    if refused:
        raise FirstTokenError(refused)


def read_budget(path: Path) -> None:
    from firsttoken.measure.budget import load_budget
    from firsttoken.measure.budget_verdict import check_budget

    check_budget(load_budget(path), measured())


def measured(seed: int = 0):
    from generated_measurements import host_measurement

    return host_measurement(seed, repeat=3)


def read_manifest(path: Path) -> None:
    from firsttoken.bundle.files import check_files, check_ours
    from firsttoken.bundle.manifest import read_manifest

    place = path.with_name("bundle")
    place.mkdir(exist_ok=True)
    (place / "manifest.json").unlink(missing_ok=True)
    (place / "manifest.json").symlink_to(path)
    manifest = read_manifest(place)
    for run in (lambda: check_files(place, manifest), lambda: check_ours(place), manifest.need_proof, manifest.need_npu):
        with suppress(FirstTokenError):
            run()


def read_measurement(path: Path) -> None:
    from firsttoken.measure.measurement import parse_measurement
    from firsttoken.plain_file import read_bytes
    from firsttoken.report.bench_table import csv_text, markdown_text, notes, terminal_table
    from firsttoken.report.report import diff, report

    report([path], path.with_name("page.html"))
    other = path.with_name("other.json")
    measured(7).write(other)
    found = parse_measurement(json.loads(read_bytes(path)), "m")
    for show in (csv_text, markdown_text, notes, terminal_table):
        show(found)
    with suppress(FirstTokenError):  # most have nothing in common
        diff(other, path)


def read_phone(path: Path) -> None:
    from firsttoken.device.untrusted import parse_json
    from firsttoken.measure.measurement import parse_measurement
    from firsttoken.plain_file import read_bytes

    try:
        data = read_bytes(path)
    except OSError:
        return  # a phone's answer is no file here
    parse_measurement(parse_json(data, "device"), "device")


def read_lines(path: Path) -> None:
    from firsttoken.distill.difficulty import read_partial
    from firsttoken.distill.generate import read_prompts
    from firsttoken.distill.records import document_of, read_records
    from firsttoken.distill.select import read_pool, texts_of
    from firsttoken.distill.servers.prompts import read_teacher_prompts
    from firsttoken.evaluate.answers import Answers
    from firsttoken.evaluate.tasks import read_task
    from firsttoken.json_lines import json_lines

    ways = (
        lambda: list(read_records(path, "d")), lambda: read_pool(path), lambda: texts_of(path), lambda: read_prompts(path), lambda: Answers(path),
        lambda: read_partial(path, "m", 8), lambda: [document_of(line, path, n, "") for n, line in json_lines(path)],
        *(lambda checks=checks: read_teacher_prompts(path, checks, "s") for checks in ((), ("maths",), ("tests",))),
        *(lambda kind=kind: read_task(f"{kind}={path}") for kind in ("text", "maths", "choice", "code")),
    )  # fmt: skip
    for way in ways:  # each refuses the others' lines
        with suppress(FirstTokenError):
            way()
    list(json_lines(path))


def read_apk(path: Path) -> None:
    """Reads which runtimes an APK carries; a resource table is put into an APK first, whose checksum then fits."""
    from firsttoken.device.carried import read_carried
    from firsttoken.device.install import check_apk
    from firsttoken.plain_file import read_bytes

    if path.suffix == ".apk":
        check_apk(path)
        read_carried(path, "apk")
        return
    packed = path.with_name("packed.apk")
    try:
        table = read_bytes(path)
    except OSError:
        return  # a table is no file of its own
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("resources.arsc", table)
    read_carried(packed, "apk")


LEARNING = (
    "firsttoken.distill.classifiers.recipe",
    "firsttoken.distill.generate",
    "firsttoken.distill.difficulty",
    "firsttoken.distill.select",
)
RUNNING = ("firsttoken.backends.tflite.runner", "firsttoken.run.open")
FOREIGN = (
    "firsttoken.foreign.open",
    "firsttoken.foreign.signature_file",
    "firsttoken.backends.litertlm.runner",
    "ai_edge_litert.interpreter",
)
READERS = (
    Reader("safetensors", good_files.checkpoint, "model.safetensors", mutate.mutate_safetensors, read_checkpoint),
    Reader("index", good_files.sharded, "*.index.json", mutate.mutate_json, read_checkpoint),
    Reader("compressed-tensors", good_files.packed, "model.safetensors", mutate.mutate_safetensors, read_quantized),
    Reader("quantization-config", good_files.packed, "config.json", mutate.mutate_json, read_quantized),
    Reader("auto-gptq", good_files.auto_gptq, "model.safetensors", mutate.mutate_safetensors, read_quantized),
    Reader("gguf", good_files.ggufs, "*.gguf", mutate.mutate_bytes, read_gguf, imports=("gguf.quants",)),
    Reader("adapter", good_files.adapter, "adapter_model.safetensors", mutate.mutate_safetensors, read_adapter),
    Reader("adapter-config", good_files.adapter, "adapter_config.json", mutate.mutate_json, read_adapter),
    Reader("config", good_files.configurations, "*.json", mutate.mutate_json, read_configuration),
    Reader("tokenizer", good_files.more_tokenizers, "[bluw]*.json", mutate.mutate_json, read_tokenizer_file),
    Reader("tokenizer-settings", good_files.tokenizers, "*_*.json", mutate.mutate_json, read_words),
    Reader("template", good_files.templates, "?.jinja", mutate.mutate_text, read_template),
    Reader("plan", good_files.declarations("quant"), "*.toml", mutate.mutate_text, read_plan),
    Reader("module-plan", good_files.declarations("quant/modules"), "*.toml", mutate.mutate_text, read_module_plan),
    Reader("module-manifest", good_files.module_manifests, "*.json", mutate.mutate_json, read_module_bundle),
    Reader("program", good_files.program, "*.pt2", mutate.mutate_bytes, read_program, imports=PROGRAMS),
    Reader("graph", good_files.program, "graph.json", mutate.mutate_json, read_program, imports=PROGRAMS),
    Reader("samples", good_files.samples, "*.npz", mutate.mutate_bytes, read_arrays),
    Reader("target", good_files.declarations("export"), "*.toml", mutate.mutate_text, read_target),
    Reader("recipe", good_files.declarations("recipes"), "*.toml", mutate.mutate_text, read_recipe, imports=LEARNING),
    Reader("servers", good_files.servers, "*.toml", mutate.mutate_text, read_servers),
    Reader("server-reply", good_files.server_replies, "*.json", mutate.mutate_json, read_server_reply),
    Reader("recipe-yaml", good_files.declarations("recipes", "yaml"), "*.yaml", mutate.mutate_text, read_recipe, imports=LEARNING),
    Reader("budget", good_files.budgets, "*.toml", mutate.mutate_text, read_budget),
    Reader("manifest", good_files.manifests, "*.json", mutate.mutate_json, read_manifest),
    Reader("measurement", good_files.measurements, "*.json", mutate.mutate_json, read_measurement),
    Reader("phone-result", good_files.measurements, "*.json", mutate.mutate_json, read_phone),
    Reader("apk", good_files.apks, "*.a*", mutate.mutate_bytes, read_apk),
    Reader("jsonl", good_files.lines, "*.jsonl", mutate.mutate_lines, read_lines, imports=LEARNING),
    Reader("tflite", good_files.bundle("tflite-xnnpack"), "*.tflite", mutate.mutate_bytes, run_bundle, native=True, imports=RUNNING),
    Reader("file", good_files.file_of_a_stranger, "*.litertlm", mutate.mutate_bytes, read_file, native=True, imports=FOREIGN),
    Reader("onnx", good_files.bundle("onnx-cpu"), "*.onnx", mutate.mutate_bytes, run_bundle, native=True, imports=RUNNING),
    Reader(
        "onnx-weights", good_files.bundle("onnx-cpu"), "*.data", mutate.mutate_bytes, run_bundle_of_weights, native=True, imports=RUNNING
    ),
    Reader("pte", good_files.bundle("executorch-xnnpack"), "*.pte", mutate.mutate_bytes, run_pte, native=True, imports=RUNNING),
)
