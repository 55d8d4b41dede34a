"""The pages that people read, taken apart: headings, links, pictures, code."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from docs.generate.anchors import anchor

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_ID = re.compile(r"\s*\{\s*#([\w-]+)[^}]*\}\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        language: The first word behind the fence.
        options: The other words.
        text: What stands in it.
        line: Of its first line in the file, from 1.
    """

    language: str
    options: tuple[str, ...]
    text: str
    line: int


@dataclass(frozen=True)
class Link:
    """A link or a picture: where it leads, and what it says."""

    target: str
    text: str
    is_image: bool


@cache
def all_pages() -> tuple[Path, ...]:
    """Every Markdown page: those at the top of the repository and those of the site."""
    return (*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")))


def name_of(page: Path) -> str:
    """A page's path from the repository's top."""
    return page.relative_to(ROOT).as_posix()


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, also those within lists and quotes."""
    found = []
    for token in _parsed(text):
        if token.type == "fence" and token.map is not None:
            language, *options = token.info.split() or [""]
            found.append(Block(language, tuple(options), token.content, token.map[0] + 2))
    return found


def anchors(text: str) -> list[str]:
    """What links to a page may name behind `#`, once for each heading that has it."""
    found = []
    tokens = _parsed(text)
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            given = _ID.search(inline.content)
            found.append(given[1] if given else anchor(_plain(inline)))
    for html in _of_type(tokens, "html_block", "html_inline"):
        found += [tag["id"] for tag in _tags(html.content) if "id" in tag]
    return found


def links(text: str) -> list[Link]:
    """The links and pictures of a page."""
    found = []
    for inline in (token for token in _parsed(text) if token.type == "inline"):
        children = inline.children or []
        for at, token in enumerate(children):
            if token.type == "image":
                found.append(Link(str(token.attrs["src"]), token.content, True))
            elif token.type == "link_open":
                said = _plain_of(children[at + 1 :])
                found.append(Link(str(token.attrs["href"]), said, False))
    for html in _of_type(_parsed(text), "html_block", "html_inline"):
        for tag in _tags(html.content):
            if "src" in tag:
                found.append(Link(tag["src"], tag.get("alt", ""), True))
            if "href" in tag:
                found.append(Link(tag["href"], "", False))
    return found


def code_spans(text: str) -> list[str]:
    """What stands in backticks within the text."""
    return [token.content for token in _of_type(_parsed(text), "code_inline")]


@cache
def _parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def _of_type(tokens: list[Token], *types: str) -> Iterator[Token]:
    for token in tokens:
        if token.type in types:
            yield token
        yield from (each for each in token.children or [] if each.type in types)


def _plain(inline: Token) -> str:
    return "".join(
        each.content for each in inline.children or [] if each.type in ("text", "code_inline")
    )


def _plain_of(children: list[Token]) -> str:
    said = []
    for each in children:
        if each.type == "link_close":
            break
        said.append(each.content)
    return "".join(said)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append({name: value or "" for name, value in attrs})


def _tags(html: str) -> list[dict[str, str]]:
    parser = _Tags()
    parser.feed(html)
    return parser.found
