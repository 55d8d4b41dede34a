"""The prompt page: tokens, what comes next, surprise, two prompts, and the text continued."""

from dashboards.views.prompt.page import show

__all__ = ["show"]
