"""How long a reader waits for the dashboard, measured in a browser; pictures of its pages.

`python -m benchmarks.dashboard [--stories DIR] [--repeats N] [--pictures DIR]` prints the table of
docs/measured/dashboard-times.md.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from benchmarks.browser import LAPTOP, chromium, serving, settled
from benchmarks.machine import describe

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Row = tuple[
    str, float, float | None
]  # what was measured, seconds, those that it should take at most

ZOO = "zoo:induction"
SYMBOLS = ["k", "T", "4", "w", "Z", "m", "9", "b", "s", "q"]
STORY = (
    "Once upon a time, there was a little girl named {}. She loved to play outside in the park. "
    "One day, she saw a big, red ball in a tree. She wanted to play with it, but it was too high."
)
NAMES = ("Lily", "Lucy", "Mary", "Anna", "Sue", "Jane", "Kim", "Tom", "Ben", "Max")
PAGES = {
    "prompt": "Prompt",
    "attention": "Attention",
    "residual": "Residual stream",
    "attribution": "Head attribution",
    "flow": "Information flow",
    "interventions": "Interventions",
    "weights": "Weights",
    "positions": "Positions",
    "superposition": "Superposition",
    "analyses": "Analyses",
    "head-attribution": "Head attribution",
    "runs": "Saved runs",
}
ON_A_PROMPT = ("prompt", "attention", "residual", "attribution", "flow", "interventions")
SESSIONS = 10
RUNS = Path("build/pictures/runs")  # what the pictures' page of saved runs shows
SHOWN = {"interventions": {"edits": "zero:L1H2"}}  # in pictures


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=Path, help="The directory of stories260K.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pictures", type=Path, help="Where pictures of all pages go, as PNG.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        options = ["--runs", f"{scratch}/runs"]
        options += [] if given.stories is None else ["--model", str(given.stories)]
        model = ZOO if given.stories is None else str(given.stories)
        start = time.perf_counter()
        with serving(options, Path(scratch) / "log.txt") as address, chromium() as browser:
            up = time.perf_counter() - start
            rows: list[Row] = [("server up, from its command on", up, None)]
            rows.append(("first page of all, on a zoo model", first_page(browser, address), 3.0))
            rows += [
                (f"a head opened by a click, {what}", seconds, 0.7)
                for what, seconds in head_clicks(browser, address, model, given.repeats).items()
            ]
            rows += [
                (f"a new prompt of 64 tokens, page {name}", seconds, 1.5)
                for name, seconds in new_prompts(browser, address, model, given.repeats).items()
            ]
            seconds = sessions(browser, address)
            rows.append((f"{SESSIONS} sessions at once, six pages each, all of it", seconds, None))
    if given.pictures is not None:
        _make_runs(RUNS)
        log = RUNS.parent / "log.txt"
        with serving(["--runs", str(RUNS)], log) as address, chromium() as browser:
            pictures(browser, address, given.pictures)
    print(_document(rows, "zoo:induction" if given.stories is None else "stories260K"))


def first_page(browser: Browser, address: str) -> float:
    """Seconds from a click on the link to a drawn page, by a browser that has seen nothing."""
    with _page(browser) as page:
        return _seconds(partial(_open, page, f"{address}/?{urlencode({'model': ZOO})}"))


def head_clicks(browser: Browser, address: str, model: str, repeats: int) -> dict[str, float]:
    """Median seconds from a click in the mosaic to the drawn head: new ones, and seen ones."""
    found: dict[str, list[float]] = {"first seen": [], "seen before": []}
    with _page(browser) as page:
        _open(page, f"{address}/attention?{urlencode({'model': model, 'prompt': _text(model)})}")
        heads = [(layer, head) for layer in (0, 1) for head in range(repeats)]
        for what in found:
            for layer, head in heads:
                found[what] += _clicked(page, layer, head)
    return {what: statistics.median(times) for what, times in found.items()}


def _clicked(page: Page, layer: int, head: int) -> list[float]:
    name = page.get_by_text(f"L{layer}H{head}", exact=True).first
    if not name.count():
        return []
    place = name.bounding_box()
    if place is None:
        return []
    heading = page.get_by_role("heading", name=re.compile(f"L{layer}H{head}"))
    if heading.count():  # it is open
        return []
    name.scroll_into_view_if_needed()

    def click() -> None:
        name.click(force=True)
        heading.first.wait_for()
        settled(page)

    return [_seconds(click)]


def new_prompts(browser: Browser, address: str, model: str, repeats: int) -> dict[str, float]:
    """Median seconds from a new prompt to a page drawn to its end, page by page."""
    found = {}
    query = urlencode({"model": model, "prompt": _text(model)})
    for name in ON_A_PROMPT:
        with _page(browser) as page:
            _open(page, f"{address}/{_path(name)}?{query}")
            texts = [_text(model, i) for i in range(1, repeats + 1)]
            times = [_seconds(partial(_type, page, text)) for text in texts]
        found[name] = statistics.median(times)
    return found


def _text(model: str, i: int = 0) -> str:
    """About 60 tokens that the model reads, others for each `i` up to 9."""
    if model != ZOO:
        return STORY.format(NAMES[i])
    return " ".join((SYMBOLS[i:] + SYMBOLS[:i]) * 3 + SYMBOLS[::-1] * 3)


def _type(page: Page, text: str) -> None:
    box = page.get_by_role("textbox", name="Prompt").first
    box.fill(text)
    box.press("Control+Enter")
    start = urlencode({"prompt": text})[:60]
    page.wait_for_function("start => location.search.includes(start)", arg=start, polling="raf")
    settled(page)


def sessions(
    browser: Browser, address: str, pages: Sequence[str] = ON_A_PROMPT, n: int = SESSIONS
) -> float:
    """Seconds that several readers at once need to open pages, each with a prompt and an edit.

    Raises:
        AssertionError: If one sees an error, or another's prompt or interventions.
    """
    prompts = [" ".join(SYMBOLS[i:] + SYMBOLS[:i] + SYMBOLS[i:]) for i in range(n)]
    with ExitStack() as stack:
        readers = [stack.enter_context(_page(browser)) for _ in prompts]
        start = time.perf_counter()
        for name in pages:
            for i, (page, prompt) in enumerate(zip(readers, prompts, strict=True)):
                edits = f"zero:L{i % 2}H{i // 2 % 4}"
                query = {"model": ZOO, "prompt": prompt, "edits": edits, "edited": i % 2}
                page.goto(f"{address}/{_path(name)}?{urlencode(query)}", wait_until="commit")
            for i, (page, prompt) in enumerate(zip(readers, prompts, strict=True)):
                settled(page)
                assert page.get_by_role("textbox", name="Prompt").first.input_value() == prompt
                assert not page.locator('[data-testid="stException"]').count(), name
                assert not page.get_by_test_id("stAlertContentError").count(), name
                assert page.get_by_text(f"zero:L{i % 2}H{i // 2 % 4}").count(), name
                if name == "prompt":
                    chips = page.locator(".chips b").all_inner_texts()
                    assert chips[-3:] == prompt.split()[-3:], (chips, prompt)
        return time.perf_counter() - start


def pictures(browser: Browser, address: str, folder: Path) -> None:
    """A picture of every page, and of some in the dark."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        for dark in (False, True) if name in ("attention", "interventions") else (False,):
            with _page(browser, dark) as page:
                query = urlencode({"model": ZOO} | SHOWN.get(name, {}))
                _open(page, f"{address}/{_path(name)}?{query}")
                page.screenshot(path=folder / f"{name}{'-dark' * dark}.png")


def _make_runs(folder: Path) -> None:
    from analyses import run_analysis
    from interp import load_model

    model = load_model(ZOO)
    for name in ("head-attribution", "logit-lens", "head-scores"):
        run_analysis(name, model, quick=True).save(folder / f"induction-{name}")


@contextmanager
def _page(browser: Browser, dark: bool = False) -> Iterator[Page]:
    context = browser.new_context(
        viewport=LAPTOP,  # type: ignore[arg-type]
        reduced_motion="reduce",
        color_scheme="dark" if dark else "light",
    )
    context.set_default_timeout(120_000)
    try:
        yield context.new_page()
    finally:
        context.close()


def _path(name: str) -> str:
    """The first page has none."""
    return "" if name == "prompt" else name


def _open(page: Page, url: str) -> None:
    page.goto(url)
    settled(page)


def _seconds(act: Callable[[], None]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def _document(rows: list[Row], model: str) -> str:
    lines = [
        "# The dashboard: how long a reader waits",
        "",
        "Made by `make dashboard-times`. Seconds in headless Chromium beside the server, from "
        "the act to a page that is drawn to its end (nothing runs, every figure is painted); "
        f"medians. Clicks and prompts are those of {model}, the rest of {ZOO}.",
        "",
        *(f"- {heading}: {text}" for heading, text in describe("cpu").items()),
        "",
        "| what | seconds | aim |",
        "|---|---|---|",
    ]
    lines += [
        f"| {what} | {seconds:.2f} | {'' if aim is None else f'≤ {aim}'} |"
        for what, seconds, aim in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
