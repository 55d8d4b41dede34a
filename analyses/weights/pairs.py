"""The extreme entries of one head's full circuits, of all tokens or of one: tables."""

from __future__ import annotations

import pandas as pd

from analyses.weights.tables import Texts, less_mean, pairs_table
from interp.factored import FactoredMatrix


def moved_table(
    circuit: FactoredMatrix, k: int, texts: Texts, token: int | None = None
) -> pd.DataFrame:
    """What attending to which token raises and lowers the most, the largest first.

    Args:
        circuit: Of values and outputs, `[source token, output]`.
        k: How many of each.
        texts: Looks texts of tokens up.
        token: Of this source alone; by default of all.

    Returns:
        order (from 0), pair (`source→output`), source, output, source_id, output_id, logit: the k
        largest, then the k smallest, falling. Of fewer than 2k entries none comes twice.

    Raises:
        InputError: for a token that has no row, or k below 1.
    """
    high, low = (
        pairs_table(circuit, k, texts, "source", "output", "logit", largest, token)
        for largest in (True, False)
    )
    table = pd.concat([high, low.iloc[::-1]]).drop_duplicates(["source_id", "output_id"])
    return _ordered(table, table["source"] + "→" + table["output"])


def sought_table(
    circuit: FactoredMatrix, k: int, texts: Texts, token: int | None = None
) -> pd.DataFrame:
    """Which destination likes which source most, scores less their mean over all sources.

    Args:
        circuit: Of queries and keys, `[destination token, source token]`.
        k: How many.
        texts: Looks texts of tokens up.
        token: Of this destination alone; by default of all.

    Returns:
        order (from 0), pair (`destination←source`), destination, source, destination_id,
        source_id, score, falling.

    Raises:
        InputError: for a token that has no row, or k below 1.
    """
    table = pairs_table(less_mean(circuit), k, texts, "destination", "source", "score", token=token)
    return _ordered(table, table["destination"] + "←" + table["source"])


def _ordered(table: pd.DataFrame, pair: pd.Series) -> pd.DataFrame:
    """With places from 0 in place of ranks, and pairs without spaces: those of tokens are shown."""
    named = table.drop(columns="rank").assign(pair=pair).reset_index(drop=True)
    named.insert(0, "order", range(len(named)))
    named.insert(1, "pair", named.pop("pair"))
    return named
