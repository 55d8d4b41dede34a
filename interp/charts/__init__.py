"""Tables as figures: one declarative chart, drawn alike by reports, notebooks and pages.

`Chart` says what to draw. `interp.charts.mpl.draw` makes a still picture of it,
`interp.charts.interactive.draw` a plotly figure, `interp.charts.export` files, and
`interp.charts.show` shows it in a notebook.
"""

from interp.charts.notebook import Shown, show
from interp.charts.spec import Chart

__all__ = ["Chart", "Shown", "show"]
