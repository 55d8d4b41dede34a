"""The dashboard's server: what the pages import is imported first, then Streamlit listens.

`python -m dashboards.serve app.py [Streamlit's options] -- [the pages' options]`
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from ipaddress import ip_address

# What the first page would otherwise wait for: seconds, most of all torch's.
_HEAVY = ("torch", "interp", "analyses", "plotly.graph_objects", "plotly.subplots")


def preload() -> None:
    """Import what every page needs, and find the analyses."""
    from analyses import list_analyses

    for name in _HEAVY:
        import_module(name)
    list_analyses()


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
