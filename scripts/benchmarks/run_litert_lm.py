"""Runs one .litertlm bundle with LiteRT-LM in this process and prints what it took, as one JSON line.

Uses the same calls and the same benchmark mode as `litert-lm benchmark` (exact token counts, no early stop), but keeps
the engine between runs, so that warm runs are as warm as ours. LiteRT-LM's own definitions:

  load          creating the engine, with its disk cache in --cache
  cold_first    the very first prompt of the process
  first         "time to first token" = prefill + the mean decode step (its prefill yields no logits, so the first
                token needs a decode call); tokenizing and start-up are not in it
  decode        seconds per token, the inverse of its decode speed
"""

import argparse
import ctypes
import json
import resource
import time
from pathlib import Path

from run_bundle import memory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of the prompt")
    parser.add_argument("--decode", type=int, default=32, help="tokens decoded after each")
    parser.add_argument("--runs", type=int, default=3, help="warm runs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, required=True, help="folder of its disk cache")
    parser.add_argument("--cache-length", type=int, default=1280, help="most tokens of prompt and answer together")
    options = parser.parse_args()
    import litert_lm
    from litert_lm._ffi import InputDataType, _get_lib

    lib = _get_lib()
    litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
    options.cache.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    settings = lib.litert_lm_engine_settings_create(str(options.bundle), "cpu", None, None)
    lib.litert_lm_engine_settings_enable_benchmark(settings)
    lib.litert_lm_engine_settings_set_num_threads(settings, options.threads)
    lib.litert_lm_engine_settings_set_max_num_tokens(settings, options.cache_length)
    lib.litert_lm_engine_settings_set_num_prefill_tokens(settings, options.prompt)
    lib.litert_lm_engine_settings_set_num_decode_tokens(settings, options.decode)
    lib.litert_lm_engine_settings_set_cache_dir(settings, str(options.cache))
    engine = lib.litert_lm_engine_create(settings)
    load = time.perf_counter() - start
    if not engine:
        raise SystemExit(f"{options.bundle}: LiteRT-LM cannot load it")

    def run() -> tuple[float, float]:
        session = lib.litert_lm_engine_create_session(engine, None)
        text = b"count"
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

    cold, _ = run()
    warm = [run() for _ in range(options.runs)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"load": load, "cold_first": cold, "first": [w[0] for w in warm], "decode": [w[1] for w in warm], "peak": peak} | memory()))


if __name__ == "__main__":
    main()
