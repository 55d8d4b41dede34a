"""What Henighan et al. say of memorisation, beside what was found."""

from __future__ import annotations

import pandas as pd

from analyses.superposition.findings import Finding, findings_table
from analyses.superposition.memorisation_tables import ENDLESS, NAMED

NEAR = 0.35  # of a regular polygon's gap
FEW = 5  # examples that two dimensions surely have room for
MET = 0.05  # losses no further apart have met
POLYGONS = {3: "triangle", 4: "square", 5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon"}


def findings_of(tables: dict[str, pd.DataFrame], d_hidden: int) -> pd.DataFrame:
    """What the paper says and what was found; nothing of polygons outside the plane.

    What no size that was tried can show has no row.
    """
    losses, geometry = tables["losses"], tables["geometry"]
    polygons = [_polygon_of_examples(geometry), _polygon_of_features(geometry)]
    rows = [
        *(polygons if d_hidden == 2 else []),
        *_losses(losses),
        _crossing(tables["dimensionality"]),
        _shared(tables["dimensionality"], losses),
    ]
    return findings_table(rows)


def _polygon_of_examples(geometry: pd.DataFrame) -> Finding | None:
    ours = geometry[(geometry["kind"] == "examples") & (geometry["examples"] <= NAMED)]
    if not (ours["examples"] <= FEW).any():
        return None
    polygons = ours[
        (ours["represented"] == ours["examples"])
        & (ours["largest_gap_error"] < NEAR * 360 / ours["examples"])
    ]
    each = ours.groupby("examples").size()
    counts = polygons.groupby("examples").size().reindex(each.index, fill_value=0)
    found = ", ".join(
        f"{k} of {tried} at T = {size}"
        for size, k, tried in zip(each.index, counts, each, strict=True)
    )
    return Finding(
        claim="few examples: the hidden vectors of all T of them are a T-gon (gaps between "
        f"neighbours within {NEAR:.0%} of 360 / T degrees)",
        expected="for small T",
        here=found,
        agrees=bool(counts.loc[counts.index <= FEW].gt(0).all()),
    )


def _polygon_of_features(geometry: pd.DataFrame) -> Finding:
    features = geometry[geometry["kind"] == "features"]
    largest = features[features["examples"] == features["examples"].max()]
    endless = features[features["trained_on"] == ENDLESS]
    shapes = [", ".join(part["shape"]) for part in (largest, endless)]
    polygons = set(POLYGONS.values())
    return Finding(
        claim="many examples: a few features are a regular polygon, the others are left out",
        expected="pentagon",
        here=f"{largest['trained_on'].iloc[0]} examples: {shapes[0]}; endless: {shapes[1]}",
        agrees=bool(largest["shape"].isin(polygons).any()),
    )


def _losses(losses: pd.DataFrame) -> list[Finding | None]:
    test = losses[losses["data"] == "test"].set_index("examples")["loss"]
    train = losses[losses["data"] == "train"].set_index("examples")["loss"]
    endless = float(losses.loc[losses["data"].str.contains(ENDLESS), "loss"].iloc[0])
    return [_peak(test), _memorised(train, test), _met(train, test, endless)]


def _peak(test: pd.Series) -> Finding | None:
    if len(test) < 3:
        return None
    peak = int(test.index[int(test.argmax())])
    before, after = test[test.index < peak], test[test.index > peak]
    least = [f"{part.min():.2f}" if len(part) else "none tried" for part in (before, after)]
    return Finding(
        claim="between them the test loss has a peak: double descent",
        expected="a peak between the two regimes",
        here=f"{test[peak]:.2f} at T = {peak}; least before {least[0]}, least after {least[1]}",
        agrees=bool(test[peak] > before.min() and test[peak] > after.min()),
    )


def _memorised(train: pd.Series, test: pd.Series) -> Finding | None:
    if train.index[0] > FEW:
        return None
    return Finding(
        claim="few examples are memorised, which is of no use for others: train loss below 0.1, "
        "test loss above 0.9 (outputs of 0 have 1)",
        expected="examples are stored, not features",
        here=f"T = {train.index[0]}: train {train.iloc[0]:.3f}, test {test.iloc[0]:.2f}",
        agrees=bool(train.iloc[0] < 0.1 and test.iloc[0] > 0.9),
    )


def _met(train: pd.Series, test: pd.Series, endless: float) -> Finding:
    last = train.iloc[-1], test.iloc[-1], endless
    return Finding(
        claim="with many examples train and test losses meet that of endless data (all within "
        f"{MET})",
        expected="features are learned, as with endless data",
        here=f"T = {train.index[-1]}: train {last[0]:.3f}, test {last[1]:.3f}, endless "
        f"{endless:.3f}",
        agrees=bool(max(last) - min(last) < MET),
    )


def _crossing(dimensionality: pd.DataFrame) -> Finding | None:
    wide = _typical(dimensionality)
    if len(wide) < 2:
        return None
    ahead = wide["features"] > wide["examples"]
    behind = wide.index[~ahead]
    since = wide.index[wide.index > behind.max()] if len(behind) else wide.index
    words = f"from T = {since[0]} on" if len(since) else "not at the end"
    return Finding(
        claim="dimensionality goes over from examples to features as T grows",
        expected="examples have it at small T, features at large T",
        here=f"examples / features: {wide['examples'].iloc[0]:.2f} / "
        f"{wide['features'].iloc[0]:.2f} at T = {wide.index[0]}, {wide['examples'].iloc[-1]:.2f} / "
        f"{wide['features'].iloc[-1]:.2f} at T = {wide.index[-1]}; features ahead {words}",
        agrees=bool(not ahead.iloc[0] and ahead.iloc[-1]),
    )


def _shared(dimensionality: pd.DataFrame, losses: pd.DataFrame) -> Finding | None:
    wide = _typical(dimensionality)
    test = losses[losses["data"] == "test"].set_index("examples")["loss"]
    peak = int(test.index[int(test.argmax())])
    if peak in (wide.index[0], wide.index[-1]):
        return None
    at = wide.loc[peak]
    few, many = wide["examples"].iloc[0], wide["features"].iloc[-1]
    return Finding(
        claim="at the peak neither examples nor features have much of a dimension each: less "
        "than half of what they have at the ends",
        expected="both are low where the test loss is high",
        here=f"T = {peak}: examples {at['examples']:.2f} ({few:.2f} at T = {wide.index[0]}), "
        f"features {at['features']:.2f} ({many:.2f} at T = {wide.index[-1]})",
        agrees=bool(at["examples"] < few / 2 and at["features"] < many / 2),
    )


def _typical(dimensionality: pd.DataFrame) -> pd.DataFrame:
    finite = dimensionality[dimensionality["is_finite"]]
    return finite.pivot(index="examples", columns="kind", values="typical")
