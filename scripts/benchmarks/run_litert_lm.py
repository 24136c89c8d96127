#!/usr/bin/env python3
"""One side of the benchmarks: a stock .litertlm bundle run by LiteRT-LM (see turns.py).

The same calls and the same benchmark mode as `litert-lm benchmark` (exact token counts, no early stop), but with one
engine for all turns, so that it is as warm as ours. The figures are LiteRT-LM's own: first token is its "time to first
token" = prefill + the mean decode step (its prefill yields no logits, so the first token needs a decode call), decode
the inverse of its decode speed. Tokenizing and start-up are in neither. Load is creating the engine.
"""

import ctypes
import time
from pathlib import Path

from turns import parse, serve


def main():
    def more(parser):
        parser.add_argument("--cache", type=Path, required=True, help="folder of its disk cache")
        parser.add_argument("--cache-length", type=int, default=1280, help="most tokens of prompt and answer together")

    options = parse(__doc__, "model.litertlm", more)
    import litert_lm
    from litert_lm._ffi import InputDataType, _get_lib

    lib = _get_lib()
    litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
    options.cache.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    settings = lib.litert_lm_engine_settings_create(str(options.model), "cpu", None, None)
    lib.litert_lm_engine_settings_enable_benchmark(settings)
    lib.litert_lm_engine_settings_set_num_threads(settings, options.threads)
    lib.litert_lm_engine_settings_set_max_num_tokens(settings, options.cache_length)
    lib.litert_lm_engine_settings_set_num_prefill_tokens(settings, options.prompt)
    lib.litert_lm_engine_settings_set_num_decode_tokens(settings, options.decode)
    lib.litert_lm_engine_settings_set_cache_dir(settings, str(options.cache))
    engine = lib.litert_lm_engine_create(settings)
    load = time.perf_counter() - start
    if not engine:
        raise SystemExit(f"{options.model}: LiteRT-LM cannot load it")

    def turn() -> tuple[float, float]:
        session = lib.litert_lm_engine_create_session(engine, None)
        text = b"count"  # replaced by the asked number of tokens
        given = lib.litert_lm_input_data_create(InputDataType.TEXT, text, len(text))
        lib.litert_lm_responses_delete(lib.litert_lm_session_generate_content(session, (ctypes.c_void_p * 1)(given), 1))
        info = lib.litert_lm_session_get_benchmark_info(session)
        found = litert_lm.interfaces.create_benchmark_info(lib, info)
        if (found.last_prefill_token_count, found.last_decode_token_count) != (options.prompt, options.decode):
            raise SystemExit(f"LiteRT-LM ran {found.last_prefill_token_count} + {found.last_decode_token_count} tokens")
        lib.litert_lm_benchmark_info_delete(info)
        lib.litert_lm_input_data_delete(given)
        lib.litert_lm_session_delete(session)
        return found.time_to_first_token_in_second, 1 / found.last_decode_tokens_per_second

    serve(load, turn)


if __name__ == "__main__":
    main()
