"""llama.cpp through llama-cpp-python: loading a file, its words as an error's, and its tokenizer."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from firsttoken.errors import FirstTokenError
from firsttoken.extras import need
from firsttoken.safe_text import visible

ERROR = 4  # ggml_log_level
_said: list[str] = []  # since the last load began; llama.cpp tells errors to its log alone


@cache
def library() -> Any:
    """llama-cpp-python's functions, its log silenced but for errors, which are kept. Raises `FirstTokenError` where it is not installed."""
    need("gguf-run", "running a GGUF file")
    import llama_cpp

    def keep(level: int, text: bytes, _: object) -> None:
        if level == ERROR:
            _said.append(text.decode("utf-8", "replace").strip())

    callback = llama_cpp.llama_log_callback(keep)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    llama_cpp.firsttoken_log = callback  # the library calls it as long as it lives
    return llama_cpp


def load(path: Path, vocabulary_only: bool = False) -> Any:
    """Loads a file on the CPU, its weights mapped. Raises `FirstTokenError` with what llama.cpp says of one that it refuses."""
    llama = library()
    parameters = llama.llama_model_default_params()
    parameters.n_gpu_layers, parameters.vocab_only = 0, vocabulary_only
    _said.clear()
    model = llama.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        why = visible(" ".join(_said[:2]), 300) or "it says nothing more"
        raise FirstTokenError(
            f"{path}: llama.cpp does not load it ({why}); export again, with a llama-cpp-python of the version that the bundle names"
        )
    return model


@contextmanager
def tokenizing(path: Path) -> Iterator[Callable[[str], list[int]]]:
    """Gives llama.cpp's own cutting of texts by a file's vocabulary, special tokens included, without begin tokens."""
    llama, model = library(), load(path, vocabulary_only=True)
    words = llama.llama_model_get_vocab(model)

    def encode(text: str) -> list[int]:
        raw = text.encode()
        room = (llama.llama_token * (len(raw) + 8))()
        count = llama.llama_tokenize(words, raw, len(raw), room, len(room), False, True)
        if count < 0:
            raise FirstTokenError(f"{path}: llama.cpp gives {-count} tokens for {len(raw)} bytes; report it with this tokenizer")
        return list(room[:count])

    try:
        yield encode
    finally:
        llama.llama_model_free(model)
