"""What was measured while a model was trained: one row for each logged step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from interp.errors import InputError
from interp.files.atomic import replacing_file

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, float | None]


class History:
    """A tidy table that grows.

    Attributes:
        rows: Dictionaries with a `step` (the number of updates that the weights have had) and
            whatever was measured there, in the order of the steps.
    """

    def __init__(self, rows: Iterable[Mapping[str, float | None]] = ()) -> None:
        self.rows: list[Row] = [dict(row) for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, step: int, **measured: float | None) -> None:
        """Append a row."""
        self.rows.append({"step": step, **measured})

    def before(self, step: int) -> History:
        """The rows of earlier steps."""
        return History(row for row in self.rows if (row["step"] or 0) < step)

    def frame(self) -> pd.DataFrame:
        """The table; what was not measured at a step is NaN there."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def write(self, path: str | Path) -> Path:
        """Write the table to a `.csv` or `.parquet` file.

        Raises:
            InputError: for another suffix.
        """
        path = Path(path)
        if path.suffix not in (".csv", ".parquet"):
            raise InputError(f"a table must be a .csv or a .parquet file. Received {path.name!r}.")
        with replacing_file(path) as fresh:
            if path.suffix == ".csv":
                self.frame().to_csv(fresh, index=False)
            else:
                self.frame().to_parquet(fresh, index=False)
        return path
