"""The dashboard's server: what the pages import is imported first, then Streamlit listens.

`python -m dashboards.serve app.py [Streamlit's options] -- [the pages' options]`
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address

# What the first page would otherwise wait for: seconds.
_HEAVY = (
    "torch",
    "interp",
    "plotly.graph_objects",
    "plotly.subplots",
    "dashboards.sidebar",
    "dashboards.views.prompt",
    "dashboards.views.attention",
    "dashboards.views.catalogue",
    "dashboards.views.runs",
    "dashboards.views.superposition",
)


def preload() -> None:
    """Import what pages need, find the analyses, and use once what imports more in use."""
    from streamlit.logger import get_logger

    # Each cache of a page warns that no server runs yet; it finds it at its first use.
    get_logger("streamlit.runtime.caching.cache_data_api").setLevel("ERROR")
    for name in _HEAVY:
        import_module(name)
    from analyses import list_analyses
    from dashboards.sidebar import FIRST
    from interp import load_model, zoo

    list_analyses()
    _draw_once()
    if find_spec("transformers") and FIRST in zoo.entries():
        load_model(FIRST)  # its tokenizer brings in Hugging Face's packages


def _draw_once() -> None:
    import pandas as pd

    from interp.charts import Chart
    from interp.charts.interactive import draw

    table = pd.DataFrame({"x": ["a"], "y": ["b"], "value": [0.0]})
    shared = {"table": "t", "title": "t", "alt": "t", "x": "x", "value": "value"}
    draw(Chart.model_validate({"kind": "bars"} | shared), table)
    draw(Chart.model_validate({"kind": "heatmap", "y": "y"} | shared), table)
    line = {"kind": "line", "table": "t", "title": "t", "alt": "t", "x": "x", "y": "value"}
    draw(Chart.model_validate(line), table)


def who_can_reach(address: str) -> str:
    """What listening on an address means, in a sentence."""
    if _is_private(address):
        return f"The dashboard listens on {address}: only this machine can reach it."
    return (
        f"The dashboard listens on {address}: whoever can reach this machine can use it and read "
        "the saved runs; it asks for no password."
    )


def main(args: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C; `args` default to those of the process."""
    given = list(sys.argv[1:] if args is None else args)
    print(who_can_reach(given[given.index("--server.address") + 1]), flush=True)
    preload()
    from streamlit.web.cli import main as streamlit

    sys.argv = ["streamlit", "run", *given]
    streamlit()


def _is_private(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ip_address(address).is_loopback
    except ValueError:  # the name of a machine
        return False


if __name__ == "__main__":
    main()
