"""Where an edit acts: heads, neurons, components, links of attention, edges, positions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dashboards.edits.numbers import PATTERN, Numbers, read_numbers, written_numbers
from interp.errors import InputError, require

HEAD_PARTS = {"z": "hook_z", "q": "hook_q", "k": "hook_k", "v": "hook_v", "pattern": "hook_pattern"}
COMPONENTS = {
    "MLP": "hook_mlp_out",
    "attn": "hook_attn_out",
    "cross": "hook_cross_attn_out",
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
}
EMBEDDINGS = {
    "embed": "hook_embed",
    "pos_embed": "hook_pos_embed",
    "token_type_embed": "hook_token_type_embed",
}

_UNIT = re.compile(rf"L({PATTERN})([HCN])({PATTERN})(?:\.(\w+))?")
_COMPONENT = re.compile(rf"L({PATTERN})(MLP|\.\w+)")
_POSITIONS = re.compile(rf"(?:L({PATTERN})\.)?positions")
_RULE = (
    "a place is written L0H3 (a head; .q, .k, .v, .pattern for a part of it), L0C3 (a head of "
    "cross-attention), L0N17 (a neuron), L0MLP, L0.attn, L0.cross, L0.resid_pre, L0.resid_mid, "
    "L0.resid_post, embed, pos_embed, positions, or L0H1>L2H3.k (an edge)"
)


@dataclass(frozen=True)
class Entries:
    """Entries of activations.

    Attributes:
        what: A part of heads (a key of `HEAD_PARTS`), `neurons`, or a key of `COMPONENTS` or
            `EMBEDDINGS`.
        layers: Which; embeddings have none.
        units: Which heads or neurons; components have none.
        crosses: The heads are those of cross-attention.
        encoder: Of an encoder–decoder's encoder.
        positions: Which; of patterns, the destinations.
        sources: Of patterns: which of the positions looked at. Everything else has none.
    """

    what: str
    layers: Numbers = None
    units: Numbers = None
    crosses: bool = False
    encoder: bool = False
    positions: Numbers = None
    sources: Numbers = None

    @property
    def of_heads(self) -> bool:
        """Whether units are heads."""
        return self.what in HEAD_PARTS

    @property
    def attention(self) -> str:
        """The name of the heads' module: `attn`, `cross_attn`, `encoder.attn`."""
        return f"{'encoder.' if self.encoder else ''}{'cross_' if self.crosses else ''}attn"

    @property
    def hook(self) -> str:
        """The hook's name, inside of a block where it has layers."""
        if self.of_heads:
            return f"{self.attention}.{HEAD_PARTS[self.what]}"
        encoder = "encoder." if self.encoder else ""
        if self.what == "neurons":
            return f"{encoder}mlp.hook_post"
        return encoder + (COMPONENTS | EMBEDDINGS)[self.what]

    def __str__(self) -> str:
        text = "encoder." if self.encoder else ""
        layers = f"L{written_numbers(self.layers)}"
        units = written_numbers(self.units)
        if self.of_heads:
            text += f"{layers}{'C' if self.crosses else 'H'}{units}"
            if self.what != "z" and self.sources is None:
                text += f".{self.what}"
        elif self.what == "neurons":
            text += f"{layers}N{units}"
        elif self.what == "MLP":
            text += f"{layers}MLP"
        else:
            text += f"{layers}.{self.what}" if self.what in COMPONENTS else self.what
        if self.positions is not None or self.sources is not None:
            text += f"@{written_numbers(self.positions)}"
        return text if self.sources is None else f"{text}<{written_numbers(self.sources)}"


@dataclass(frozen=True)
class Edge:
    """What one sender writes as one receiver reads it.

    Attributes:
        sender, receiver: Labels of `interp.circuits.graph.Graph`.
    """

    sender: str
    receiver: str

    def __str__(self) -> str:
        return f"{self.sender}>{self.receiver}"


@dataclass(frozen=True)
class Positions:
    """The positions at which tokens are treated.

    Attributes:
        layers: Where the encoding acts layer by layer, in which of them. None: all.
        positions: Which tokens. None: all.
    """

    layers: Numbers = None
    positions: Numbers = None

    def __str__(self) -> str:
        text = "" if self.layers is None else f"L{written_numbers(self.layers)}."
        at = "" if self.positions is None else f"@{written_numbers(self.positions)}"
        return f"{text}positions{at}"


Place = Entries | Edge | Positions


def read_place(text: str) -> Place:
    """The place that a text names; `str` writes it again.

    Raises:
        InputError: for something else.
    """
    if ">" in text:
        sender, _, receiver = text.partition(">")
        labels = [sender.replace(".mlp", "MLP"), receiver.replace(".mlp", "MLP")]
        fits = all(re.fullmatch(r"\w+(?:\.\w+)?", label) for label in labels)
        require(fits, f"an edge is written L0H1>L2H3.k. Received {text!r}")
        return Edge(*labels)
    name, at, after = text.partition("@")
    positions, link, sources = after.partition("<")
    require(
        bool(positions) == bool(at) and bool(sources) == bool(link) and "<" not in name,
        f"positions are written @3, links @3<1 (destination 3, source 1). Received {text!r}",
    )
    where = read_numbers(positions, "positions", negative=True) if at else None
    match = _POSITIONS.fullmatch(name)
    if match is not None:
        require(not link, f"positions have no sources. Received {text!r}")
        layers = None if match[1] is None else read_numbers(match[1], "layers")
        return Positions(layers, where)
    encoder = name.startswith("encoder.")
    found = _entries(name.removeprefix("encoder.").removeprefix("decoder."), text)
    what, layers, units, crosses = found
    seen: Numbers = None
    if link:
        require(what in ("z", "pattern"), f"only heads have links. Received {text!r}")
        what, seen = "pattern", read_numbers(sources, "sources", negative=True)
    require(not (encoder and crosses), f"an encoder has no cross-attention. Received {text!r}")
    return Entries(what, layers, units, crosses, encoder, where, seen)


def _entries(name: str, text: str) -> tuple[str, Numbers, Numbers, bool]:
    """What is named, layers, units, and whether these are heads of cross-attention."""
    match = _UNIT.fullmatch(name)
    if match is not None:
        layers = read_numbers(match[1], "layers")
        if match[2] == "N":
            require(match[4] is None, f"a neuron has no parts. Received {text!r}")
            return "neurons", layers, read_numbers(match[3], "neurons"), False
        part = match[4] or "z"
        if part not in HEAD_PARTS:
            raise InputError(f"parts of a head are {', '.join(HEAD_PARTS)}. Received {text!r}.")
        return part, layers, read_numbers(match[3], "heads"), match[2] == "C"
    match = _COMPONENT.fullmatch(name)
    if match is not None:
        what = match[2].removeprefix(".").replace("mlp", "MLP")
        if what in COMPONENTS:
            return what, read_numbers(match[1], "layers"), None, False
    elif name in EMBEDDINGS:
        return name, None, None, False
    raise InputError(f"{_RULE}. Received {text!r}.")
