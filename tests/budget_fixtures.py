"""A measurement of one bundle with runs of given times, for budgets."""

from measurement_fixtures import values

from firsttoken.measure.measurement import Measurement, parse_measurement


def measurement(times=(40, 50, 60), proof=True, peak=100 << 20, state="warm", load=None, processes=False, busy=0.0) -> Measurement:
    """``times`` are milliseconds; ``processes``: each run is of its own."""
    made = values()
    result = made["results"][0]
    [run] = result["runs"]
    stages = {"tokenize": 0, "sample": 0, "detokenize": 0} | ({} if load is None else {"load": load * 10**6})
    result["runs"] = [
        run
        | {
            "state": state,
            "stages": stages | {"prefill": ms * 10**6},
            "decode": {"tokens": 10, "nanoseconds": 10**9},
            "peak_memory_bytes": peak,
            "other_load": busy,
        }
        | ({"process": number} if processes else {})
        for number, ms in enumerate(times, 1)
    ]
    if proof:
        result["bundle"]["proof"] = {"mean_kld": 0.01, "p99_kld": 0.1, "same_top": 0.95, "passed": True}
    return parse_measurement(made, "x")
