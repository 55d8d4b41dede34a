"""What stands where on the superposition page: its sections, one at a time."""

from pathlib import Path

import streamlit as st

from dashboards.page.address import Choices
from dashboards.views.superposition import controls, dynamics, library, look, phase, train

SECTIONS = {
    "look": ("Toys by density", look),
    "train": ("Train live", train),
    "phase": ("Phase diagram", phase),
    "dynamics": ("Learning dynamics", dynamics),
    "results": ("All results", library),
}


def show(choices: Choices, runs: Path) -> None:
    """Draw the page.

    Args:
        choices: Of this page.
        runs: Where results are saved.
    """
    st.caption(
        "Toy models of superposition (Elhage et al. 2022): n sparse features are squeezed through "
        "m hidden dimensions, mostly fewer than n, and read back, x' = ReLU(WᵀW x + b). The "
        "columns of W are the features' directions. Toys show what training can do with features "
        "that are known; they are no parts of the model at the side, and prove nothing about it."
    )
    titles = {name: title for name, (title, _) in SECTIONS.items()}
    section = controls.sections(choices, "section", titles, "look")
    SECTIONS[section][1].show(choices, runs)
    choices.keep_unseen(*(name for _, part in SECTIONS.values() for name in part.NAMES))
