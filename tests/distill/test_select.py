"""Selection: copies and evaluation text are out, domains are equally likely, longer is likelier, every line has its reason."""

import json
from collections import Counter

import pytest

from firsttoken.distill.select import Sample, select, select_file
from firsttoken.errors import FirstTokenError
from firsttoken.text_overlap import contaminated, grams


def pool(sizes: dict[str, int]):
    made = []
    for domain, size in sizes.items():
        for n in range(size):
            text = " ".join(f"{domain}{n}w{i}" for i in range(n + 3))
            made.append(Sample({"text": text, "domain": domain}, len(made) + 1, domain, text, n + 3, float(n)))
    return made


def test_thirteen_words_in_a_row_are_contamination_and_twelve_are_not():
    test = " ".join(f"w{i}" for i in range(40))
    banned = grams(test)
    assert contaminated("Before: W5, w6 w7-w8 w9 w10 w11 w12 w13 w14 w15 w16 (w17)! After", banned)  # 13, whatever the punctuation
    assert not contaminated("before " + " ".join(f"w{i}" for i in range(5, 17)) + " after", banned)  # 12


def test_a_short_test_question_is_found_whole():
    banned = grams("What is 2 + 2?")
    assert contaminated("Tell me: what is 2+2? Thanks", banned) and not contaminated("What is 2 times 2", banned)


def test_domains_are_equally_likely_and_longer_samples_likelier():
    counts, ranks = Counter(), []
    for seed in range(300):
        [line] = select(pool({"big": 90, "small": 10}), 1, seed=seed).kept
        counts[line["domain"]] += 1
        ranks.append(int(line["reason"].split("rank ")[1].split(" ")[0]))
    assert 110 < counts["small"] < 190  # 150 expected, although it is a tenth of the pool
    assert 110 < ranks.count(1) < 190 and 45 < ranks.count(2) < 110  # a half, a quarter


def test_copies_evaluation_and_the_easiest_are_left_out():
    samples = pool({"a": 20})
    samples.append(Sample(dict(samples[4].line), 21, "a", samples[4].text.upper(), 9, 4.0))
    chosen = select(samples, 100, forbidden=[samples[19].text], easiest=0.5)
    assert chosen.left_out["copy of an earlier sample"] == 1
    assert chosen.left_out["shares 13 words in a row with the evaluation"] == 1
    texts = [line["text"] for line in chosen.kept]
    assert samples[19].text not in texts and samples[0].text not in texts and samples[18].text in texts
    assert len(texts) == len(set(texts)) == 10 and all("difficulty" in line["reason"] for line in chosen.kept)


def test_the_seed_decides():
    first, again, other = (select(pool({"a": 50, "b": 50}), 10, seed=seed).kept for seed in (1, 1, 2))
    assert first == again != other


def test_files(tmp_path):
    lines = [{"prompt": f"question {n}", "answer": "because " * (n + 1), "domain": "d"} for n in range(5)]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "test.jsonl").write_text(json.dumps({"problem": "question 3"}) + "\n")
    chosen = select_file(tmp_path / "pool.jsonl", tmp_path / "out.jsonl", 10, (tmp_path / "test.jsonl",))
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written == chosen.kept and len(written) == 4 and all(line["reason"] and line["prompt"] != "question 3" for line in written)
    with pytest.raises(FirstTokenError, match='line 1 has no "difficulty"'):
        select_file(tmp_path / "pool.jsonl", tmp_path / "out.jsonl", 10, easiest=0.2)
    (tmp_path / "bad.jsonl").write_text('{"x": 1}\n')
    with pytest.raises(FirstTokenError, match="bad.jsonl, line 1: expected"):
        select_file(tmp_path / "bad.jsonl", tmp_path / "out.jsonl", 1)
    with pytest.raises(FirstTokenError, match="does not exist"):
        select_file(tmp_path / "pool.jsonl", tmp_path / "no/out.jsonl", 1)
