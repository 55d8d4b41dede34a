"""Every public name has one entry among the API pages, and every other mention leads to it."""

from __future__ import annotations

import re
from collections import Counter

from docs.generate.api import api_index, api_pages
from docs.generate.source import find

_ENTRY = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
_LINK = re.compile(r"\[`\w+`\]\[([\w.]+)\]")
_PAGE = re.compile(r"\[`?[\w.]+`?\]\(([\w.]+)\.md\)")


def test_one_entry_for_each_name_and_all_links_lead_to_one():
    pages = api_pages()
    texts = {page.module: page.markdown() for page in pages}
    entries = Counter(name for text in texts.values() for name in _ENTRY.findall(text))
    assert set(entries.values()) == {1}
    things = [find(name) for name in entries]
    assert len({thing.path for thing in things if thing}) == len(entries)
    for page in pages:
        for name in _LINK.findall(texts[page.module]):
            assert name in entries
        for name in _PAGE.findall(texts[page.module]):
            assert name in texts
        offered = set(page.owners)
        assert offered == set(re.findall(r"^\| \[`(\w+)`\]", texts[page.module], re.M))


def test_the_index_has_every_page():
    pages = api_pages()
    assert _PAGE.findall(api_index(pages)) == [page.module for page in pages]
    assert {"interp", "interp.patching", "interp.utils", "analyses"} <= {p.module for p in pages}
