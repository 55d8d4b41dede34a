"""Files at the top of the repository that are pages of the site too, and links to them."""

from __future__ import annotations

import posixpath
import re

ROOT_PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_LINK = re.compile(r"(\]\()([^)\s#]+)")


def with_site_links(text: str, source: str, page: str) -> str:
    """Markdown with its links as they have to be on the site.

    In the repository a page links to another as the files lie. On the site `docs` is the top, and
    the files of `ROOT_PAGES` are pages.

    Args:
        text: The Markdown.
        source: The file it comes from, from the repository's top: `docs/scale.md`, `SECURITY.md`.
        page: Where it lies on the site: `scale.md`, `security.md`.
    """

    def moved(match: re.Match[str]) -> str:
        target = match[2]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        there = ROOT_PAGES.get(file, file.removeprefix("docs/"))
        if there == file:  # neither a page of the site nor below `docs`: nothing to link to
            return match[0]
        return match[1] + posixpath.relpath(there, posixpath.dirname(page) or ".")

    return _LINK.sub(moved, text)
