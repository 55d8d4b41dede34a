"""Walks through the dashboard in a real Chromium: `make test-browser`."""

from __future__ import annotations

import csv
import re
import shutil
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest

pytest.importorskip("playwright", reason="needs playwright, of the extra 'dev'")
pytest.importorskip("streamlit", reason="needs the extra 'dashboard'")
pytest.importorskip("seaborn", reason="needs the extra 'plots'")

from playwright.sync_api import Page, expect

from analyses import AnalysisResult, run_analysis
from benchmarks.browser import CHROMIUM, LAPTOP, PHONE, chromium, serving
from benchmarks.browser import settled as drawn
from benchmarks.dashboard import sessions
from interp import HookedTransformer, load_model
from tests.covering import EXHAUSTIVE

PROMPT = "the cat sat on the mat the cat"
HOSTILE = (
    "<script>alert(1)</script> ../../etc/passwd \u202ertl\u202c \U0001f469\u200d\U0001f467 "
    "<img src=x onerror=alert(2)>"
)

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
    log = runs.parent / "log.txt"
    with serving(["--model", str(words_model), "--runs", str(runs)], log) as address:
        yield address
    told = log.read_text()
    assert "Traceback" not in told and "deprecated" not in told.lower(), told
    assert "only this machine can reach it" in told


@pytest.fixture(scope="module")
def browser():
    expect.set_options(timeout=60_000)
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def light(browser):
    """One context for all: scripts are fetched and compiled once, sessions are per page."""
    context = browser.new_context(reduced_motion="reduce", color_scheme="light")
    context.set_default_timeout(60_000)
    return context


@pytest.fixture(scope="module")
def kept(light):
    """The page that every test opens first: a new one compiles all scripts anew, half its time."""
    return light.new_page()


@pytest.fixture
def browse(light, kept, browser, address):
    """Open a page; at the end nothing may have gone wrong in it."""
    faults: list[str] = []
    opened = []
    unused = [kept]

    def told(message):
        # Under a page's own path Streamlit first looks for its server in the wrong place.
        if message.type == "error" and "/_stcore/" not in message.location["url"]:
            faults.append(message.text)

    listeners = {
        "console": told,
        "pageerror": lambda fault: faults.append(str(fault)),
        "dialog": lambda dialog: faults.append(f"a script ran: {dialog.message}"),
    }

    def browse(path="/", size=LAPTOP, dark=False) -> Page:
        if dark:
            context = browser.new_context(reduced_motion="reduce", color_scheme="dark")
            opened.append(context)
            page = context.new_page()
        elif unused:
            page = unused.pop()
        else:
            page = light.new_page()
            opened.append(page)
        page.set_viewport_size(size)
        for event, listener in listeners.items():
            page.on(event, listener)
        page.goto(address + path)
        settled(page)
        return page

    yield browse
    for each in reversed(opened):
        each.close()
    if not unused:
        for event, listener in listeners.items():
            kept.remove_listener(event, listener)
    assert faults == []


def settled(page: Page) -> None:
    """Wait until the page is drawn, with nothing gone wrong."""
    drawn(page)
    expect(page.locator('[data-testid="stException"]')).to_have_count(0)


def go_to(page: Page, title: str) -> None:
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title, exact=True).click()
    expect(page.locator("h1")).to_have_text(title)
    settled(page)


def type_prompt(page: Page, prompt: str) -> None:
    box = page.get_by_role("textbox", name="Prompt", exact=True)
    box.fill(prompt)
    box.press("Control+Enter")
    page.wait_for_url(re.compile(re.escape(urlencode({"prompt": prompt})[:40])))
    settled(page)


def query_of(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def test_a_walk_from_a_prompt_to_a_saved_run(browse, runs, tmp_path):
    page = browse()
    expect(page.locator("h1")).to_have_text("Prompt")
    expect(page.get_by_text("Type a prompt at the side")).to_be_visible()
    type_prompt(page, PROMPT)
    expect(page.locator(".chips > span")).to_have_count(9)

    go_to(page, "Attention")
    for alternative in page.locator("p.figure-alt").all_inner_texts():
        expect(page.get_by_role("figure", name=alternative, exact=True).first).to_be_attached()
    page.go_back()
    page.wait_for_timeout(300)  # the run that this began will write its address into the next's
    if "/attention" in page.url:  # its address was written twice: without choices, and with
        page.go_back()
    expect(page.locator("h1")).to_have_text("Prompt")
    expect(page.locator(".chips > span")).to_have_count(9)

    settled(page)
    page.wait_for_function("!location.search.includes('layer=')")

    page.goto(f"{urlsplit(page.url)._replace(path='/head-attribution', query='').geturl()}"
              f"?{urlencode({'prompt': PROMPT})}")  # fmt: skip
    settled(page)
    page.get_by_role("textbox", name="Target").fill("mat")
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url(re.compile("target=mat"))
    settled(page)
    expect(page.get_by_text(re.compile(r"All \d checks passed"))).to_be_visible()
    expect(page.get_by_text("Heads: logit of “mat”, at position 8")).to_be_visible()

    page.get_by_role("button", name="Save this result").click()
    page.get_by_role("textbox", name="Name of the run").fill("walk")
    page.get_by_role("button", name="Save run").click()
    expect(page.locator("h1")).to_have_text("Saved runs")
    expect(page.get_by_role("heading", name="walk")).to_be_visible()
    settled(page)
    assert AnalysisResult.load(runs / "walk").provenance.parameters["target"] == "mat"

    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("report", re.I)).first.click()
    assert (runs / "walk" / "report.html").read_bytes() == download.value.path().read_bytes()


def test_a_head_is_opened_by_a_click_and_kept_by_the_address(browse):
    page = browse(f"/attention?{urlencode({'prompt': PROMPT})}")
    overview = page.locator(".js-plotly-plot").first
    overview.get_by_text("L1H2", exact=True).click(force=True)  # its name
    expect(page.get_by_role("heading", name="Head L1H2")).to_be_visible()
    settled(page)
    assert (query_of(page)["layer"], query_of(page)["head"]) == ("1", "2")
    page.reload()
    settled(page)
    expect(page.get_by_role("heading", name="Head L1H2")).to_be_visible()
    other = browse(page.url.removeprefix(page.evaluate("location.origin")))
    expect(other.get_by_role("heading", name="Head L1H2")).to_be_visible()
    assert other.url == page.url
    page.go_back()
    expect(page.get_by_role("heading", name="Head L0H0")).to_be_visible()
    settled(page)
    upper, lower = (overview.get_by_text(f"L{i}H3", exact=True).bounding_box() for i in (0, 1))
    across = upper["x"] + upper["width"] / 2
    page.mouse.click(across, lower["y"] - 4)  # the lower edge of its picture
    expect(page.get_by_role("heading", name="Head L0H3")).to_be_visible()
    overview.get_by_text("L1H0", exact=True).click(force=True)
    expect(page.get_by_role("heading", name="Head L1H0")).to_be_visible()
    settled(page)
    overview.get_by_text("L0H3", exact=True).click(force=True)  # in the upper right corner
    expect(page.get_by_role("heading", name="Head L0H3")).to_be_visible()


def test_a_head_is_taken_out_and_the_difference_shows(browse, words_model):
    page = browse(f"/interventions?{urlencode({'prompt': PROMPT})}")
    page.get_by_role("button", name="Add zero:L0H0").click()
    page.wait_for_url(re.compile("edits="))
    settled(page)
    assert query_of(page)["edits"] == "zero:L0H0"
    expect(page.locator(".js-plotly-plot").first).to_be_visible()

    model = HookedTransformer.load(words_model)
    tokens = model.to_tokens(PROMPT)

    def no_head(z, hook):
        z[:, :, 0] = 0
        return z

    before = model(tokens)[0, -1].softmax(-1)
    after = model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn.hook_z", no_head)])
    change = (after[0, -1].softmax(-1) - before).abs()
    most = model.to_single_str_token(int(change.argmax()))
    expect(page.get_by_test_id("stMain").get_by_text(most).first).to_be_attached()

    # And everywhere else, once it is switched on.
    page.get_by_text("Show the model with interventions").click()
    page.wait_for_url(re.compile("edited=1"))
    go_to(page, "Prompt")
    assert query_of(page)["edits"] == "zero:L0H0"


def test_tables_and_pictures_are_downloaded(browse, words_model, tmp_path):
    page = browse(f"/?{urlencode({'prompt': PROMPT})}")
    page.get_by_text("Data and export").first.click()
    saved = {}
    for label in ("CSV", "PNG", "HTML"):
        button = page.get_by_role("button", name=label, exact=True).first
        with page.expect_download() as download:
            button.click()
        saved[label] = download.value.path().read_bytes()
    assert saved["PNG"].startswith(b"\x89PNG") and len(saved["PNG"]) > 5_000
    rows = list(csv.DictReader(saved["CSV"].decode().splitlines()))
    assert rows and all(len(row) > 1 for row in rows)
    page_of_it = tmp_path / "chart.html"
    page_of_it.write_bytes(saved["HTML"])
    offline = page.context.new_page()
    asked = []
    offline.on("request", lambda request: asked.append(request.url))
    offline.goto(page_of_it.as_uri())
    expect(offline.locator("svg").first).to_be_visible()
    assert asked == [page_of_it.as_uri()]  # it needs no other file
    offline.close()


def test_a_toy_is_trained_and_cancelled(browse, runs):
    settings = {"section": "train", "n": 20, "m": 5, "steps": 20000, "batch": 256, "seeds": 1}
    page = browse(f"/superposition?{urlencode(settings)}")
    page.get_by_role("button", name="Train", exact=True).click()
    cancel = page.get_by_role("button", name="Cancel")
    expect(cancel).to_be_visible()
    cancel.click()
    expect(page.get_by_text("cancelled").first).to_be_visible()
    expect(cancel).to_have_count(0)


def test_a_dark_page_has_dark_figures(browse):
    page = browse(f"/attention?{urlencode({'prompt': PROMPT})}", dark=True)
    for what in ("[data-testid=stApp]", ".js-plotly-plot .main-svg"):
        color = page.locator(what).last.evaluate(
            "e => getComputedStyle(e).backgroundColor", timeout=60_000
        )
        channels = [float(x) for x in re.findall(r"[\d.]+", color)]
        assert sum(channels[:3]) < 150 or channels[3:] == [0.0], (what, color)
    ink = page.locator(".js-plotly-plot .ytick text").last.evaluate("e => getComputedStyle(e).fill")
    assert sum(map(float, re.findall(r"[\d.]+", ink)[:3])) > 450, ink


@pytest.mark.parametrize("path", ["/", "/attention", "/interventions", "/runs"])
def test_hostile_texts_stay_texts(browse, path, runs, words_model):
    hostile = runs / "<img src=x onerror=alert(3)>"
    if not hostile.exists():
        model = load_model(str(words_model))
        run_analysis("head-attribution", model, prompt=PROMPT).save(runs / "plain")
        shutil.move(runs / "plain", hostile)
    query = {"prompt": HOSTILE, "run": hostile.name} if path == "/runs" else {"prompt": HOSTILE}
    page = browse(f"{path}?{urlencode(query)}")
    if path == "/":
        # The words are unknown to the model: what it reads of them is shown as it is.
        expect(page.get_by_text("<unk>").first).to_be_visible()
    if path == "/runs":
        expect(page.get_by_role("heading", name=hostile.name)).to_be_visible()
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("script", has_text="alert(1)").count() == 0


def test_readers_at_once_see_what_is_their_own(browser, address):
    pages, readers = (("prompt", "interventions"), 4) if EXHAUSTIVE else (("interventions",), 3)
    sessions(browser, address, pages, readers)


def test_no_address_opens_a_path(browse, address):
    page = browse(f"/?model={quote('/etc')}&prompt=the")
    expect(page.get_by_text("unknown model '/etc'")).to_be_visible()
    page.goto(f"{address}/runs?run={quote('../../etc')}")
    settled(page)
    expect(page.locator('[data-testid="stAlert"]').first).to_be_visible()


def test_a_bad_setting_is_told(browse):
    page = browse("/head-attribution?prompt=the+cat&target=two+words")
    expect(page.get_by_text("'two words' must be a single token.")).to_be_visible()


@pytest.mark.parametrize("path", ["/", "/attention", "/interventions", "/superposition", "/runs"])
def test_a_phone_shows_pages_without_scrolling_sideways(browse, path):
    page = browse(f"{path}?prompt=the+cat+sat+on+the+mat", PHONE)
    widest = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
    assert widest <= PHONE["width"]
