"""What GitHub and Python-Markdown read differently, brought into the latter's form."""

from __future__ import annotations

import re

_NO_RUN = re.compile(r"^( *```python) no-run$", re.MULTILINE)


def as_shown(markdown: str) -> str:
    """A page's Markdown as the site's builder needs it.

    `no-run` behind a fence speaks to the tests alone, so it goes. In a table GitHub wants a bar
    within code escaped; Python-Markdown would show the backslash.
    """
    markdown = _NO_RUN.sub(r"\1", markdown)
    return "\n".join(map(_with_plain_bars, markdown.split("\n")))


def _with_plain_bars(line: str) -> str:
    if not line.lstrip().startswith("|"):
        return line
    return re.sub(r"(`+)(.+?)\1", lambda code: code[0].replace("\\|", "|"), line)
