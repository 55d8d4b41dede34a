"""Pointing and clicking in a display of attention, in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from benchmarks.browser import CHROMIUM, chromium
from interp.display import show_attention

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser
TOKENS = ["a", "</script><img src=x onerror=alert(1)>", "\u202e", "d"]
HINT = "Point at a cell for its weight; click a head to enlarge it."


def patterns(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 4, 4, generator=generator).mul(2).softmax(-1)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Two displays on one page, as cells of one notebook; what goes wrong is an error."""
    pytest.importorskip("playwright", reason="needs playwright (dev)")
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM} (make chromium)")
    shown = [show_attention(TOKENS, patterns(seed))._repr_html_() for seed in (0, 1)]
    file: Path = tmp_path_factory.mktemp("attention") / "page.html"
    file.write_text("<!DOCTYPE html><meta charset=utf-8>" + "<hr>".join(shown), "utf-8")
    faults: list[str] = []
    with chromium() as browser:
        opened = browser.new_page()
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on("dialog", lambda dialog: (faults.append("dialog"), dialog.dismiss()))
        opened.on("request", lambda asked: faults.append(asked.url) if "http" in asked.url else 0)
        opened.goto(file.as_uri())
        yield opened
    assert faults == []


def point(page: Page, picture: Locator, query: int, key: int) -> None:
    box = picture.bounding_box()
    assert box is not None
    page.mouse.move(
        box["x"] + box["width"] * (key + 0.5) / 4, box["y"] + box["height"] * (query + 0.5) / 4
    )


def test_every_cell_tells_its_weight(page: Page) -> None:
    for seed in (0, 1):
        root = page.locator(".interp-attention").nth(seed)
        told = root.locator("output")
        assert told.inner_text() == HINT
        for query in range(4):
            for key in range(4):
                point(page, root.locator("svg .cells"), query, key)
                head, _, weight = told.inner_text().rpartition(": ")
                assert head.startswith("H0: from ") and head.endswith(f"({key})")
                assert f"({query}) to " in head
                assert abs(float(weight) - float(patterns(seed)[0, query, key])) <= 0.01
        point(page, root.locator("button img").nth(2), 3, 0)
        assert told.inner_text().startswith("H2: from d (3) to a (0): ")
        page.mouse.move(0, 0)
        assert told.inner_text() == HINT


def test_a_click_enlarges_a_head_of_its_own_display_alone(page: Page) -> None:
    first, second = (page.locator(".interp-attention").nth(i) for i in (0, 1))
    first.locator("button").nth(1).click()
    assert [root.locator(".head").inner_text() for root in (first, second)] == ["H1", "H0"]
    source = first.locator("button img").nth(1).get_attribute("src")
    assert first.locator("svg image").get_attribute("href") == source
    point(page, first.locator("svg .cells"), 2, 2)
    weight = first.locator("output").inner_text().rpartition(": ")[2]
    assert abs(float(weight) - float(patterns(0)[1, 2, 2])) <= 0.01
    pressed = [b.get_attribute("aria-pressed") for b in first.locator("button").all()]
    assert pressed == ["false", "true", "false"]
