"""A line for each model: the figures that the parts of a report are mostly asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from interp.config import HookedTransformerConfig

_MISSING = float("nan")
FIRST = "L0 resid_pre"


def overview_table(
    tables: Mapping[str, pd.DataFrame], configs: Mapping[str, HookedTransformerConfig]
) -> pd.DataFrame:
    """What each part says of each model; NaN where that part has nothing to say.

    Columns:
        embedded_r2, embedded_accuracy: Of a ridge probe for position before the first layer,
            where the encoding has been added; `_random` with random weights.
        final_r2, final_accuracy: The same after the last layer.
        embedded_share, final_share: Position's share of the stream's variance at those places.
        most_positional_head, its_r2: Which head's pattern the positions explain best, and how
            much of it.
        shuffled_kl: Nats between predictions with and without all positions shuffled.
        accuracy_1x, accuracy_2x, accuracy_4x: At multiples of the trained length; of a task whose
            distances can be scaled with the length, scaled.
    """
    return pd.DataFrame(
        {
            "model": model,
            "encoding": cfg.positional_embedding_type,
            **_probed(_of(tables, "probes-by-layer", model)),
            **_shares(_of(tables, "geometry-variance", model)),
            **_head(_of(tables, "attention-heads", model)),
            **_shuffled(_of(tables, "interventions-effects", model)),
            **_lengths(_of(tables, "length-by-length", model)),
        }
        for model, cfg in configs.items()
    )


def _of(tables: Mapping[str, pd.DataFrame], name: str, model: str) -> pd.DataFrame | None:
    table = tables.get(name)
    if table is None:
        return None
    rows = table[table["model"] == model]
    return rows if len(rows) else None


def _ends(table: pd.DataFrame, site: str) -> dict[str, str]:
    """The sites before the first layer and after the last, of those that a table has.

    Where nothing is added to the embedding, the stream before the first layer is the embedding and
    may go by that name alone.
    """
    names = table[site].tolist()
    before = [name for name in (FIRST, "embed") if name in names]
    streams = [name for name in names if "resid_" in name and name != FIRST]
    found = {"embedded": before[0]} if before else {}
    return found | ({"final": streams[-1]} if streams else {})


def _probed(table: pd.DataFrame | None) -> dict[str, float]:
    columns = [
        f"{place}_{measure}{of}"
        for place in ("embedded", "final")
        for measure in ("r2", "accuracy")
        for of in ("", "_random")
    ]
    found = dict.fromkeys(columns, _MISSING)
    if table is None:
        return found
    table = table[(table["target"] == "position") & (table["probe"] == "ridge")]
    table = table.sort_values("order")
    for place, site in _ends(table, "site").items():
        for measure, name in (("R²", "r2"), ("accuracy", "accuracy")):
            for fitted, of in (("this model", ""), ("random weights", "_random")):
                rows = table[
                    (table["site"] == site)
                    & (table["measure"] == measure)
                    & (table["fitted"] == fitted)
                ]
                if len(rows):
                    found[f"{place}_{name}{of}"] = float(rows["value"].mean())
    return found


def _shares(table: pd.DataFrame | None) -> dict[str, float]:
    found = {"embedded_share": _MISSING, "final_share": _MISSING}
    if table is not None:
        table = table.sort_values("order")
        for place, site in _ends(table, "label").items():
            found[f"{place}_share"] = float(table.loc[table["label"] == site, "share"].iloc[0])
    return found


def _head(table: pd.DataFrame | None) -> dict[str, str | float]:
    if table is None or table["position_r2"].isna().all():
        return {"most_positional_head": "", "its_r2": _MISSING}
    varying = table.dropna(subset="position_r2")  # it is NaN for a head that never varies
    best = varying.iloc[int(varying["position_r2"].argmax())]
    return {"most_positional_head": str(best["label"]), "its_r2": float(best["position_r2"])}


def _shuffled(table: pd.DataFrame | None) -> dict[str, float]:
    if table is None:
        return {"shuffled_kl": _MISSING}
    rows = table[(table["what"] == "shuffle") & (table["tokens"] == "all")]
    return {"shuffled_kl": float(rows["kl"].iloc[0]) if len(rows) else _MISSING}


def _lengths(table: pd.DataFrame | None) -> dict[str, float]:
    found = {f"accuracy_{times}x": _MISSING for times in (1, 2, 4)}
    if table is not None:
        plain = table[table["variant"] == "plain"]
        for times in (1, 2, 4):
            rows = plain[plain["times"] == f"{times}×"]
            if len(rows):
                found[f"accuracy_{times}x"] = float(rows["accuracy"].iloc[0])
    return found
