"""The monitor on made-up durations: averages, what counts as slower, and what does not."""

import json
import math
import random

import pytest

from firsttoken.errors import FirstTokenError
from firsttoken.measure.monitor import Monitor
from firsttoken.run.generate import Statistics


class Device:
    """Answers with durations that a function of the time gives; the clock is the sum of them."""

    def __init__(self, factor, interval=1.0):
        self.now, self.factor, self.records = 0.0, factor, []
        self.monitor = Monitor(self.records.append, interval, clock=lambda: self.now, memory=lambda: 100 << 20)

    def answer(self, prompt_tokens, new_tokens):
        facts = Statistics(prompt_tokens=prompt_tokens)
        for number in range(new_tokens):
            facts.new_tokens += 1
            # a token costs more the further it stands, a prompt the longer it is
            place = prompt_tokens + number
            nanoseconds = int((1e6 * prompt_tokens if number == 0 else 1e7 * (1 + place / 500)) * self.factor(self.now))
            self.now += nanoseconds / 1e9
            self.monitor.observe(facts, nanoseconds)


def test_averages_are_of_the_window():
    device = Device(lambda now: 1.0)
    for _ in range(10):
        device.answer(100, 50)
    last = device.records[-1]
    assert last["first_token_ms"] == 100 and last["prompt_tokens"] == 100 and last["memory_mib"] == 100
    assert last["tokens_per_second"] == pytest.approx(1e9 / 1e7 / 1.25, rel=0.05)
    assert last["answers"] >= 8 and "warning" not in last


def test_long_answers_and_long_prompts_are_no_slowing_down():
    device = Device(lambda now: 1.0)
    for _ in range(6):
        device.answer(20, 300)
        device.answer(400, 300)
    assert not any("warning" in record for record in device.records)
    assert device.records[-1]["decode_times_the_start"] == pytest.approx(1, abs=0.1)


def test_a_device_that_slows_down_is_warned_of_and_recovers():
    device = Device(lambda now: 1.6 if 20 < now < 60 else 1.0)
    while device.now < 100:
        device.answer(50, 60)
    early, slow, late = ([r for r in device.records if low < r["seconds"] < high] for low, high in ((0, 20), (40, 60), (90, 100)))
    assert not any("warning" in r for r in early + late)
    assert all("decoding takes 1.6" in r["warning"] and "the first token takes 1.6" in r["warning"] for r in slow)


class Noisy(Device):
    """A device as they are: cold at first, noisy tokens, now and then a hiccup, and a level that wanders by some per cent."""

    def __init__(self, factor, seed):
        super().__init__(factor)
        self.random, self.level, self.steady = random.Random(seed), 0.0, factor
        self.factor = self.noisy

    def noisy(self, now):
        self.level = 0.98 * self.level + self.random.gauss(0, 0.006)  # wanders by 3 %
        cold = 1 + 0.8 * math.exp(-now / 1.5)
        hiccup = 1.5 if self.random.random() < 0.02 else 1.0
        return 4 * self.steady(now) * cold * hiccup * math.exp(self.level + self.random.gauss(0, 0.08))


def warned(seed, slower, begins=60.0, until=95.0):
    """When the first warning came after ``begins`` of a device that is ``slower`` times as slow from then on; None where none came. And whether one came before."""
    device = Noisy(lambda now: slower if now > begins else 1.0, seed)
    while device.now < until:
        device.answer(device.random.randint(20, 90), device.random.randint(30, 120))
    times = [record["seconds"] for record in device.records if "warning" in record]
    return next((time for time in times if time > begins), None), any(time <= begins for time in times)


def test_a_quarter_slower_is_warned_of_within_half_a_minute_and_steady_devices_are_left_alone():
    found = [warned(seed, 1.25) for seed in range(100)]
    assert sum(time is not None and time <= 90 for time, _ in found) >= 95
    assert sum(early for _, early in found) <= 5
    steady = [warned(seed, 1.0) for seed in range(1000, 1100)]
    assert sum(time is not None or early for time, early in steady) <= 5


def test_a_slow_start_is_no_start():
    """A process that takes twice as long for its first answers would hide every slow-down after them."""
    device = Device(lambda now: 2.0 if now < 2 else 1.3 if now > 30 else 1.0)
    while device.now < 60:
        device.answer(50, 60)
    assert "decoding takes 1.3" in device.records[-1]["warning"] and not any("warning" in r for r in device.records if r["seconds"] < 30)


def test_slow_devices_are_warned_of_too():
    """Answers of half a minute at three tokens a second: fifteen seconds hold less than can be compared."""
    device = Device(lambda now: 90.0 if now > 600 else 30.0)
    while device.now < 1000:
        device.answer(50, 60)
    assert "decoding takes 3.0" in device.records[-1]["warning"] and "the first token takes 3.0" in device.records[-1]["warning"]


def test_a_record_a_second_and_one_at_the_end():
    device = Device(lambda now: 1.0)
    device.answer(10, 300)
    assert len(device.records) == pytest.approx(device.now, abs=1)
    device.monitor.flush()
    assert device.records[-1]["tokens"] == 300


def test_the_command_adds_json_lines(demo_bundle, tmp_path, capsys):
    from firsttoken import cli

    log, prompts = tmp_path / "use.jsonl", tmp_path / "prompts.txt"
    log.write_text('{"earlier": true}\n')
    prompts.write_text("Explain module asyncio\n\nWrite def close(self)\n")
    bundle = str(demo_bundle("tflite-xnnpack"))
    assert cli.run(["generate", bundle, "--prompts", str(prompts), "--monitor", str(log), "--max-tokens", "5"]) == 0
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert records[0] == {"earlier": True} and records[-1]["answers"] == 2 and records[-1]["tokens"] <= 10
    assert capsys.readouterr().err.count("[load") == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("absent", None, "cannot be read"), ("empty", b" \n\n", "holds no prompt"), ("bytes", b"\xff\xff", "cannot be read")],
)
def test_bad_prompt_files(tmp_path, name, content, said):
    from firsttoken.cli.generate import read_prompts

    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FirstTokenError, match=said):
        read_prompts(None, tmp_path / name)
