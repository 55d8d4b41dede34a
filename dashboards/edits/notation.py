"""A short notation for interventions: items joined by `;`, each `verb:place` and what it takes.

```
zero:L0H3                        head 3 of layer 0 writes nothing
mean:L1MLP                       the mean over this prompt's positions instead
mean(other):L1MLP                … over the second prompt's; mean(both): over those of both
resample:L2H1@4                  what position 4 holds when the prompt's tokens are shuffled
resample(7):L2H1                 … with another seed than 0
patch:L3.resid_pre@5             what the second prompt has at the same position
hold:L0H*.pattern                what this prompt has without any edit
scale:L1H2*0.5                   times a number
noise:embed@2-4+3                noise of 3 standard deviations of what this prompt has there
steer:L4.resid_post@-1+8*unembed(" Paris")
steer:L4.resid_post+50%*contrast
mask:L1H2@7<3                    position 7 no longer sees position 3: score -inf, the rest grows
zero:L1H2@7<3                    that entry of the pattern becomes 0, the rest stays as it is
zero:L0H1>L2H3.k                 an edge: what L0H1 writes, as the keys of L2H3 read it
zero:positions@0-3               tokens without position; L0-2.positions: in these layers
shift:positions@4+1              treated as one position later
swap:positions@3,5               two tokens treated as if each stood where the other does
shuffle:positions                positions dealt out anew; shuffle(7): with another seed
```

Numbers count from 0; `*` is all, `0-3` a range, `0,2,5-7` a list; positions below zero count from
the end. Without `@` an edit acts at all positions. Places are those of
`dashboards.edits.places`; `encoder.` before one is that of an encoder–decoder's encoder.

What `steer` adds is a number, or with `%` a share of the norm of the activation there, times a
direction: `unembed(" Paris")`, the token's column of W_U, which raises its logit; its row of W_E,
`embed(" Paris")`; or `contrast`, the second prompt's mean activation there less this prompt's, each
over all of its positions (`contrast(-1)`: each at that position). A token is text in double quotes,
as in JSON, or an id.

The first token (and in a model that looks both ways the last) stays where it is when a prompt is
shuffled: these are mostly markers.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from dashboards.edits.places import Edge, Entries, Place, Positions, read_place
from interp.errors import InputError, require, unknown

MAX_EDITS = 32
MAX_LENGTH = 2_000  # characters of all
MAX_SHIFT = 100_000  # positions

Prompts = Literal["this", "other", "both"]
Source = Literal["unembed", "embed", "contrast"]

_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_TEXT = r'"(?:[^"\\]|\\.)*"'
_ITEM = re.compile(rf'(?:[^;"]|{_TEXT})+')
_BALANCED = re.compile(rf'(?:[^"]|{_TEXT})*')
_OUTSIDE_OF_TEXTS = re.compile(rf"({_TEXT})|\s+")
_WITH_FACTOR = re.compile(rf"(scale):(.+)\*({_NUMBER})")
_WITH_AMOUNT = re.compile(rf"(noise|shift)(?:\((\w*)\))?:([^+]+)\+({_NUMBER})")
_STEER = re.compile(
    rf"steer:([^+]+)\+({_NUMBER})(%?)\*(unembed|embed|contrast)(?:\((-?\d{{1,9}}|{_TEXT})\))?"
)
_PLAIN = re.compile(r"(\w+)(?:\((\w*)\))?:([^+]+)")

VERBS: dict[str, tuple[type, ...]] = {
    "zero": (Entries, Edge, Positions),
    "mean": (Entries, Edge),
    "resample": (Entries, Edge),
    "patch": (Entries, Edge),
    "hold": (Entries, Edge),
    "scale": (Entries,),
    "noise": (Entries,),
    "steer": (Entries,),
    "mask": (Entries,),
    "shift": (Positions,),
    "swap": (Positions,),
    "shuffle": (Positions,),
}
SEEDED = ("resample", "noise", "shuffle")


@dataclass(frozen=True)
class Direction:
    """What is added by steering.

    Attributes:
        source: Where it comes from.
        token: Of `unembed` and `embed`: a text, or an id.
        position: Of `contrast`: at which position of each prompt. None: the mean over all.
    """

    source: Source
    token: str | int | None = None
    position: int | None = None

    def __str__(self) -> str:
        if self.source == "contrast":
            return "contrast" if self.position is None else f"contrast({self.position})"
        as_id = isinstance(self.token, int)
        text = self.token if as_id else json.dumps(self.token, ensure_ascii=False)
        return f"{self.source}({text})"


@dataclass(frozen=True)
class Edit:
    """One intervention, as it is written.

    Attributes:
        verb: What is done.
        place: Where.
        prompts: Of `mean`: over the positions of which prompts.
        seed: Of `resample`, `noise`, `shuffle`.
        amount: Of `scale`, `noise`, `steer` and `shift`: the number.
        relative: The amount of `steer` is in hundredths of the activation's norm.
        direction: Of `steer`.
    """

    verb: str
    place: Place
    prompts: Prompts = "this"
    seed: int = 0
    amount: float | None = None
    relative: bool = False
    direction: Direction | None = None

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise unknown("edit", self.verb, VERBS)
        what = {Entries: "activations", Edge: "an edge", Positions: "positions"}
        require(
            isinstance(self.place, VERBS[self.verb]),
            f"{self.verb} acts on {' or '.join(what[kind] for kind in VERBS[self.verb])}. "
            f"Received {self.place}",
        )
        if self.verb == "mask":
            fits = isinstance(self.place, Entries) and self.place.what == "pattern"
            require(fits, f"mask cuts links of heads: mask:L1H2@7<3. Received {self.place}")
        if self.verb == "swap":
            given = self.place.positions if isinstance(self.place, Positions) else None
            fits = given is not None and len(given) == 2
            require(fits, f"swap takes two positions: swap:positions@3,5. Received {self.place}")
        if self.verb == "noise":
            require(
                self.amount is not None and self.amount > 0, f"noise is above 0. Received {self}"
            )
        if self.verb == "shift":
            whole = self.amount is not None and self.amount == int(self.amount)
            require(whole, f"positions are shifted by whole numbers. Received {self}")
            near = self.amount is not None and abs(self.amount) <= MAX_SHIFT
            require(near, f"positions are shifted by {MAX_SHIFT} at most. Received {self}")

    def __str__(self) -> str:
        bracket = ""
        if self.prompts != "this":
            bracket = f"({self.prompts})"
        elif self.seed:
            bracket = f"({self.seed})"
        text = f"{self.verb}{bracket}:{self.place}"
        if self.amount is None:
            return text
        number = _written_number(self.amount)
        if self.verb == "scale":
            return f"{text}*{number}"
        if self.direction is None:
            return f"{text}+{number}"
        return f"{text}+{number}{'%' if self.relative else ''}*{self.direction}"


def parse(text: str) -> tuple[Edit, ...]:
    """The interventions of a text; an empty text holds none.

    Raises:
        InputError: for what is not in the notation, and more than `MAX_EDITS` or `MAX_LENGTH`.
    """
    require(
        len(text) <= MAX_LENGTH,
        f"interventions are {MAX_LENGTH} characters at most. Received {len(text)}",
    )
    quoted = _BALANCED.fullmatch(text) is not None
    require(quoted, f"a token's text stands between two double quotes. Received {text!r}")
    items = _ITEM.findall(text)
    given = [bare for item in items if (bare := _OUTSIDE_OF_TEXTS.sub(r"\1", item))]
    require(
        len(given) <= MAX_EDITS, f"interventions are {MAX_EDITS} at most. Received {len(given)}"
    )
    return tuple(map(read_edit, given))


def written(edits: tuple[Edit, ...]) -> str:
    """The text of several."""
    return ";".join(map(str, edits))


def read_edit(text: str) -> Edit:
    """One intervention.

    Raises:
        InputError: for what is not in the notation.
    """
    verb = re.match(r"\w*", text)
    assert verb is not None
    if verb[0] not in VERBS:
        raise unknown("edit", verb[0], VERBS)
    match: re.Match[str] | None
    if verb[0] == "steer":
        match = _STEER.fullmatch(text)
        if match is None:
            raise _amiss(text, 'steer:L4.resid_post@-1+8*unembed(" Paris")')
        place, number, percent, source, given = match.groups()
        amount = _finite(number, text)
        direction = _direction(source, given, text)
        return Edit("steer", _place(verb[0], place), "this", 0, amount, bool(percent), direction)
    if verb[0] == "scale":
        match = _WITH_FACTOR.fullmatch(text)
        if match is None:
            raise _amiss(text, "scale:L1H2*0.5")
        return Edit("scale", _place(verb[0], match[2]), amount=_finite(match[3], text))
    if verb[0] in ("noise", "shift"):
        match = _WITH_AMOUNT.fullmatch(text)
        if match is None:
            raise _amiss(text, "noise:embed@2-4+3" if verb[0] == "noise" else "shift:positions@4+1")
        _, seed = _bracket(verb[0], match[2])
        return Edit(verb[0], _place(verb[0], match[3]), "this", seed, _finite(match[4], text))
    match = _PLAIN.fullmatch(text)
    if match is None:
        raise _amiss(text, f"{verb[0]}:L0H3")
    prompts, seed = _bracket(verb[0], match[2])
    return Edit(verb[0], _place(verb[0], match[3]), prompts, seed)


def _place(verb: str, text: str) -> Place:
    place = read_place(text)
    if verb == "mask" and isinstance(place, Entries) and place.what == "z":
        # Whatever else is written, what is masked are links.
        return Entries("pattern", place.layers, place.units, place.crosses, place.encoder,
                       place.positions, place.sources)  # fmt: skip
    return place


def _bracket(verb: str, given: str | None) -> tuple[Prompts, int]:
    """Which prompts, and the seed."""
    if given is None:
        return "this", 0
    if verb == "mean" and given in get_args(Prompts):
        return given, 0  # type: ignore[return-value]
    if verb in SEEDED and re.fullmatch(r"\d{1,9}", given):
        return "this", int(given)
    rule = {"mean": "this, other or both"} | dict.fromkeys(SEEDED, "a seed, a whole number")
    raise InputError(
        f"{verb} takes {rule.get(verb, 'nothing')} in brackets. Received {verb}({given})."
    )


def _direction(source: str, given: str | None, text: str) -> Direction:
    if source == "contrast":
        fits = given is None or not given.startswith('"')
        require(fits, f"a contrast is at a position: contrast(-1). Received {text!r}")
        return Direction("contrast", position=None if given is None else int(given))
    require(given is not None, f'a token is wanted: {source}(" Paris"). Received {text!r}')
    assert given is not None
    try:
        token: str | int = json.loads(given)
    except ValueError as fault:
        raise InputError(f"a token is text as in JSON, or an id. Received {given}.") from fault
    readable = isinstance(token, int) or token.isprintable() or "\n" in token or "\t" in token
    require(readable, f"a token's text can be printed; else give its id. Received {text!r}")
    require(token != "", f'a token is wanted: {source}(" Paris"). Received {text!r}')
    require(not isinstance(token, int) or token >= 0, f"ids count from 0. Received {text!r}")
    return Direction("unembed" if source == "unembed" else "embed", token)


def _finite(text: str, whole: str) -> float:
    number = float(text)
    require(math.isfinite(number), f"a number is finite. Received {whole!r}")
    return number


def _written_number(number: float) -> str:
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else repr(number)


def _amiss(text: str, example: str) -> InputError:
    return InputError(f"an edit is written such as {example}. Received {text!r}.")
