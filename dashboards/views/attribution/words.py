"""Words that the panels of this page share."""

import pandas as pd

from interp.charts.tokens import visible

SHARE = "attribution (logits)"


def largest(table: pd.DataFrame, *columns: str) -> str:
    """The three rows with the largest attributions, in words."""
    rows = table.loc[table["attribution"].abs().nlargest(3).index]
    return ", ".join(
        f"{' of '.join(f'“{visible(str(row[c]))}”' for c in columns)} {row['attribution']:+.3g}"
        for _, row in rows.iterrows()
    )
