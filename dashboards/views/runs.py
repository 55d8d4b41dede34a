"""The page of saved runs: which there are, and one of them opened."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd
import streamlit as st

from analyses import AnalysisResult
from analyses.storage import REPORT
from dashboards import results, saved
from dashboards.address import Choices
from dashboards.wording import plain


def show(choices: Choices, runs: Path) -> None:
    """Draw the page.

    Args:
        choices: Of this page.
        runs: Where results are saved.
    """
    found = saved.find(runs)
    sound = [run for run in found if not run.fault]
    st.caption(plain(f"{len(found)} in {runs.resolve()}"))
    if not found:
        st.info(
            "Nothing is saved here yet. Save a result on the page of an analysis, or run "
            f"`interp run head-attribution --model NAME --out {runs}/NAME`."
        )
    for run in found:
        if run.fault:
            st.error(plain(f"{run.name} cannot be opened: {run.fault}"))
    if not sound:
        return
    rows = pd.DataFrame([asdict(run) for run in sound]).drop(columns="fault")
    rows = rows.rename(columns={"name": "run"})
    st.dataframe(rows, hide_index=True, key="runs/list")
    names = [run.name for run in sound]
    name = choices.choice("run", "Run", names, names[0])
    _run(runs / name, name)


def _run(directory: Path, name: str) -> None:
    result = AnalysisResult.load(directory)
    st.header(plain(name))
    st.markdown(f"**{result.name}**: {plain(result.question)}")
    if result.caveat:
        st.caption(plain(result.caveat))
    report = directory / REPORT
    if report.is_file():
        st.download_button(
            "Download report", report.read_bytes(), f"{directory.name}.html", "text/html",
            help="One HTML file that needs no other.", on_click="ignore",
        )  # fmt: skip
    else:
        st.caption(plain(f"{REPORT} is missing from {directory}."))
    results.show(result, f"runs/{name}")
