"""The site's menu has every page, and every analysis has one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml

from analyses import list_analyses
from docs.generate.root_pages import ROOT_PAGES
from tests.docs.pages import DOCS, ROOT

_FILLED_BY_THE_BUILD = "api/index.md"


def _menu() -> Counter[str]:
    def paths(part: Any) -> list[str]:
        if isinstance(part, str):
            return [part]
        inner = part.values() if isinstance(part, dict) else part
        return [path for each in inner for path in paths(each)]

    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    return Counter(paths(settings["nav"]))


def _pages() -> set[str]:
    written = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    examples = {f"examples/{script.stem}.md" for script in DOCS.glob("examples/*.py")}
    root = {page for name, page in ROOT_PAGES.items() if (ROOT / name).exists()}
    return written | examples | root | {_FILLED_BY_THE_BUILD}


def test_the_menu_has_every_page_once():
    menu = _menu()
    assert set(menu.values()) == {1}
    assert sorted(_pages() - set(menu)) == [], "pages that the nav of mkdocs.yml lacks"
    assert sorted(set(menu) - _pages()) == [], "entries of the nav without a page"


def test_every_analysis_has_its_page():
    names = {each.name for each in list_analyses()}
    pages = {page.stem for page in (DOCS / "analyses").glob("*.md")} - {"index"}
    assert sorted(names - pages) == [], "analyses without a page in docs/analyses"
    assert sorted(pages - names) == [], "pages of docs/analyses that no analysis has"
