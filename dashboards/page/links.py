"""Links from one page to another."""

import streamlit as st


def to_analysis(name: str, label: str) -> None:
    """A link to the page of a canned analysis, by the analysis's name."""
    # A page is known by its path alone: what this one would draw is never asked.
    st.page_link(st.Page(lambda: None, title=name, url_path=name), label=label)
