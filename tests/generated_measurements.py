"""Measurements as the host bench and the app write them, made by a small generator: known truth, realistic noise."""

import hashlib
import math
import random

from firsttoken.measure.measurement import (
    BundleIdentity,
    Conditions,
    Cpu,
    Decode,
    Device,
    Failure,
    Measurement,
    ProofFigures,
    Result,
    Run,
    Stages,
    Writer,
)

PROOF = ProofFigures(mean_kld=0.0011, p99_kld=0.0045, same_top=0.985, passed=True)
MILLISECOND = 1_000_000


def make_run(
    prompt_tokens=32,
    state="warm",
    *,
    decode=None,
    memory=None,
    load=None,
    tokenize=1,
    prefill=10,
    sample=1,
    detokenize=1,
    render=None,
    **more,
) -> Run:
    """A run of nanoseconds; ``decode`` is (tokens, nanoseconds)."""
    fields = {"page_cache": "dropped" if state == "cold" else "cached", "at_seconds": 0} | more
    return Run(
        prompt_tokens=prompt_tokens,
        state=state,
        stages=Stages(load=load, tokenize=tokenize, prefill=prefill, sample=sample, detokenize=detokenize, render=render),
        decode=decode and Decode(tokens=int(decode[0]), nanoseconds=int(decode[1])),
        peak_memory_bytes=memory,
        **fields,
    )


def make_bundle(plan="fp16-attention", target="tflite-xnnpack", *, checkpoint="demo", proof=PROOF, size=5 << 20, **more) -> BundleIdentity:
    runtime = "executorch" if target.startswith("executorch") else "tflite"
    fields = {
        "name": f"{checkpoint}-{plan}-{runtime}",
        "checkpoint": checkpoint,
        "fingerprint": hashlib.sha256(checkpoint.encode()).hexdigest(),
        "plan": plan,
        "target": target,
        "runtime": runtime,
        "delegate": "xnnpack",
        "artifact_sha256": hashlib.sha256(f"{checkpoint} {plan} {target}".encode()).hexdigest(),
        "artifact_bytes": size,
        "cache_length": 1280,
        "proof": proof,
    }
    return BundleIdentity(**fields | more)


def make_conditions(**more) -> Conditions:
    return Conditions(**{"time": "2026-03-02T10:00:00+00:00"} | more)


def make_result(bundle=None, runs=(), failures=(), **more) -> Result:
    fields = {
        "runtime_version": "ai-edge-litert 2.3.0",
        "threads": 2,
        "before": make_conditions(),
        "after": make_conditions(time="2026-03-02T10:05:00+00:00"),
    }
    return Result(bundle=bundle or make_bundle(), runs=list(runs), failures=list(failures), **fields | more)


def make_measurement(results=None, **device) -> Measurement:
    cpu = Cpu(model="AMD EPYC 9B14", cores=2, flags=["avx2", "avx512f", "avx512_vnni"])
    fields = {"kind": "host", "model": "AMD EPYC 9B14", "system": "Linux 6.1.0", "cpu": cpu, "memory_bytes": 24 << 30}
    results = [make_result(runs=[make_run()])] if results is None else results
    return Measurement(writer=Writer(name="firsttoken bench", version="0.1.0"), device=Device(**fields | device), results=results)


def measured_runs(
    *, prompts=(32, 128, 512), repeat=7, per_token=0.2, fixed=4.0, load=60.0, decode=3.0, noise=0.02, memory=80 << 20, seed=0, start=0.0, pause=0.4,
    slow_down=lambda seconds: 1.0, heat=lambda seconds: (None, None), render=None, states=("cold", "warm"), page_cache="dropped",
) -> list[Run]:  # fmt: skip
    """Runs of one bundle from milliseconds per prompt token and per prompt, load, decode step; log-normal noise, now and then a hiccup.

    Every repeat is another process. ``slow_down(seconds)`` multiplies every time, ``heat(seconds)`` gives temperature and thermal status.
    """
    draw = random.Random(seed)
    runs: list[Run] = []
    at = start

    def run(tokens: int, state: str, process: int):
        nonlocal at
        slow = slow_down(at)

        def took(milliseconds: float) -> int:
            hiccup = 1.35 if draw.random() < 0.02 else 1.0
            return int(milliseconds * slow * draw.lognormvariate(0, noise) * hiccup * MILLISECOND)

        stages = {
            "load": took(load) if state == "cold" else None,
            "tokenize": took(0.05 + 0.002 * tokens),
            "prefill": took(fixed + per_token * tokens * (1 + tokens / 4096)),
            "sample": took(0.08),
            "detokenize": took(0.03),
            "render": took(render) if render else None,
        }
        steps = (32, took(32 * decode * (1 + tokens / 2048)))
        at += (sum(value or 0 for value in stages.values()) + steps[1]) / 1e9 + pause
        temperature, status = heat(at)
        more = {"page_cache": page_cache} if state == "cold" else {}
        runs.append(
            make_run(
                tokens, state, decode=steps, memory=int(memory + tokens * 9000 + draw.randrange(1 << 20)), at_seconds=round(at, 3), temperature=temperature,
                thermal_status=status, other_load=round(abs(draw.gauss(0.03, 0.02)), 3), process=process, **stages, **more,
            )
        )  # fmt: skip

    if "warm" in states:
        run(prompts[0], "warm-up", 1)
    for number in range(repeat):
        for tokens in prompts:
            for state in states:
                run(tokens, state, number + 1)
    return runs


def host_measurement(seed=0, faster=1.0, repeat=7) -> Measurement:
    """Two runtimes, three plans, on a host; one bundle without proof, one whose proof failed, one failure."""
    int8 = ProofFigures(mean_kld=0.0046, p99_kld=0.031, same_top=0.962, passed=True)
    int4 = ProofFigures(mean_kld=0.131, p99_kld=0.92, same_top=0.803, passed=False)
    specifications = [
        ("fp16-attention", "tflite-xnnpack", 0.21, 58, 3.1, 5 << 20, PROOF),
        ("int8", "tflite-xnnpack", 0.15, 44, 2.2, 4 << 20, int8),
        ("int4", "tflite-xnnpack", 0.16, 36, 1.9, 3 << 20, int4),
        ("fp16-attention", "executorch-xnnpack", 0.26, 75, 3.4, 6 << 20, PROOF),
        ("int8", "executorch-xnnpack", 0.19, 66, 2.5, 5 << 20, None),
    ]
    results = []
    for number, (plan, target, per_token, load, decode, size, proof) in enumerate(specifications):
        runs = measured_runs(
            per_token=per_token / faster,
            load=load,
            decode=decode / faster,
            memory=60_000_000 + 3 * size,
            seed=100 * seed + number,
            repeat=repeat,
            start=number * 0.7,
        )
        failures = (
            [Failure(prompt_tokens=512, state="cold", stage="load", message="the process was killed (out of memory?)")]
            if number == 3
            else []
        )
        result = make_result(
            make_bundle(plan, target, size=size, proof=proof),
            runs,
            failures,
            runtime_version=_version(target),
            before=make_conditions(available_memory_bytes=20 << 30, governors=["performance"]),
            after=make_conditions(time="2026-03-02T10:06:30+00:00", available_memory_bytes=19 << 30, governors=["performance"]),
        )
        results.append(result)
    return make_measurement(results, identity="5f2c81aa")


def phone_measurement(seed=50) -> Measurement:
    """A phone that heats up and throttles: 31 °C at first, from 42 °C on thermal status 2 and everything 1.6 times as slow."""

    def heat(seconds: float) -> tuple[float, int]:
        temperature = 31 + 16 * (1 - math.exp(-seconds / 60))
        return round(temperature, 1), 0 if temperature < 38 else 1 if temperature < 42 else 2

    def slow_down(seconds: float) -> float:
        return 1.0 if heat(seconds)[1] < 2 else 1.6

    before = make_conditions(
        thermal_status=0,
        temperatures={"CPU0": 31.0, "battery": 28.5},
        battery_percent=91,
        charging=True,
        governors=["schedutil"],
        available_memory_bytes=5 << 30,
    )
    after = make_conditions(
        time="2026-03-02T10:09:00+00:00", thermal_status=2, temperatures={"CPU0": 46.4, "battery": 36.0}, battery_percent=88, charging=True, governors=["schedutil"],
        available_memory_bytes=4 << 30,
    )  # fmt: skip
    results = []
    for number, (plan, target, per_token) in enumerate(
        (("fp16-attention", "tflite-xnnpack", 3.1), ("int8", "tflite-xnnpack", 2.4), ("fp16-attention", "executorch-xnnpack", 2.9))
    ):
        runs = measured_runs(
            per_token=per_token, fixed=20, load=540, decode=24, memory=1 << 30, seed=seed + number, heat=heat, slow_down=slow_down, start=2.0 * number, render=11, noise=0.04,
            repeat=6, page_cache="unknown",
        )  # fmt: skip
        bundle = make_bundle(plan, target, checkpoint="Qwen2.5-0.5B-Instruct", size=520 << 20)
        results.append(make_result(bundle, runs, threads=4, chat=True, runtime_version=_version(target), before=before, after=after))
    cpu = Cpu(model="Kryo", cores=8, flags=["asimddp", "asimdhp", "i8mm"], clusters={"3187200": 1, "2956800": 5, "2265600": 2})
    return make_measurement(
        results,
        kind="phone",
        model="SM-S928B",
        manufacturer="samsung",
        soc="SM8650",
        hexagon="v75",
        system="Android 15",
        identity="9d41c7f0",
        cpu=cpu,
        memory_bytes=12 << 30,
    )


def _version(target: str) -> str:
    return "ai-edge-litert 2.3.0" if target.startswith("tflite") else "executorch 1.5.1"
