"""The superposition page: toys trained live or opened, their shapes, phases and dynamics."""

from dashboards.views.superposition.page import show

__all__ = ["show"]
