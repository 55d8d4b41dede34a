"""From the notation to `interp.interventions`, as objects and as Python that makes the same.

Both are read off one tree of calls, so that a script does what the page does.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dashboards.edits.notation import Edit, parse
from dashboards.edits.numbers import as_argument
from dashboards.edits.places import EMBEDDINGS, Edge, Entries, Positions
from interp import interventions
from interp.errors import InputError, require
from interp.interventions.contrasts import contrast

if TYPE_CHECKING:
    from interp.interventions import Intervention
    from interp.transformer import HookedTransformer


@dataclass(frozen=True)
class Name:
    """A variable of the script."""

    name: str


@dataclass(frozen=True)
class Call:
    """A call of a function by keywords, after what comes by place."""

    function: str
    given: tuple[Any, ...]
    named: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, function: str, *given: Any, **named: Any) -> Call:
        """A call without the arguments that are None."""
        return cls(function, given, tuple((k, v) for k, v in named.items() if v is not None))


def plan(
    text: str,
    model: HookedTransformer,
    tokens: Sequence[int],
    other: Sequence[int] | None = None,
    decoder: Sequence[int] | None = None,
) -> tuple[Intervention, ...]:
    """The interventions of a text on a prompt.

    The model is run where a direction is a contrast of two prompts: hold its lock.

    Args:
        text: In the notation of `dashboards.edits`.
        model: The model.
        tokens: The prompt; for an encoder–decoder its source.
        other: The second prompt.
        decoder: What an encoder–decoder's decoder reads, whichever its source.

    Raises:
        InputError: for what is not in the notation or not in the model or prompt, and where a
            second prompt is wanted that is not there, or is of another length.
    """
    edits = parse(text)
    for edit in edits:
        _check_prompts(edit, tokens, other, decoder)
    both_ways = model.cfg.attention_dir == "bidirectional"
    named: dict[str, Any] = {"model": model}
    for name, call in _prompts(edits, both_ways, tokens, decoder).items():
        rows = {"tokens": tokens, "other_tokens": other, "decoder_tokens": decoder}
        named[name] = _value(call, named | {k: [list(v)] for k, v in rows.items() if v is not None})
    found = []
    for edit in edits:
        made: Intervention = _value(_call(edit, decoder is not None), named)
        _check(made, model)
        found.append(made)
    return tuple(found)


def python_of(
    text: str,
    tokens: Sequence[int],
    decoder: Sequence[int] | None = None,
    both_ways: bool = False,
) -> str:
    """Lines of Python that leave the interventions of a text in `plan`, with `interp` alone.

    They need `model` and, as tensors `[1, pos]`, `tokens` and as far as there are any
    `other_tokens` and `decoder_tokens`.

    Args:
        text: In the notation of `dashboards.edits`.
        tokens: The prompt.
        decoder: What an encoder–decoder's decoder reads.
        both_ways: Whether the model's attention is bidirectional.

    Raises:
        InputError: for what is not in the notation.
    """
    edits = parse(text)
    prompts = _prompts(edits, both_ways, tokens, decoder)
    calls = [_call(edit, decoder is not None) for edit in edits]
    used: set[str] = set().union(*map(_functions, (*calls, *prompts.values())))
    imported = sorted(used & set(interventions.__all__))
    lines = [f"from interp.interventions import {', '.join(imported)}"] if imported else []
    if any("contrast" in _functions(call) for call in calls):
        lines.append("from interp.interventions.contrasts import contrast")
    if lines:
        lines.append("")
    lines += [f"{name} = {_printed(call)}" for name, call in prompts.items()]
    if not calls:
        return "\n".join([*lines, "plan = ()"])
    return "\n".join([*lines, "plan = (", *(f"    {_printed(call)}," for call in calls), ")"])


# --- prompts -------------------------------------------------------------------------------------


def _wants(edit: Edit) -> str | None:
    """The name of the reference that an edit takes activations from."""
    if edit.verb == "resample":
        return f"shuffled_{edit.seed}"
    if edit.verb == "patch" or (edit.verb == "mean" and edit.prompts == "other"):
        return "other"
    if edit.verb == "mean" and edit.prompts == "both":
        return "both"
    return "this" if edit.verb in ("mean", "hold", "noise") else None


def runs_wanted(edits: Sequence[Edit]) -> int:
    """How many runs of the model these take activations from, at most."""
    names = {name for edit in edits if (name := _wants(edit)) is not None}
    return sum(2 if name == "both" else 1 for name in names) + 2 * sum(map(_contrasts, edits))


def _contrasts(edit: Edit) -> bool:
    return edit.direction is not None and edit.direction.source == "contrast"


def _prompts(
    edits: Sequence[Edit], both_ways: bool, tokens: Sequence[int], decoder: Sequence[int] | None
) -> dict[str, Call]:
    """The references that are wanted: variable → how it is made."""
    wanted = [name for edit in edits if (name := _wants(edit)) is not None]
    if any(map(_contrasts, edits)):
        wanted += ["this", "other"]
    found = {}
    given: tuple[Any, ...]
    for name in sorted(set(wanted)):
        crosses = decoder is not None
        if name in ("this", "other"):
            row = Name("tokens" if name == "this" else "other_tokens")
            given = (row, Name("decoder_tokens")) if crosses else (row,)
        elif name == "both":
            # Two prompts may differ in length: rows, no tensor.
            rows = _Rows(("tokens", "other_tokens"))
            given = (rows, _Rows(("decoder_tokens", "decoder_tokens"))) if crosses else (rows,)
        else:
            seed = int(name.removeprefix("shuffled_"))
            given = ([shuffled(tokens, seed, both_ways)],)
            if decoder is not None:
                given = (*given, [shuffled(decoder, seed, False)])
        found[name] = Call("Reference", given)
    return found


@dataclass(frozen=True)
class _Rows:
    """The rows of several variables, one list."""

    names: tuple[str, ...]


def shuffled(tokens: Sequence[int], seed: int, both_ways: bool) -> list[int]:
    """A prompt in another order; the first token stays, and the last if attention is both ways."""
    end = len(tokens) - 1 if both_ways else len(tokens)
    inner = list(tokens[1:end])
    random.Random(seed).shuffle(inner)
    return [*tokens[:1], *inner, *tokens[max(end, 1) :]]


def _check_prompts(
    edit: Edit,
    tokens: Sequence[int],
    other: Sequence[int] | None,
    decoder: Sequence[int] | None,
) -> None:
    """Raise `InputError` unless the prompts have what an edit wants of them."""
    if _wants(edit) in ("other", "both") or _contrasts(edit):
        require(other is not None, f"{edit} needs a second prompt: type one at the side")
    if edit.verb == "patch":
        assert other is not None
        n, m = len(tokens), len(other)
        require(n == m, f"{edit} needs two prompts of as many tokens. These are {n} and {m}")
    if isinstance(edit.place, Edge):
        return
    read = tokens if decoder is None else decoder
    own, seen = read, read
    if isinstance(edit.place, Entries):
        own = tokens if edit.place.encoder else read
        seen = tokens if edit.place.crosses or edit.place.encoder else read
        _check_within(edit, "sources", edit.place.sources, len(seen))
    _check_within(edit, "positions", edit.place.positions, len(own))


def _check_within(edit: Edit, what: str, numbers: tuple[int, ...] | None, length: int) -> None:
    for n in numbers or ():
        require(
            -length <= n < length,
            f"{what} lie in {-length} … {length - 1} here. Received {n} in {edit}",
        )


# --- interventions -------------------------------------------------------------------------------


def _call(edit: Edit, crosses: bool) -> Call:
    """How the intervention of an edit is made."""
    if isinstance(edit.place, Positions):
        return _moved(edit, edit.place)
    reference = None if (name := _wants(edit)) is None else Name(name)
    if isinstance(edit.place, Edge):
        by = {"hold": "patch"}.get(edit.verb, edit.verb)
        return Call.of(
            "KnockOutEdge",
            f"{edit.place.sender}->{edit.place.receiver}",
            by=None if by == "zero" else by,
            reference=reference,
            pooled=True if by == "mean" else None,
        )
    if (edit.place.sources is not None and edit.verb == "zero") or edit.verb == "mask":
        return Call.of(
            "KnockOutAttention",
            sources=as_argument(edit.place.sources),
            destinations=as_argument(edit.place.positions),
            layers=as_argument(edit.place.layers),
            heads=as_argument(edit.place.units),
            renormalise=None if edit.verb == "mask" else False,
            part=None if edit.place.attention == "attn" else edit.place.attention,
        )
    place = _placed(edit.place, crosses)
    if edit.verb == "zero":
        return Call.of("Zero", place)
    if edit.verb == "mean":
        return Call.of("Mean", place, reference, pooled=True)
    if edit.verb == "resample":
        return Call.of("Resample", place, reference)
    if edit.verb in ("patch", "hold"):
        return Call.of("Patch", place, reference)
    assert edit.amount is not None
    if edit.verb == "scale":
        return Call.of("Scale", place, edit.amount)
    if edit.verb == "noise":
        seed = edit.seed or None
        return Call.of("Noise", place, edit.amount, relative_to=reference, seed=seed)
    return _steered(edit, place, edit.amount)


def _steered(edit: Edit, place: Call, amount: float) -> Call:
    given = edit.direction
    assert given is not None
    if given.source == "contrast":
        whole = replace(place, named=tuple(x for x in place.named if x[0] != "positions"))
        direction = Call.of(
            "contrast", Name("model"), whole, Name("other"), Name("this"), position=given.position
        )
    elif given.source == "unembed":
        direction = Call.of("model.tokens_to_residual_directions", given.token)
    else:
        direction = Call.of("W_E", given.token)
    coefficient = amount / 100 if edit.relative else amount
    return Call.of("Steer", place, direction, coefficient, relative=edit.relative or None)


def _moved(edit: Edit, place: Positions) -> Call:
    positions, layers = as_argument(place.positions), as_argument(place.layers)
    if edit.verb == "shift":
        assert edit.amount is not None
        by = int(edit.amount)
        return Call.of("ShiftPositions", by, positions=positions, layers=layers)
    if edit.verb == "swap":
        assert place.positions is not None
        return Call.of("SwapPositions", *place.positions, layers=layers)
    if edit.verb == "shuffle":
        seed = edit.seed or None
        return Call.of("ShufflePositions", positions=positions, seed=seed, layers=layers)
    return Call.of("ZeroPositions", positions=positions, layers=layers)


def _placed(place: Entries, crosses: bool) -> Call:
    hook = place.hook
    if crosses and place.what in EMBEDDINGS and not place.encoder:
        hook = f"decoder.{hook}"
    units = as_argument(place.units)
    return Call.of(
        "Place",
        hook,
        layers=as_argument(place.layers),
        heads=units if place.of_heads else None,
        positions=as_argument(place.positions),
        sources=as_argument(place.sources),
        dims=units if place.what == "neurons" else None,
    )


def _check(made: Intervention, model: HookedTransformer) -> None:
    """Raise `InputError` for a place that the model does not have, before anything is run."""
    made.needs(model)
    for name in ("where", "place"):
        place = getattr(made, name, None)
        if isinstance(place, interventions.Place):
            place.hooks(model)


# --- the two readings of a call ------------------------------------------------------------------


def _value(given: Any, named: dict[str, Any]) -> Any:
    if isinstance(given, Name):
        return named[given.name]
    if isinstance(given, _Rows):
        return [named[name][0] for name in given.names]
    if not isinstance(given, Call):
        return given
    values = [_value(x, named) for x in given.given]
    model = named["model"]
    if given.function == "model.tokens_to_residual_directions":
        return model.tokens_to_residual_directions(_token(model, values[0], model.cfg.d_vocab_out))
    if given.function == "W_E":
        return model.W_E[_token(model, values[0], model.cfg.d_vocab)]
    function: Any = getattr(interventions, given.function, contrast)
    return function(*values, **{name: _value(x, named) for name, x in given.named})


def _token(model: HookedTransformer, given: str | int, n: int) -> int:
    if isinstance(given, str):
        if model.tokenizer is None:
            raise InputError(f"this model has no tokenizer: give a token id, not {given!r}.")
        given = model.to_single_token(given)
    require(0 <= given < n, f"a token must lie in 0 … {n - 1}. Received {given}")
    return given


def _printed(given: Any) -> str:
    if isinstance(given, Name):
        return given.name
    if isinstance(given, _Rows):
        return f"[{', '.join(f'*{name}.tolist()' for name in given.names)}]"
    if not isinstance(given, Call):
        return repr(given)
    if given.function == "W_E":
        token = given.given[0]
        at = repr(token) if isinstance(token, int) else f"model.to_single_token({token!r})"
        return f"model.W_E[{at}]"
    arguments = [_printed(x) for x in given.given]
    arguments += [f"{name}={_printed(x)}" for name, x in given.named]
    return f"{given.function}({', '.join(arguments)})"


def _functions(given: Any) -> set[str]:
    if not isinstance(given, Call):
        return set()
    inner = (*given.given, *(x for _, x in given.named))
    return {given.function}.union(*map(_functions, inner))
