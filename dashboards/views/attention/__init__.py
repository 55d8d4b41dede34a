"""The attention page: all heads as one picture, and one of them large."""

from dashboards.views.attention.page import show

__all__ = ["show"]
