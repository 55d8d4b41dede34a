"""The superposition page: toys trained live or opened, their shapes, phases and dynamics."""

from pathlib import Path

import streamlit as st

from dashboards.address import Choices
from dashboards.superposition import controls, dynamics, library, look, phase, train

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
        "m < n hidden dimensions and read back, x' = ReLU(WᵀW x + b). The columns of W are the "
        "features' directions. These are models of a question, not parts of the model at the side."
    )
    titles = {name: title for name, (title, _) in SECTIONS.items()}
    section = controls.sections(choices, "section", titles, "look")
    SECTIONS[section][1].show(choices, runs)
    controls.remember(choices, [name for _, part in SECTIONS.values() for name in part.NAMES])
