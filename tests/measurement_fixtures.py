"""A small measurement file as plain values, for tests to change."""


def values(**more) -> dict:
    bundle = {
        "name": "b", "checkpoint": "c", "fingerprint": "f", "plan": "int8", "target": "tflite-xnnpack", "runtime": "tflite", "delegate": "xnnpack",
        "artifact_sha256": "0" * 64, "artifact_bytes": 10, "cache_length": 64,
    }  # fmt: skip
    stages = {"tokenize": 1, "prefill": 20, "sample": 3, "detokenize": 4}
    run = {"prompt_tokens": 8, "state": "warm", "page_cache": "cached", "at_seconds": 0.5, "stages": stages}
    result = {"bundle": bundle, "runtime_version": "r 1", "threads": 2, "before": {"time": "2026-01-01T00:00:00+00:00"}, "runs": [run]}
    device = {"kind": "host", "model": "m", "system": "s", "cpu": {"model": "c", "cores": 2}, "memory_bytes": 1000}
    return {"schema_version": 1, "writer": {"name": "w", "version": "1"}, "device": device, "results": [result]} | more
