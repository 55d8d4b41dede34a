"""The dashboard. Started by `interp dashboard`; each page is drawn by a module of `views`."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import streamlit as st

from analyses import Analysis, list_analyses
from dashboards import sidebar
from dashboards.drawing import theme
from dashboards.drawing.wording import plain
from dashboards.options import Options, read_options
from dashboards.page.address import Address, Choices
from dashboards.page.kept_texts import KeptTexts
from dashboards.sidebar import Side
from dashboards.views import analysis, catalogue, runs, superposition
from interp import InterpError

# What draws a page: it asks the side for what it looks at. The choices are the page's own and those
# that all pages share.
Draw = Callable[[Side, Choices, Choices], None]

# Pages that look at a model and what it reads: address, title, and the module of `views`.
LOOK = (
    ("prompt", "Prompt", "prompt"),
    ("attention", "Attention", "attention"),
    ("residual", "Residual stream", "residual"),
    ("attribution", "Head attribution", "attribution"),
    ("flow", "Information flow", "flow"),
    ("interventions", "Interventions", "interventions"),
)
# Pages of the model alone.
MODEL = (("weights", "Weights", "weights"), ("positions", "Positions", "positions"))


def main() -> None:
    """Draw the page that the address names."""
    options = read_options()
    saved_runs = _page(
        options, "runs", "Saved runs", lambda _, choices, __: runs.show(choices, options.runs)
    )

    def open_run(name: str) -> None:
        Choices("runs").keep("run", name)
        st.switch_page(saved_runs)

    def analysis_page(each: type[Analysis[Any]]) -> Any:
        return _page(
            options,
            each.name,
            analysis.title(each),
            lambda side, choices, _: analysis.show(
                each, side.subject, choices, options.runs, open_run
            ),
            visibility="hidden",
        )

    canned = {each.name: analysis_page(each) for each in list_analyses()}
    all_analyses = _page(
        options, "analyses", "Analyses", lambda _, choices, __: catalogue.show(choices, canned)
    )
    toys = _page(
        options,
        "superposition",
        "Superposition",
        lambda _, choices, __: superposition.show(choices, options.runs),
    )
    pages = {
        "Look inside": [_view(options, *each) for each in LOOK],
        "The model itself": [_view(options, *each) for each in MODEL],
        "Toy models": [toys],
        "Analyses": [all_analyses, saved_runs, *canned.values()],
    }
    st.navigation(pages, expanded=True).run()


def _view(options: Options, name: str, title: str, module: str) -> Any:
    """A page that looks at a model. Its module is imported when it is opened."""

    def draw(side: Side, choices: Choices, shared: Choices) -> None:
        view = import_module(f"dashboards.views.{module}")
        if name == "interventions":
            view.show(side.subject(), choices, shared)
        elif (name, title, module) in MODEL:
            view.show(side.loaded(), choices)
        else:
            view.show(side.subject(), choices)

    return _page(options, name, title, draw)


def _page(options: Options, name: str, title: str, draw: Draw, **look: Any) -> Any:
    """A page of the dashboard: the side, what `draw` draws or what is wrong, and the address."""

    def show() -> None:
        st.set_page_config(page_title=f"{title} · interp", layout="wide")
        st.html(Path(__file__).with_name("style.css"))
        theme.follow()
        address = Address(name, KeptTexts(options.runs))
        with st.sidebar:
            side = sidebar.draw(address.shared, options.models)
        st.title(title)
        for fault in address.faults:
            st.error(plain(fault))
        try:
            draw(side, address.page, address.shared)
            address.drop_unknown()
        except sidebar.NothingChosenError as hint:
            st.info(plain(hint))
        except InterpError as fault:
            st.error(plain(fault))
        try:
            address.publish()
        except InterpError as fault:
            st.error(plain(fault))

    return st.Page(show, title=title, url_path=name, default=name == "prompt", **look)


main()
