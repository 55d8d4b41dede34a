"""An AnalysisResult as a directory, and back.

<directory>/
  result.json        all but the tables: question, charts, checks, provenance
  tables/NAME.parquet
  figures/NAME.svg, NAME.png
  report.html        the same for a reader, in one file
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
import pyarrow as pa
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from analyses.results.provenance import Provenance
from analyses.results.result import AnalysisResult, Check, require_name
from analyses.results.table_limits import require_modest
from interp.charts.spec import Chart
from interp.errors import InputError
from interp.files import contained, read_json, short
from interp.files.atomic import replacing_directory

SCHEMA_VERSION = 1
DOCUMENT = "result.json"
REPORT = "report.html"
TABLES = "tables"
# What others than interp wrote into a file may raise where it is read, besides an error of its own:
# other types, numbers without an end, lists within lists within lists.
_DAMAGE = (
    pa.ArrowException, OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
    RecursionError, SyntaxError,
)  # fmt: skip

Name = Annotated[str, AfterValidator(require_name)]


def _require_dtype(name: str) -> str:
    """Check that it is the dtype of texts, numbers or bools; gives its name."""
    try:
        kind = pd.api.types.pandas_dtype(name).kind
    except _DAMAGE as fault:
        raise ValueError(f"{name!r} is no dtype") from fault
    if kind not in "biufO":
        raise ValueError(f"{name!r} is no dtype of texts, numbers or bools")
    return name


class Shape(BaseModel):
    """What a saved table must turn out to be when it is read again.

    Attributes:
        rows: The number of rows.
        columns: The dtype of each column, in order.
    """

    rows: int = Field(ge=0)
    columns: dict[str, Annotated[str, AfterValidator(_require_dtype)]]


class Document(BaseModel):
    """The contents of `result.json`."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    schema_version: Literal[1] = 1
    name: Name
    question: str
    caveat: str = ""
    tables: dict[Name, Shape]
    figures: dict[Name, Chart]
    checks: list[Check] = Field(min_length=1)
    provenance: Provenance

    @model_validator(mode="after")
    def _figures_fit_tables(self) -> Self:
        for name, chart in self.figures.items():
            shape = self.tables.get(chart.table)
            if shape is None:
                raise ValueError(f"figure {name!r} is drawn from no table of the result")
            missing = {*chart.columns.values(), *chart.where} - set(shape.columns)
            if missing:
                raise ValueError(f"figure {name!r} needs the column {min(missing)!r}")
        return self


def require_replaceable(directory: str | Path) -> None:
    """Check that a result may be saved at `directory`.

    Raises:
        InputError: If something other than a saved result or an empty directory is there.
    """
    target = Path(directory)
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"{target} is a file; a result is saved to a directory")
    if any(target.iterdir()) and not (target / DOCUMENT).is_file():
        raise InputError(f"{target} is not empty and not a saved result; it is left as it is")


def save(result: AnalysisResult, directory: str | Path, pictures: bool = True) -> Path:
    """Write a result to a directory, replacing an older result there as a whole.

    Args:
        result: What is saved.
        directory: Where to.
        pictures: Whether figures are drawn, for their files and the report. Without, there is what
            `load` reads: tables and what charts are made of.

    Returns:
        The directory.

    Raises:
        InputError: If the directory holds something else.
        MissingExtraError: If figures are to be drawn and matplotlib is not installed.
    """
    require_replaceable(directory)
    with replacing_directory(directory) as fresh:
        (fresh / TABLES).mkdir()
        for name, table in result.tables.items():
            table.to_parquet(fresh / TABLES / f"{name}.parquet", index=False)
        document = Document(
            name=result.name,
            question=result.question,
            caveat=result.caveat,
            tables={
                name: Shape(rows=len(table), columns={str(c): str(table[c].dtype) for c in table})
                for name, table in result.tables.items()
            },
            figures=result.figures,
            checks=result.checks,
            provenance=result.provenance,
        )
        (fresh / DOCUMENT).write_text(document.model_dump_json(indent=1), encoding="utf-8")
        if pictures:
            _draw(result, fresh)
    return Path(directory)


def _draw(result: AnalysisResult, folder: Path) -> None:
    from analyses.results.report import page
    from interp.charts.export import png, svg
    from interp.charts.mpl import draw

    (folder / "figures").mkdir()
    drawings = {}
    for name, chart in result.figures.items():
        figure = draw(chart, result.tables[chart.table])
        drawings[name] = svg(figure, chart)
        (folder / "figures" / f"{name}.svg").write_text(drawings[name], encoding="utf-8")
        (folder / "figures" / f"{name}.png").write_bytes(png(figure, chart))
    (folder / REPORT).write_text(page(result, drawings), encoding="utf-8")


def load(directory: str | Path) -> AnalysisResult:
    """Read a saved result: the same tables, dtypes included, charts, checks and provenance.

    Nothing outside the directory is read, whatever its files say or link to.

    Raises:
        InputError: If the directory or a file is missing, damaged, a link that leads out of the
            directory, or of another schema version; the message names the file.
    """
    folder = Path(directory)
    document = _read_document(folder)
    tables = {name: _read_table(folder, name, shape) for name, shape in document.tables.items()}
    try:
        return AnalysisResult(
            name=document.name,
            question=document.question,
            caveat=document.caveat,
            tables=tables,
            figures=document.figures,
            checks=document.checks,
            provenance=document.provenance,
        )
    except _DAMAGE as fault:
        raise _damaged(folder / DOCUMENT, fault) from fault


def look(directory: str | Path) -> Document:
    """Read what a saved result says of itself, without its tables.

    That they are there, with the rows and columns listed, is checked; what they hold is not.

    Raises:
        InputError: As `load`.
    """
    import pyarrow.parquet as pq

    folder = Path(directory)
    document = _read_document(folder)
    for name, shape in document.tables.items():
        path = _table_file(folder, name)
        try:
            with pq.ParquetFile(path) as file:
                rows, columns = file.metadata.num_rows, file.schema_arrow.names
        except _DAMAGE as fault:
            raise _damaged(path, fault) from fault
        _require_shape(path, rows, columns, shape)
    return document


def _read_document(folder: Path) -> Document:
    path = folder / DOCUMENT
    if not os.path.isfile(path):
        raise InputError(f"{folder} is not a saved result: {path} does not exist")
    contained(folder, path)
    raw = read_json(path)
    version = raw.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema version {short(version)}; this interp reads {SCHEMA_VERSION}"
        )
    try:
        return Document.model_validate(raw)
    except ValidationError as fault:
        first = fault.errors()[0]
        where = short(".".join(str(part) for part in first["loc"]), 100)
        told = first["msg"].removeprefix("Value error, ")
        raise _damaged(path, f"{where}: {told}" if where else told) from fault
    except _DAMAGE as fault:  # as `float` raises in a check
        raise _damaged(path, fault) from fault


def _table_file(folder: Path, name: str) -> Path:
    path = folder / TABLES / f"{name}.parquet"
    if not path.is_file():
        raise InputError(f"{path} does not exist, though {DOCUMENT} lists it")
    return contained(folder, path)


def _read_table(folder: Path, name: str, shape: Shape) -> pd.DataFrame:
    path = _table_file(folder, name)
    try:
        require_modest(path)
        table = pd.read_parquet(path)
        _require_shape(path, len(table), list(table.columns), shape)
        # Parquet does not tell pandas' several text dtypes apart; the document does.
        typed = table.astype(shape.columns)
    except InputError:
        raise
    except _DAMAGE as fault:
        raise _damaged(path, fault) from fault
    for column in table if len(table) else ():
        kinds = [
            pd.api.types.infer_dtype(each[column], skipna=each[column].dtype != object)
            for each in (table, typed)
        ]
        if kinds[0] != kinds[1]:
            raise InputError(f"{path} holds {kinds[0]} in {column!r}; {DOCUMENT} says {kinds[1]}")
    return typed


def _require_shape(path: Path, rows: int, columns: list[Any], shape: Shape) -> None:
    if rows != shape.rows or columns != list(shape.columns):
        raise InputError(
            f"{path} has {rows} rows of {short(', '.join(map(str, columns)))}; {DOCUMENT} lists "
            f"{shape.rows} rows of {short(', '.join(shape.columns))}"
        )


def _damaged(path: Path, fault: object) -> InputError:
    return InputError(f"{path} is damaged: {short(fault)}")
