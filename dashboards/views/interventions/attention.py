"""A head's attention before, after, and the difference."""

from __future__ import annotations

import streamlit as st

from analyses.patching.intervention_effects import Effects
from dashboards.page.address import Choices
from dashboards.page.subject import Subject
from dashboards.readings.interventions import patterns
from dashboards.views.interventions.panels import ABREAST, code, trio
from interp.charts.tokens import visible

PARTS = {"attn": "Self-attention", "cross_attn": "Cross-attention", "encoder.attn": "Encoder"}
MOST_TOKENS = 128  # drawn of one head


def draw(subject: Subject, choices: Choices, found: Effects) -> None:
    """Choose a head, and draw its patterns."""
    st.subheader("Attention of a head")
    model = subject.loaded.model
    cfg = model.cfg
    columns = iter(st.columns(4))
    part = "attn"
    if subject.loaded.is_seq2seq:
        with next(columns):
            part = choices.choice("part", "Attention", list(PARTS), "attn", PARTS.__getitem__)
    first = _most_changed(found, part)
    n_layers = (cfg.n_encoder_layers or 0) if part == "encoder.attn" else cfg.n_layers
    with next(columns):
        layer = choices.choice("layer", "Layer", range(n_layers), first[0])
    with next(columns):
        head = choices.choice("head", "Head", range(cfg.n_heads), first[1])
    n = max(len(subject.tokens), len(subject.predicts.tokens))
    if n > MOST_TOKENS:  # no reason to leave out what comes below
        st.info(f"Patterns are drawn of {MOST_TOKENS} tokens at most. These are {n}.")
        return
    stack = "encoder." if part == "encoder.attn" else "decoder." if subject.decoder else ""
    hook = f"{stack}blocks.{layer}.{part.removeprefix('encoder.')}.hook_pattern"
    rows = patterns(subject, hook, head)
    name = f"{'L' if part != 'encoder.attn' else 'encoder L'}{layer}"
    name += f"{'C' if part == 'cross_attn' else 'H'}{head}"
    largest = rows.iloc[int(rows["difference"].abs().argmax())]
    link = (
        f"from position {largest['destination']} (“{visible(largest['destination_token'])}”) to "
        f"{largest['source']} (“{visible(largest['source_token'])}”)"
    )
    shape = f"Attention of {name}: destination tokens down, source tokens across"
    trio(
        rows,
        ("before", "after", "difference"),
        f"Attention of {name}",
        (
            f"{shape}; before the interventions.",
            f"{shape}; with the interventions.",
            f"{shape}; it changes most {link}: {largest['before']:.2f} to {largest['after']:.2f}.",
        ),
        "interventions/attention",
        code(
            subject,
            "from analyses.patching.intervention_effects import pattern_effects\n\n"
            f"table = pattern_effects(model, inputs, plan, {hook!r}, {head})",
        ),
        height=None if rows["source"].nunique() > ABREAST else 390,
        kind="attention",
        x="source",
        x_text="source_token",
        y="destination",
        y_text="destination_token",
        value_label="attention",
    )


def _most_changed(found: Effects, part: str) -> tuple[int, int]:
    """The head whose contribution changes most; the first where that is not known."""
    kind = {"attn": "head", "cross_attn": "cross_head"}.get(part, "")
    if found.components is None:
        return 0, 0
    rows = found.components[found.components["kind"] == kind]
    if rows.empty:
        return 0, 0
    most = rows.iloc[int(rows["difference"].abs().argmax())]
    return int(most["layer"]), int(most["head"])
