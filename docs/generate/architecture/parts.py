"""What of the architecture page is generated, and the files that hold it."""

from __future__ import annotations

from pathlib import Path

from docs.generate.architecture.flow_picture import draw_flow
from docs.generate.architecture.folders import folders_table
from docs.generate.architecture.import_picture import draw_imports
from docs.generate.architecture.imports import FLOORS, import_graph
from docs.generate.marked import replaced
from docs.generate.source import ROOT
from interp.files.atomic import replacing_file

PAGE = ROOT / "docs" / "architecture.md"
IMAGES = ROOT / "docs" / "images" / "architecture"


def generated() -> dict[Path, str]:
    """Each file that is made here, wholly or in part, and what it should hold."""
    page = PAGE.read_text("utf-8")
    for floor in FLOORS:
        page = replaced(page, f"folders of {floor}", folders_table(floor))
    return {
        PAGE: page,
        IMAGES / "floors.svg": draw_flow(),
        IMAGES / "imports.svg": draw_imports(import_graph()),
    }


def write() -> None:
    """Bring all of them up to date."""
    for path, text in generated().items():
        with replacing_file(path) as fresh:
            fresh.write_text(text, "utf-8")
