"""Runs to be patched, and what a sweep is told of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from interp import HookedTransformer
from tests.interp.kinds import (
    given_to,
    with_padding,
)


def squares(logits: Tensor) -> Tensor:
    """A metric of all logits, by prompt, for functions of one's own."""
    return logits.double().square().mean(tuple(range(1, logits.ndim)))


def inputs(
    model: HookedTransformer, padding: str | None, seed: int = 0, n_pos: int = 5
) -> dict[str, Any]:
    run = given_to(model, n_pos=n_pos, seed=seed)
    return run if padding is None else with_padding(run, [0, 2, 1], padding == "left")


def arguments(run: dict[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in run.items() if name != "input"}


def mask_of(model: HookedTransformer, run: dict[str, Any]) -> Tensor | None:
    """What says where a prompt's last token is."""
    if model.cfg.classifies:
        return None
    crosses = "decoder_input" in run
    return run.get("decoder_attention_mask" if crosses else "attention_mask")
