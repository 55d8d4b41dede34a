"""What an edit does, in a plain sentence."""

from __future__ import annotations

from dashboards.edits.notation import Edit
from dashboards.edits.numbers import Numbers, written_numbers
from dashboards.edits.places import Edge, Entries, Place, Positions

_PARTS = {"z": "output", "q": "queries", "k": "keys", "v": "values", "pattern": "pattern"}
_COMPONENTS = {
    "MLP": "MLP output",
    "attn": "attention output",
    "cross": "cross-attention output",
    "resid_pre": "residual stream before",
    "resid_mid": "residual stream before the MLP",
    "resid_post": "residual stream behind",
    "embed": "embeddings",
    "pos_embed": "positional embeddings",
    "token_type_embed": "segment embeddings",
}
_PROMPTS = {"this": "this prompt", "other": "the second prompt", "both": "both prompts"}


def in_words(edit: Edit) -> str:
    """What is done where, and with what of which prompt."""
    if isinstance(edit.place, Positions):
        return f"{_tokens(edit.place)} {_moved(edit)}"
    where, place = _where(edit.place), edit.place
    if edit.verb == "mask":
        return f"{where}: score −∞, so that the rest of the pattern grows"
    if edit.verb == "zero" and isinstance(place, Entries) and place.sources is not None:
        return f"{where}: 0, and the rest of the pattern as it is"
    return f"{where}: {_done(edit)}"


def _done(edit: Edit) -> str:
    if edit.verb == "steer":
        size = f"{edit.amount:g}{'% of its norm' if edit.relative else ' times'}"
        return f"plus {size}{' along' if edit.relative else ''} {_direction(edit)}"
    return {
        "zero": "zero",
        "mean": f"its mean over all positions of {_PROMPTS[edit.prompts]}",
        "resample": f"what it is when this prompt's tokens are shuffled (seed {edit.seed})",
        "patch": "what it is at the same position of the second prompt",
        "hold": "what it is without interventions",
        "scale": f"times {edit.amount}",
        "noise": f"plus noise of {edit.amount} of its standard deviations (seed {edit.seed})",
    }[edit.verb]


def _direction(edit: Edit) -> str:
    given = edit.direction
    assert given is not None
    if given.source == "contrast":
        at = "mean" if given.position is None else f"activation at position {given.position}"
        return f"the second prompt's {at} less this one's"
    token = f"id {given.token}" if isinstance(given.token, int) else f"“{given.token}”"
    return f"the {'unembedding' if given.source == 'unembed' else 'embedding'} of {token}"


def _moved(edit: Edit) -> str:
    return {
        "zero": "without position",
        "shift": f"treated as {edit.amount or 0:+g} positions",
        "swap": "treated as if each stood where the other does",
        "shuffle": f"with their positions dealt out anew (seed {edit.seed})",
    }[edit.verb]


def _tokens(place: Positions) -> str:
    layers = "" if place.layers is None else f"in {_numbered('layer', place.layers)}, "
    tokens = "all tokens" if place.positions is None else _numbered("token", place.positions)
    return layers + tokens


def _where(place: Place) -> str:
    if isinstance(place, Edge):
        return f"what {place.sender} writes, as {place.receiver} reads it"
    assert isinstance(place, Entries)
    layers = _numbered("layer", place.layers)
    if place.of_heads:
        heads = _numbered("cross-attention head" if place.crosses else "head", place.units)
        what = f"{_PARTS[place.what]} of {heads}, {layers}"
    elif place.what == "neurons":
        what = f"{_numbered('neuron', place.units)}, {layers}"
    elif place.what.endswith("embed"):
        what = _COMPONENTS[place.what]
    elif place.what in ("resid_pre", "resid_post"):
        what = f"{_COMPONENTS[place.what]} {layers}"
    else:
        what = f"{_COMPONENTS[place.what]} of {layers}"
    if place.encoder:
        what += " of the encoder"
    if place.sources is not None:
        at, to = place.positions, place.sources
        return f"{what}, from {_numbered('position', at)} to {_numbered('position', to)}"
    return what if place.positions is None else f"{what}, {_numbered('position', place.positions)}"


def _numbered(thing: str, numbers: Numbers) -> str:
    """`all heads`, `head 3`, `heads 0-2,5`."""
    if numbers is None:
        return f"all {thing}s"
    return f"{thing}{'s' if len(numbers) > 1 else ''} {written_numbers(numbers)}"
