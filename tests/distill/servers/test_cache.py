"""A cache from a server holds what the checkpoint's own cache does; what would make it silently wrong is refused."""

import json

import numpy as np
import pytest
import torch
from vllm_form import VllmForm

from firsttoken.cli import run
from firsttoken.demo import checkpoint_path, held_out_text
from firsttoken.distill.ask_teacher import cache as local_cache
from firsttoken.distill.cache import open_cache
from firsttoken.distill.distill import distill
from firsttoken.distill.documents import training_windows
from firsttoken.distill.losses.divergence import IGNORED
from firsttoken.distill.models import load_decoder
from firsttoken.distill.recipe import check_recipe
from firsttoken.distill.servers.cache import cache_from_servers
from firsttoken.distill.servers.settings import load_servers
from firsttoken.errors import FirstTokenError
from firsttoken.tokenizer import Tokenizer

K = 20


@pytest.fixture(scope="module")
def model():
    return load_decoder(checkpoint_path()).requires_grad_(False)


@pytest.fixture
def values(tmp_path):
    """A recipe on a little text and one chat, of which only the answer is learned."""
    text = held_out_text()
    (tmp_path / "text.txt").write_text(text[:900], encoding="utf-8")
    (tmp_path / "held_out.txt").write_text(text[5000:6500], encoding="utf-8")
    chat = {"messages": [{"role": "user", "content": "What does read do?"}, {"role": "assistant", "content": "It reads the file."}]}
    (tmp_path / "chat.jsonl").write_text(json.dumps(chat) + "\n", encoding="utf-8")
    return {
        "name": "from-a-server", "summary": "test", "folder": str(tmp_path), "tokenizer": "demo",
        "teacher": [{"checkpoint": "demo"}], "student": {"checkpoint": "demo"},
        "data": {"train": [{"files": ["text.txt"]}, {"files": ["chat.jsonl"], "domain": "chat"}], "held_out": ["held_out.txt"], "length": 32},
        "loss": [{"kind": "forward_kl"}], "training": {"steps": 3, "batch": 4, "learning_rate": 1e-3, "evaluate_every": 3},
    }  # fmt: skip


def from_server(values, folder, url, top=K, **changes):
    return cache_from_servers(check_recipe(values), folder, load_servers(url, **{"concurrency": 2, **changes}), top, retries=1)


def compare(values, folder, local, tolerance):
    """Compares both caches at every position that is learned; returns how many there are."""
    recipe = check_recipe(values)
    windows = training_windows(recipe, Tokenizer(checkpoint_path()))
    ours, theirs = (open_cache(place, windows) for place in (folder, local))
    counted = windows.labels[:, 1:] != IGNORED
    a, b = (cache.read(np.arange(len(windows))) for cache in (ours, theirs))
    kept = [[one[:, :-1][counted] for one in each] for each in (a, b)]
    probabilities = []
    for tokens, logits, rest in kept:
        table = np.full((len(tokens), 4097), -np.inf)
        np.put_along_axis(table, tokens, logits.astype(float), 1)
        table[:, -1] = rest[:, 4]  # the node of temperature 1
        table -= np.logaddexp.reduce(table, axis=1, keepdims=True)
        probabilities.append(np.exp(table))
    # of two tokens that are equally likely to the last digit, one may be named here and the other there
    named = [each[:, :-1] > 0 for each in probabilities]
    assert (named[0] & named[1]).sum(1).min() >= K - 1
    for each, own in zip(probabilities, named, strict=True):
        each[:, -1] += np.where(own & ~(named[0] & named[1]), each[:, :-1], 0).sum(1)
        each[:, :-1][~(named[0] & named[1])] = 0
    assert np.abs(probabilities[0] - probabilities[1]).max() < tolerance
    assert np.ptp(probabilities[1][:, -1]) > 0.1  # the rest is no constant
    return int(counted.sum())


def test_vllms_form_gives_the_checkpoints_own_cache_and_the_same_training(model, values, tiny_model, tmp_path):
    local_cache(check_recipe(values), tmp_path / "local", top=K)
    with VllmForm(model, Tokenizer(checkpoint_path())) as server:
        facts = from_server(values, tmp_path / "served", server.url)
    windows = training_windows(check_recipe(values), Tokenizer(checkpoint_path()))
    assert server.asked == len(windows) and facts["tokens_proven"] > 3900
    assert compare(values, tmp_path / "served", tmp_path / "local", 1e-3) == windows.predicted < windows.labels.size

    def weights(folder):
        return torch.cat([tensor.flatten() for tensor in load_decoder(folder).state_dict().values()])

    changes = {"student": {"checkpoint": str(tiny_model)}}
    served, local = (
        weights(distill(check_recipe(values | changes | {"teacher": [{"cache": name}]}), tmp_path / f"student-{name}"))
        for name in ("served", "local")
    )
    moved = (local - weights(tiny_model)).norm()
    assert moved > 1 and (served - local).norm() < 0.05 * moved


def shift(value):
    """What llama-cpp-python does with echo: each token has what belongs to the next."""
    entries = value["choices"][0]["prompt_logprobs"]
    value["choices"][0]["prompt_logprobs"] = [None, *entries[2:], entries[1]]


def raw_logits(value):
    for entry in value["choices"][0]["prompt_logprobs"][1:]:
        for facts in entry.values():
            facts["logprob"] += 12.0


def cut_off(value):
    for entry in value["choices"][0]["prompt_logprobs"][1:]:
        best = [facts for facts in entry.values() if facts["rank"] <= K]
        total = np.logaddexp.reduce([facts["logprob"] for facts in best])
        for facts in entry.values():
            facts["logprob"] = facts["logprob"] - total if facts in best else -9999.0


def stranger(value):
    value["choices"][0]["prompt_logprobs"][3]["5000"] = {"logprob": -9.0}


def few(value):
    choice = value["choices"][0]
    entry, following = choice["prompt_logprobs"][5], str(choice["prompt_token_ids"][5])
    choice["prompt_logprobs"][5] = {**dict(list(entry.items())[:1]), following: entry[following]}


def shorter(value):
    value["choices"][0]["prompt_logprobs"].pop()


def other_tokens(value):
    value["choices"][0]["prompt_token_ids"] = [0, *value["choices"][0]["prompt_token_ids"]]


SPOILT = {
    "another place": shift, "no log probabilities": raw_logits, "leaves no probability": cut_off, "gives token 5000": stranger,
    r"gives \d tokens in the place of 20": few, "gives log probabilities of 31 tokens, and 32": shorter, "changed the tokens of the prompt": other_tokens,
    "without prompt_logprobs": lambda value: value["choices"][0].update(prompt_logprobs=None),
    "not in vLLM's form": lambda value: value["choices"][0]["prompt_logprobs"].__setitem__(2, [1]),
}  # fmt: skip


@pytest.mark.parametrize("said", SPOILT)
def test_what_would_be_silently_wrong_is_refused(said, model, values, tmp_path):
    with (
        VllmForm(model, Tokenizer(checkpoint_path()), SPOILT[said]) as server,
        pytest.raises(FirstTokenError, match=said),
    ):
        from_server(values, tmp_path / "c", server.url)
    facts = tmp_path / "c" / "cache.json"
    assert json.loads(facts.read_text())["done"] == 0  # unfinished, so that no training takes it


def test_another_tokenizer_is_refused_by_its_first_token(model, values, tmp_path):
    class Other(Tokenizer):
        def decode(self, tokens, special=False):
            return super().decode([4 if token == 777 else token for token in tokens], special)

    class OtherSpecial(Tokenizer):
        def encode(self, text, begin=True):
            return [17] if text == "<|im_end|>" else super().encode(text, begin)

    with (
        VllmForm(model, Other(checkpoint_path())) as server,
        pytest.raises(FirstTokenError, match="has another tokenizer than the student: token 777"),
    ):
        from_server(values, tmp_path / "c", server.url)
    with (
        VllmForm(model, OtherSpecial(checkpoint_path())) as server,
        pytest.raises(FirstTokenError, match=r"'<\|im_end\|>' is token \d+ .* \[17\]"),
    ):
        from_server(values, tmp_path / "c", server.url)
    with VllmForm(model, Tokenizer(checkpoint_path()), owner="me") as server, pytest.raises(FirstTokenError, match="owned by 'me'"):
        from_server(values, tmp_path / "c", server.url)
    assert not (tmp_path / "c").exists()


def test_more_tokens_than_the_server_gives_and_another_temperature(model, values, tmp_path):
    with VllmForm(model, Tokenizer(checkpoint_path())) as server:
        with pytest.raises(FirstTokenError, match="greater than max allowed: 20"):
            from_server(values, tmp_path / "c", server.url, top=64)
        with pytest.raises(FirstTokenError, match="temperature is 1 to 5, and a server says its probabilities at 1 alone"):
            from_server(values | {"temperature": {"start": 5, "end": 1}}, tmp_path / "d", server.url)
        with pytest.raises(FirstTokenError, match="attend_across_documents = false: a server reads a window as one text"):
            apart = values | {"data": values["data"] | {"attend_across_documents": False}}
            from_server(apart, tmp_path / "f", server.url)
        with pytest.raises(FirstTokenError, match="made for temperatures 0.999"):
            from_server(values, tmp_path / "e", server.url)
            distill(check_recipe(values | {"teacher": [{"cache": "e"}], "temperature": 2}), tmp_path / "student")


def test_a_server_that_dies_leaves_what_the_next_run_goes_on_from(model, values, tmp_path, capfd):
    tokenizer = Tokenizer(checkpoint_path())
    with VllmForm(model, tokenizer, fail_after=4) as dying, pytest.raises(FirstTokenError, match="engine died; what was answered is kept"):
        from_server(values, tmp_path / "c", dying.url, concurrency=1)
    assert json.loads((tmp_path / "c" / "cache.json").read_text())["done"] == 4
    with VllmForm(model, tokenizer, fail_after=1) as dying, VllmForm(model, tokenizer) as other:
        file = tmp_path / "servers.toml"
        file.write_text(f'[[server]]\nurl = "{dying.url}"\n[[server]]\nurl = "{other.url}"\n')
        from_server(values, tmp_path / "c", file)
        whole = training_windows(check_recipe(values), tokenizer)
        assert min(1, dying.asked) + other.asked == len(whole) - 4
        from_server(values, tmp_path / "again", other.url)
    for name in ("tokens.npy", "logits.npy", "rest.npy"):
        np.testing.assert_array_equal(np.load(tmp_path / "c" / name), np.load(tmp_path / "again" / name))
    assert run(["distill", "cache", "demo-cut", "-o", str(tmp_path / "x"), "--model", "m"]) == 2
    assert "--model is for a server" in capfd.readouterr().err
