"""`interp demo`: one analysis of a model that ships with interp, to see that everything works."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from dashboards.commands import Json
from dashboards.commands.run import run
from interp.errors import MissingExtraError

ANALYSIS, MODEL = "head-attribution", "zoo:induction"
_NEEDS = {"hf": "transformers", "plots": "seaborn"}  # an extra, and what it brings


def demo(
    out: Annotated[
        Path, typer.Option(help="Where to save the result; an older one is replaced.")
    ] = Path("runs/demo"),
    json: Json = False,
) -> None:
    """Trace a prediction of the model zoo:induction to its heads. Takes seconds, needs no network.

    The same as `interp run head-attribution --model zoo:induction`.
    """
    missing = [extra for extra, module in _NEEDS.items() if find_spec(module) is None]
    if missing:
        modules = " and ".join(_NEEDS[extra] for extra in missing)
        raise MissingExtraError(
            f"the demo reads a prompt and draws figures, and {modules} "
            f"{'is' if len(missing) == 1 else 'are'} not installed: "
            f"pip install 'interp[{','.join(missing)}]'"
        )
    run(ANALYSIS, out, [MODEL], json=json)
    if not json:
        print(f"open {out / 'report.html'}, or run: interp dashboard --runs {out.parent}")
