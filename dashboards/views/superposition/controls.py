"""Widgets of this page whose state is in the address: sections, and sliders over a few values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import streamlit as st

from dashboards.page.address import Choices, set_widget

T = TypeVar("T")


def sections(choices: Choices, name: str, options: dict[str, str], default: str) -> str:
    """Which of a page's sections is shown: a row of buttons.

    Args:
        choices: Of the page.
        name: Of the choice in the address.
        options: The title of each section.
        default: The first one's name.
    """
    value = choices.one_of(name, "section", list(options), default, options.__getitem__)
    key = choices.key(name)
    set_widget(key, value)

    def changed() -> None:
        choices.keep(name, st.session_state[key] or value)  # clicked again, it is off

    st.segmented_control(
        "Section", list(options), format_func=options.__getitem__, key=key, on_change=changed,
        label_visibility="collapsed",
    )  # fmt: skip
    return value


def slider(
    choices: Choices,
    name: str,
    label: str,
    options: Sequence[T],
    default: T,
    show: Callable[[Any], str] = str,
    **widget: Any,
) -> T:
    """One of several values in order, on a slider; it moves with the arrow keys too.

    Where there is but one, there is nothing to choose, and no slider.
    """
    value = choices.one_of(name, label.lower(), options, default, show)
    if len(options) == 1:
        return value
    key = choices.key(name)
    set_widget(key, value)
    st.select_slider(
        label, list(options), format_func=show, key=key,
        on_change=lambda: choices.keep(name, str(st.session_state[key])), **widget,
    )  # fmt: skip
    return value
