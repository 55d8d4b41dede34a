"""Pages that quote outputs quote those of their blocks."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("name", "quoted"), [("index.md", 3), ("positions.md", 7)])
def test_outputs_on_the_page_are_those_of_its_blocks(name: str, quoted: int) -> None:
    names: dict[str, Any] = {}
    printed, compared = "", 0
    for kind, text in BLOCK.findall((DOCS / name).read_text(encoding="utf-8")):
        if kind == "text":
            assert printed == text
            compared += 1
            continue
        if "run_analysis" in text:
            break  # from here on nothing is quoted
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(text, name, "exec"), names)
        printed = out.getvalue()
    assert compared == quoted
