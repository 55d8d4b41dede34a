"""A walk through the dashboard in a real Chromium: `make test-browser`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="needs playwright, of the extra 'dev'")
pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")
pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from playwright.sync_api import Page, expect, sync_playwright

from analyses import AnalysisResult

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LAPTOP, PHONE = {"width": 1366, "height": 900}, {"width": 390, "height": 844}
PROMPT = "the cat sat on the mat the cat"
# Every figure has its drawing, nothing is of an earlier run, and the browser has painted twice.
DRAWN = """() => {
    const figures = [...document.querySelectorAll('[data-testid=stPlotlyChart]')];
    return figures.every((figure) => figure.querySelector('.js-plotly-plot .main-svg'))
        && !document.querySelector('[data-stale=true]')
        && new Promise((painted) => requestAnimationFrame(
            () => requestAnimationFrame(() => painted(true))));
}"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("dashboard") / "runs"


@pytest.fixture(scope="module")
def address(words_model, runs):
    """A dashboard of its own, on a free port."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dashboards.cli", "dashboard", "--no-open"]
    command += ["--port", str(port), "--model", str(words_model), "--runs", str(runs)]
    log = runs.parent / "log.txt"
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as server:
        try:
            _wait_for(f"http://localhost:{port}/_stcore/health", server, log)
            yield f"http://localhost:{port}"
        finally:
            server.terminate()
    told = log.read_text()
    assert "Traceback" not in told and "deprecated" not in told.lower(), told


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        if server.poll() is not None:
            pytest.fail(f"the dashboard ended:\n{log.read_text()}")
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            time.sleep(0.25)
    pytest.fail(f"the dashboard does not answer:\n{log.read_text()}")


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        context = browser.new_context(reduced_motion="reduce")
        context.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        yield context  # one for all: scripts are fetched and compiled once, sessions are per page
        browser.close()


@pytest.fixture
def browse(chromium, address):
    """Open a page; at the end nothing may have gone wrong in it."""
    faults: list[str] = []
    pages: list[Page] = []

    def told(message):
        # Under a page's own path Streamlit first looks for its server in the wrong place.
        if message.type == "error" and "/_stcore/" not in message.location["url"]:
            faults.append(message.text)

    def browse(path="/", size=LAPTOP) -> Page:
        page = chromium.new_page()
        pages.append(page)
        page.set_viewport_size(size)
        page.on("console", told)
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.goto(address + path)
        settled(page)
        return page

    yield browse
    for page in pages:
        page.close()
    assert faults == []


def settled(page: Page) -> None:
    """Wait until the page is drawn."""
    state = page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')
    expect(page.locator("h1")).to_be_visible()
    expect(state).to_be_attached()
    expect(page.locator('[data-testid="stException"]')).to_have_count(0)
    page.wait_for_function(DRAWN)


def go_to(page: Page, title: str) -> None:
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title).click()
    expect(page.locator("h1")).to_have_text(title)
    settled(page)


def type_prompt(page: Page, prompt: str) -> None:
    box = page.get_by_role("textbox", name="Prompt")
    box.fill(prompt)
    box.press("Control+Enter")
    page.wait_for_url(re.compile(r"prompt=the\+cat"))
    settled(page)


def test_a_walk_over_all_pages(browse, runs, tmp_path):
    page = browse()
    expect(page.locator("h1")).to_have_text("Prompt")
    expect(page.get_by_text("Type a prompt at the side")).to_be_visible()
    type_prompt(page, PROMPT)
    expect(page.locator(".chips > span")).to_have_count(9)
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    page.screenshot(path=tmp_path / "prompt.png")

    go_to(page, "Attention")
    expect(page.locator("p.figure-alt")).to_have_count(2)
    for alternative in page.locator("p.figure-alt").all_inner_texts():
        expect(page.get_by_role("figure", name=alternative, exact=True)).to_be_visible()
    page.go_back()
    if "/attention" in page.url:  # its address was written twice: without choices, and with
        page.go_back()
    expect(page.locator("h1")).to_have_text("Prompt")
    expect(page.locator(".chips > span")).to_have_count(9)

    go_to(page, "Attention")
    page.locator(".js-plotly-plot").first.get_by_text("L0H2", exact=True).click(force=True)
    expect(page.get_by_role("heading", name="Head L0H2")).to_be_visible()
    page.wait_for_url(re.compile("head=2"))
    settled(page)
    page.screenshot(path=tmp_path / "attention.png")

    go_to(page, "Head attribution")
    page.get_by_role("textbox", name="Target").fill("mat")
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url(re.compile("target=mat"))
    settled(page)
    expect(page.get_by_text(re.compile(r"All \d checks passed"))).to_be_visible()
    expect(page.get_by_text("Heads: logit of “mat”, at position 8")).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_have_count(5)
    page.screenshot(path=tmp_path / "head-attribution.png")

    page.get_by_role("button", name="Save this result").click()
    page.get_by_role("textbox", name="Name of the run").fill("walk")
    page.get_by_role("button", name="Save run").click()
    expect(page.locator("h1")).to_have_text("Saved runs")
    expect(page.get_by_role("heading", name="walk")).to_be_visible()
    settled(page)
    assert AnalysisResult.load(runs / "walk").provenance.parameters["target"] == "mat"
    page.screenshot(path=tmp_path / "runs.png")

    with page.expect_download() as download:
        page.get_by_role("button", name="Download report").click()
    assert download.value.suggested_filename == "walk.html"
    assert (runs / "walk" / "report.html").read_bytes() == download.value.path().read_bytes()


def test_an_address_shows_the_same_view_to_someone_else(browse):
    page = browse("/attention?prompt=the+cat+sat&bos=0&layer=1&head=3")
    expect(page.get_by_role("heading", name="Head L1H3")).to_be_visible()
    assert "bos=0" in page.url and "layer=1" in page.url
    other = browse(page.url.removeprefix(page.evaluate("location.origin")))
    for each in (page, other):
        labels = each.locator(".js-plotly-plot").last.locator(".ytick text")
        expect(labels).to_have_text(["the", "cat", "sat"])
    assert page.url == other.url


def test_a_bad_setting_is_told(browse):
    page = browse("/head-attribution?prompt=the+cat&target=two+words")
    expect(page.get_by_text("'two words' must be a single token.")).to_be_visible()


@pytest.mark.parametrize("path", ["/", "/attention", "/head-attribution", "/runs"])
def test_a_phone_shows_pages_without_scrolling_sideways(browse, path):
    page = browse(f"{path}?prompt=the+cat+sat+on+the+mat", PHONE)
    widest = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
    assert widest <= PHONE["width"]
