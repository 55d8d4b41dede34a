"""How far back heads look, as tables."""

from __future__ import annotations

import pandas as pd

from interp.behaviour import OffsetScores

LEADING_OFFSETS = 12  # heads whose offsets are shown


def offsets_table(by_offset: OffsetScores) -> pd.DataFrame:
    """Each head's best offset, the largest mass first."""
    best, mass = by_offset.best()
    rows = []
    for layer in range(best.shape[0]):
        for head in range(best.shape[1]):
            of = by_offset.by_offset[int(best[layer, head])]
            rows.append(
                {
                    "label": f"L{layer}H{head}",
                    "best_offset": int(best[layer, head]),
                    "mass": float(mass[layer, head]),
                    "stderr": float(of.stderr[layer, head]),
                    "chance": float(of.chance[layer]),
                }
            )
    table = pd.DataFrame(rows)
    return table.sort_values("mass", ascending=False, kind="stable", ignore_index=True)


def by_offset_table(by_offset: OffsetScores) -> pd.DataFrame:
    """All offsets of the heads with the largest mass at any."""
    _, mass = by_offset.best()
    n_heads = mass.shape[1]
    leading = mass.flatten().argsort(descending=True)[:LEADING_OFFSETS].sort().values.tolist()
    rows = []
    for order, at in enumerate(leading):
        layer, head = divmod(at, n_heads)
        for offset, of in by_offset.by_offset.items():
            mean = float(of.score[layer, head])
            rows.append((f"L{layer}H{head}", order, offset, mean))
    return pd.DataFrame(rows, columns=["label", "order", "offset", "mass"])
