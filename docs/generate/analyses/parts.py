"""The parts of a page that are made anew, and its figures."""

from __future__ import annotations

import html
import re
from pathlib import Path

from analyses import AnalysisResult, get_analysis, run_analysis
from docs.generate.analyses.code import python, shell
from docs.generate.analyses.settings import PageSettings, settings_of
from docs.generate.analyses.tables import checks_table, parameters_table, plain, rows_table
from docs.generate.marked import replaced
from interp import load_model
from interp.errors import InputError
from interp.files.atomic import replacing_file

PAGES = Path(__file__).parents[2] / "analyses"
IMAGES = PAGES.parent / "images" / "analyses"
INDEX = "index"  # the one page there that is not an analysis
HEADINGS = (
    "Question", "Run it", "Figure", "How to read it", "How it can mislead", "What is checked",
    "Source", "Parameters",
)  # fmt: skip
MAX_BYTES = 150_000  # of a picture


def page_of(name: str) -> Path:
    """Where the page of an analysis is."""
    return PAGES / f"{name}.md"


def names() -> list[str]:
    """The analyses that have a page, in alphabetical order."""
    return sorted(file.stem for file in PAGES.glob("*.md") if file.stem != INDEX)


def run(name: str, settings: PageSettings) -> AnalysisResult:
    """The result that a page shows."""
    model = None if settings.model is None else load_model(settings.model, device="cpu")
    return run_analysis(name, model, quick=settings.quick, **settings.parameters)


def with_text(name: str, page: str) -> str:
    """A page whose parts that need no run are anew: question, code, alternatives, parameters."""
    settings = settings_of(page)
    page = replaced(page, "question", get_analysis(name).question)
    page = replaced(page, "run", f"{shell(name, settings)}\n\n{python(name, settings)}")
    page = replaced(page, "parameters", parameters_table(name, settings))
    for figure in settings.figures:
        page = replaced(page, f"figure {figure}", _image(name, figure))
    return page


def with_result(page: str, settings: PageSettings, result: AnalysisResult) -> str:
    """A page whose checks and tables are those of a result."""
    page = replaced(page, "checks", checks_table(result))
    for table, n_rows in settings.tables.items():
        rows = result.tables[table]
        page = replaced(page, f"table {table}", rows_table(rows.head(n_rows) if n_rows else rows))
    return page


def write_figures(name: str, settings: PageSettings, result: AnalysisResult) -> None:
    """Draw a page's figures, in place of those that it had.

    Raises:
        InputError: If a picture is too large for a page.
    """
    from interp.charts.export import svg
    from interp.charts.mpl import draw

    IMAGES.mkdir(parents=True, exist_ok=True)
    wanted = {_file(name, figure): result.figures[figure] for figure in settings.figures}
    for path, chart in wanted.items():
        text = svg(draw(chart, result.tables[chart.table]), chart)
        if len(text.encode()) > MAX_BYTES:
            raise InputError(f"a picture takes at most {MAX_BYTES} bytes. Received {len(text)}")
        with replacing_file(path) as fresh:
            fresh.write_text(text, encoding="utf-8")
    for old in set(IMAGES.glob(f"{name}--*.svg")) - set(wanted):
        old.unlink()


def _image(name: str, figure: str) -> str:
    """The line of Markdown that shows a picture, with the text alternative that it carries."""
    path = _file(name, figure)
    if not path.is_file():
        raise InputError(f"{path.name} does not exist: python -m docs.generate.analyses {name}")
    told = re.search(r"<desc>(.*?)</desc>", path.read_text(encoding="utf-8"), re.DOTALL)
    alt = html.unescape(told[1]) if told else ""
    return f"![{plain(alt, '[]')}](../images/analyses/{path.name})"


def _file(name: str, figure: str) -> Path:
    return IMAGES / f"{name}--{figure}.svg"
