"""Pages from the example scripts: their Markdown cells as text, their code cells as code."""

from __future__ import annotations

from pathlib import Path


def example_page(script: Path) -> str:
    """The Markdown of a page that shows a script in percent format.

    Args:
        script: Below `docs/examples`; the page links to it by its name, so the page must lie beside
            it.

    Returns:
        The cells in their order, with a line behind the title that says where to get the script.
    """
    import jupytext

    cells = jupytext.read(script, fmt="py:percent").cells
    parts = [
        cell.source.strip() if cell.cell_type == "markdown" else _code(cell.source.strip())
        for cell in cells
        if cell.source.strip()
    ]
    title, _, rest = parts[0].partition("\n")
    if not title.startswith("# "):
        title, rest = f"# {script.stem.replace('_', ' ').capitalize()}", parts[0]
    note = (
        f"A script to run as it is or to open as a notebook: [{script.name}]({script.name}) "
        f"(`docs/examples/{script.name}`)."
    )
    return "\n\n".join([title, note, rest.strip(), *parts[1:]]) + "\n"


def _code(source: str) -> str:
    fence = "````" if "```" in source else "```"
    return f"{fence}python\n{source}\n{fence}"
