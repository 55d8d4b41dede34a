"""A model without an input, for pages that read its weights or choose their own rows."""

from textwrap import indent

from dashboards.page.subject import Line, Loaded, Subject


def alone(loaded: Loaded) -> Subject:
    """The model with no tokens and no interventions: readings of it are the same for any prompt."""
    return Subject(loaded, Line("", (), ()), None)


def script(loaded: Loaded, imports: str, body: str, grad: bool = False) -> str:
    """A whole script for a model without an input.

    Args:
        loaded: The model, which the script calls `model`.
        imports: Lines that import what the body needs from `interp` or `analyses`.
        body: Lines that leave the table behind a chart in `table`.
        grad: Whether they need gradients, or say themselves where they do not.
    """
    lines = ["from interp import load_model", *imports.strip().splitlines()]
    head = "\n".join(sorted(lines))
    opened = f"model = load_model({loaded.name!r}).eval()"
    if grad:
        return f"{head}\n\n{opened}\n{body.strip()}\n"
    inside = indent(body.strip(), "    ")
    return f"import torch\n\n{head}\n\n{opened}\nwith torch.no_grad():\n{inside}\n"
