"""Answers from servers that fail in every way: nothing lost, nothing twice, nothing wrong, and the key nowhere."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from faulty_server import FaultyServer, cut, raw, reply, right, slow, status, streamed

from firsttoken.cli import run
from firsttoken.distill.records import read_records
from firsttoken.distill.servers.generate import generate_from_servers, sample_seed
from firsttoken.distill.servers.settings import Asking, load_servers
from firsttoken.errors import FirstTokenError

KEY = "sk-very-secret-0123456789"


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def ask(url, prompts, output, asking=Asking(), said=None, **changes):
    changes = {"timeout": 5.0} | changes
    return generate_from_servers(load_servers(url, **changes), prompts, output, asking, say=(said if said is not None else []).append)


def pairs(path):
    return sorted((line["line"], line["sample"]) for line in lines_of(path))


FAULTS = {
    "500": [status(500)],
    "429 that says when": [status(429, "slow down", Retry_After="0.2")],
    "429 with a date": [status(429, "slow down", Retry_After="Mon, 01 Jan 2024 00:00:00 GMT")],
    "cut off": [cut],
    "too slow": [slow(1.2)],
    "no JSON": [raw(b"<html>busy</html>")],
    "an array": [raw(b"[1]")],
    "an error with status 200": [raw(b'{"error": {"message": "overloaded"}}')],
    "no choices": [reply(choices=[])],
    "a choice without a message": [reply(choices=[{"index": 0, "finish_reason": "stop"}])],
    "not finished": [reply(choices=[{"index": 0, "message": {"content": "half"}, "finish_reason": None}])],
    "content that is a number": [reply(choices=[{"index": 0, "message": {"content": 7}, "finish_reason": "stop"}])],
    "three in a row": [status(503), cut, raw(b"")],
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_costs_a_second_request_and_nothing_else(name, prompts, tmp_path):
    output = tmp_path / "a.jsonl"
    with FaultyServer(*FAULTS[name]) as server:
        facts = ask(server.url, prompts(), output, timeout=0.6 if name == "too slow" else 5.0)
    assert pairs(output) == [(n, 0) for n in range(1, 6)]
    assert all(line["answer"] == f"{line['prompt']}!  0" for line in lines_of(output))
    assert len(server.bodies) == 5 + len(FAULTS[name]) and facts["servers"][server.url]["requests"] == 5
    if name == "429 that says when":
        assert sorted(server.times)[-1] - server.times[0] >= 0.2


def test_samples_are_asked_for_until_all_are_there_each_with_its_seed(prompts, tmp_path):
    output = tmp_path / "a.jsonl"
    with FaultyServer(reply(samples=2), reply(samples=1), reply(samples=9), status(500)) as server:
        facts = ask(server.url, prompts([{"prompt": "q", "domain": "d"}]), output, Asking(samples=5, temperature=0.7, top_p=0.9, seed=3))
    assert pairs(output) == [(1, n) for n in range(5)]
    assert [body.get("n") for body in server.bodies] == [5, 3, 2] and {body["top_p"] for body in server.bodies} == {0.9}
    assert [body["seed"] for body in server.bodies] == [sample_seed(3, 1, n) for n in (0, 2, 3)]
    assert (
        facts["answers"] == 5
        and facts["servers"][server.url] | {"requests": 3, "models": ["named-by-server"]} == facts["servers"][server.url]
    )
    [first, *_] = read_records(output, "x")
    assert first.domain == "d" and first.messages[0] == {"role": "user", "content": "q"}
    with pytest.raises(FirstTokenError, match="same answer 2 times"):
        ask(server.url, prompts(), tmp_path / "b.jsonl", Asking(samples=2))


def test_fewer_samples_at_a_time_where_a_server_refuses_as_many(prompts, tmp_path):
    """As llama.cpp's server with two slots does."""

    def two_slots(handler, body):
        return (status(400, "'n' must be between 1 and 2") if body.get("n", 1) > 2 else reply())(handler, body)

    with FaultyServer(always=two_slots) as server:
        ask(server.url, prompts(), tmp_path / "a.jsonl", Asking(samples=7, temperature=1.0), concurrency=1)
    assert pairs(tmp_path / "a.jsonl") == [(line, n) for line in range(1, 6) for n in range(7)]
    assert [body.get("n", 1) for body in server.bodies][:4] == [7, 3, 1, 1] and len(server.bodies) == 2 + 5 * 7


def test_turns_and_thoughts_get_into_the_training_data(prompts, tmp_path):
    chat = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    message = {"role": "assistant", "content": "42", "reasoning_content": "so\nit is"}
    other = {"role": "assistant", "content": [{"type": "text", "text": "43"}], "reasoning": "else"}

    def answer(handler, body):
        said = message if body["messages"][-1]["content"] == "c" else other
        handler.send(200, json.dumps(right(body, choices=[{"index": 0, "message": said, "finish_reason": "stop"}])).encode())

    with FaultyServer(always=answer) as server:
        ask(server.url, prompts([{"messages": chat, "id": 7}, {"prompt": "d"}]), tmp_path / "a.jsonl", Asking(system="Be brief."))
    assert sorted((body["messages"] for body in server.bodies), key=len) == [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "d"}],
        chat,
    ]
    by_line = {line["line"]: line for line in lines_of(tmp_path / "a.jsonl")}
    assert by_line[1]["messages"] == [*chat, message] and by_line[1]["id"] == 7
    found = sorted((d.messages for d in read_records(tmp_path / "a.jsonl", "x")), key=len)
    assert found[0] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "d"},
        {"role": "assistant", "content": "<think>\nelse\n</think>\n\n43"},
    ]
    assert found[1][-1]["content"] == "<think>\nso\nit is\n</think>\n\n42"


def test_a_server_that_dies_gives_its_prompts_to_the_others(prompts, tmp_path):
    said = []
    with FaultyServer(None, None, always=status(500)) as dying, FaultyServer(delay=0.03) as other:
        file = tmp_path / "servers.toml"
        file.write_text(f'[[server]]\nurl = "{dying.url}"\nconcurrency = 3\n[[server]]\nurl = "{other.url}"\nconcurrency = 2\n')
        many = prompts([{"prompt": f"q{n}"} for n in range(40)])
        facts = ask(file, many, tmp_path / "a.jsonl", Asking(retries=2), said)
    assert pairs(tmp_path / "a.jsonl") == [(n, 0) for n in range(1, 41)]
    assert facts["servers"][dying.url]["requests"] == 2 and facts["servers"][other.url]["requests"] == 38
    assert len(said) == 1 and dying.url in said[0] and "goes on with 1 other server" in said[0]


def test_no_server_left_is_one_error_and_the_same_command_goes_on(prompts, tmp_path):
    output, answered = tmp_path / "a.jsonl", [None] * 3
    with FaultyServer(*answered, always=status(502, "gone")) as server:
        with pytest.raises(
            FirstTokenError, match=r"no server is left: .*failed 3 times in a row: status 502: gone; what was answered is kept"
        ):
            ask(server.url, prompts(), output, Asking(retries=2), concurrency=2)
        assert len(lines_of(output)) == 3
        server.always = None
        before = len(server.bodies)
        ask(server.url, prompts(), output, Asking(retries=2))
        assert len(server.bodies) - before == 2 and pairs(output) == [(n, 0) for n in range(1, 6)]


def test_a_quota_that_is_used_up_ends_the_run(prompts, tmp_path):
    with FaultyServer(always=status(429, "You exceeded your current quota")) as server:
        with pytest.raises(FirstTokenError, match="failed 3 times in a row: status 429: You exceeded your current quota"):
            ask(server.url, prompts([{"prompt": "a"}]), tmp_path / "a.jsonl", Asking(retries=2), concurrency=1)
        assert len(server.bodies) == 3


def test_a_server_that_is_down_at_the_start_leaves_its_prompts_to_the_others(prompts, tmp_path):
    said = []
    with FaultyServer() as server:
        path = tmp_path / "servers.toml"
        path.write_text(f'[[server]]\nurl = "http://127.0.0.1:9/v1"\n[[server]]\nurl = "{server.url}"\n')
        facts = ask(path, prompts(), tmp_path / "a.jsonl", said=said)
    assert facts["answers"] == 5 and "cannot be reached" in said[0] and "name its model to have it asked again" in said[0]


def test_a_prompt_that_is_refused_stops_no_other(prompts, tmp_path):
    def picky(handler, body):
        if "3" in body["messages"][0]["content"]:
            return status(400, "too long")(handler, body)
        return reply()(handler, body)

    said = []
    with FaultyServer(always=picky) as server:
        facts = ask(server.url, prompts(), tmp_path / "a.jsonl", said=said)
        assert facts["unanswered"] == [{"line": 4, "why": "status 400: too long"}] and facts["answers"] == 4
        assert said == ["1 of 5 prompts have no answer, the first in line 4: status 400: too long; the same command asks for them again"]
        server.always = status(400, "no such field")
        with pytest.raises(FirstTokenError, match="refuses every request: status 400: no such field"):
            ask(server.url, prompts(), tmp_path / "b.jsonl")


def test_the_cost_is_never_above_the_limit(prompts, tmp_path):
    """10 tokens in and 5 out a request: 0.02 at these prices; a request may cost 0.1 + what its words may be."""
    prices, asking, said = {"price_in": 1000.0, "price_out": 2000.0}, Asking(max_tokens=20, max_cost=0.35), []
    with FaultyServer() as server:
        many = prompts([{"prompt": f"q{n}"} for n in range(40)])
        facts = ask(server.url, many, tmp_path / "a.jsonl", asking, said, **prices)
        assert 0.1 < facts["cost"] <= 0.35 and facts["cost"] == pytest.approx(0.02 * facts["answers"])
        assert len(said) == 1 and "--max-cost 0.35" in said[0]
        again = ask(server.url, many, tmp_path / "a.jsonl", asking, said, **prices)
        assert again["answers"] == facts["answers"]  # what was spent before counts
        whole = ask(server.url, many, tmp_path / "a.jsonl", Asking(max_tokens=20, max_cost=5), **prices)
        assert whole["answers"] == 40 and whole["cost"] == pytest.approx(0.8)
        server.faults.extend([cut, status(500)])
        lost = ask(server.url, prompts([{"prompt": "q"}]), tmp_path / "lost.jsonl", Asking(max_tokens=20), **prices)
        assert (
            0.02 + 0.04 + 0.05 < lost["cost"] < 0.25 and lost["servers"][server.url]["uncounted"] == 1
        )  # the cut answer may have to be paid
        with pytest.raises(FirstTokenError, match="--max-cost needs the prices"):
            ask(server.url, many, tmp_path / "b.jsonl", asking)


def test_concurrency_and_requests_a_minute_are_kept(prompts, tmp_path):
    with FaultyServer(delay=0.05) as server:
        many = prompts([{"prompt": f"q{n}"} for n in range(12)])
        ask(server.url, many, tmp_path / "a.jsonl", concurrency=3)
        assert server.most == 3
    with FaultyServer() as server:
        ask(server.url, many, tmp_path / "b.jsonl", requests_per_minute=1200.0)
        assert server.times[-1] - server.times[0] >= 11 * 0.05 - 0.02
    with FaultyServer() as server:
        ask(server.url, prompts(), tmp_path / "c.jsonl", tokens_per_minute=9000.0, concurrency=1)
        assert server.times[-1] - server.times[0] >= 4 * 0.1 - 0.02  # 15 tokens a request


def test_wrong_answers_are_rejected_with_the_reason(prompts, tmp_path):
    says = {"2+2?": r"\boxed{4}", "1/2?": "It is 0.5.", "3?": "The answer is 5.", "4?": ""}

    def answer(handler, body):
        text = says[body["messages"][-1]["content"]]
        ended = "length" if text.startswith("It") else "stop"
        handler.send(200, json.dumps(right(body, choices=[{"index": 0, "message": {"content": text}, "finish_reason": ended}])).encode())

    lines = [{"prompt": asked, "reference": right} for asked, right in (("2+2?", "4"), ("1/2?", r"\frac12"), ("3?", "3"), ("4?", "4"))]
    with FaultyServer(always=answer) as server:
        facts = ask(server.url, prompts(lines), tmp_path / "a.jsonl", Asking(checks=("maths",)))
        assert [line["line"] for line in sorted(lines_of(tmp_path / "a.jsonl"), key=lambda one: one["line"])] == [1, 2]
        why = {line["line"]: line["rejected"] for line in lines_of(tmp_path / "a.rejected.jsonl")}
        assert why == {3: "another answer than the reference", 4: "empty"} and facts["rejected"] == {why[3]: 1, why[4]: 1}
        ask(server.url, prompts(lines), tmp_path / "a.jsonl", Asking(checks=("maths",)))  # what was rejected is not asked for again
        assert len(server.bodies) == 4
        both = ask(server.url, prompts(lines), tmp_path / "b.jsonl", Asking(checks=("length", "maths"), least_tokens=6))
        assert both["rejected"] == {"not finished, stopped by length": 1, "too short": 2, "empty": 1}


def test_streams_are_joined_and_cut_ones_asked_for_again(prompts, tmp_path):
    def piece(index, delta, ended=None):
        return {"model": "m7", "choices": [{"index": index, "delta": delta, "finish_reason": ended}]}

    whole = [piece(0, {"reasoning_content": "hm"}), piece(0, {"content": "a"}), piece(0, {"content": "b"}), piece(0, {}, "stop")]
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    faults = [
        streamed(whole, done=False),
        streamed(whole[:-1]),
        reply(),
        streamed([{"error": {"message": "lost"}}]),
        streamed([*whole, usage]),
    ]
    with FaultyServer(*faults) as server:
        facts = ask(server.url, prompts([{"prompt": "q"}]), tmp_path / "a.jsonl", stream=True)
    [line] = lines_of(tmp_path / "a.jsonl")
    assert (line["answer"], line["reasoning_content"], line["tokens"], line["teacher"]) == ("ab", "hm", 4, "m7")
    assert len(server.bodies) == 5 and server.bodies[0]["stream"] and facts["servers"][server.url]["tokens_in"] == 3


def test_the_key_is_sent_and_written_nowhere(prompts, tmp_path, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", KEY)
    said = []

    def echo(handler, body):
        handler.send(
            200,
            json.dumps(right(body, choices=[{"index": 0, "message": {"content": f"your key is {KEY}"}, "finish_reason": "stop"}])).encode(),
        )

    with FaultyServer(status(500, f"bad {KEY}"), status(400, f"bad {KEY}"), echo) as server:
        ask(server.url, prompts(), tmp_path / "a.jsonl", said=said, key_variable="TEACHER_KEY", concurrency=1)
        assert set(server.keys) == {f"Bearer {KEY}"}
        server.always = status(401, f"Incorrect API key provided: {KEY[:9]}***{KEY[-4:]}")
        with pytest.raises(FirstTokenError) as error:
            ask(server.url, prompts(), tmp_path / "b.jsonl", key_variable="TEACHER_KEY")
    assert "refuses access (status 401) with the key in TEACHER_KEY" in str(error.value)
    everything = str(error.value) + "".join(said) + "".join(p.read_text() for p in tmp_path.iterdir())
    assert KEY not in everything and KEY[:9] not in everything and KEY[-4:] not in everything and "[key]" in everything
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(FirstTokenError, match="variable TEACHER_KEY is not set"):
        ask(server.url, prompts(), tmp_path / "c.jsonl", key_variable="TEACHER_KEY")


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_no_redirect_carries_the_key_to_another_host(code, prompts, tmp_path, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with FaultyServer() as thief, FaultyServer(always=status(code, Location="")) as server:
        server.always = status(code, Location=f"{thief.url}/chat/completions?{KEY}")
        with pytest.raises(FirstTokenError, match=f"redirects to {thief.url.removesuffix('/v1')}; nothing is sent there") as error:
            ask(server.url, prompts(), tmp_path / "a.jsonl", key_variable="TEACHER_KEY")
        assert not thief.keys and not thief.bodies and KEY not in str(error.value)


def test_a_killed_run_goes_on_with_what_is_missing(prompts, tmp_path):
    """SIGKILL while requests are on their way; then half a line, as a crash leaves it."""
    many, output = prompts([{"prompt": f"q{n}"} for n in range(60)]), tmp_path / "a.jsonl"
    code = (
        "import sys; from firsttoken.distill.servers.settings import *; from firsttoken.distill.servers.generate import *\n"
        "generate_from_servers(load_servers(sys.argv[1], concurrency=4), sys.argv[2], sys.argv[3], Asking(samples=2, temperature=1.0))"
    )
    with FaultyServer(delay=0.02) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", code, server.url, str(many), str(output)], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        )
        deadline = time.monotonic() + 60
        while len(server.bodies) < 24 and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(FirstTokenError, match="another run is at work on it"):
            ask(server.url, many, output, Asking(samples=2, temperature=1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = lines_of(tmp_path / "a.requests.jsonl")
        assert 5 < len(kept) < 60
        with open(output, "a", encoding="utf-8") as stream:
            stream.write('{"prompt": "half')
        with open(tmp_path / "a.requests.jsonl", "a", encoding="utf-8") as stream:
            stream.write('{"line": 3, "samp')
        before = len(server.bodies)
        facts = ask(server.url, many, output, Asking(samples=2, temperature=1.0))
        assert len(server.bodies) - before == 60 - len(kept)
    assert pairs(output) == [(n, s) for n in range(1, 61) for s in (0, 1)]
    assert facts["answers"] == 120 and facts["servers"][server.url]["requests"] == 60


def test_what_changed_is_refused_and_nothing_of_others_is_touched(prompts, tmp_path):
    output = tmp_path / "a.jsonl"
    with FaultyServer() as server:
        ask(server.url, prompts(), output)
        with pytest.raises(FirstTokenError, match="was begun with settings.max_tokens = 512, now it is 7"):
            ask(server.url, prompts(), output, Asking(max_tokens=7))
        with pytest.raises(FirstTokenError, match="was begun with prompts"):
            ask(server.url, prompts([{"prompt": "else"}]), output)
        with pytest.raises(FirstTokenError, match=r"was begun with models\[0\] = \"m\", now it is \"n\""):
            ask(server.url, prompts(), output, model="n")
        output.write_text("".join(output.read_text().splitlines(keepends=True)[1:]))
        with pytest.raises(FirstTokenError, match="it was changed"):
            ask(server.url, prompts(), output)
        (tmp_path / "mine.rejected.jsonl").write_text("precious")
        with pytest.raises(FirstTokenError, match=r"mine.rejected.jsonl: exists, and not from this command"):
            ask(server.url, prompts(), tmp_path / "mine.jsonl")
        assert (tmp_path / "mine.rejected.jsonl").read_text() == "precious" and not (tmp_path / "mine.jsonl.json").exists()


def test_the_command_line(prompts, tmp_path, capfd):
    many, output = str(prompts()), tmp_path / "a.jsonl"
    with FaultyServer() as server:
        assert (
            run(["distill", "generate", server.url, many, "-o", str(output), "--samples", "2", "--temperature", "1", "--least-tokens", "3"])
            == 0
        )
        assert f"{output}: 10 answers, 0 rejected" in capfd.readouterr().out
        short = [
            "distill",
            "generate",
            server.url,
            many,
            "-o",
            str(tmp_path / "s.jsonl"),
            "--samples",
            "2",
            "--temperature",
            "1",
            "--least-tokens",
            "6",
        ]
        assert run(short) == 0
        assert "0 answers, 10 rejected" in capfd.readouterr().out, "each of several samples is counted"
        assert run(["distill", "generate", server.url, many, "-o", str(tmp_path / "b.jsonl"), "--check", "lenght"]) == 2
        assert "did you mean 'length'" in capfd.readouterr().err
        assert run(["distill", "generate", server.url, many, "-o", str(tmp_path / "b.jsonl"), "--raw"]) == 2
        assert "--raw, budgets of thinking, --batch, --dtype, --device and --however-long are for a checkpoint" in capfd.readouterr().err
        assert run(["distill", "generate", "demo", many, "-o", str(tmp_path / "b.jsonl"), "--samples", "2"]) == 2
        assert "--samples is for a server, and the teacher demo is a checkpoint" in capfd.readouterr().err


def test_models_are_named_where_it_cannot_be_told_which(prompts, tmp_path):
    with FaultyServer(models=("big", "small")) as server:
        with pytest.raises(FirstTokenError, match="lists 2 models; say which with --model .*: one of big, small"):
            ask(server.url, prompts(), tmp_path / "a.jsonl")
        ask(server.url, prompts(), tmp_path / "a.jsonl", model="small")
        assert {body["model"] for body in server.bodies} == {"small"}
    with pytest.raises(FirstTokenError, match="cannot be reached"):
        ask(server.url, prompts(), tmp_path / "b.jsonl")
