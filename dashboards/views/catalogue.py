"""The page that lists the canned analyses."""

import streamlit as st

from analyses import list_analyses
from dashboards.drawing.wording import plain
from dashboards.page.address import Choices
from dashboards.views.analysis import title


def show(choices: Choices, pages: dict[str, st.Page]) -> None:
    """Draw the page.

    Args:
        choices: Of this page.
        pages: The page of each analysis, by the analysis's name.
    """
    found = list_analyses()
    st.caption(
        f"{len(found)} questions that are asked of models, each with its parameters, figures, "
        "tables and checks. The same run from the command line: `interp run NAME`."
    )
    wanted = choices.line("find", "Find", placeholder="Such as attention, ablation, superposition")
    words = wanted.lower().split()
    kept = [
        each
        for each in found
        if all(word in f"{each.name} {each.question}".lower() for word in words)
    ]
    if not kept:
        st.info("No analysis has these words in its name or question.")
    with_model = [each for each in kept if each.needs_model]
    without = [each for each in kept if not each.needs_model]
    for heading, group in (("Of a model", with_model), ("Without a model", without)):
        if group:
            st.subheader(heading)
        for each in group:
            link, question = st.columns([1, 3])
            with link:
                st.page_link(pages[each.name], label=title(each))
            with question:
                st.markdown(plain(each.question))
