"""Parts of a page that a command writes, between two comments that readers do not see.

<!-- generated: folders -->
… replaced each time …
<!-- end: folders -->
"""

from __future__ import annotations

import re

from interp.errors import InputError


def replaced(page: str, name: str, text: str) -> str:
    """A page with another text between the marks of that name.

    Args:
        page: The page's Markdown.
        name: Of the part.
        text: What shall stand there, without the marks.

    Raises:
        InputError: If the page has no such part, or two.
    """
    mark = re.escape(name)
    part = re.compile(rf"(<!-- generated: {mark} -->\n).*?(<!-- end: {mark} -->)", re.DOTALL)
    found = part.findall(page)
    if len(found) != 1:
        raise InputError(
            f"a page must have one part marked 'generated: {name}' … 'end: {name}'. "
            f"Received {len(found)}"
        )
    return part.sub(lambda match: f"{match[1]}\n{text.strip()}\n\n{match[2]}", page)
