"""Tables as figures: one declarative chart, drawn alike by reports, notebooks and pages.

`Chart` says what to draw. `interp.charts.mpl.draw` makes a still picture of it,
`interp.charts.interactive.draw` a plotly figure, `interp.charts.export` files, and
`interp.charts.show` shows it in a notebook.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.charts.notebook import Shown, show
    from interp.charts.spec import Chart

__all__ = ["Chart", "Shown", "show"]


def __getattr__(name: str) -> Any:
    """The names above, loaded when they are used: with them comes pandas.

    What shows a model or a cache in a notebook takes its colours and its escaping from this
    package, and needs no tables.
    """
    if name == "Chart":
        from interp.charts.spec import Chart

        return Chart
    if name in ("Shown", "show"):
        from interp.charts import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
