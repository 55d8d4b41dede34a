"""From a clicked cell to a choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboards.page.address import Choices


def pick(choices: Choices, key: str, chosen: Callable[[Any, Any], dict[str, Any]]) -> None:
    """Keep what a clicked cell means."""
    points: list[Any] = st.session_state[key]["selection"]["points"]
    for point in points:
        for name, value in chosen(*point["customdata"][:2]).items():
            choices.keep(name, str(value))
