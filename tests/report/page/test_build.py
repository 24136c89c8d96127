"""The page as a document: everything is in it, nothing is loaded, and nothing from a file becomes markup."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from generated_measurements import (
    host_measurement,
    make_bundle,
    make_conditions,
    make_measurement,
    make_result,
    make_run,
    measured_runs,
    phone_measurement,
)

from firsttoken.measure.measurement import Cpu, Failure, Writer
from firsttoken.report.page import build
from firsttoken.report.page.build import build_page
from firsttoken.report.page.sources import Source

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style><svg/onload=alert(1)>",
    "'-alert(1)-'",
    "{{ 7*7 }}{% raw %}",
    "javascript:alert(1)",
    "\u202egnp.exe\x1b[31m\0\n",
    "\ud800",
    "x" * 5000,
]


class Document(HTMLParser):
    """Elements with their attributes, text, and whether every element that was opened is closed."""

    def __init__(self, html: str):
        super().__init__()
        self.elements, self.text, self.open, self.mistakes = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in ("td", "tr") and self.open and self.open[-1] == "td":
            self.open.pop()  # a cell's end may be left out
        if tag == "tr" and self.open and self.open[-1] == "tr":
            self.open.pop()
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        while self.open and self.open[-1] in ("td", "tr") and self.open[-1] != tag:
            self.open.pop()
        if not self.open or self.open.pop() != tag:
            self.mistakes.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def page(*measurements, baseline=None) -> str:
    sources = [Source(f"{number}.measurement.json", None, measurement, str(number)) for number, measurement in enumerate(measurements)]
    return build_page(sources, baseline and Source("baseline.json", None, baseline, "b"))


@pytest.fixture(scope="module")
def full() -> str:
    return page(host_measurement(), phone_measurement(), baseline=host_measurement(seed=9, faster=0.8))


def test_every_part_is_there(full):
    document = Document(full)
    headings = [line.strip() for line in document.text]
    for heading in (
        "At a glance", "Against the baseline", "Time to first token, by stage", "Decode speed", "Memory", "During the run", "Plan against plan", "Runtime against runtime",
        "Conditions before and after", "Failures", "Every run", "How to read this", "Read with care",
    ):  # fmt: skip
        assert heading in headings
    assert document.mistakes == [] and document.open == []


def test_nothing_is_loaded_and_no_script_can_run(full):
    document = Document(full)
    tags = {tag for tag, _ in document.elements}
    assert not tags & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "audio",
        "video",
        "image",
        "use",
        "foreignobject",
    }
    for tag, attributes in document.elements:
        assert not any(name.startswith("on") or name in ("src", "style", "srcset", "action") for name in attributes), (tag, attributes)
        assert attributes.get("href", "#").startswith("#")
    policy = next(
        attributes["content"] for tag, attributes in document.elements if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    style = re.search(r"<style>(.*?)</style>", full, re.DOTALL).group(1)
    assert policy.startswith("default-src 'none'") and base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy
    assert "url(" not in style and "@import" not in style


def test_a_page_of_an_ordinary_measurement_is_small(full):
    assert len(full.encode()) < 600_000


def test_no_speed_without_its_proof(full):
    """Every table or plot row that shows a speed shows the proof of its bundle."""
    names = [
        name for name in re.findall(r'<div class="who">(.*?)</div>', full, re.DOTALL) if name.strip() and "<strong>temperature" not in name
    ]
    # per bundle: three prompt lengths, decode, memory, timeline; per comparison one
    assert len(names) > 8 * 6 and all('class="proof' in name for name in names)
    assert all(name.count('class="proof') == name.count("<strong>") for name in names)  # in a comparison: both
    for table in re.findall(r"<table>(.*?)</table>", full, re.DOTALL):
        if "TTFT cold" in table or "mean ± sd" in table:
            for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", table, re.DOTALL):
                assert "same top" in row or "no proof" in row or 'class="proof' in row
    assert full.count("no proof") > 5 and full.count("proof failed, KLD 1.3e-01, same top 80.3%") > 5


def test_every_plot_has_a_text_for_those_who_cannot_see_it(full):
    document = Document(full)
    plots = [attributes for tag, attributes in document.elements if tag == "svg" and attributes.get("role") == "img"]
    assert len(plots) > 100 and all(len(plot["aria-label"]) > 10 for plot in plots)
    assert sum(tag == "summary" for tag, _ in document.elements) >= 10 and ("html", {"lang": "en"}) in document.elements


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_a_file_stays_text(text):
    def hostile(measurement):
        for result in measurement.results:
            bundle = result.bundle
            bundle.name = bundle.checkpoint = bundle.fingerprint = bundle.plan = bundle.target = bundle.delegate = (
                result.runtime_version
            ) = text
            result.before = make_conditions(time=text, temperatures={text: 1.0}, governors=[text])
            result.after = make_conditions(time=text, temperatures={text: 2.0}, governors=[text])
            result.failures = [Failure(stage=text, message=text)]
        device = measurement.device
        device.model = device.manufacturer = device.soc = device.hexagon = device.system = device.identity = text
        device.cpu = Cpu(model=text, cores=1, flags=[text], clusters={text: 1})
        measurement.writer = Writer(name=text, version=text)
        return measurement

    plain = host_measurement(repeat=2)
    ours = hostile(host_measurement(repeat=2))
    sources = [Source(text, None, ours, text)]
    made = build_page(sources, Source(text, None, hostile(phone_measurement()), text))
    document, allowed = Document(made), {tag for tag, _ in Document(page(plain, baseline=host_measurement(seed=1, repeat=2))).elements}
    assert {tag for tag, _ in document.elements} <= allowed | {"h3"} and document.mistakes == []
    for _, attributes in document.elements:
        assert not any(name.startswith("on") for name in attributes) and not set(attributes) & {"src", "style"}
    if text.startswith("{{"):
        assert "{{ 7*7 }}" in made
    assert not re.search("[\u202e\x1b\0\ud800]", made)
    made.encode("utf-8")
    if text.startswith("x"):
        assert "x" * 2001 not in made


def test_hundreds_of_runs_make_a_page_one_can_mail():
    results = [
        make_result(make_bundle(plan), measured_runs(repeat=120, seed=number)) for number, plan in enumerate(("fp16", "int8", "int4"))
    ]
    made = page(make_measurement(results))
    assert len(made.encode()) < 1_000_000
    assert f"{120 * 6 + 1} runs, the first {build.MOST_RUNS // 3} shown" in made


def test_zero_runs_and_failures_only():
    failed = make_result(make_bundle("int4"), failures=[Failure(prompt_tokens=32, state="warm", stage="load", message="out of memory")])
    made = page(make_measurement([make_result(), failed]))
    assert "No runs." in made and "out of memory" in made and "Read with care" in made and Document(made).mistakes == []


def test_one_run_and_warm_up_only():
    assert "1 run" in page(make_measurement())
    assert "No runs." in page(make_measurement([make_result(runs=[make_run(state="warm-up")])]))


def test_a_failed_render_names_no_value_that_is_missing():
    # every attribute that the template asks for exists: an undefined one raises
    for measurement in (make_measurement([make_result(after=None, runs=[make_run()])]), phone_measurement()):
        assert page(measurement).startswith("<!DOCTYPE html>")
