"""The page of a canned analysis: its form, runs of it, and the result for what the side says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from analyses import Analysis, AnalysisResult
from analyses.registry import validate_params
from dashboards import jobs
from dashboards.drawing.wording import plain
from dashboards.jobs.panel import jobs_panel
from dashboards.page.address import Choices
from dashboards.page.forms import settings_form
from dashboards.page.subject import Loaded, Subject
from dashboards.runs import results, saved
from dashboards.runs.names import free_name, run_name
from dashboards.runs.running import SECONDS, TooLongError, run_here
from interp import InterpError, zoo
from interp.interventions import Interventions

# Parameters that the side of the page gives, where an analysis has them.
FROM_SIDE = ("prompt", "tokens", "prepend_bos", "decoder_prompt")
RUN, BACKGROUND = "Run", "Run in the background"


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
    interventions = None if looked_at is None else _interventions(analysis, looked_at)
    defaults = {} if loaded is None else zoo.defaults(loaded.name, analysis.name)
    quick = _quick(analysis, choices, defaults)
    in_page = quick is not None or not analysis.lengthy
    left_out = FROM_SIDE if from_side or (loaded is not None and not loaded.has_bos) else ()
    settings, pressed = settings_form(
        analysis, choices, {**(quick or {}), **defaults}, left_out,
        (RUN, BACKGROUND) if in_page else (BACKGROUND,),
    )  # fmt: skip
    if loaded is not None and not loaded.can_read_text:
        settings = {name: _token_id(value) for name, value in settings.items()}
    settings = _checked(analysis, settings | from_side)
    model = None if loaded is None else loaded.name
    if pressed == BACKGROUND:
        jobs.start(runs, analysis.name, model, settings, interventions=interventions)
    jobs_panel(runs, open_run, analysis.name, f"{choices.scope}/jobs")
    result = None
    if in_page:
        result = _run(analysis, loaded, settings, interventions)
    else:
        st.info(
            "At these settings this takes minutes: it runs in a process of its own, and its result "
            "is shown here and kept among the saved runs."
        )
    if result is not None:
        _saving(result, choices, runs, open_run)
        results.show(result, choices.scope, model)
        return
    run = _run_of(runs, analysis.name, model, settings, interventions)
    if run is not None:
        st.caption(f"The saved run {plain(run)}, of these settings.")
        found = saved.load(runs, run)
        results.show(found, choices.scope, model)


def _run(
    analysis: type[Analysis[Any]],
    loaded: Loaded | None,
    settings: dict[str, Any],
    interventions: str | None,
) -> AnalysisResult | None:
    try:
        return run_here(analysis.name, loaded, settings, interventions)
    except TooLongError as fault:
        st.warning(plain(fault))
        return None


def _quick(
    analysis: type[Analysis[Any]], choices: Choices, defaults: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The smaller settings of a first look, where there are such and the reader wants them."""
    full = validate_params(analysis, defaults)
    whole = full.model_dump(mode="json")
    small = analysis().quick(full).model_dump(mode="json")
    smaller = {name: value for name, value in small.items() if value != whole[name]}
    if not smaller:
        return None
    wanted = choices.toggle(
        "quick",
        "Quick settings",
        False,
        help=plain(
            f"Start from smaller settings ({', '.join(smaller)}), for a first look"
            + (f" of at most {SECONDS:g} seconds in this page." if analysis.lengthy else ".")
        ),
    )
    return smaller if wanted else None


def _from_side(analysis: type[Analysis[Any]], subject: Subject) -> dict[str, Any]:
    if "prompt" not in analysis.Params.model_fields:
        return {}
    given: dict[str, Any] = {
        "prompt": subject.prompt,
        "tokens": None if subject.loaded.can_read_text else list(subject.tokens),
        "prepend_bos": subject.prepend_bos,
        "decoder_prompt": "" if subject.decoder is None else subject.decoder.text,
    }
    return {name: given[name] for name in FROM_SIDE if name in analysis.Params.model_fields}


def _interventions(analysis: type[Analysis[Any]], subject: Subject) -> str | None:
    """The interventions that are switched on at the side, as JSON; None where there are none."""
    if not subject.plan:
        return None
    if not analysis.takes_interventions:
        st.warning(
            "This analysis takes no interventions, for not all that it reports comes from runs of "
            "the model as it is given: it is shown without those at the side."
        )
        return None
    st.info(plain(f"The model is analysed with the interventions at the side: {subject.edits}"))
    return Interventions(subject.plan).to_json()


def _checked(analysis: type[Analysis[Any]], settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as the analysis reads them, so that equal ones are equal: 5, not "5"."""
    read = validate_params(analysis, settings).model_dump(mode="json")
    return {name: read[name] for name in settings}


def _token_id(value: Any) -> Any:
    """Without a tokenizer, a number that was typed for a token is its id."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _run_of(
    runs: Path,
    analysis: str,
    model: str | None,
    settings: dict[str, Any],
    interventions: str | None,
) -> str | None:
    """The latest run that a job saved of these settings, if it is still there."""
    for job in jobs.find(runs):
        asked, outcome = job.request, job.outcome
        of_these = (asked.analysis, asked.model, asked.settings, asked.interventions) == (
            analysis, model, settings, interventions,
        )  # fmt: skip
        if of_these and outcome and outcome.run and (runs / outcome.run).is_dir():
            return outcome.run
    return None


def _saving(
    result: AnalysisResult, choices: Choices, runs: Path, open_run: Callable[[str], None]
) -> None:
    wish = free_name(runs, run_name(result.name, result.provenance.model))
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
