"""The page in a real browser, light and dark, wide and narrow: quiet, offline, readable, nothing cut off."""

import os
import shutil
import socket

import pytest
from generated_measurements import MILLISECOND, host_measurement, make_bundle, make_measurement, make_result, make_run, phone_measurement

from firsttoken.report.page.build import build_page
from firsttoken.report.page.sources import Source

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VIEWS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 390)]
INSTALL = (
    "no browser: install Chromium (Debian, Ubuntu: apt-get install chromium) and Playwright (scripts/setup test) to see the report in one"
)

# Contrast as the Web Content Accessibility Guidelines 2.2 define it (1.4.3), of every text against what is painted behind it.
FAINT_TEXTS = """
() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = channels(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("title") || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const one = luminance(channels(element instanceof SVGElement ? style.fill : style.color)), other = luminance(behind(element));
    seen++;
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) faint.push([element.className.baseVal ?? element.className, walker.currentNode.data.trim().slice(0, 40), contrast.toFixed(2)]);
  }
  return {seen, faint: faint.slice(0, 10), paper: luminance(behind(document.body))};
}
"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found = None
    if found is None:
        pytest.skip(INSTALL)
    with sync_playwright() as playwright:
        # no sandbox: it cannot be set up by root, and the page is our own
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield running
        running.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Returns a function that opens a page and gives it back with what it said and asked for."""
    contexts = []

    def open_page(html: str, scheme="light", width=1280):
        file = tmp_path / "report.html"
        file.write_text(html, encoding="utf-8")
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        contexts.append(context)
        page, said, asked = context.new_page(), [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        return page, said, [url for url in asked if url != file.as_uri()]

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def html() -> str:
    sources = [
        Source(name, None, measurement, name) for name, measurement in (("host", host_measurement()), ("phone", phone_measurement()))
    ]
    return build_page(sources, Source("baseline", None, host_measurement(seed=9, faster=0.9), "b"))


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_quiet_offline_readable_and_not_cut_off(visit, html, scheme, width):
    page, said, asked = visit(html, scheme, width)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert said == [] and asked == []
    looked = page.evaluate(FAINT_TEXTS)
    assert looked["seen"] > 1000 and looked["faint"] == []
    assert looked["paper"] > 0.9 if scheme == "light" else looked["paper"] < 0.05
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # no text of a plot lies outside the screen
    assert page.evaluate(
        "[...document.querySelectorAll('svg text')].every(t => { const r = t.getBoundingClientRect(); return !r.width || (r.left >= 0 && r.right <= innerWidth); })"
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_bars_and_dots_are_drawn_to_scale(visit, width):
    runs = [make_run(32, "warm", prefill=milliseconds * MILLISECOND, tokenize=0, sample=0, detokenize=0) for milliseconds in (20, 30, 40)]
    html = build_page([Source("m", None, make_measurement([make_result(make_bundle(), runs)]), "m")])
    page, _, _ = visit(html, width=width)
    plot, bar = (page.locator(f".panel >> nth=0 >> {what} >> nth=0").bounding_box() for what in ("svg.plot", "rect.prefill"))
    assert bar["x"] == pytest.approx(plot["x"], abs=1) and bar["width"] == pytest.approx(plot["width"] * 30 / 40, rel=0.02)
    # a dot is round, however wide the plot is stretched: look at the ink right and below of where the third run is
    shot = page.screenshot(full_page=True, clip={"x": plot["x"] + plot["width"] / 2 - 12, "y": plot["y"] + 14, "width": 24, "height": 10})
    assert dark_extent(page, shot) == pytest.approx((4.5, 4.5), abs=2)


def dark_extent(page, png: bytes) -> tuple[float, float]:
    """Width and height in pixels of the ink on a light picture."""
    import io

    import numpy
    from PIL import Image

    ink = numpy.asarray(Image.open(io.BytesIO(png)).convert("L")) < 170
    return float(ink.any(0).sum()), float(ink.any(1).sum())


def test_hostile_names_do_nothing(visit):
    hostile = make_bundle(
        "<script>alert(1)</script>",
        target="</style><style>*{display:none}</style>",
        name='"><img src=http://127.0.0.1:9/x onerror=alert(2)>',
        checkpoint="<svg onload=alert(3)>",
    )
    measurement = make_measurement(
        [make_result(hostile, [make_run()] * 5)],
        model="<iframe src=http://127.0.0.1:9/>",
        soc="<link rel=stylesheet href=http://127.0.0.1:9/a.css>",
    )
    page, said, asked = visit(build_page([Source("<b>m</b>", None, measurement, "m")]))
    assert said == [] and asked == []
    assert page.locator("h1").is_visible() and page.locator("script, img, iframe, link, b:text-is('m')").count() == 0
    assert "<script>alert(1)</script>" in page.locator("main").inner_text()


def test_the_policy_stops_what_escaping_would_let_through(visit):
    """If a template ever forgot to escape, the page's own policy would still run and load nothing."""
    html = build_page([Source("m", None, make_measurement(), "m")])
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        _, said, _ = visit(
            html.replace(
                "<main>", f"<main><script>alert(1)</script><script src={address}/x></script><img src={address}/x onerror=alert(2)>"
            )
        )
        server.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody connected
            server.accept()
    assert any("Content Security Policy" in text for text in said) and not any(text.startswith("dialog") for text in said)


def test_print_shows_what_is_folded(visit, html):
    page, _, _ = visit(html)
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(FAINT_TEXTS)["paper"] > 0.9  # ink is for paper
    assert len(page.pdf()) > 50_000
