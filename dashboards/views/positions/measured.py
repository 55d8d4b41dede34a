"""What the analyses of position find: run when asked, a few figures at a time."""

from dataclasses import dataclass

import streamlit as st

from analyses import AnalysisResult
from analyses.registry import get_analysis
from dashboards.drawing import figures
from dashboards.drawing.wording import plain
from dashboards.page import links
from dashboards.page.address import Choices
from dashboards.page.model_alone import script
from dashboards.page.subject import Subject
from dashboards.runs.running import SECONDS, TooLongError, run_here


@dataclass(frozen=True)
class Aspect:
    """Something that an analysis says of position.

    Attributes:
        title: In the list of views.
        analysis: Its name.
        first: The figures that are drawn first, as far as there are such.
    """

    title: str
    analysis: str
    first: tuple[str, ...]


ASPECTS = {
    "probes": Aspect(
        "What probes read of position", "position-probes",
        ("position-ridge-by-layer", "position-ridge-heads", "position-dimensions"),
    ),
    "geometry": Aspect(
        "The shape of positions inside", "position-geometry",
        ("variance", "trajectory", "spectrum", "similarity"),
    ),
    "attention": Aspect(
        "Attention by distance", "position-attention",
        ("offsets", "offset-r2", "sinks", "pattern-change", "rotary-curves", "bias-curves"),
    ),
    "interventions": Aspect(
        "What breaks when positions are moved", "position-interventions",
        ("effects", "loss", "by-layer", "subspace"),
    ),
    "length": Aspect(
        "Beyond the trained length", "length-generalisation",
        ("accuracy-by-length", "loss-by-length", "loss-by-position"),
    ),
}  # fmt: skip
_EXTENTS = {"quick": "A quick look: fewer rows", "full": "In full"}
_HEIGHT = 420  # pixels of bars and lines, whose labels name units and errors
NAMES = ("extent", "ran", "ran_on", *(f"figures_{name}" for name in ASPECTS))


def show(subject: Subject, choices: Choices, name: str) -> None:
    """Draw the view of one aspect."""
    aspect = ASPECTS[name]
    analysis = get_analysis(aspect.analysis)
    st.markdown(f"**{plain(analysis.question)}**")
    reason = analysis.supports(subject.loaded.model)
    if reason is not None:
        st.info(plain(f"This model does not fit: {reason}."))
        choices.keep_unseen(*NAMES)
        return
    with st.columns([2, 3])[0]:
        extent = choices.choice(
            "extent", "Extent", list(_EXTENTS), "quick", show=_EXTENTS.__getitem__
        )
    run = f"{name}-{extent}"
    asked = _ran(choices, subject)
    with st.container(horizontal=True, vertical_alignment="center"):
        if run not in asked:
            st.button(
                "Run", type="primary", key=choices.key("run"), on_click=_ask,
                args=(choices, subject, run),
            )  # fmt: skip
        links.to_analysis(aspect.analysis, "All parameters, tables and checks")
    if run in asked:
        settings = {"quick": True} if extent == "quick" else {}
        try:
            _result(
                subject, choices, name, run_here(aspect.analysis, subject.loaded, settings, None)
            )
        except TooLongError as fault:
            st.warning(plain(fault))
            links.to_analysis(aspect.analysis, "Go to where it runs in the background")
    else:
        st.caption(
            "It reads rows of its own (of the model’s task, or random tokens), not the prompt, and "
            f"runs when asked, for {SECONDS:g} seconds at most: others who look at this model wait "
            "meanwhile."
        )
    st.caption(plain(analysis.caveat))
    choices.keep_unseen(*NAMES)


def _ran(choices: Choices, subject: Subject) -> list[str]:
    """What the reader, or the address, asked to be run on this model."""
    if choices.kept.get("ran_on") != subject.loaded.name:
        return []
    return choices.kept.get("ran", "").split(",")


def _ask(choices: Choices, subject: Subject, run: str) -> None:
    before = [each for each in _ran(choices, subject) if each and each != run]
    choices.keep("ran", ",".join([*before, run]))
    choices.keep("ran_on", subject.loaded.name)


def _result(subject: Subject, choices: Choices, name: str, found: AnalysisResult) -> None:
    failed = [check.name for check in found.checks if not check.passed]
    if failed:
        st.error(plain(f"Checks failed: {', '.join(failed)}."))
    else:
        seconds = found.provenance.seconds or 0.0
        st.caption(f"{len(found.checks)} checks passed; it took {seconds:.1f} s.")
    offered = list(found.figures)
    aspect = ASPECTS[name]
    first = [each for each in aspect.first if each in offered] or offered[:2]
    chosen = choices.several(
        f"figures_{name}",
        "Figures",
        offered,
        first,
        show=lambda each: found.figures[each].title,
    )
    quick = ", quick=True" if choices.shown["extent"] == "quick" else ""
    waiting: list[str] = []
    for each in chosen:
        wide = figures.is_wide(found.figures[each], found.tables[found.figures[each].table])
        if wide:
            _row(subject, found, waiting, name, quick)
            _row(subject, found, [each], name, quick)
            waiting = []
        else:
            waiting.append(each)
            if len(waiting) == 2:
                _row(subject, found, waiting, name, quick)
                waiting = []
    _row(subject, found, waiting, name, quick)


def _row(subject: Subject, found: AnalysisResult, names: list[str], view: str, quick: str) -> None:
    for each, column in zip(names, st.columns(max(len(names), 1)), strict=False):
        chart = found.figures[each]
        code = script(
            subject.loaded,
            "from analyses import run_analysis",
            f"result = run_analysis({found.name!r}, model{quick})\n"
            f"table = result.tables[{chart.table!r}]",
            grad=True,
        )
        with column:
            plain_axes = chart.kind in ("bars", "line", "points") and chart.facet is None
            figures.chart(
                chart,
                found.tables[chart.table],
                f"positions/{view}/{each}",
                height=_HEIGHT if plain_axes else None,
                code=code,
            )
