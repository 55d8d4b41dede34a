"""What is chosen on the attention page: whose attention, by which measure, for which prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import streamlit as st

from analyses.heads.attention_maps import Attends
from dashboards.page.address import Choices
from dashboards.page.subject import Subject

MEAN, MOST = "mean", "max"  # over the heads of a layer
ROLLOUT = "rollout"

ATTENDS = {
    "self": "Self-attention",
    "encoder": "Encoder's self-attention",
    "cross": "Decoder to source",
}
MEASURES = {
    "pattern": "Attention (pattern)",
    "weighted": "Weighted by what is moved",
    "scores": "Scores before the softmax",
    ROLLOUT: "Rollout from the first layer",
}
PROMPTS = {
    "first": "The prompt",
    "second": "The second prompt",
    "mean": "Mean of both",
    "difference": "Second − first",
}
COLUMNS = {"pattern": "attention", "weighted": "size", "scores": "score", ROLLOUT: "share"}


@dataclass(frozen=True)
class Wanted:
    """What is drawn.

    Attributes:
        attends: Whose attention.
        layer: Of the large map.
        head: Its number, or `mean` or `max` over the layer's heads.
        measure: A key of `MEASURES`.
        prompts: A key of `PROMPTS`.
        whole: Whether the overview shows all layers, not that of the large map alone.
    """

    attends: Attends
    layer: int
    head: int | str
    measure: str
    prompts: str
    whole: bool

    @property
    def name(self) -> str:
        """Of the head, or of what is made of the layer's heads."""
        if self.measure == ROLLOUT:
            return f"layers 0 … {self.layer}"
        if isinstance(self.head, int):
            return f"L{self.layer}H{self.head}"
        return f"layer {self.layer}, {'mean' if self.head == MEAN else 'largest'} of its heads"

    @property
    def column(self) -> str:
        """Of the tables: what the numbers are."""
        return COLUMNS[self.measure]

    @property
    def is_signed(self) -> bool:
        """Whether zero is the middle."""
        return self.prompts == "difference" or self.measure == "scores"


def n_layers(subject: Subject, attends: Attends) -> int:
    """Of the stack that attends."""
    cfg = subject.loaded.model.cfg
    return (cfg.n_encoder_layers or 0) if attends == "encoder" else cfg.n_layers


def draw(subject: Subject, choices: Choices) -> Wanted:
    """Draw the boxes."""
    boxes = st.columns(3) + st.columns(3)
    both = subject.loaded.is_seq2seq
    with boxes[2]:
        attends = choices.choice(
            "attends",
            "Attention of",
            list(ATTENDS) if both else ["self"],
            "self",
            show=lambda each: (
                "Decoder's self-attention" if (each, both) == ("self", True) else ATTENDS[each]
            ),
            disabled=not both,
            help="Encoder–decoders have three kinds." if both else "This model has one kind.",
        )
    with boxes[0]:
        layer = choices.choice(
            "layer", "Layer", range(n_layers(subject, cast(Attends, attends))), 0
        )
    with boxes[1]:
        head = choices.choice(
            "head",
            "Head",
            [*range(subject.loaded.model.cfg.n_heads), MEAN, MOST],
            0,
            show=lambda h: {MEAN: "Mean of the layer", MOST: "Largest of the layer"}.get(h, str(h)),
        )
    with boxes[3]:
        measure = choices.choice(
            "measure",
            "Drawn",
            [each for each in MEASURES if not (each == ROLLOUT and attends == "cross")],
            "pattern",
            show=MEASURES.__getitem__,
            help="Weighted: attention × the length of what the head would write of that token, "
            "‖v W_O‖. Rollout: the layers' patterns multiplied, half of each position kept.",
        )
    with boxes[4]:
        prompts = choices.choice(
            "of",
            "Of",
            list(PROMPTS) if subject.other else ["first"],
            "first",
            show=PROMPTS.__getitem__,
            disabled=subject.other is None,
            help="Type a second prompt at the side to see it, the mean or the difference.",
        )
    with boxes[5]:
        extent = choices.choice(
            "show",
            "Overview",
            ["model", "layer"],
            "model",
            show={"layer": "Heads of this layer", "model": "Heads of all layers"}.__getitem__,
        )
    return Wanted(cast(Attends, attends), layer, head, measure, prompts, extent == "model")
