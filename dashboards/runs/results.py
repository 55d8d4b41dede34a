"""An `AnalysisResult` on a page: checks, figures, tables, what it ran on, and how to make it."""

import pandas as pd
import streamlit as st

from analyses import AnalysisResult
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.runs.scripts import script, table_script
from interp.charts.markup import escape
from interp.charts.tokens import visible


def show(result: AnalysisResult, key: str, model: str | None = None) -> None:
    """Draw all of a result.

    Args:
        result: What to draw.
        key: Begins the keys of its widgets.
        model: What its model is opened by, for the Python that makes it again; None: by the name
            that it calls itself.
    """
    verdict(result)
    _figures(result, key, model)
    _checks(result, key)
    st.subheader("Tables")
    for name, table in result.tables.items():
        with st.expander(f"{name} ({len(table)} rows)"):
            code = table_script(result, name, model)
            figures.table(table, f"{key}/table/{name}", f"{result.name}-{name}", code)
    _provenance(result, key, model)


def verdict(result: AnalysisResult) -> None:
    """Say whether all checks passed, and which did not."""
    failed = [check.name for check in result.checks if not check.passed]
    if failed:
        st.error(
            f"{len(failed)} of {len(result.checks)} checks failed: {plain(', '.join(failed))}."
        )
    else:
        st.success(f"{_count(len(result.checks), 'check')} passed.")


def _figures(result: AnalysisResult, key: str, model: str | None) -> None:
    """Draw the figures in order, two in a row where both are small."""
    waiting: list[str] = []
    for name, chart in result.figures.items():
        wide = figures.is_wide(chart, result.tables[chart.table])
        if wide:
            _row(result, waiting, key, model)
            _row(result, [name], key, model)
            waiting = []
        else:
            waiting.append(name)
            if len(waiting) == 2:
                _row(result, waiting, key, model)
                waiting = []
    _row(result, waiting, key, model)


def _row(result: AnalysisResult, names: list[str], key: str, model: str | None) -> None:
    for name, column in zip(names, st.columns(max(len(names), 1)), strict=False):
        chart = result.figures[name]
        with column:
            figures.chart(
                chart, result.tables[chart.table], f"{key}/figure/{name}",
                code=table_script(result, chart.table, model),
            )  # fmt: skip


def _checks(result: AnalysisResult, key: str) -> None:
    st.subheader("Checks")
    st.caption("Identities that hold for any model, and how far this run was from them.")
    rows = pd.DataFrame(
        {
            "outcome": ["passed" if check.passed else "FAILED" for check in result.checks],
            "check": [check.name for check in result.checks],
            "value": [f"{check.value:.3g}" for check in result.checks],
            "tolerance": [f"{check.tolerance:.3g}" for check in result.checks],
            "what it compares": [check.note for check in result.checks],
        }
    )
    st.dataframe(rows, hide_index=True, key=f"{key}/checks")


def _provenance(result: AnalysisResult, key: str, model: str | None) -> None:
    left_out = {"tokens", "str_tokens", "interventions", "interventions_json"}
    record = result.provenance.model_dump(mode="json", exclude=left_out)
    parameters, versions = record.pop("parameters"), record.pop("versions")
    record |= {f"weights of {name}": sha for name, sha in record.pop("beside").items()}
    rows = {name: value for name, value in record.items() if value is not None}
    rows |= {f"parameter {name}": value for name, value in parameters.items()}
    rows |= {f"intervention {i}": x for i, x in enumerate(result.provenance.interventions)}
    rows["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    for i, texts in enumerate(result.provenance.str_tokens or []):
        rows[f"input {i}"] = " ".join(visible(text) for text in texts)
    with st.expander("What it ran on, and the Python that runs it again"):
        cells = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
            for name, value in rows.items()
        )
        st.html(f'<table class="record">{cells}</table>')
        code = script(result, model)
        st.code(code, language="python")
        with st.container(horizontal=True):
            st.download_button(
                "Provenance as JSON", lambda: result.provenance.model_dump_json(indent=1),
                f"{result.name}-provenance.json", "application/json", key=f"{key}/provenance",
                on_click="ignore",
            )  # fmt: skip
            st.download_button(
                "Python", code, f"{result.name}.py", "text/x-python", key=f"{key}/python",
                on_click="ignore",
            )  # fmt: skip


def _count(n: int, noun: str) -> str:
    return f"1 {noun}" if n == 1 else f"All {n} {noun}s"
