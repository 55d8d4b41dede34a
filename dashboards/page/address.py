"""What the reader has chosen, and the page's address that says it.

The choices of a session live in `st.session_state`: those shared by all pages (model, prompt,
interventions …) and those of each page. Every run writes them to the address; a new session takes
them from there, and so does a session whose reader went back or changed the address. So the address
reproduces the view, and a choice survives a walk over other pages. A text too long for an address
stands there by its hash (`kept_texts`).
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dashboards.drawing.wording import plain
from dashboards.page.kept_texts import KeptTexts
from interp.errors import InputError, unknown

SHARED = "shared"
SHARED_NAMES = (
    "model", "prompt", "bos", "second", "decoder", "answer", "rival", "edits", "edited",
)  # fmt: skip
MAX_CHOICES = 100  # in one address
LATEST = 10  # addresses that a click may have been made on before the browser knew the next

T = TypeVar("T")
N = TypeVar("N", int, float)


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

    def keep_unseen(self, *names: str) -> None:
        """Know these names though their widgets are not drawn in this run, and keep what they say.

        To be called when the page is drawn.
        """
        for name in names:
            if name in self.kept:
                self.shown.setdefault(name, self.kept[name])

    def asked(self, name: str, default: str) -> str | None:
        """The choice kept; None where there is none or it is the default."""
        if self.kept.get(name) == default:
            del self.kept[name]
        return self.kept.get(name)

    def one_of(
        self,
        name: str,
        what: str,
        options: Sequence[T],
        default: T,
        show: Callable[[Any], str] = str,
    ) -> T:
        """Which of several options was chosen, for a widget that is yet to be drawn.

        Where another is asked for (a layer that this model lacks), it is the default, and said.
        """
        by_text = {str(option): option for option in options}
        asked = self.asked(name, str(default))
        if asked is not None and asked not in by_text:
            st.warning(
                f"There is no {what} {plain(repr(asked))} here. Shown: {plain(show(default))}."
            )
            del self.kept[name]
            asked = None
        value = default if asked is None else by_text[asked]
        self.shown[name] = str(value)
        return value

    def choice(
        self,
        name: str,
        label: str,
        options: Sequence[T],
        default: T,
        show: Callable[[Any], str] = str,
        **widget: Any,
    ) -> T:
        """One of several options, in a box; see `one_of`."""
        value = self.one_of(name, label.lower(), options, default, show)
        self._draw_choice(name, label, options, value, format_func=show, **widget)
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
        return self._draw_text(st.text_area, name, label, default, **widget)

    def line(self, name: str, label: str, default: str = "", **widget: Any) -> str:
        """A text of one line."""
        return self._draw_text(st.text_input, name, label, default, **widget)

    def number(
        self,
        name: str,
        label: str,
        default: N,
        least: N,
        most: N,
        step: N,
        slider: bool = False,
        **widget: Any,
    ) -> N:
        """A number between limits, in a field or on a slider; of the default's type.

        Where the address asks for another, the default is shown, and said.
        """
        asked = self.asked(name, str(default))
        value = default
        if asked is not None:
            try:
                value = type(default)(asked)
            except ValueError:
                value = most + step
            if not least <= value <= most:
                st.warning(
                    f"{label} lies in {least} … {most}, not {plain(repr(asked))}. Shown: {default}."
                )
                del self.kept[name]
                value = default
        self.shown[name] = str(value)
        set_widget(self.key(name), value)
        draw = st.slider if slider else st.number_input
        draw(
            label, least, most, step=step, key=self.key(name), on_change=self._changed,
            args=(name,), **widget,
        )  # fmt: skip
        return value

    def several(
        self,
        name: str,
        label: str,
        options: Sequence[T],
        default: Sequence[T],
        show: Callable[[Any], str] = str,
        **widget: Any,
    ) -> list[T]:
        """Some of several options, joined by commas in the address, in the options' order."""
        by_text = {str(option): option for option in options}
        asked = self.asked(name, ",".join(map(str, default)))
        value = list(default)
        if asked is not None:
            given = [text for text in asked.split(",") if text]
            strange = [text for text in given if text not in by_text]
            if strange:
                st.warning(f"There is no {label.lower()} {plain(repr(strange[0]))} here.")
            value = [option for text, option in by_text.items() if text in given]
        self.shown[name] = ",".join(map(str, value))
        set_widget(self.key(name), value)
        st.multiselect(
            label, options, key=self.key(name), format_func=show, on_change=self._changed,
            args=(name,), **widget,
        )  # fmt: skip
        return value

    def _draw_text(self, draw: Any, name: str, label: str, default: str, **widget: Any) -> str:
        asked = self.asked(name, default)
        value = default if asked is None else asked
        if value or default:
            self.shown[name] = value
        set_widget(self.key(name), value)
        draw(label, key=self.key(name), on_change=self._changed, args=(name,), **widget)
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
        if isinstance(value, list):
            self.kept[name] = ",".join(map(str, value))
        else:
            self.kept[name] = str(int(value)) if isinstance(value, bool) else str(value)


class Address:
    """The choices that one run of a page is drawn from.

    Args:
        page: The page's name.
        texts: Where long texts are kept.

    Attributes:
        shared: Those that all pages have in common.
        page: Those of this page.
        faults: What is wrong with the address, a line each.
    """

    def __init__(self, page: str, texts: KeptTexts) -> None:
        self.faults: list[str] = []
        self._texts = texts
        given = st.query_params.to_dict()
        # An empty address is that of a page which was reached by its link.
        if given and self._is_news(given):
            self._take(page, given)
            _remember(given)
        self.shared = Choices(SHARED)
        self.page = Choices(page)

    @staticmethod
    def _is_news(given: dict[str, str]) -> bool:
        """Whether the reader went back, or typed it.

        A click that was under way while the address was written tells of the one before: that the
        session has moved on from. After a page's link it may even tell of the page before.
        """
        run = get_script_run_ctx(suppress_warning=True)
        went_back = run is not None and run.is_history_navigation
        return went_back or given not in _known()

    def _take(self, page: str, given: dict[str, str]) -> None:
        if len(given) > MAX_CHOICES:
            self.faults.append(f"An address holds {MAX_CHOICES} choices at most, not {len(given)}.")
            return
        for scope in (SHARED, page):
            _kept(scope).clear()
        for name, value in given.items():
            try:
                text = self._texts.whole(value)
            except InputError as fault:
                self.faults.append(str(fault))
            else:
                _kept(SHARED if name in SHARED_NAMES else page)[name] = text

    def drop_unknown(self) -> None:
        """Tell of choices that the page, drawn to its end, had no use for; forget them."""
        for name in [name for name in self.page.kept if name not in self.page.shown]:
            st.warning(f"This page does not know {plain(repr(name))}, which the address holds.")
            del self.page.kept[name]

    def publish(self) -> None:
        """Write the choices to the browser's address line.

        Raises:
            InputError: If one is longer than any text that is kept.
        """
        choices = self.shared.kept | self.shared.shown | self.page.kept | self.page.shown
        written = {name: self._texts.shortened(text) for name, text in choices.items()}
        _remember(written)
        # Even where the address says so already: the line of a reader who went back twice at once
        # may meanwhile hold what the run between had written.
        st.query_params.from_dict(written)


def _known() -> list[dict[str, str]]:
    """The addresses of this session that a click may have been made on, the latest last."""
    known: list[dict[str, str]] = st.session_state.setdefault("addresses", [])
    return known


def _remember(address: dict[str, str]) -> None:
    known = _known()
    if address in known:
        known.remove(address)
    known.append(address)
    del known[:-LATEST]


def _kept(scope: str) -> dict[str, str]:
    scopes: dict[str, dict[str, str]] = st.session_state.setdefault("choices", {})
    return scopes.setdefault(scope, {})


def set_widget(key: str, value: Any) -> None:
    """Make a widget that is drawn later in this run show a value."""
    # Only where it differs: setting it again would discard what is being typed.
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value
