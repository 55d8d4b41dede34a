"""One analysis over a grid of settings and models: run, resumed, and merged into one result."""

from analyses.grids.plan import Cell, GridPlan
from analyses.grids.run import run_grid

__all__ = ["Cell", "GridPlan", "run_grid"]
