"""How head scores and in-context learning come about in training, for models with snapshots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from interp import zoo
from interp.behaviour.in_context import (
    Estimate,
    in_context_score,
    mean_loss,
    predicts_next_tokens,
    token_losses,
)
from interp.behaviour.reading import Part
from interp.behaviour.repeated import repeated_tokens
from interp.behaviour.scores import BehaviourScore, head_scores
from interp.errors import require


@dataclass(frozen=True)
class CheckpointScores:
    """What a model was like at one step of its training.

    Attributes:
        step: Updates until then.
        known_loss: Of the tokens that follow from earlier ones: the repeat's, from its second on.
            None, as the next two, for a model that does not predict next tokens.
        unknown_loss: Of the same tokens where they came first.
        in_context_score: The first less the second, sequence by sequence: negative where context
            helps.
        scores: Of every head, by behaviour, on the same tokens.
    """

    step: int
    known_loss: Estimate | None
    unknown_loss: Estimate | None
    in_context_score: Estimate | None
    scores: dict[str, BehaviourScore]


def scores_over_checkpoints(
    name: str,
    steps: Iterable[int] | None = None,
    batch: int = 32,
    length: int | None = None,
    seed: int = 0,
    behaviours: Iterable[str] | None = None,
    prepend_bos: bool | None = None,
    device: torch.device | str | None = None,
) -> list[CheckpointScores]:
    """Loss, in-context score and head scores of a zoo model at its training snapshots.

    Of an encoder–decoder the encoder is scored.

    All are measured on the same repeated random tokens, so that they tell of one text. The score of
    Olsson et al. (2022) compares the 500th token with the 50th of natural text; here it is the
    repeat of a stretch with the stretch itself, and each is a mean over a stretch.

    A model trained on the repeats alone was never asked to predict a stretch that comes first; its
    loss there, and with it the in-context score, then also says how sure it is of what it cannot
    know.

    Args:
        name: Such as `zoo:induction`.
        steps: Which of `zoo.checkpoints(name)`. None: all.
        batch, length, seed, prepend_bos: Of `repeated_tokens`.
        behaviours: As in `head_scores`.
        device: As in `zoo.load`.

    Returns:
        One for each step, in order.

    Raises:
        InputError: for a name or step that is not in the zoo, or a model without snapshots.
    """
    there = zoo.checkpoints(name)
    require(bool(there), f"{name} must have snapshots of its training. It has none")
    chosen = there if steps is None else sorted(set(steps))
    require(bool(chosen), "steps must name at least one. Received none")
    wanted = None if behaviours is None else tuple(behaviours)
    found = []
    part: Part | None
    for step in chosen:
        model = zoo.load(name, device, checkpoint=step)
        part = "encoder" if model.cfg.architecture == "encoder-decoder" else None
        repeated = repeated_tokens(model, batch, length, seed, prepend_bos, part)
        measured: tuple[Estimate | None, Estimate | None, Estimate | None] = (None, None, None)
        if predicts_next_tokens(model):
            losses = token_losses(model, repeated.tokens)
            measured = (
                mean_loss(losses, repeated.known),
                mean_loss(losses, repeated.unknown),
                in_context_score(losses, repeated.unknown, repeated.known),
            )
        found.append(
            CheckpointScores(
                step, *measured, head_scores(model, repeated.tokens, wanted, part=part)
            )
        )
    return found
