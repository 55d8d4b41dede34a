"""Commands of `interp` that have a file of their own; `dashboards.cli` adds them."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
