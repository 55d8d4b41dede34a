"""All pictures of docs/anatomy.md: `python -m docs.generate.anatomy [--out DIR] [NAME …]`.

Nothing is drawn by hand. Without names it also brings the page up to date: what its blocks print,
and the text alternatives of its pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from docs.generate.anatomy import drawn, patterns, positions, stacks, stream, words
from docs.generate.anatomy.drawing import Drawing
from docs.generate.anatomy.page import with_alternatives, with_outputs
from interp.charts.export import write_svg
from interp.charts.mpl import draw
from interp.files.atomic import replacing_file

PAGE = Path(__file__).parents[2] / "anatomy.md"
OUT = PAGE.parent / "images" / "anatomy"
CHARTS: dict[str, Callable[[], words.Picture]] = {
    "written": words.written,
    "alike": words.alike,
    "choices": words.choices,
    "sinusoids": positions.sinusoids,
    "products": positions.products,
    "score-parts": positions.score_parts,
    "one-query": patterns.one_query,
    "heads": patterns.heads,
    "masks": patterns.masks,
    "crossing": patterns.crossing,
    "shapes": patterns.shapes,
    "lengths": stream.lengths,
    "neurons": stream.neurons,
    "features": stream.features,
}
MOST_CELLS = 400  # of more, cells are pixels: as paths they would be most of the file
DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "stacks": stacks.stacks,
    "merges": drawn.merges,
    "one-head": drawn.one_head,
}


@torch.no_grad()
def alternatives() -> dict[str, str]:
    """The text alternative of every picture, by its name."""
    told = {name: chart_of()[0].alt for name, chart_of in CHARTS.items()}
    return told | {name: drawing_of().alt for name, drawing_of in DRAWINGS.items()}


@torch.no_grad()
def main(out: Path, names: Sequence[str]) -> None:
    """Write the pictures of these names."""
    out.mkdir(parents=True, exist_ok=True)
    for name in [name for name in CHARTS if name in names]:
        chart, table = CHARTS[name]()
        figure = draw(chart, table)
        if chart.kind in ("heatmap", "attention") and len(table) > MOST_CELLS:
            for axes in figure.axes:
                for cells in axes.collections:
                    cells.set_rasterized(True)
        write_svg(out / f"{name}.svg", figure, chart)
    for name in [name for name in DRAWINGS if name in names]:
        drawing = DRAWINGS[name]()
        write_svg(out / f"{name}.svg", drawing.figure, drawing)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help="default: docs/images/anatomy")
    every = [*CHARTS, *DRAWINGS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(every)}; or all")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(every)):
        parser.error(f"there is no picture {', '.join(unknown)}")
    main(given.out, given.names or every)
    if not given.names:
        page = with_alternatives(with_outputs(PAGE.read_text("utf-8")), alternatives())
        with replacing_file(PAGE) as fresh:
            fresh.write_text(page, encoding="utf-8")
