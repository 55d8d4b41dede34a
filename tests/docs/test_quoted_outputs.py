"""Pages that quote outputs quote those of their blocks."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import blocks

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("name", "quoted"), [("index.md", 3), ("positions.md", 7)])
def test_outputs_on_the_page_are_those_of_its_blocks(name: str, quoted: int) -> None:
    names: dict[str, Any] = {}
    printed, compared = "", 0
    for block in blocks((DOCS / name).read_text(encoding="utf-8")):
        if block.language == "text":
            assert printed == block.text
            compared += 1
        if block.language != "python":
            continue
        if "run_analysis" in block.text:
            break  # from here on nothing is quoted
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(block.text, name, "exec"), names)
        printed = out.getvalue()
    assert compared == quoted
