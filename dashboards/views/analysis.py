"""The page of a canned analysis: its form, and the result for the prompt at the side."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from analyses import Analysis, AnalysisResult, run_analysis
from dashboards import results, saved
from dashboards.address import Choices
from dashboards.forms import settings_form
from dashboards.subject import Loaded, Subject
from dashboards.wording import plain
from interp import InterpError, zoo

# Parameters that the side of the page gives, where an analysis has them.
FROM_SIDE = ("prompt", "tokens", "prepend_bos")


def title(analysis: type[Analysis[Any]]) -> str:
    """An analysis's name as a title: `Head attribution`."""
    return analysis.name.replace("-", " ").capitalize()


def show(
    analysis: type[Analysis[Any]],
    subject: Callable[[], Subject],
    choices: Choices,
    runs: Path,
    open_run: Callable[[str], None],
) -> None:
    """Draw the page.

    Args:
        analysis: What to run.
        subject: Gives the model and the prompt; asked only by an analysis that needs a model.
        choices: Of this page.
        runs: Where results are saved.
        open_run: Goes to the page of a saved run, by name.
    """
    st.caption(plain(analysis.question))
    if analysis.caveat:
        st.caption(plain(analysis.caveat))
    looked_at = subject() if analysis.needs_model else None
    loaded = None if looked_at is None else looked_at.loaded
    from_side = {} if looked_at is None else _from_side(analysis, looked_at)
    if looked_at is not None and not from_side:
        st.caption("This analysis does not read the prompt and the BOS at the side.")
    defaults = {} if loaded is None else zoo.defaults(loaded.name, analysis.name)
    left_out = FROM_SIDE if from_side or (loaded is not None and not loaded.has_bos) else ()
    settings = settings_form(analysis, choices, defaults, left_out)
    if loaded is not None and not loaded.can_read_text:
        settings = {name: _token_id(value) for name, value in settings.items()}
    identity = None if loaded is None else loaded.identity
    result = _run(analysis.name, identity, {**settings, **from_side}, loaded)
    _saving(result, choices, runs, open_run)
    results.show(result, choices.scope)


def _from_side(analysis: type[Analysis[Any]], subject: Subject) -> dict[str, Any]:
    if "prompt" not in analysis.Params.model_fields:
        return {}
    given: dict[str, Any] = {
        "prompt": subject.prompt,
        "tokens": None if subject.loaded.can_read_text else list(subject.tokens),
        "prepend_bos": subject.prepend_bos,
    }
    return {name: given[name] for name in FROM_SIDE if name in analysis.Params.model_fields}


def _token_id(value: Any) -> Any:
    """Without a tokenizer, a number that was typed for a token is its id."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


@st.cache_data(max_entries=32, show_spinner="Running …")
def _run(
    name: str, identity: tuple[str, str] | None, settings: dict[str, Any], _loaded: Loaded | None
) -> AnalysisResult:
    if _loaded is None:
        return run_analysis(name, **settings)
    with _loaded.lock:
        return run_analysis(name, _loaded.model, **settings)


def _saving(
    result: AnalysisResult, choices: Choices, runs: Path, open_run: Callable[[str], None]
) -> None:
    model = (result.provenance.model or "").split(":")[-1].rstrip("/").split("/")[-1]
    wish = saved.free_name(runs, f"{result.name}-{model}".strip("-"))
    with st.popover("Save this result"), st.form(f"{choices.scope}/save", border=False):
        name = st.text_input("Name of the run", wish, help=plain(f"A directory in {runs}."))
        if not st.form_submit_button("Save run"):
            return
        try:
            with st.spinner("Saving …"):
                saved.save(result, runs, name)
        except (InterpError, OSError) as fault:
            st.error(plain(fault))
            return
    open_run(name)
