"""The list of interventions, as text and one by one, and widgets that make another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from dashboards.drawing.wording import plain
from dashboards.edits import MAX_LENGTH, VERBS, Edge, Entries, in_words, parse, written
from dashboards.edits.places import COMPONENTS, HEAD_PARTS
from dashboards.page.address import Choices
from dashboards.page.subject import Subject
from dashboards.readings.interventions import check
from interp import InputError
from interp.charts.tokens import visible
from interp.circuits.graph import Graph, misfit

ALL = "*"
# Of the form's choices, those that are not there for every edit.
NAMES = (
    "stack", "in", "unit", "of", "neuron", "at", "with", "source", "from", "into", "over", "seed",
    "size", "factor", "by", "toward", "share", "amount", "where", "token",
)  # fmt: skip
_VERBS = {
    "zero": "Zero",
    "mean": "Mean over positions",
    "resample": "Resample (tokens shuffled)",
    "patch": "Patch from the second prompt",
    "hold": "Hold as unedited",
    "scale": "Scale",
    "noise": "Add noise",
    "steer": "Steer",
    "mask": "Mask attention",
    "shift": "Shift positions",
    "swap": "Swap positions",
    "shuffle": "Shuffle positions",
}
_KINDS = {
    "H": "Head",
    "C": "Head of cross-attention",
    "link": "Link of attention",
    "N": "Neuron",
    "MLP": "MLP output",
    "attn": "Attention output",
    "cross": "Cross-attention output",
    "resid_pre": "Residual stream, before a layer",
    "resid_mid": "Residual stream, before the MLP",
    "resid_post": "Residual stream, behind a layer",
    "embed": "Embeddings",
    "edge": "Edge",
    "positions": "Positions",
}
_PARTS = {"z": "Output (z)", "q": "Queries", "k": "Keys", "v": "Values", "pattern": "Pattern"}
_PROMPTS = {"this": "This prompt", "other": "The second prompt", "both": "Both prompts"}
_TOWARDS = {
    "unembed": "A token's unembedding",
    "embed": "A token's embedding",
    "contrast": "The second prompt less this one",
}


def add(shared: Choices, edit: str) -> None:
    """Put an edit behind the others."""
    given = shared.kept.get("edits", "").strip().rstrip(";")
    shared.keep("edits", f"{given};{edit}" if given else edit)


def draw(subject: Subject, choices: Choices, shared: Choices) -> None:
    """Draw the list and the form."""
    st.subheader("Interventions")
    _listed(subject, shared)
    with st.expander("Add an intervention", expanded=not subject.edits):
        _form(subject, choices, shared)
    shared.line(
        "edits",
        "As text",
        "",
        max_chars=MAX_LENGTH,
        placeholder="Such as zero:L0H3; mean:L1MLP@-1; patch:L1.resid_pre@5",
        help="One after another, joined by semicolons; it stands in the address, too.",
    )


def _listed(subject: Subject, shared: Choices) -> None:
    """One line for each: how it is written, what it does, and a button that takes it away."""
    try:
        edits = parse(subject.edits)
    except InputError:
        return  # the page tells it below the text, where it can be mended
    for i, edit in enumerate(edits):
        text, button = st.columns([6, 1], vertical_alignment="center")
        text.markdown(f"**{plain(edit)}**  \n{plain(in_words(edit))}")
        rest = written(edits[:i] + edits[i + 1 :])
        button.button(
            "Remove", key=f"interventions/remove/{i}", on_click=shared.keep, args=("edits", rest)
        )
    if len(edits) > 1:
        st.button("Remove all", on_click=shared.keep, args=("edits", ""))


def _form(subject: Subject, choices: Choices, shared: Choices) -> None:
    """Widgets for one edit, which is shown as text on the button that adds it."""
    first, second = st.columns(2)
    with first:
        verb = choices.choice("do", "Do", list(VERBS), "zero", show=_VERBS.__getitem__)
    kinds = _kinds(subject, verb)
    _forget_misfit(choices, "kind", kinds)
    with second:
        kind = choices.choice("kind", "To", kinds, kinds[0], show=_KINDS.__getitem__)
    columns = _columns()
    place = _place(subject, choices, columns, verb, kind)
    edit = _whole(choices, verb, place, subject.loaded.can_read_text, columns)
    fault = _fault(subject, edit)
    st.button(
        plain(f"Add {edit}"),
        key="interventions/add",
        on_click=add,
        args=(shared, edit),
        disabled=fault is not None,
        type="primary",
    )
    if fault is not None:
        st.caption(plain(fault))


def _forget_misfit(choices: Choices, name: str, options: Sequence[object]) -> None:
    """Forget what was chosen before another widget changed the options: that is no mistake."""
    if name in choices.kept and choices.kept[name] not in map(str, options):
        del choices.kept[name]


def _columns() -> Iterator[Any]:
    """Places for widgets, four abreast, rows as they are wanted."""
    while True:
        yield from st.columns(4, vertical_alignment="bottom")


def _kinds(subject: Subject, verb: str) -> list[str]:
    """What a verb can be done to in this model."""
    cfg = subject.loaded.model.cfg
    accepted = VERBS[verb]
    if verb == "mask":
        return ["link"]
    if Entries not in accepted:
        return ["positions"]
    found = ["H"]
    if subject.loaded.is_seq2seq:
        found += ["C", "cross"]
    if verb == "zero":
        found.append("link")
    found += ["attn"] if cfg.attn_only else ["MLP", "attn", "N"]
    found += ["resid_pre", "resid_post", "embed"]
    if not cfg.attn_only and not cfg.parallel_attn_mlp:
        found.insert(-2, "resid_mid")
    if Edge in accepted and misfit(subject.loaded.model) is None:
        found.append("edge")
    if verb == "zero" and not subject.loaded.is_seq2seq:
        found.append("positions")
    return found


def _place(subject: Subject, choices: Choices, columns: Iterator[Any], verb: str, kind: str) -> str:
    """The place, in the notation."""
    cfg = subject.loaded.model.cfg
    if kind == "edge":
        return _edge(subject, choices, columns)
    encoder = False
    if subject.loaded.is_seq2seq and kind not in ("C", "cross"):
        with next(columns):
            stack = choices.choice("stack", "Stack", ["decoder", "encoder"], "decoder")
        encoder = stack == "encoder"
    n_layers = (cfg.n_encoder_layers or 0) if encoder else cfg.n_layers
    name = ""
    if kind not in ("embed", "positions"):
        with next(columns):
            layers = [*range(n_layers), ALL]
            _forget_misfit(choices, "in", layers)
            layer = choices.choice("in", "Layer", layers, 0, show=_all)
        name = f"L{layer}"
    if kind in ("H", "C", "link"):
        with next(columns):
            head = choices.choice("unit", "Head", [*range(cfg.n_heads), ALL], 0, show=_all)
        name += f"{'C' if kind == 'C' else 'H'}{head}"
        if kind != "link":
            with next(columns):
                part = choices.choice("of", "Part", list(HEAD_PARTS), "z", show=_PARTS.__getitem__)
            name += "" if part == "z" else f".{part}"
    elif kind == "N":
        with next(columns):
            width = cfg.width_mlp
            name += f"N{choices.number('neuron', 'Neuron', 0, 0, width - 1, 1)}"
    elif kind == "MLP":
        name += "MLP"
    elif kind in COMPONENTS:
        name += f".{kind}"
    else:
        name = kind
    name = f"encoder.{name}" if encoder else name
    own = subject.texts if encoder else subject.predicts.texts
    if kind == "link":
        return name + _link(choices, columns, own)
    with next(columns):
        at = _position(choices, "at", "Position", own)
    if verb == "swap":
        with next(columns):
            other = _position(choices, "with", "With", own)
        return f"{name}@{at},{other}"
    return name if at == ALL else f"{name}@{at}"


def _edge(subject: Subject, choices: Choices, columns: Iterator[Any]) -> str:
    graph = Graph.of(subject.loaded.model)
    with next(columns):
        sender = choices.choice("from", "From", graph.senders, graph.senders[0])
    written_at = graph.sender(sender).step
    readers = [node.label for node in graph.receiver_nodes if node.step >= written_at]
    _forget_misfit(choices, "into", readers)
    with next(columns):
        receiver = choices.choice("into", "Into", readers, readers[-1])
    return f"{sender}>{receiver}"


def _link(choices: Choices, columns: Iterator[Any], texts: tuple[str, ...]) -> str:
    with next(columns):
        at = _position(choices, "at", "Destination", texts)
    with next(columns):
        source = _position(choices, "source", "Source", texts)
    if source == ALL:
        return ".pattern" if at == ALL else f".pattern@{at}"
    return f"@{at}<{source}"


def _position(choices: Choices, name: str, label: str, texts: tuple[str, ...]) -> str:
    options = [ALL, *map(str, range(len(texts)))]
    _forget_misfit(choices, name, options)

    def show(option: str) -> str:
        return "all" if option == ALL else f"{option}: {visible(texts[int(option)])}"

    return choices.choice(name, label, options, ALL, show=show)


def _whole(
    choices: Choices, verb: str, place: str, reads_text: bool, columns: Iterator[Any]
) -> str:
    """The edit, with what the verb takes."""
    if verb == "mean":
        with next(columns):
            of = choices.choice("over", "Over", list(_PROMPTS), "this", show=_PROMPTS.__getitem__)
        return f"mean:{place}" if of == "this" else f"mean({of}):{place}"
    if verb in ("resample", "shuffle", "noise"):
        with next(columns):
            seed = choices.number("seed", "Seed", 0, 0, 999_999, 1)
        start = f"{verb}({seed})" if seed else verb
        if verb != "noise":
            return f"{start}:{place}"
        with next(columns):
            size = choices.number("size", "Standard deviations", 1.0, 0.01, 100.0, 0.5)
        return f"{start}:{place}+{size:g}"
    if verb == "scale":
        with next(columns):
            return f"scale:{place}*{choices.number('factor', 'Times', 0.5, -100.0, 100.0, 0.5):g}"
    if verb == "shift":
        with next(columns):
            return f"shift:{place}+{choices.number('by', 'By', 1, -512, 512, 1)}"
    if verb == "steer":
        return f"steer:{place}+{_direction(choices, reads_text, columns)}"
    return f"{verb}:{place}"


def _direction(choices: Choices, reads_text: bool, columns: Iterator[Any]) -> str:
    with next(columns):
        of = choices.choice("toward", "Along", list(_TOWARDS), "unembed", show=_TOWARDS.__getitem__)
    with next(columns):
        amount = choices.number("amount", "Amount", 50.0, -1000.0, 1000.0, 10.0)
    with next(columns):
        share = choices.toggle(
            "share", "In hundredths of the norm", True,
            help="Of the activation at each position; else times the direction as it is.",
        )  # fmt: skip
    start = f"{amount:g}{'%' if share else ''}*{of}"
    with next(columns):
        if of == "contrast":
            at = choices.line("where", "At position", "", help="Empty: the mean over all.")
            return f"{start}({at})" if at else start
        token = choices.line("token", "Token", "", help="Its text, or #7 for id 7.")
    if token.startswith("#") and token[1:].isdecimal():
        return f"{start}({token[1:]})"
    if not reads_text and token.isdecimal():
        return f"{start}({token})"
    return f"{start}({json.dumps(token, ensure_ascii=False)})"


def _fault(subject: Subject, edit: str) -> str | None:
    """What is wrong with an edit, if anything is."""
    try:
        check(replace(subject, edits=edit))
    except InputError as fault:
        return str(fault)
    return None


def _all(option: object) -> str:
    return "all" if option == ALL else str(option)
