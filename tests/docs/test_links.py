"""Every link leads somewhere, and every picture is there and says what it shows."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from docs.generate.api import public_modules
from docs.generate.root_pages import ROOT_PAGES
from tests.docs.pages import DOCS, ROOT, Link, all_pages, anchors, links, name_of

_MOST_SVG = 150_000  # bytes


@pytest.mark.parametrize("page", all_pages(), ids=name_of)
def test_links_lead_somewhere(page):
    faults = [
        f"{link.target}: {fault}"
        for link in links(page.read_text("utf-8"))
        if (fault := _fault(page, link)) is not None
    ]
    assert not faults, f"{name_of(page)}:\n" + "\n".join(faults)


def test_every_page_says_what_it_is_before_anything_else():
    for page in all_pages():
        first = page.read_text("utf-8").lstrip().splitlines()[0]
        assert first.startswith("# "), f"{name_of(page)} must begin with its title: {first!r}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[there](nowhere.md)", "no such file"),
        ("[there](scale.md#nonsense)", "no heading"),
        ("[there](#nonsense)", "no heading"),
        ("![](images/dashboard/attention.png)", "says nothing"),
        ("![heads](images/dashboard/nonsense.png)", "no such file"),
        ('<img src="images/dashboard/attention.png">', "says nothing"),
        ("[there](../interp/hooks.py)", "not on the site"),
        ("[there](/scale.md)", "must be relative"),
        ("# Two\n# Two\n[there](#two)", "2 headings"),
    ],
)
def test_a_bad_link_is_found(text, fault):
    (link,) = links(text)
    found = _fault(DOCS / "page.md", link, text)
    assert found is not None
    assert fault in found


@pytest.mark.parametrize(
    "text",
    [
        "[there](scale.md)",
        "[there](scale.md#models-larger-than-one-device)",
        "# A `head` & more\n[there](#a-head--more)",
        "[there](https://arxiv.org/abs/2209.10652)",
        "[there](../SECURITY.md)",
        "[there](api/interp.patching.md)",
        "![heads](images/dashboard/attention.png)",
    ],
)
def test_a_good_link_passes(text):
    (link,) = links(text)
    assert _fault(DOCS / "page.md", link, text) is None


def _fault(page: Path, link: Link, text: str | None = None) -> str | None:
    address = urlsplit(link.target)
    if address.scheme or address.netloc:
        known = address.scheme in ("https", "http", "mailto") and not link.is_image
        return None if known else "pictures must lie in the repository"
    if link.is_image and not link.text.strip():
        return "a picture without alt text says nothing to who cannot see it"
    if address.path.startswith("/"):
        return "links between pages must be relative"
    target = (page.parent / unquote(address.path)).resolve() if address.path else page
    if (DOCS in page.parents) and not _on_site(target):
        return "not on the site: write the path in backticks instead"
    if target != page and not target.exists() and not _is_made(target):
        return "no such file"
    if link.is_image and target.suffix == ".svg" and target.stat().st_size > _MOST_SVG:
        return f"an SVG must have at most {_MOST_SVG} bytes"
    if address.fragment and target.suffix == ".md" and (target == page or target.exists()):
        source = text if target == page and text is not None else target.read_text("utf-8")
        count = anchors(source).count(unquote(address.fragment))
        if count != 1:
            return "no heading has this anchor" if not count else f"{count} headings have it"
    return None


def _on_site(target: Path) -> bool:
    return DOCS in target.parents or target in {ROOT / name for name in ROOT_PAGES}


def _is_made(target: Path) -> bool:
    """Whether mkdocs makes this page: see `docs.generate.site`."""
    if DOCS not in target.parents:
        return False
    place = target.relative_to(DOCS).as_posix()
    if place.startswith("examples/") and target.suffix == ".md":
        return target.with_suffix(".py").exists()
    return place in {"api/index.md", *(f"api/{each}.md" for each in public_modules())} or any(
        place == made and (ROOT / name).exists() for name, made in ROOT_PAGES.items()
    )
