"""Indirect objects: a name mover, and a backup head that steps in when it is missing.

A small copy of what Wang et al. 2022 (Interpretability in the Wild) found in GPT-2 small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require_number, require_whole
from interp.transformer import HookedTransformer
from interp.zoo.known.truth import KnownModel
from interp.zoo.known.wiring import (
    SATURATED,
    Stream,
    attention,
    blank_model,
    counts,
    difference,
    softmax_of,
    wire,
)

# BOS, two names, a filler, one of the names again, and the end, where the other name is wanted.
_LENGTH, _SLOTS, _AGAIN, _END = 6, slice(1, 3), 4, 5

# s: of a repeated token, in nats.
_SHARPNESS = 3.0

# The backup's scores, in nats. They are far apart, so that it is on or off.
_NULL = SATURATED  # of BOS, and of a name's slot before what follows is taken off
_WRITTEN = 120.0  # off for each unit of the name's weight in what L2H0 wrote, beyond …
_ENOUGH = 0.25  # … this weight
_INHIBITED = 200.0  # off for each unit of inhibition


def name_mover(
    strength: float = 4.0,
    n_names: int = 8,
    n_each: int = 2,
    seed: int = 0,
    dtype: torch.dtype | str = torch.float64,
    device: torch.device | str | None = None,
) -> KnownModel:
    """Four layers of attention with two heads each, of which the second ones do nothing.

    Prompts are `BOS name name filler name END`, where the third name, S2, is one of the two before
    (S1), and the answer is the other, IO. The slots are the positions of the first two names.

    - L0H0, duplicate token: at S2 its score is s = 3 for a key with the same token, -s for S2
      itself, and 0 for the other keys. So with Z = e^s + 3 + e^-s it gives the slot of S1 weight
      e^s / Z and the other 1 / Z (both 1 / (4 + e^-s) where S2 is neither name). It writes the two
      weights.
    - L1H0, S-inhibition: brings them from S2 to END: i_1 and i_2 (up to exp(-`SATURATED`)).
    - L2H0, name mover: the score of slot j is 2 s (1 - 2 i_j), of other keys 0, so that it looks
      at the slot which is not inhibited, and copies the name there to the logits.
    - L3H0, backup name mover: the score of BOS is N, that of slot j is N + 120 (0.25 - o_j) - 200
      i_j, with o_j the weight which the name mover gave to the name in that slot. It rests on BOS,
      which has no name to copy, unless there is a name which is neither inhibited nor written.
      Otherwise it copies that name to the logits, with the weight that the name mover gives to IO
      when all is well, so that the one can stand in for the other: a / (a + b + 4) with a = e^(2s
      (1 - 2 / Z)) and b = e^(2s (1 - 2 e^s / Z)).

    The corrupted prompts differ in S2, now the other name (right: IO, wrong: S1); in IO (wrong: the
    new name); or in S1 (wrong: the new name; nothing is repeated), a third of the rows each. So the
    duplicate-token head's query, the movers' values, and the duplicate-token head's key change.

    Args:
        strength: The logit of a name that gets all attention.
        n_names: Names there are.
        n_each: Pairs of rows with each corruption, one with IO first and one with S1 first.
        seed: Of the prompts' names.
        dtype, device: Of the model.

    Raises:
        InputError: for a number that is not positive, or fewer than 8 names (the backup would take
            the mean of what the name mover writes for an answer).
    """
    require_number("strength", strength)
    require_whole("n_names", n_names, 8)
    require_whole("n_each", n_each, 1)
    d_vocab = n_names + 3
    stream = Stream(
        token=d_vocab, position=_LENGTH, repeated=2, inhibited=2, unread=d_vocab, out=n_names
    )
    model = blank_model(
        "name_mover", stream, 4, 2, d_vocab + _LENGTH, _LENGTH, d_vocab, dtype, device
    )
    _wire_inhibition(model, stream, d_vocab)
    _wire_movers(model, stream, n_names)
    for layer in range(4):
        wire(attention(model, layer).W_V[1], stream["token"], slice(d_vocab))
        wire(attention(model, layer).W_O[1], slice(d_vocab), stream["unread"])
    wire(model.unembed.W_U, stream["out"], slice(n_names), strength)

    generator = torch.Generator().manual_seed(seed)
    clean, corrupted, right, wrong = _prompts(n_names, n_each, generator)
    seen = _truth(clean, n_names)
    of_corrupted = _truth(corrupted, n_names)
    logits = strength * (seen.moved + seen.backed_up)
    corrupted_logits = strength * (of_corrupted.moved + of_corrupted.backed_up)
    return KnownModel(
        name="name_mover",
        description=(
            "L0H0 finds the repeated name, L1H0 tells END of it, L2H0 copies the other name to the "
            "logits, and L3H0 does so when L2H0 has not."
        ),
        model=model,
        clean=clean,
        corrupted=corrupted,
        right=right,
        wrong=wrong,
        position=_END,
        clean_value=difference(logits, right, wrong),
        corrupted_value=difference(corrupted_logits, right, wrong),
        logits=logits,
        direct={
            "L2H0": strength * difference(seen.moved, right, wrong),
            # Of the order of exp(-80): nothing to any precision, though not zero.
            "L3H0": strength * difference(seen.backed_up, right, wrong),
        },
        patterns={
            ("L0H0", _AGAIN): seen.duplicate,
            ("L1H0", _END): torch.eye(_LENGTH).double()[[_AGAIN] * len(clean)],
            ("L2H0", _END): seen.mover,
            ("L3H0", _END): seen.backup,
        },
        heads={
            "L0H0": "duplicate token",
            "L1H0": "S-inhibition",
            "L2H0": "name mover",
            "L3H0": "backup name mover",
            **{f"L{layer}H1": "idle" for layer in range(4)},
        },
        edges=_THROUGH_MOVER | _TO_BACKUP,
        fixed_edges=frozenset(
            {
                *(f"pos_embed->L0H0.{part}" for part in "qkv"),
                *(f"pos_embed->L{layer}H0.{part}" for layer in (1, 2, 3) for part in "qk"),
            }
        ),
        # In the clean and in the corrupted prompts the backup rests on BOS.
        silent_edges=frozenset({"embed->L3H0.v", "L3H0->logits"}),
        expected=_EXPECTED,
        words=(*_names_of(n_names), "<bos>", "and", "to"),
        threshold=0.005,
        reference=_reference(clean, n_names),
    )


_THROUGH_MOVER = frozenset(
    {
        "embed->L0H0.q",
        "embed->L0H0.k",
        "L0H0->L1H0.v",
        "L1H0->L2H0.q",
        "embed->L2H0.v",
        "L2H0->logits",
    }
)
# Patched alone, each of these tells the backup something that does not go with the rest, and wakes
# it: the name which is not inhibited seems not to have been written.
_TO_BACKUP = frozenset({"L1H0->L3H0.q", "L2H0->L3H0.q", "embed->L3H0.k"})

_UPSTREAM = frozenset({"L0H0", "L1H0"})

_EXPECTED = {
    # The first two heads write where the logits do not look; the backup's share is exp(-80).
    "direct": frozenset({"L2H0"}),
    # Without L2H0 the backup writes the name instead, with the same weight: the metric changes by
    # no more than what L2H0 gave to S, 0.001 of the span. So too with the mean of what it writes,
    # where each name has about 1 / n_names: less than what the backup takes for an answer.
    "ablation": _UPSTREAM,
    "joint_ablation": frozenset({frozenset({"L2H0", "L3H0"})}),
    # In the corrupted prompt the clean L2H0 adds the right name, and the backup wakes and adds the
    # one that is still not inhibited: half of the way, where that is the wrong one.
    "activation_patching": _UPSTREAM | {"L2H0"},
    # To first order the backup stays as it is: its pattern is saturated. So the same heads are
    # found, but L2H0 with all of its own effect and none of the backup's against it.
    "attribution_patching": _UPSTREAM | {"L2H0"},
    "attribution_patching_noise": _UPSTREAM | {"L2H0"},
    # The backup's query and key are patched exactly, and each wakes it.
    "atp_star": _UPSTREAM
    | {"L2H0", "L3H0.q", "L3H0.k"}
    | {"L0H0.q", "L0H0.k", "L1H0.v", "L2H0.q", "L2H0.v"},
    # The backup is silent all along the line between the embeddings: a name is less written there
    # only as far as it is more inhibited. Neither gradient sees the edges into it.
    "eap": _THROUGH_MOVER,
    "eap_ig": _THROUGH_MOVER,
    "path_patching": _THROUGH_MOVER | _TO_BACKUP,
    # It cuts from the logits backwards: first what the silent backup writes there, which nobody
    # notices, and then all that the backup reads.
    "circuit_search": _THROUGH_MOVER,
    "duplicate_token_heads": frozenset({"L0H0"}),
    # Their OV circuits from names to names' logits are `strength` times the identity.
    "copying_heads": frozenset({"L2H0", "L3H0"}),
    "q_composition": frozenset({("L1H0", "L2H0"), ("L1H0", "L3H0"), ("L2H0", "L3H0")}),
    "k_composition": frozenset(),
    "v_composition": frozenset({("L0H0", "L1H0")}),
}


def _wire_inhibition(model: HookedTransformer, stream: Stream, d_vocab: int) -> None:
    """L0H0 and L1H0."""
    duplicate, inhibition = attention(model, 0), attention(model, 1)
    token, position = stream["token"], stream["position"]
    slots = _places(stream, _SLOTS)
    names, places = slice(d_vocab), slice(d_vocab, d_vocab + _LENGTH)
    wire(duplicate.W_Q[0], token, names, _SHARPNESS)
    wire(duplicate.W_K[0], token, names)
    wire(duplicate.W_Q[0], position, places, -2 * _SHARPNESS)
    wire(duplicate.W_K[0], position, places)
    wire(duplicate.W_V[0], slots, slice(2))
    wire(duplicate.W_O[0], slice(2), stream["repeated"])

    wire(inhibition.W_Q[0], _places(stream, slice(_END, _END + 1)), slice(1), SATURATED)
    wire(inhibition.W_K[0], _places(stream, slice(_AGAIN, _AGAIN + 1)), slice(1))
    wire(inhibition.W_V[0], stream["repeated"], slice(2))
    wire(inhibition.W_O[0], slice(2), stream["inhibited"])


def _weight_of_answer() -> float:
    """What the name mover gives to IO's slot where S1 is repeated."""
    total = math.exp(_SHARPNESS) + 3 + math.exp(-_SHARPNESS)
    of_io = math.exp(2 * _SHARPNESS * (1 - 2 / total))
    of_s1 = math.exp(2 * _SHARPNESS * (1 - 2 * math.exp(_SHARPNESS) / total))
    return of_io / (of_io + of_s1 + 4)


def _wire_movers(model: HookedTransformer, stream: Stream, n_names: int) -> None:
    """L2H0 and L3H0. Queries: whether this is END, the inhibition of each slot, names written."""
    mover, backup = attention(model, 2), attention(model, 3)
    end, bos = _places(stream, slice(_END, _END + 1)), _places(stream, slice(0, 1))
    slots, names = _places(stream, _SLOTS), _names(stream, n_names)
    of_slots, of_names = slice(1, 3), slice(3, 3 + n_names)
    both = torch.ones(2, 1, dtype=torch.float64)

    wire(mover.W_Q[0], end, slice(1), 2.0 * _SHARPNESS)
    wire(mover.W_K[0], slots, slice(1), both)
    wire(mover.W_Q[0], stream["inhibited"], of_slots, -4.0 * _SHARPNESS)
    wire(mover.W_K[0], slots, of_slots)

    wire(backup.W_Q[0], end, slice(1))
    wire(backup.W_K[0], bos, slice(1), _NULL)
    wire(backup.W_K[0], slots, slice(1), (_NULL + _WRITTEN * _ENOUGH) * both)
    wire(backup.W_Q[0], stream["inhibited"], of_slots, -_INHIBITED)
    wire(backup.W_K[0], slots, of_slots)
    wire(backup.W_Q[0], stream["out"], of_names, -_WRITTEN)
    wire(backup.W_K[0], names, of_names)

    for attn, weight in ((mover, 1.0), (backup, _weight_of_answer())):
        wire(attn.W_V[0], names, slice(n_names), weight)
        wire(attn.W_O[0], slice(n_names), stream["out"])


def _places(stream: Stream, positions: slice) -> slice:
    """The coordinates of these positions."""
    start = stream["position"].start
    return slice(start + positions.start, start + positions.stop)


def _names(stream: Stream, n_names: int) -> slice:
    """The coordinates of the tokens that are names, the first ones."""
    start = stream["token"].start
    return slice(start, start + n_names)


def _prompts(
    n_names: int, n_each: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clean and corrupted tokens, the right and the wrong one."""
    bos, filler, end = n_names, n_names + 1, n_names + 2
    rows = []
    for row in range(6 * n_each):
        io, s, new = torch.randperm(n_names, generator=generator)[:3].tolist()

        def prompt(io: int, s1: int, s2: int, io_first: bool = row % 2 == 0) -> list[int]:
            first, second = (io, s1) if io_first else (s1, io)
            return [bos, first, second, filler, s2, end]

        # Corrupted in S2, in IO, or in S1.
        corrupted, wrong = (
            (prompt(io, s, io), s),
            (prompt(new, s, s), new),
            (prompt(io, new, s), new),
        )[row // 2 % 3]
        rows.append((prompt(io, s, s), corrupted, io, wrong))
    clean, corrupted_rows, right, wrong_names = zip(*rows, strict=True)
    return (
        torch.tensor(clean),
        torch.tensor(corrupted_rows),
        torch.tensor(right),
        torch.tensor(wrong_names),
    )


def _names_of(n_names: int) -> tuple[str, ...]:
    known = ("Ada", "Bela", "Cleo", "Dora", "Emil", "Fritz", "Gina", "Hugo")
    return (*known, *(f"Name{i}" for i in range(len(known), n_names)))


def _reference(clean: Int[Tensor, "batch pos"], n_names: int) -> Int[Tensor, "prompt pos"]:
    """The clean prompts with every other name in turn: a mean over them favours no name."""
    shifted = (clean + torch.arange(n_names)[:, None, None]) % n_names
    return torch.where(clean < n_names, shifted, clean).flatten(0, 1)


@dataclass(frozen=True)
class _Truth:
    """What the formulas say of prompts.

    Attributes:
        duplicate: Where L0H0 looks from S2, `[batch, key_pos]`.
        mover, backup: Where L2H0 and L3H0 look from END.
        moved, backed_up: What they write of each name, `[batch, d_vocab]`.
    """

    duplicate: Float[Tensor, "batch key_pos"]
    mover: Float[Tensor, "batch key_pos"]
    backup: Float[Tensor, "batch key_pos"]
    moved: Float[Tensor, "batch d_vocab"]
    backed_up: Float[Tensor, "batch d_vocab"]


def _truth(tokens: Int[Tensor, "batch pos"], n_names: int) -> _Truth:
    n_rows, d_vocab = len(tokens), n_names + 3
    rows = torch.arange(n_rows)[:, None]

    def written(pattern: Tensor) -> Float[Tensor, "batch d_vocab"]:
        weights = counts(tokens, pattern, d_vocab)
        return weights * (torch.arange(d_vocab) < n_names)

    again = tokens[:, _AGAIN, None]
    scores = torch.zeros(n_rows, _LENGTH, dtype=torch.float64)
    scores[:, _SLOTS] = _SHARPNESS * (tokens[:, _SLOTS] == again)
    scores[:, _AGAIN] = -_SHARPNESS
    scores[:, _END] = -torch.inf  # comes later
    duplicate = softmax_of(scores)
    inhibited = duplicate[:, _SLOTS]

    scores = torch.zeros(n_rows, _LENGTH, dtype=torch.float64)
    scores[:, _SLOTS] = 2.0 * _SHARPNESS * (1 - 2 * inhibited)
    mover = softmax_of(scores)
    moved = written(mover)

    scores = torch.zeros(n_rows, _LENGTH, dtype=torch.float64)
    scores[:, 0] = _NULL
    missing = _ENOUGH - moved[rows, tokens[:, _SLOTS]]
    scores[:, _SLOTS] = _NULL + _WRITTEN * missing - _INHIBITED * inhibited
    scores[:, _AGAIN] = -_WRITTEN * moved[rows, again][:, 0]
    backup = softmax_of(scores)
    backed_up = _weight_of_answer() * written(backup)
    return _Truth(duplicate, mover, backup, moved, backed_up)
