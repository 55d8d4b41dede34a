"""What Henighan et al. say of memorisation, beside what was found."""

from __future__ import annotations

import pandas as pd

from analyses.superposition.memorisation_tables import ENDLESS, NAMED

NEAR = 0.35  # of a regular polygon's gap
POLYGONS = {3: "triangle", 4: "square", 5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon"}


def findings_table(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What the paper says and what was found."""
    losses, geometry = tables["losses"], tables["geometry"]
    rows = [
        _polygon_of_examples(geometry),
        _polygon_of_features(geometry),
        *_peak(losses),
        _crossing(tables["dimensionality"]),
    ]
    return pd.DataFrame(rows)


def _polygon_of_examples(geometry: pd.DataFrame) -> dict[str, object]:
    ours = geometry[(geometry["kind"] == "examples") & (geometry["examples"] <= NAMED)]
    polygons = ours[
        (ours["represented"] == ours["examples"])
        & (ours["largest_gap_error"] < NEAR * 360 / ours["examples"])
    ]
    counts = polygons.groupby("examples").size().reindex(ours["examples"].unique(), fill_value=0)
    each = ours.groupby("examples").size()
    found = ", ".join(
        f"{k} of {each[size]} at T = {size}" for size, k in counts.sort_index().items()
    )
    return {
        "claim": "few examples: the hidden vectors of all T of them are a T-gon (gaps between "
        f"neighbours within {NEAR:.0%} of 360 / T degrees)",
        "paper": "for small T",
        "here": found,
        "agrees": bool(counts.loc[counts.index <= 5].gt(0).all()),
    }


def _polygon_of_features(geometry: pd.DataFrame) -> dict[str, object]:
    features = geometry[geometry["kind"] == "features"]
    largest = features[features["examples"] == features["examples"].max()]
    endless = features[features["trained_on"] == ENDLESS]
    shapes = [", ".join(part["shape"]) for part in (largest, endless)]
    polygons = set(POLYGONS.values())
    return {
        "claim": "many examples: a few features are a regular polygon, the others are left out",
        "paper": "pentagon",
        "here": f"{largest['trained_on'].iloc[0]} examples: {shapes[0]}; endless: {shapes[1]}",
        "agrees": bool(largest["shape"].isin(polygons).any()),
    }


def _peak(losses: pd.DataFrame) -> list[dict[str, object]]:
    test = losses[losses["data"] == "test"].set_index("examples")["loss"]
    train = losses[losses["data"] == "train"].set_index("examples")["loss"]
    endless = float(losses.loc[losses["data"].str.contains(ENDLESS), "loss"].iloc[0])
    peak = int(test.idxmax())
    before, after = test[test.index < peak], test[test.index > peak]
    return [
        {
            "claim": "between them the test loss has a peak: double descent",
            "paper": "a peak between the two regimes",
            "here": f"{test[peak]:.2f} at T = {peak}; least before {before.min():.2f}, least after "
            f"{after.min():.2f}",
            "agrees": bool(test[peak] > before.min() and test[peak] > after.min()),
        },
        {
            "claim": "few examples are reproduced without any use for others: they are memorised",
            "paper": "train loss near 0, test loss near or above that of outputs of 0 (1)",
            "here": f"T = {train.index[0]}: train {train.iloc[0]:.3f}, test {test.iloc[0]:.2f}",
            "agrees": bool(train.iloc[0] < 0.1 and test.iloc[0] > 0.9),
        },
        {
            "claim": "with many examples train and test losses meet, near those of endless data",
            "paper": "they meet",
            "here": f"T = {train.index[-1]}: train {train.iloc[-1]:.3f}, test {test.iloc[-1]:.3f}, "
            f"endless {endless:.3f}",
            "agrees": bool(test.iloc[-1] - train.iloc[-1] < 0.05),
        },
    ]


def _crossing(dimensionality: pd.DataFrame) -> dict[str, object]:
    finite = dimensionality[dimensionality["examples"] > 0]
    wide = finite.pivot(index="examples", columns="kind", values="typical")
    ahead = wide["features"] > wide["examples"]
    first = int(ahead.idxmax()) if ahead.any() else 0
    return {
        "claim": "dimensionality goes over from examples to features as T grows",
        "paper": "examples have it at small T, features at large T",
        "here": f"examples / features: {wide['examples'].iloc[0]:.2f} / "
        f"{wide['features'].iloc[0]:.2f} at T = {wide.index[0]}, {wide['examples'].iloc[-1]:.2f} / "
        f"{wide['features'].iloc[-1]:.2f} at T = {wide.index[-1]}; features ahead from T = {first}",
        "agrees": bool(not ahead.iloc[0] and ahead.iloc[-1]),
    }
