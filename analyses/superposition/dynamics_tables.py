"""Superposition over training, as tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.superposition.findings import Finding, findings_table
from interp.charts.spec import Chart
from interp.toys.geometry import Geometry, recognise_each
from interp.toys.jumps import Jump, find_jumps, moving_intervals
from interp.toys.measures import feature_dimensionality, feature_norms

MANY, TWO_SETS = "many features", "two sets of three"
SET_SIZE = 3
TOLERANCE = 10.0  # degrees, of the shapes that toys end in
AT_LEVEL = 0.03  # of a dimensionality: near 0, or near that of a shape
ALONE = 0.9  # cosine: a set is one direction
OPPOSITE = -0.9  # cosine: a pair is a digon
DRAWN = 0.05  # dimensionality that a feature must reach to be drawn
NAN = float("nan")


@dataclass(frozen=True)
class History:
    """Toys of one kind over their training.

    Attributes:
        steps: Updates before each snapshot.
        seeds: Of each toy.
        W: Their weights, in fp64.
        loss: On the same examples at each snapshot.
    """

    steps: Sequence[int]
    seeds: Sequence[int]
    W: Float[Tensor, "snapshot instance d_hidden feature"]
    loss: Float[Tensor, "snapshot instance"]


def tables_of(
    many: History, sets: History, burn_in: float, least: float, moving: float
) -> dict[str, pd.DataFrame]:
    """All tables of the analysis."""
    D = feature_dimensionality(many.W)
    begin = next(i for i, step in enumerate(many.steps) if step >= burn_in * many.steps[-1])
    begin = min(begin, len(many.steps) - 2)
    jumps = [
        [one for one in find_jumps(D[:, i], least, moving) if one.first >= begin]
        for i in range(len(many.seeds))
    ]
    shapes = recognise_each(many.W[-1], TOLERANCE)
    toys = _toys(many, jumps, shapes, begin)
    table = _jumps(many, jumps, shapes)
    chosen = _latest(many, jumps)
    by_toy = _stages(sets)
    return {
        "toys": toys,
        "findings": _findings(toys, table, by_toy),
        "jumps": table,
        "dimensionality": _dimensionality(many, D, chosen, begin),
        "loss": _loss(many, chosen, begin),
        "sets": _sets(sets),
        "stages": by_toy,
        "weights": pd.concat(
            [_weights(MANY, many, chosen), _weights(TWO_SETS, sets, 0)], ignore_index=True
        ),
    }


def _weights(toys: str, history: History, chosen: int) -> pd.DataFrame:
    """A row for each snapshot and weight of the toy that is drawn."""
    W = history.W[:, chosen]
    at, hidden, feature = torch.meshgrid(*(torch.arange(n) for n in W.shape), indexing="ij")
    return pd.DataFrame(
        {
            "toys": toys,
            "seed": history.seeds[chosen],
            "step": torch.tensor(history.steps)[at].flatten().tolist(),
            "loss": history.loss[:, chosen][at].flatten().tolist(),
            "hidden": hidden.flatten().tolist(),
            "feature": feature.flatten().tolist(),
            "weight": W.flatten().tolist(),
        }
    )


# --- jumps ---------------------------------------------------------------------------------------


def _jumps(
    many: History, jumps: Sequence[Sequence[Jump]], shapes: Sequence[Geometry]
) -> pd.DataFrame:
    """A row for each jump after the burn-in."""
    levels = [_levels(one) for one in shapes]
    rows = [
        {
            "seed": many.seeds[i],
            "feature": one.feature,
            "first_step": many.steps[one.first],
            "last_step": many.steps[one.last],
            "before": one.before,
            "after": one.after,
            "at_level": min(abs(one.after - level) for level in levels[i]) <= AT_LEVEL,
            "loss_fall": float(many.loss[one.first, i] - many.loss[one.last, i]),
        }
        for i, of_toy in enumerate(jumps)
        for one in of_toy
    ]
    columns = {
        "seed": int, "feature": int, "first_step": int, "last_step": int,
        "before": float, "after": float, "at_level": bool, "loss_fall": float,
    }  # fmt: skip
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _levels(ends: Geometry) -> set[float]:
    """0, and the dimensionality of a vertex of each shape that a toy ends with."""
    return {0.0, *(part.rank / len(part.features) for part in ends.parts if part.is_named)}


def _toys(
    many: History, jumps: Sequence[Sequence[Jump]], shapes: Sequence[Geometry], begin: int
) -> pd.DataFrame:
    """How fast each toy's loss falls while a feature jumps, and while none does."""
    rows = []
    length = torch.tensor(many.steps).diff().double()[begin:]
    for i, seed in enumerate(many.seeds):
        fall = -many.loss[:, i].diff()[begin:]
        inside = moving_intervals(jumps[i], len(many.steps) - 1)[begin:]
        rows.append(
            {
                "seed": seed,
                "ends_as": shapes[i].summary,
                "jumps": len(jumps[i]),
                "share_of_steps": float(length[inside].sum() / length.sum()),
                "fall_in_jumps": float(fall[inside].sum()) if inside.any() else NAN,
                "fall_elsewhere": float(fall[~inside].sum()) if (~inside).any() else NAN,
                "rate_in_jumps": _rate(fall, length, inside),
                "rate_elsewhere": _rate(fall, length, ~inside),
                "loss_at_burn_in": float(many.loss[begin, i]),
                "last_loss": float(many.loss[-1, i]),
            }
        )
    return pd.DataFrame(rows)


def _rate(fall: Tensor, length: Tensor, chosen: Tensor) -> float:
    """By how much the loss falls in a thousand steps; NaN without any."""
    return float(1000 * fall[chosen].sum() / length[chosen].sum()) if chosen.any() else NAN


def _latest(many: History, jumps: Sequence[Sequence[Jump]]) -> int:
    """The toy whose loss falls most in jumps, later ones counting for more."""
    scores = [
        sum(one.first * float(many.loss[one.first, i] - many.loss[one.last, i]) for one in of_toy)
        for i, of_toy in enumerate(jumps)
    ]
    return max(range(len(scores)), key=scores.__getitem__)


def _dimensionality(
    many: History, D: Float[Tensor, "snapshot instance feature"], chosen: int, begin: int
) -> pd.DataFrame:
    """Of the toy that is drawn: the features that are there at any time after the burn-in."""
    of_toy = D[begin:, chosen]
    there = (of_toy.amax(0) > DRAWN).nonzero().flatten().tolist()
    rows = [
        {
            "seed": many.seeds[chosen],
            "step": step,
            "feature": str(feature),
            "dimensionality": float(of_toy[k, feature]),
        }
        for feature in there
        for k, step in enumerate(many.steps[begin:])
    ]
    return pd.DataFrame(rows)


def _loss(many: History, chosen: int, begin: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "seed": many.seeds[chosen],
            "step": list(many.steps[begin:]),
            "loss": many.loss[begin:, chosen].tolist(),
        }
    )


# --- two sets of three ---------------------------------------------------------------------------


def _cosines(W: Float[Tensor, "*any d_hidden feature"]) -> Float[Tensor, "*any feature feature"]:
    unit = W / feature_norms(W).unsqueeze(-2).clamp(min=1e-12)
    return unit.mT @ unit


def _within(cosines: Tensor) -> Float[Tensor, "*any"]:
    """Mean cosine of two features of a set."""
    blocks = [cosines[..., k : k + SET_SIZE, k : k + SET_SIZE] for k in (0, SET_SIZE)]
    pairs = [block.triu(1).sum((-2, -1)) for block in blocks]
    return (pairs[0] + pairs[1]) / (SET_SIZE * (SET_SIZE - 1))


def _opposite(cosines: Tensor) -> Float[Tensor, "*any feature"]:
    """The least cosine of each feature of the first set with one of the second."""
    return cosines[..., :SET_SIZE, SET_SIZE:].amin(-1)


def _sets(sets: History) -> pd.DataFrame:
    """A row for each toy and snapshot."""
    cosines = _cosines(sets.W)
    within, opposite = _within(cosines), _opposite(cosines)
    singular = torch.linalg.svdvals(sets.W)
    rows = [
        {
            "seed": seed,
            "step": step,
            "loss": float(sets.loss[k, i]),
            "within_sets": float(within[k, i]),
            "opposite": float(opposite[k, i].mean()),
            "digons": int((opposite[k, i] < OPPOSITE).sum()),
            **{f"singular_{n}": value for n, value in enumerate(singular[k, i].tolist(), 1)},
        }
        for i, seed in enumerate(sets.seeds)
        for k, step in enumerate(sets.steps)
    ]
    return pd.DataFrame(rows)


def _stages(sets: History) -> pd.DataFrame:
    """When each toy of two sets comes to each stage, and its loss then.

    A digon counts from when it stays: weights that are still small and random have some too.
    """
    cosines = _cosines(sets.W)
    within, opposite = _within(cosines), _opposite(cosines)
    shapes = recognise_each(sets.W[-1], TOLERANCE)
    rows = []
    for i, seed in enumerate(sets.seeds):
        digons = (opposite[:, i] < OPPOSITE).sum(-1)
        together = within[:, i] > ALONE
        reached = {"one direction a set": together, "sets open": _after(together)}
        reached |= {f"{n} digons" if n > 1 else "1 digon": _stays(digons >= n) for n in (1, 2, 3)}
        # The faces of an antiprism: each feature is opposite to another one of the other set.
        partners = cosines[-1, i, :SET_SIZE, SET_SIZE:].argmin(-1)
        is_antiprism = shapes[i].solid == "octahedron" and len(partners.unique()) == SET_SIZE
        for order, (stage, found) in enumerate(reached.items()):
            at = int(found.int().argmax()) if bool(found.any()) else None
            rows.append(
                {
                    "seed": seed,
                    "order": order,
                    "stage": stage,
                    "reached": at is not None,
                    "step": NAN if at is None else float(sets.steps[at]),
                    "loss": NAN if at is None else float(sets.loss[at, i]),
                    "ends_as": shapes[i].solid or shapes[i].summary,
                    "antiprism": is_antiprism,
                }
            )
    return pd.DataFrame(rows)


def _stays(reached: Tensor) -> Tensor:
    """Where it is so for good."""
    return reached.flip(0).int().cumprod(0).flip(0) > 0


def _after(together: Tensor) -> Tensor:
    """Where it is over, having been there."""
    return (together.cumsum(0) > 0) & ~together


# --- what the paper says -------------------------------------------------------------------------


def _findings(
    toys: pd.DataFrame,
    jumps: pd.DataFrame,
    stages: pd.DataFrame,
) -> pd.DataFrame:
    at_level = int(jumps["at_level"].sum())
    with_jumps = toys[toys["jumps"] > 0]
    inside, outside = with_jumps["fall_in_jumps"].sum(), with_jumps["fall_elsewhere"].sum()
    share = with_jumps["share_of_steps"].mean() if len(with_jumps) else NAN
    faster = with_jumps["rate_in_jumps"] > 2 * with_jumps["rate_elsewhere"].clip(lower=0)
    ends = stages.drop_duplicates("seed")
    opened = stages[stages["stage"] == "sets open"].set_index("seed")["step"]
    whole = stages[stages["stage"] == "3 digons"].set_index("seed")["step"]
    in_order = (opened < whole).sum()
    rows = [
        Finding(
            "features jump between dimensionalities late in training",
            "some features jump, and swap places",
            f"{len(jumps)} jumps in {len(with_jumps)} of {len(toys)} toys",
            len(jumps) > 0,
        ),
        Finding(
            "jumps end at the dimensionality of a shape that the toy ends with, or at 0",
            "discrete levels, 0 and 1/2 for digons",
            f"{at_level} of {len(jumps)} within {AT_LEVEL} of one",
            len(jumps) > 0 and at_level > len(jumps) / 2,
        ),
        Finding(
            "the loss drops in jumps",
            "a drop of the loss at each jump",
            f"{inside:.2e} in jumps, {outside:.2e} elsewhere, in toys that have some; jumps take "
            f"{share:.0%} of their steps",
            len(with_jumps) > 0 and inside * (1 - share) > outside * share and inside > 0,
        ),
        Finding(
            "it falls faster in jumps than between them",
            "sudden drops, a small one and a larger one",
            f"more than twice as fast in {int(faster.sum())} of {len(with_jumps)} toys; in a "
            f"thousand steps {with_jumps['rate_in_jumps'].median():.1e} in jumps, "
            f"{with_jumps['rate_elsewhere'].median():.1e} elsewhere (medians)",
            len(with_jumps) > 0 and faster.mean() > 0.5,
        ),
        Finding(
            "two correlated sets of three are learnt as an octahedron, their faces opposite",
            "a triangular antiprism at the end",
            f"{int(ends['antiprism'].sum())} of {len(ends)} toys",
            ends["antiprism"].mean() >= 0.9,
        ),
        Finding(
            "it comes about in stages: first each set as one direction, then three digons",
            "distinct regimes of the loss curve, each a simple change of the arrangement",
            f"in this order in {in_order} of {len(ends)} toys; medians: sets open at step "
            f"{opened.median():.0f}, three digons at {whole.median():.0f}",
            in_order >= 0.9 * len(ends),
        ),
    ]
    return findings_table(rows)


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Chart]:
    """Charts of the tables; of the two sets, of the first toy."""
    seed, first = int(tables["loss"]["seed"][0]), int(tables["sets"]["seed"][0])
    return {
        "dimensionality": Chart(
            kind="line",
            table="dimensionality",
            title=f"Dimensionality of each feature over training (seed {seed})",
            alt="Most features lie at 1/2 or 0 for long; some change from one level to another "
            "within a few hundred steps.",
            x="step",
            y="dimensionality",
            color="feature",
            y_label="dimensionality D",
        ),
        "loss": Chart(
            kind="line",
            table="loss",
            title=f"Loss of the same toy (seed {seed})",
            alt="The loss is level between the jumps of the figure above and drops with each.",
            x="step",
            y="loss",
            y_label="loss on the same examples throughout",
        ),
        "sets": Chart(
            kind="line",
            table="sets",
            title=f"Two correlated sets of three: how much a set is one direction (seed {first})",
            alt="The mean cosine of two features of a set rises to 1, stays, and falls to 0 in "
            "steps, as features of the two sets become opposite.",
            x="step",
            y="within_sets",
            y_label="mean cosine within sets",
            where={"seed": first},
        ),
        "sets-loss": Chart(
            kind="line",
            table="sets",
            title=f"Loss of the same toy of two sets (seed {first})",
            alt="The loss falls in a few stages, level in between.",
            x="step",
            y="loss",
            log_y=True,
            where={"seed": first},
        ),
    }
