"""What heads and losses were like along the training of a zoo model, as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from analyses.inputs.evenly import evenly
from interp import zoo
from interp.behaviour import CheckpointScores, scores_over_checkpoints, shows

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


def scored_snapshots(model: HookedTransformer, most: int, **text: Any) -> list[CheckpointScores]:
    """A zoo model's snapshots, at most so many; none for a model that has none.

    `text`: what `repeated_tokens` takes beside a model, so that they read what the model does.
    """
    entry = zoo.entries().get(str(model.cfg.model_name))
    if entry is None or not entry.checkpoints:
        return []
    steps = evenly(list(entry.checkpoints), most)
    return scores_over_checkpoints(entry.name, steps, device=model.W_E.device, **text)


def _leading_heads(
    last: CheckpointScores, threshold: float, n_errors: float
) -> dict[str, tuple[int, int]]:
    """The highest head of each behaviour that the trained model shows; if it shows none, of all."""
    there = {name: of for name, of in last.scores.items() if of.n_sequences}
    shown = {
        name: of
        for name, of in there.items()
        if of.n_sequences > 1 and bool(shows(of, threshold, n_errors).any())
    }
    return {
        name: divmod(int(of.score.argmax()), of.score.shape[1])
        for name, of in (shown or there).items()
    }


def training_table(
    model: HookedTransformer,
    training: Sequence[CheckpointScores],
    threshold: float,
    n_errors: float,
) -> pd.DataFrame:
    """By step: losses and in-context score in units of a guess's loss, and heads' scores."""
    guess = math.log(model.cfg.d_vocab_out)
    rows: list[dict[str, Any]] = []
    heads = _leading_heads(training[-1], threshold, n_errors)
    for at in training:
        losses = {
            "loss of the repeat": at.known_loss,
            "loss of the stretch": at.unknown_loss,
            "in-context score": at.in_context_score,
        }
        for name, of in losses.items():
            if of is not None:
                unit = "of a guess's loss"
                rows.append(_row(at.step, name, of.mean / guess, of.stderr / guess, unit))
        for behaviour, (layer, head) in heads.items():
            score = at.scores[behaviour]
            name = f"{behaviour.replace('_', ' ')}: L{layer}H{head}"
            mean, stderr = float(score.score[layer, head]), float(score.stderr[layer, head])
            rows.append(_row(at.step, name, mean, stderr, "attention mass"))
    return pd.DataFrame(rows)


def _row(step: int, measure: str, value: float, stderr: float, unit: str) -> dict[str, Any]:
    return {
        "step": step,
        "measure": measure,
        "value": value,
        "stderr": stderr,
        "unit": unit,
        # The in-context score is the difference of the two losses; a line of both says no more.
        "drawn": measure != "loss of the stretch",
    }


def log_table(
    model: HookedTransformer, last: CheckpointScores, threshold: float, n_errors: float
) -> pd.DataFrame | None:
    """What the training run itself logged of these measures, at many more steps; None: nothing."""
    history = zoo.entries()[str(model.cfg.model_name)].history()
    guess = math.log(model.cfg.d_vocab_out)
    parts = []
    if "repeat_loss" in history:
        values = history["repeat_loss"] / guess
        parts.append((values, "loss of the repeat", "of a guess's loss"))
    for behaviour, (layer, head) in _leading_heads(last, threshold, n_errors).items():
        column = f"{behaviour}.L{layer}H{head}"
        if column in history:
            name = f"{behaviour.replace('_', ' ')}: L{layer}H{head}"
            parts.append((history[column], name, "attention mass"))
    if not parts:
        return None
    frames = [
        pd.DataFrame(
            {"step": history["step"], "measure": name, "value": values, "unit": unit, "drawn": True}
        )
        for values, name, unit in parts
    ]
    return pd.concat(frames, ignore_index=True)
