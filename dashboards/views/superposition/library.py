"""All results about superposition, those that ship and those that were saved."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.page.address import Choices
from dashboards.runs import results
from dashboards.views.superposition import sources

DEFAULT = "shipped:uniform-geometry"
NAMES = ("open",)


def show(choices: Choices, runs: Path) -> None:
    """Draw the section.

    Args:
        choices: Of the page.
        runs: Where results are saved.
    """
    st.caption(
        "What ships was made with `python -m analyses.superposition.shipped`, at sizes that a "
        "laptop trains in minutes: each result says its settings. More are made on the pages of "
        "the analyses named superposition-…, and appear here once they are saved."
    )
    source = sources.choose(choices, "open", "Result", runs, lambda _: True, DEFAULT)
    result = sources.load(source)
    st.markdown(f"**{result.name}**: {plain(result.question)}")
    if result.caveat:
        with st.expander("How this can mislead"):
            st.markdown(plain(result.caveat))
    if "findings" in result.tables:
        st.subheader("What the paper says, and what was found")
        figures.table(
            result.tables["findings"],
            f"superposition/findings/{source.key}",
            f"{source.name}-findings",
            f"{source.code}\ntable = result.tables['findings']\n",
        )
    results.show(result, f"superposition/{source.key}")
