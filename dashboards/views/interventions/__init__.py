"""The interventions page: switch parts off, patch and steer, and see before, after, difference."""

from dashboards.views.interventions.page import show

__all__ = ["show"]
