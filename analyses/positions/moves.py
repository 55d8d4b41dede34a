"""Which tokens are moved where, and what that does, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from interp.behaviour.in_context import Estimate, estimate
from interp.interventions import (
    FreezePositions,
    ShiftPositions,
    ShufflePositions,
    SwapPositions,
    ZeroPositions,
)
from interp.interventions.position_edits import NOWHERE
from interp.interventions.positions import PositionMap
from interp.position_effects.effects import Effect
from interp.positions.learned import LearnedPositions

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

ALL, HALF, ONE, QUERIES = "all", "later half", "one token", "all, as queries"
TWO, HALVES = "two tokens", "halves"
_SHORT = {ALL: "all", HALF: "half", ONE: "one", QUERIES: "queries", TWO: "two", HALVES: "halves"}


@dataclass(frozen=True)
class Move:
    """Tokens that are moved.

    Attributes:
        what: How: `shift +1`, `shuffle`, …
        tokens: Which, in words.
        item: The intervention.
        layer: The only one it is made in; None: in all.
    """

    what: str
    tokens: str
    item: PositionMap
    layer: int | None = None

    @property
    def name(self) -> str:
        """`shift +1, half`."""
        where = "" if self.layer is None else f", layer {self.layer}"
        return f"{self.what}, {_SHORT[self.tokens]}{where}"


def moves_of(model: HookedTransformer, length: int, shifts: Sequence[int], seed: int) -> list[Move]:
    """The moves that the model's encoding knows, in rows of this length; none without encoding."""
    encoding = model.main_stack.pos_embed
    if model.cfg.positional_embedding_type == "none":
        return []
    middle = length // 2
    half = range(middle, length)
    found = []
    for by in shifts:
        what = f"shift {by:+d}"
        found += [
            Move(what, ALL, ShiftPositions(by)),
            Move(what, HALF, ShiftPositions(by, positions=half)),
            Move(what, ONE, ShiftPositions(by, positions=middle)),
        ]
        if encoding.rotates or encoding.biases_scores:
            found.append(Move(what, QUERIES, ShiftPositions(by, as_key=False)))
    both = range(middle), range(middle, 2 * middle)
    return [
        *found,
        Move("shuffle", ALL, ShufflePositions(seed=seed)),
        Move("shuffle", HALF, ShufflePositions(half, seed)),
        Move("freeze", ALL, FreezePositions(0)),
        Move("freeze", HALF, FreezePositions(middle, half)),
        Move("zero", ALL, ZeroPositions()),
        Move("zero", HALF, ZeroPositions(half)),
        Move("zero", ONE, ZeroPositions(middle)),
        Move("swap", TWO, SwapPositions(length // 3, middle + 1)),
        Move("swap", HALVES, SwapPositions(*both)),
    ]


def moves_by_layer(model: HookedTransformer, seed: int) -> list[Move]:
    """Moves in one layer alone, where each layer has the encoding to itself."""
    if not model.main_stack.pos_embed.rotates:
        return []
    return [
        Move(what, ALL, item, layer)
        for layer in range(model.cfg.n_layers)
        for what, item in (
            ("zero", ZeroPositions(layers=layer)),
            ("shuffle", ShufflePositions(seed=seed, layers=layer)),
        )
    ]


def shown_by_position(moves: Sequence[Move]) -> list[Move]:
    """A few that leave some tokens as they are, so that where a prediction stands matters."""
    wanted = {("freeze", HALF), ("zero", ONE), ("swap", TWO)}
    first = next((move.what for move in moves if move.what.startswith("shift")), "")
    wanted |= {(first, HALF), (first, ONE)}
    return [move for move in moves if (move.what, move.tokens) in wanted]


def reason_against(model: HookedTransformer, move: Move, length: int) -> str | None:
    """Why a move cannot be made in rows of this length; None if it can."""
    encoding: Any = model.main_stack.pos_embed
    places = move.item.moved(np.arange(length))
    places = places[places != NOWHERE]
    if not (encoding.adds_embedding or encoding.adds_to_queries_and_keys) or not len(places):
        return None
    if places.min() < 0:
        return f"vectors begin at position 0: none for {places.min()}"
    if isinstance(encoding, LearnedPositions) and places.max() >= encoding.n_ctx:
        return (
            f"learned positions end at {encoding.n_ctx - 1}: none for {places.max()} "
            f"(rows of {length} tokens)"
        )
    return None


def effects_table(moves: Sequence[Move], effects: Mapping[str, Effect]) -> pd.DataFrame:
    """What each move does to predictions."""
    rows = []
    for move in moves:
        effect = effects[move.name]
        row: dict[str, Any] = {"move": move.name, "what": move.what, "tokens": move.tokens}
        if move.layer is not None:
            row["layer"] = move.layer
        rows.append({**row, **numbers(effect), "does": move.item.describe()})
    return pd.DataFrame(rows)


def numbers(effect: Effect) -> dict[str, float]:
    """KL and, where something is predicted, loss and accuracy, with errors over sequences."""
    kl = effect.mean_kl
    found: dict[str, float] = {"kl": kl.mean, "kl_stderr": kl.stderr}
    if effect.edited is None or effect.clean is None:
        return found
    found["loss_clean"] = effect.clean.mean_loss().mean
    found["loss"] = effect.edited.mean_loss().mean
    _put(found, "loss_change", effect.loss_change)
    found["accuracy_clean"] = effect.clean.mean_accuracy().mean
    found["accuracy"] = effect.edited.mean_accuracy().mean
    _put(found, "accuracy_change", effect.accuracy_change)
    return found


def _put(found: dict[str, float], name: str, of: Estimate) -> None:
    found[name], found[f"{name}_stderr"] = of.mean, of.stderr


def heads_table(moves: Sequence[Move], effects: Mapping[str, Effect]) -> pd.DataFrame:
    """What each move does to where each head looks."""
    frames = []
    for order, move in enumerate(moves):
        of = effects[move.name].heads
        assert of is not None
        n_layers, n_heads = of.total_variation.shape[1:]
        shape = (n_layers, n_heads)
        at = np.indices(shape).reshape(2, -1)
        columns: dict[str, Any] = {
            "move": move.name,
            "order": order,
            "layer": at[0],
            "head": at[1],
            "label": [f"L{layer}H{head}" for layer, head in at.T],
        }
        errors = estimate_each(of.total_variation)
        columns["total_variation"], columns["total_variation_stderr"] = errors
        for name in ("distance", "previous"):
            clean, edited = getattr(of.clean, name), getattr(of.edited, name)
            columns[f"{name}_clean"] = clean.double().mean(0).flatten().cpu().numpy()
            changed = estimate_each(edited.double() - clean.double())
            columns[f"{name}_change"], columns[f"{name}_change_stderr"] = changed
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def estimate_each(values: Float[torch.Tensor, "sequence layer head"]) -> tuple[Any, Any]:
    """Mean and standard error over sequences of `[sequence, layer, head]`, flat."""
    wide = values.double().flatten(1).cpu()
    found = [estimate(column) for column in wide.unbind(1)]
    return [of.mean for of in found], [of.stderr for of in found]


def by_position_table(moves: Sequence[Move], effects: Mapping[str, Effect]) -> pd.DataFrame:
    """KL (and change of loss, where it is scored) at each position."""
    frames = []
    for move in moves:
        effect = effects[move.name]
        kl = effect.kl.cpu()
        n = kl.shape[0]
        columns: dict[str, Any] = {
            "move": move.name,
            "position": range(kl.shape[1]),
            "kl": kl.mean(0).numpy(),
            "kl_stderr": (kl.std(0) / n**0.5).numpy(),
        }
        if effect.edited is not None and effect.clean is not None:
            columns["loss_change"] = (effect.edited.loss - effect.clean.loss).cpu().numpy()
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)
