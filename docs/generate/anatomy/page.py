"""What docs/anatomy.md shows of its blocks and pictures: printed outputs, text alternatives."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

_BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n.*?^```\n)?", re.DOTALL | re.MULTILINE)
_PICTURE = re.compile(r"!\[[^\]]*\]\(images/anatomy/([\w-]+)\.svg\)")


def with_outputs(page: str) -> str:
    """The page with what each Python block prints below it, as a block of text.

    The blocks run from top to bottom in one namespace.
    """
    names: dict[str, Any] = {"__name__": "anatomy"}

    def shown(found: re.Match[str]) -> str:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(found[1], "docs/anatomy.md", "exec", dont_inherit=True), names)
        lines = [line.rstrip() for line in printed.getvalue().splitlines()]
        block = f"```python\n{found[1]}```\n"
        return block + ("\n```text\n" + "\n".join(lines) + "\n```\n" if lines else "")

    return _BLOCK.sub(shown, page)


def with_alternatives(page: str, alternatives: Mapping[str, str]) -> str:
    """The page with the text alternative of each picture, by its name.

    Raises:
        KeyError: for a picture that nothing draws.
    """
    return _PICTURE.sub(lambda m: f"![{alternatives[m[1]]}](images/anatomy/{m[1]}.svg)", page)


def pictures(page: str) -> list[str]:
    """The names of the pictures on the page, in order."""
    return _PICTURE.findall(page)
