"""Running a GGUF file with llama.cpp: the KV cache is its own, in the precision that the plan asks of attention's core."""

import ctypes
from pathlib import Path

import numpy as np

from firsttoken.backends.gguf.llamacpp import library, load
from firsttoken.backends.runner import Runner, RunnerFacts, default_threads
from firsttoken.errors import FirstTokenError

CACHE_TYPES = {"float32": 0, "float16": 1}  # ggml's numbers of them


class LlamaCppRunner(Runner):
    """Loads ``path`` with ``threads`` threads (default: the machine's cores, 4 at most), on the CPU; ``cache`` is what keys and values are kept in.

    Attention is computed step by step: llama.cpp's one-pass kernel adds up values in float16 where the cache is float16.
    """

    def __init__(self, path: Path, manifest: RunnerFacts, cache: str, threads: int | None = None) -> None:
        super().__init__(manifest)
        self.llama, self.model = library(), load(path)
        parameters = self.llama.llama_context_default_params()
        parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = self.cache_length, self.prefill_chunk, self.prefill_chunk
        parameters.n_threads = parameters.n_threads_batch = threads or default_threads()
        parameters.type_k = parameters.type_v = CACHE_TYPES[cache]
        parameters.flash_attn_type = self.llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.swa_full, parameters.offload_kqv, parameters.no_perf = True, False, True
        self.context = self.llama.llama_init_from_model(self.model, parameters)
        if not self.context:
            self.close()
            raise FirstTokenError(
                f"{path}: llama.cpp makes no context of {self.cache_length} tokens; free some memory, or export with a shorter --cache-length"
            )
        self.memory = self.llama.llama_get_memory(self.context)
        found = self.llama.llama_vocab_n_tokens(self.llama.llama_model_get_vocab(self.model))
        if found != self.vocab_size:
            self.close()
            raise FirstTokenError(f"{path}: has {found} tokens, the manifest says {self.vocab_size}; export again")

    def _prefill(self, tokens: np.ndarray) -> np.ndarray:
        given = np.ascontiguousarray(tokens, np.int32)
        pointer = given.ctypes.data_as(ctypes.POINTER(self.llama.llama_token))
        failed = self.llama.llama_decode(self.context, self.llama.llama_batch_get_one(pointer, len(given)))
        if failed:
            raise FirstTokenError(
                f"llama.cpp fails on {len(given)} tokens at position {self.position} (code {failed}); free some memory, and try again"
            )
        logits = self.llama.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(logits, (self.vocab_size,))

    def _decode(self, token: int) -> np.ndarray:
        return self._prefill(np.array([token], np.int32))

    def _forget(self, length: int) -> None:
        self.llama.llama_memory_seq_rm(self.memory, 0, length, -1)

    def reset(self) -> None:
        super().reset()
        self.llama.llama_memory_clear(self.memory, True)

    def close(self) -> None:
        if self.context:
            self.llama.llama_free(self.context)
        if self.model:
            self.llama.llama_model_free(self.model)
        self.context = self.model = None
