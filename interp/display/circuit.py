"""A circuit as a table of its edges, the strongest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.display.markup import count_text, folded, one_line, table

if TYPE_CHECKING:
    from interp.circuits import Circuit

MOST_EDGES = 100
_SHORT = 40  # edges up to which the table stands open


def circuit_html(circuit: Circuit) -> str:
    """Where it is from, and the edges with the largest scores by size."""
    ordered = sorted(circuit.edges.items(), key=lambda item: -abs(item[1]))
    rows = [(edge, f"{score:+.4g}") for edge, score in ordered[:MOST_EDGES]]
    left_out = len(ordered) - len(rows)
    more = f"<p>and {count_text(left_out, 'edge')} with smaller scores</p>" if left_out else ""
    told = " ".join(f"{what}: {text}." for what, text in _origin(circuit) if text)
    about = f'<p style="margin:.25rem 0">{one_line(told)}</p>' if told else ""
    contents = about + table(("edge", "score"), rows) + more
    return folded("circuit", circuit_text(circuit), contents, is_open=len(ordered) <= _SHORT)


def circuit_text(circuit: Circuit) -> str:
    """How many edges and nodes it has, and its strongest edge."""
    size = f"{count_text(len(circuit), 'edge')} between {count_text(len(circuit.nodes), 'node')}"
    strongest = max(circuit.edges.items(), key=lambda item: abs(item[1]), default=None)
    told = f"; strongest {strongest[0]} ({strongest[1]:+.4g})" if strongest else ""
    return f"Circuit of {circuit.model_name}: {size}{told}"


def _origin(circuit: Circuit) -> list[tuple[str, str]]:
    return [("Outside of it", circuit.ablation), ("Found by", circuit.method)]
