"""What the reader has chosen, and the page's address that says it.

The choices of a session live in `st.session_state`: those shared by all pages (model, prompt, BOS)
and those of each page. Every run writes them to the address; a new session takes them from there.
So the address reproduces the view, and a choice survives a walk over other pages.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import streamlit as st

from dashboards.wording import plain
from interp.errors import unknown

SHARED = "shared"
SHARED_NAMES = ("model", "prompt", "bos")

T = TypeVar("T")


class Choices:
    """The choices of one scope, as text by name, and widgets that make them.

    A choice equal to its default is not kept, so that it follows the default: the prompt that of
    the model, the position the prompt's last.

    Attributes:
        kept: What the reader chose.
        shown: What the widgets of this run show, defaults included.
    """

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.kept = _kept(scope)
        self.shown: dict[str, str] = {}

    def key(self, name: str) -> str:
        """The widget's key in `st.session_state`."""
        return f"{self.scope}/{name}"

    def keep(self, name: str, text: str) -> None:
        """Choose, from the next run on."""
        self.kept[name] = text

    def asked(self, name: str, default: str) -> str | None:
        """The choice kept; None where there is none or it is the default."""
        if self.kept.get(name) == default:
            del self.kept[name]
        return self.kept.get(name)

    def choice(
        self,
        name: str,
        label: str,
        options: Sequence[T],
        default: T,
        show: Callable[[Any], str] = str,
        **widget: Any,
    ) -> T:
        """One of several options, in a box.

        Where another is asked for (a layer that this model lacks), the default is shown, and said.
        """
        by_text = {str(option): option for option in options}
        asked = self.asked(name, str(default))
        if asked is not None and asked not in by_text:
            st.warning(
                f"There is no {label.lower()} {plain(repr(asked))} here. "
                f"Shown: {plain(show(default))}."
            )
            del self.kept[name]
            asked = None
        value = default if asked is None else by_text[asked]
        self._draw_choice(name, label, options, value, format_func=show, **widget)
        self.shown[name] = str(value)
        return value

    def required_choice(self, name: str, label: str, options: Sequence[str]) -> str:
        """One of several names, the first by default; the box is empty where another is asked for.

        Raises:
            InputError: If another is asked for; the message lists the names.
        """
        asked = self.asked(name, options[0])
        value = options[0] if asked is None else asked
        self.shown[name] = value
        known = value in options
        self._draw_choice(name, label, options, value if known else None)
        if not known:
            raise unknown(label.lower(), value, options)
        return value

    def text(self, name: str, label: str, default: str, **widget: Any) -> str:
        """A text of several lines."""
        asked = self.asked(name, default)
        value = default if asked is None else asked
        self.shown[name] = value
        set_widget(self.key(name), value)
        st.text_area(label, key=self.key(name), on_change=self._changed, args=(name,), **widget)
        return value

    def toggle(self, name: str, label: str, default: bool, **widget: Any) -> bool:
        """A switch; `1` or `0` in the address."""
        asked = self.asked(name, str(int(default)))
        if asked not in (None, "0", "1"):
            st.warning(f"{label} is 0 or 1 in the address, not {plain(repr(asked))}.")
            del self.kept[name]
            asked = None
        value = default if asked is None else asked == "1"
        self.shown[name] = str(int(value))
        set_widget(self.key(name), value)
        st.toggle(label, key=self.key(name), on_change=self._changed, args=(name,), **widget)
        return value

    def _draw_choice(
        self, name: str, label: str, options: Sequence[Any], value: Any, **widget: Any
    ) -> None:
        set_widget(self.key(name), value)
        st.selectbox(
            label, options, key=self.key(name), on_change=self._changed, args=(name,), **widget
        )

    def _changed(self, name: str) -> None:
        value = st.session_state[self.key(name)]
        self.kept[name] = str(int(value)) if isinstance(value, bool) else str(value)


class Address:
    """The choices that one run of a page is drawn from.

    Attributes:
        shared: Those that all pages have in common.
        page: Those of this page.
    """

    def __init__(self, page: str) -> None:
        if "choices" not in st.session_state:
            for name, text in st.query_params.to_dict().items():
                _kept(SHARED if name in SHARED_NAMES else page)[name] = text
        self.shared = Choices(SHARED)
        self.page = Choices(page)

    def drop_unknown(self) -> None:
        """Tell of choices that the page, drawn to its end, had no use for; forget them."""
        for name in [name for name in self.page.kept if name not in self.page.shown]:
            st.warning(f"This page does not know {plain(repr(name))}, which the address holds.")
            del self.page.kept[name]

    def publish(self) -> None:
        """Write the choices to the browser's address line."""
        choices = self.shared.kept | self.shared.shown | self.page.kept | self.page.shown
        if st.query_params.to_dict() != choices:
            st.query_params.from_dict(choices)


def _kept(scope: str) -> dict[str, str]:
    scopes: dict[str, dict[str, str]] = st.session_state.setdefault("choices", {})
    return scopes.setdefault(scope, {})


def set_widget(key: str, value: Any) -> None:
    """Make a widget that is drawn later in this run show a value."""
    # Only where it differs: setting it again would discard what is being typed.
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value
