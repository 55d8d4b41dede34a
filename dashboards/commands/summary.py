"""A result as one JSON document."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards.commands.terminal import MAX_ROWS

if TYPE_CHECKING:
    from analyses import AnalysisResult


def summary(result: "AnalysisResult", directory: Path) -> dict[str, Any]:
    """What the command line tells of a result; of tables, the first rows."""
    return {
        "name": result.name,
        "question": result.question,
        "caveat": result.caveat,
        "directory": str(directory),
        "passed": result.passed,
        "checks": [
            {
                "name": check.name,
                "value": check.value,
                "tolerance": check.tolerance,
                "passed": check.passed,
                "note": check.note,
            }
            for check in result.checks
        ],
        "tables": {
            name: {"rows": len(table), "head": table.head(MAX_ROWS).to_dict("records")}
            for name, table in result.tables.items()
        },
        "figures": list(result.figures),
        "provenance": result.provenance.model_dump(mode="json"),
    }
