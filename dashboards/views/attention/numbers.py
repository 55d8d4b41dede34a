"""The maps that the attention page draws, and the Python that makes them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from analyses.heads.attention_maps import Measure, paired_texts
from dashboards.page.script import preamble
from dashboards.page.subject import Subject
from dashboards.readings import attention
from dashboards.readings.attention import Maps
from dashboards.views.attention.choice import MEAN, ROLLOUT, Wanted, n_layers
from interp.errors import InputError

MAX_TOKENS = 128  # drawn each way
MAX_CELLS = 600_000  # drawn in one overview


def longest(subject: Subject, wanted: Wanted) -> int:
    """Tokens of the longer side of a map."""
    return max(len(line.tokens) for line in attention.lines(_of(subject, wanted), wanted.attends))


def clipped(subject: Subject, wanted: Wanted, most: int | None = None) -> str:
    """Says that the first tokens alone are drawn; empty where all are."""
    most = most or MAX_TOKENS
    n = longest(subject, wanted)
    return f" The first {most} of {n} tokens are drawn." if n > most else ""


def texts(subject: Subject, wanted: Wanted) -> tuple[list[str], list[str]]:
    """Of destinations and sources; `a|b` where two prompts that are drawn as one differ."""
    ends = attention.lines(_of(subject, wanted), wanted.attends)
    if wanted.prompts in ("first", "second"):
        destinations, sources = (list(line.texts) for line in ends)
    else:
        others = attention.lines(subject.with_other(), wanted.attends)
        destinations, sources = (
            paired_texts(a.texts, b.texts) for a, b in zip(ends, others, strict=True)
        )
    return destinations, sources


def shown_layers(subject: Subject, wanted: Wanted) -> tuple[int, ...]:
    """Of the overview."""
    return tuple(range(n_layers(subject, wanted.attends))) if wanted.whole else (wanted.layer,)


def overview(subject: Subject, wanted: Wanted) -> Maps:
    """`[layer, head, pos, key_pos]` of the overview's layers, 0 … 1.

    Patterns, but where sizes are drawn: these over the largest of all. Of a difference: its size.
    """
    layers = shown_layers(subject, wanted)
    measure: Measure = "weighted" if wanted.measure == "weighted" else "pattern"
    n = _room(subject, layers)
    found = np.abs(
        _combined(subject, wanted, lambda s: attention.maps(s, wanted.attends, layers, measure, n))
    )
    largest = float(np.nanmax(found)) if measure == "weighted" else 1.0
    return found / (largest or 1.0)


def large(subject: Subject, wanted: Wanted, measure: str | None = None) -> Maps:
    """The map `[pos, key_pos]` of what is wanted, or of another measure of it."""
    measured = measure or wanted.measure
    if measured == ROLLOUT:
        return _combined(
            subject,
            wanted,
            lambda s: attention.rollout(s, wanted.attends, MAX_TOKENS)[wanted.layer],
        )
    layers: tuple[int, ...] = (wanted.layer,)
    n = MAX_TOKENS
    whole, room = shown_layers(subject, wanted), _room(subject, shown_layers(subject, wanted))
    if room >= longest(subject, wanted):  # the overview has it
        layers, n = whole, room

    def one(each: Subject) -> Maps:
        read: Measure = measured  # type: ignore[assignment]
        heads = attention.maps(each, wanted.attends, layers, read, n)[layers.index(wanted.layer)]
        if isinstance(wanted.head, int):
            return heads[wanted.head]
        return heads.mean(0) if wanted.head == MEAN else heads.max(0)

    return _combined(subject, wanted, one)


def code(subject: Subject, wanted: Wanted, measure: str, table: str) -> str:
    """A script that makes a map and, by the lines of `table`, a table of it.

    The lines find the map in `cells` and the texts in `destinations` and `sources`.
    """
    one = f"[:{MAX_TOKENS}, :{MAX_TOKENS}].cpu().numpy()"
    if measure == ROLLOUT:
        maker = "rollout_maps"
        call = f'rollout_maps(model, inputs, "{wanted.attends}")[{wanted.layer}]{one}'
    else:
        maker = "attention_maps"
        heads = (
            f'attention_maps(model, inputs, [{wanted.layer}], "{measure}", "{wanted.attends}")[0]'
        )
        if isinstance(wanted.head, int):
            call = f"{heads}[{wanted.head}]{one}"
        else:
            call = f"{heads}.{'mean(0)' if wanted.head == MEAN else 'amax(0)'}{one}"
    context = "torch.no_grad()" + (", applied(model, plan, **inputs)" if subject.plan else "")
    used = [maker, *(name for name in ("cells_table", "focus_table") if name in table)]
    if wanted.prompts in ("mean", "difference"):
        used.append("paired_texts")
    lines = [
        preamble(subject),
        f"from analyses.heads.attention_maps import {', '.join(used)}",
        "from analyses.inputs.prompts import token_texts",
        "",
        "",
        "def read(inputs):",
        f"    with {context}:",
        f"        return {call}",
        "",
        "",
        "first, second = inputs, None" if subject.other is None else
        'first, second = inputs, {**inputs, "input": other_tokens}',
        f"cells = {_CELLS[wanted.prompts]}",
    ]  # fmt: skip
    for name, line in zip(("destinations", "sources"), _ends(subject, wanted), strict=True):
        lines.append(f"{name} = {line}")
    return "\n".join([*lines, table, ""])


_CELLS = {
    "first": "read(first)",
    "second": "read(second)",
    "mean": "(read(first) + read(second)) / 2",
    "difference": "read(second) - read(first)",
}


def _ends(subject: Subject, wanted: Wanted) -> tuple[str, str]:
    """Python of the texts of destinations and sources."""
    own = {
        "first": "token_texts(model, tokens[0])",
        "second": "token_texts(model, other_tokens[0])",
    }.get(
        wanted.prompts,
        "paired_texts(token_texts(model, tokens[0]), token_texts(model, other_tokens[0]))",
    )
    decoder = "token_texts(model, decoder_tokens[0])"
    if wanted.attends == "encoder" or subject.decoder is None:
        return own, own
    return (decoder, own) if wanted.attends == "cross" else (decoder, decoder)


def _of(subject: Subject, wanted: Wanted) -> Subject:
    return subject.with_other() if wanted.prompts == "second" else subject


def _room(subject: Subject, layers: tuple[int, ...]) -> int:
    """How many tokens an overview of these layers shows each way."""
    n_heads = len(layers) * subject.loaded.model.cfg.n_heads
    return min(MAX_TOKENS, max(2, math.isqrt(MAX_CELLS // n_heads)))


def overview_room(subject: Subject, wanted: Wanted) -> int:
    """How many tokens the overview shows each way at most."""
    return _room(subject, shown_layers(subject, wanted))


def _combined(subject: Subject, wanted: Wanted, read: Callable[[Subject], Maps]) -> Maps:
    """What is read of the prompts that are wanted, made one."""
    if wanted.prompts in ("first", "second"):
        return read(_of(subject, wanted))
    first, second = read(subject), read(subject.with_other())
    if first.shape != second.shape:
        raise InputError(
            f"the {wanted.prompts} of two prompts needs as many tokens in each: these have "
            f"{len(subject.tokens)} and {len(subject.with_other().tokens)}."
        )
    return (first + second) / 2 if wanted.prompts == "mean" else second - first
