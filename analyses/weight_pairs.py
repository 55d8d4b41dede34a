"""The extreme entries of one head's full circuits, of all tokens or of one: tables."""

from __future__ import annotations

import pandas as pd

from analyses.weight_tables import Texts
from interp.factored import FactoredMatrix
from interp.weight_circuits import top_pairs, top_per_row


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
    high = _entries(circuit, k, token, largest=True)
    low = _entries(circuit, k, token, largest=False)
    table = pd.concat([high, low.iloc[::-1]]).drop_duplicates(["row", "column"])
    return _named(table, texts, "source", "output", "logit", "→")


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
    # The mean has no effect on a pattern.
    less_mean = FactoredMatrix(circuit.A, circuit.B - circuit.B.mean(-1, keepdim=True))
    table = _entries(less_mean, k, token, largest=True)
    return _named(table, texts, "destination", "source", "score", "←")


def _entries(circuit: FactoredMatrix, k: int, token: int | None, largest: bool) -> pd.DataFrame:
    """The most extreme entries, the most extreme first."""
    if token is None:
        found = top_pairs(circuit, k, largest=largest)
        rows, columns, values = found.rows.tolist(), found.columns.tolist(), found.values
    else:
        chosen, entries = top_per_row(circuit, [token], k, largest=largest)
        columns, values = chosen[0].tolist(), entries[0]
        rows = [token] * len(columns)
    return pd.DataFrame({"row": rows, "column": columns, "value": values.double().tolist()})


def _named(
    table: pd.DataFrame, texts: Texts, row: str, column: str, value: str, join: str
) -> pd.DataFrame:
    first, second = texts(table["row"].tolist()), texts(table["column"].tolist())
    return pd.DataFrame(
        {
            "order": range(len(table)),
            # Without spaces: those of the tokens are shown.
            "pair": [f"{a}{join}{b}" for a, b in zip(first, second, strict=True)],
            row: first,
            column: second,
            f"{row}_id": table["row"].tolist(),
            f"{column}_id": table["column"].tolist(),
            value: table["value"].tolist(),
        }
    )
