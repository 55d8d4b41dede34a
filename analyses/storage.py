"""An AnalysisResult as a directory, and back.

<directory>/
  result.json        all but the tables: question, charts, checks, provenance
  tables/NAME.parquet
  figures/NAME.svg, NAME.png
  report.html        the same for a reader, in one file
"""

import json
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from analyses.provenance import Provenance
from analyses.result import AnalysisResult, Check
from interp.atomic import replacing_directory
from interp.charts.spec import Chart
from interp.errors import InputError

SCHEMA_VERSION = 1
DOCUMENT = "result.json"
REPORT = "report.html"


class Shape(BaseModel):
    """What a saved table must turn out to be when it is read again.

    Attributes:
        rows: The number of rows.
        columns: The dtype of each column, in order.
    """

    rows: int
    columns: dict[str, str]


class Document(BaseModel):
    """The contents of `result.json`."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    schema_version: Literal[1] = 1
    name: str
    question: str
    caveat: str = ""
    tables: dict[str, Shape]
    figures: dict[str, Chart]
    checks: list[Check]
    provenance: Provenance


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
        (fresh / "tables").mkdir()
        for name, table in result.tables.items():
            table.to_parquet(fresh / "tables" / f"{name}.parquet", index=False)
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
    from analyses.report import page
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

    Raises:
        InputError: If the directory or a file is missing, damaged, or of another schema version;
            the message names the file.
    """
    folder = Path(directory)
    path = folder / DOCUMENT
    if not path.is_file():
        raise InputError(f"{folder} is not a saved result: {path} does not exist")
    document = _read_document(path)
    return AnalysisResult(
        name=document.name,
        question=document.question,
        caveat=document.caveat,
        tables={
            name: _read_table(folder / "tables" / f"{name}.parquet", shape)
            for name, shape in document.tables.items()
        },
        figures=document.figures,
        checks=document.checks,
        provenance=document.provenance,
    )


def _read_document(path: Path) -> Document:
    try:
        raw = json.loads(path.read_bytes())
    except ValueError as fault:  # not UTF-8, or not JSON
        raise InputError(f"{path} is damaged: {fault}") from fault
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(f"{path} has schema version {version}; this interp reads {SCHEMA_VERSION}")
    try:
        return Document.model_validate(raw)
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path} is damaged: {where}: {first['msg']}") from fault


def _read_table(path: Path, shape: Shape) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"{path} does not exist, though {DOCUMENT} lists it")
    try:
        table = pd.read_parquet(path)
    except (pa.ArrowException, OSError) as fault:
        raise InputError(f"{path} is damaged: {fault}") from fault
    if len(table) != shape.rows or list(table.columns) != list(shape.columns):
        raise InputError(
            f"{path} has {len(table)} rows of {', '.join(table.columns)}; {DOCUMENT} lists "
            f"{shape.rows} rows of {', '.join(shape.columns)}"
        )
    # Parquet does not tell pandas' several text dtypes apart; the document does.
    return table.astype(shape.columns)
