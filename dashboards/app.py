"""The dashboard. Started by `interp dashboard`; each page is drawn by a module of `views`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from analyses import Analysis, list_analyses
from dashboards import sidebar
from dashboards.address import Address, Choices
from dashboards.options import Options, read_options
from dashboards.subject import Subject
from dashboards.views import analysis, attention, prompt, runs
from dashboards.wording import plain
from interp import InterpError

# What draws a page: it asks for the subject if it looks at one.
Draw = Callable[[Callable[[], Subject], Choices], None]


def main() -> None:
    """Draw the page that the address names."""
    options = read_options()
    saved_runs = _page(
        options, "runs", "Saved runs", lambda _, choices: runs.show(choices, options.runs)
    )

    def open_run(name: str) -> None:
        Choices("runs").keep("run", name)
        st.switch_page(saved_runs)

    def analysis_page(each: type[Analysis[Any]]) -> Any:
        return _page(
            options,
            each.name,
            analysis.title(each),
            lambda subject, choices: analysis.show(each, subject, choices, options.runs, open_run),
        )

    look = [
        _page(options, "prompt", "Prompt", lambda of, choices: prompt.show(of(), choices)),
        _page(options, "attention", "Attention", lambda of, choices: attention.show(of(), choices)),
    ]
    pages = {
        "Look": look,
        "Analyses": [analysis_page(each) for each in list_analyses()],
        "Results": [saved_runs],
    }
    st.navigation(pages).run()


def _page(options: Options, name: str, title: str, draw: Draw) -> Any:
    """A page of the dashboard: the side, what `draw` draws or what is wrong, and the address."""

    def show() -> None:
        st.set_page_config(page_title=f"{title} · interp", layout="wide")
        st.html(Path(__file__).with_name("style.css"))
        address = Address(name)
        with st.sidebar:
            subject = sidebar.draw(address.shared, options.models)
        st.title(title)
        try:
            draw(subject, address.page)
            address.drop_unknown()
        except sidebar.NothingChosenError as hint:
            st.info(plain(hint))
        except InterpError as fault:
            st.error(plain(fault))
        address.publish()

    return st.Page(show, title=title, url_path=name, default=name == "prompt")


main()
