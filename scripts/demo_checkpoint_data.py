"""Corpus, tokenizer and chat samples for the demo checkpoint.

Everything comes from the Python files of the running interpreter's standard
library, so the checkpoint can be trained again anywhere without a download.
"""

from __future__ import annotations

import ast
import hashlib
import json
import random
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
SPECIAL_TOKENS = [END_OF_TEXT, IM_START, IM_END]

# Tests are repetitive, encodings are tables of characters, and _sysconfigdata
# records the paths of the machine that built the interpreter.
SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "__pycache__"}
SKIPPED_PREFIXES = ("_sysconfigdata", "__phello__", "config-")
HELD_OUT_PERCENT = 6

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class SourceFile:
    """One standard library file: its path below the library folder, and its text."""

    path: str
    text: str

    @property
    def digest(self) -> int:
        """A number that depends on the relative path alone."""
        return int.from_bytes(hashlib.sha256(self.path.encode()).digest()[:8], "big")

    @property
    def held_out(self) -> bool:
        """Whether the file is kept away from the tokenizer and from training."""
        return self.digest % 100 < HELD_OUT_PERCENT

    @property
    def module(self) -> str:
        """The dotted module name."""
        parts = self.path.removesuffix(".py").split("/")
        return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def read_corpus(library: Path | None = None) -> list[SourceFile]:
    """Read the standard library's Python files, sorted by relative path."""
    library = Path(library or sysconfig.get_paths()["stdlib"])
    files = []
    for path in sorted(library.rglob("*.py")):
        relative = path.relative_to(library)
        if any(part in SKIPPED_FOLDERS or part.startswith(SKIPPED_PREFIXES) for part in relative.parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if len(text) > 200:
            files.append(SourceFile(relative.as_posix(), text))
    if not files:
        raise SystemExit(f"No Python files below {library}; is the standard library installed as source?")
    return files


def split(files: list[SourceFile]) -> tuple[list[SourceFile], list[SourceFile]]:
    """Divide the files into the train split and the held-out split."""
    return [f for f in files if not f.held_out], sorted((f for f in files if f.held_out), key=lambda f: f.digest)


def held_out_sample(held_out: list[SourceFile], total: int = 160_000, per_file: int = 12_000) -> list[str]:
    """The fixed text that the card's figures are computed on, one document per file."""
    documents, size = [], 0
    for file in held_out:
        # Cut at a line end so that no document stops inside a character.
        text = file.text if len(file.text) <= per_file else file.text[: file.text.rindex("\n", 0, per_file) + 1]
        documents.append(text)
        size += len(text.encode())
        if size >= total:
            break
    return documents


def held_out_text(held_out: list[SourceFile], smallest: int = 48_000, largest: int = 64_000) -> str:
    """Whole held-out files, each under a line naming it, for proving exported artifacts."""
    pieces, size = [], 0
    for file in held_out:
        # Files with their own copyright notice stay out: the text is shipped verbatim.
        if "copyright" in file.text.lower() or not 2_000 <= len(file.text) <= 14_000:
            continue
        piece = f"# ======== {file.path} ========\n\n{file.text.rstrip()}\n\n\n"
        if size + len(piece.encode()) > largest:
            continue
        pieces.append(piece)
        size += len(piece.encode())
        if size >= smallest:
            break
    return "".join(pieces)


def train_tokenizer(texts: list[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE with Qwen2's pre-split; special tokens take the last ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    if tokenizer.get_vocab_size() != vocab_size:
        raise SystemExit(f"The corpus gives {tokenizer.get_vocab_size()} tokens, not {vocab_size}; use a smaller --vocab.")
    return tokenizer


def tokenizer_config(max_length: int) -> str:
    """The text of tokenizer_config.json."""
    return (
        json.dumps(
            {
                "tokenizer_class": "Qwen2Tokenizer",
                "model_max_length": max_length,
                "bos_token": None,
                "eos_token": IM_END,
                "pad_token": END_OF_TEXT,
                "unk_token": None,
                "add_prefix_space": False,
                "clean_up_tokenization_spaces": False,
                "additional_special_tokens": [IM_START, IM_END],
                "chat_template": CHAT_TEMPLATE,
            },
            indent=2,
        )
        + "\n"
    )


def render_chat(question: str, answer: str) -> str:
    """One user turn and its answer, in the form that the chat template gives."""
    return f"{IM_START}user\n{question}{IM_END}\n{IM_START}assistant\n{answer}{IM_END}\n"


def _paragraphs(docstring: str, limit: int) -> str:
    """The first whole paragraphs of a docstring that fit the limit."""
    kept = ""
    for paragraph in docstring.strip().split("\n\n"):
        if kept and len(kept) + len(paragraph) > limit:
            break
        kept = f"{kept}\n\n{paragraph}" if kept else paragraph
    return kept[:limit].rstrip()


def chat_samples(files: list[SourceFile], seed: int) -> list[str]:
    """Conversations made from docstrings: modules explained, functions explained and written."""
    chooser = random.Random(seed)
    samples = []
    for file in files:
        try:
            tree = ast.parse(file.text)
        except SyntaxError:
            continue
        module_doc = ast.get_docstring(tree)
        if module_doc:
            for question in (f"Explain module {file.module}", f"What is the module {file.module} for?"):
                samples.append(render_chat(question, _paragraphs(module_doc, 700)))
        for node in ast.walk(tree):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
            docstring = ast.get_docstring(node)
            if not docstring or len(docstring) < 12:
                continue
            first_line = docstring.strip().splitlines()[0]
            if isinstance(node, ast.ClassDef):
                samples.append(render_chat(f"Explain class {node.name}", _paragraphs(docstring, 500)))
                continue
            signature = f"def {node.name}({ast.unparse(node.args)})"
            samples.append(
                render_chat(
                    chooser.choice((f"Explain {signature}", f"What does {node.name} do?", f"{signature}:")),
                    _paragraphs(docstring, 500),
                )
            )
            code = ast.get_source_segment(file.text, node) or ""
            if len(code) < 1200:
                # Methods are indented below their class; the answer starts at the margin.
                indent = " " * node.col_offset
                code = "\n".join(line.removeprefix(indent) for line in code.splitlines())
                samples.append(render_chat(f"Write {signature}: {first_line}", code))
    chooser.shuffle(samples)
    return samples
