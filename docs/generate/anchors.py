"""The anchors of headings: GitHub's rule, so that a link works there and on the site."""

from __future__ import annotations

import re


def anchor(heading: str, separator: str = "-") -> str:
    """What stands behind `#` in a link to a heading.

    Lower case; letters, digits, hyphens and underscores stay, spaces become separators, all else
    goes.

    Args:
        heading: Its text, without marks such as backticks.
        separator: Put for each space. Python-Markdown hands it over.
    """
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", separator)
