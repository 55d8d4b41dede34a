"""What probes are asked for: a token's position, its offset from a mark, which of two came first.

Offsets and orders are read from rows into which marker tokens were put: the content is changed and
read by the model, not only the label. Designs are balanced, so that where a token stands says
nothing about its target: each offset is asked for equally often at each place, and each pair of
places is marked in both orders, in the same row.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.errors import InputError, require, require_whole

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_BLANKS = "Ġ▁Ċ \t\n\r"  # the first three stand for blanks in vocabularies

TargetName = Literal["position", "offset", "order"]


@dataclass(frozen=True)
class Targets:
    """Rows to be read, which of their tokens are samples, and what each sample's target is.

    Samples go row by row, each in the order of its positions.

    Attributes:
        name: `position` (in tokens, counted from 0 over real tokens), `offset` (tokens from the
            mark to the sample; positive where the mark came before) or `order` (1 where the first
            marker token came before the second, else 0).
        tokens: `[row, pos]`: what the model reads.
        sampled: `[row, pos]`: which tokens are samples.
        values: `[sample]`, whole numbers.
        groups: `[sample]`: which of the given rows the sample's row was made from. Rows of one
            group share tokens and must not be parted between training and test.
        rows: `[sample]`: which row of `tokens` the sample is in.
        places: `[sample]`: the position of the sample, as `position` counts it.
        markers: The marker tokens; none for `position`.
        marks: `[row, mark]`: where each marker stands.
        n_replaced: How many other tokens had to give way, because a marker token occurred anyway.
        attention_mask: `[row, pos]`, 0 for padding; None: there is none.
    """

    name: TargetName
    tokens: Int[Tensor, "row pos"]
    sampled: Bool[Tensor, "row pos"]
    values: Int[Tensor, "sample"]
    groups: Int[Tensor, "sample"]
    rows: Int[Tensor, "sample"]
    places: Int[Tensor, "sample"]
    markers: tuple[int, ...] = ()
    marks: Int[Tensor, "row mark"] | None = None
    n_replaced: int = 0
    attention_mask: Int[Tensor, "row pos"] | None = None

    @property
    def n_samples(self) -> int:
        """How many samples there are."""
        return len(self.values)

    @property
    def sample_tokens(self) -> Int[Tensor, "sample"]:
        """The token of every sample."""
        return self.tokens[self.sampled]

    @property
    def classes(self) -> Int[Tensor, "class"]:
        """The values that occur, in order."""
        return self.values.unique()

    @property
    def class_ids(self) -> Int[Tensor, "sample"]:
        """Which of `classes` each value is."""
        return torch.searchsorted(self.classes, self.values)


def fixed_places(tokens: Int[Tensor, "row pos"]) -> Bool[Tensor, "pos"]:
    """Where all rows hold the same token (BOS, separators): there the token tells the position."""
    _check_tokens(tokens)
    return (tokens == tokens[:1]).all(0)


def absolute_position(
    tokens: Int[Tensor, "row pos"],
    attention_mask: Int[Tensor, "row pos"] | None = None,
    include_fixed: bool = False,
) -> Targets:
    """Position of each token among the real tokens of its row, from 0.

    Args:
        tokens: Rows of tokens.
        attention_mask: 1 for tokens, 0 for padding, which is no sample and is not counted.
        include_fixed: Also sample places where all rows hold the same token, such as that of BOS,
            whose token alone says where they are. They are counted either way: the token after BOS
            is at position 1.

    Raises:
        InputError: for tokens that are not `[row, pos]`, fewer than two rows, or rows without a
            place that is sampled.
    """
    fixed = fixed_places(tokens)
    real = torch.ones_like(tokens, dtype=torch.bool)
    if attention_mask is not None:
        require(
            attention_mask.shape == tokens.shape,
            f"attention_mask must have the shape of tokens, {tuple(tokens.shape)}. Received "
            f"{tuple(attention_mask.shape)}",
        )
        real = attention_mask.bool().to(tokens.device)
    sampled = real if include_fixed else real & ~fixed
    require(bool(sampled.any()), "rows must differ from one another. All of their tokens agree")
    places = (real.cumsum(1) - 1)[sampled]
    rows = _row_of(sampled)
    return Targets(
        "position", tokens, sampled, places, rows, rows, places, attention_mask=attention_mask
    )


def relative_offset(
    tokens: Int[Tensor, "row pos"],
    marker: int,
    repeats: int = 4,
    seed: int = 0,
    causal: bool = True,
) -> Targets:
    """Tokens from a marker token to the sample, the marker being put at a place of each row.

    Of the places that are not the same in all rows (`fixed_places`), s … e, the marker stands at
    each equally often. Offsets go from 1 to D = (e - s + 1) // 2 and samples from place s + D on:
    there every offset is possible, and equally frequent, at every place, so that the place of a
    token tells nothing of its offset. Where attention looks ahead, offsets go from -D to D without
    0, D = (e - s) // 3, and samples from s + D to e - D.

    Args:
        tokens: Rows without padding.
        marker: The token. Where it occurs in a row anyway, another one replaces it, drawn from
            those that stand where rows differ, so that it stands at one place of each.
        repeats: How many rows are made of each, with the marker at different places.
        seed: Of the places, and of what replaces other occurrences of the marker.
        causal: Whether tokens see only what is before them: they cannot know of a later mark.

    Raises:
        InputError: for rows too short, no `repeats`, or rows of nothing but the marker.
    """
    start, end = _free(tokens)
    require_whole("repeats", repeats, 1)
    n_free = end - start
    reach = n_free // 2 if causal else (n_free - 1) // 3
    require(
        reach >= 2,
        "rows must have at least "
        f"{4 if causal else 7} tokens between those that are the same in all. They have {n_free}",
    )
    generator = torch.Generator().manual_seed(seed)
    n_rows = len(tokens) * repeats
    last = end - 1 if causal else end
    at = start + _evenly(n_rows, last - start, generator).to(tokens.device)
    made = tokens.repeat_interleave(repeats, 0)
    made, n_replaced = _without(made, (marker,), generator, tokens[:, start:end])
    made = _with(made, (marker,), at[:, None])
    offsets = torch.arange(tokens.shape[1], device=tokens.device) - at[:, None]
    near = (offsets.abs() <= reach) & (offsets > 0 if causal else offsets != 0)
    asked = torch.zeros_like(near[0])
    asked[start + reach : end if causal else end - reach] = True
    sampled = near & asked
    return _targets("offset", made, sampled, offsets[sampled], repeats, (marker,), at[:, None],
                    n_replaced)  # fmt: skip


def token_order(
    tokens: Int[Tensor, "row pos"],
    markers: tuple[int, int],
    repeats: int = 4,
    seed: int = 0,
) -> Targets:
    """Which of two marker tokens came first, asked of the last quarter of each row.

    Of the places that are not the same in all rows, the first three quarters hold the markers and
    the rest are samples. Pairs of places are taken equally often as far as that goes; with each a
    row is made in both orders, so that half of the rows have either answer and rows come in pairs
    that differ in nothing else.

    Args:
        tokens: Rows without padding.
        markers: The two tokens, A and B; the target is 1 where A came first. Where they occur
            anyway, others replace them, drawn from those that stand where rows differ.
        repeats: How many rows are made of each, an even number.
        seed: Of the places, and of what replaces other occurrences of the markers.

    Raises:
        InputError: for rows too short, `repeats` that is odd or below 2, or markers that are the
            same token.
    """
    start, end = _free(tokens)
    require_whole("repeats", repeats, 2)
    require(repeats % 2 == 0, f"repeats must be even: one for each order. Received {repeats}")
    require(
        len(markers) == 2 and markers[0] != markers[1],
        f"markers must be two different tokens. Received {markers!r}",
    )
    n_free = end - start
    n_marked = n_free - max(1, n_free // 4)
    require(
        n_marked >= 2,
        f"rows must have at least 3 tokens between those that are the same in all. They have "
        f"{n_free}",
    )
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.combinations(torch.arange(n_marked)) + start
    drawn = pairs[_evenly(len(tokens) * repeats // 2, len(pairs), generator)].to(tokens.device)
    at = torch.stack([drawn, drawn.flip(1)], 1).flatten(0, 1)  # both orders in succession
    made = tokens.repeat_interleave(repeats, 0)
    # The same replacements in both rows of a pair, which are to differ in the order alone.
    halves, n_replaced = _without(made[::2], markers, generator, tokens[:, start:end])
    made = _with(halves.repeat_interleave(2, 0), markers, at)
    sampled = torch.zeros_like(made, dtype=torch.bool)
    sampled[:, start + n_marked : end] = True
    first = (at[:, 0] < at[:, 1]).long()
    values = first[:, None].expand_as(made)[sampled]
    return _targets("order", made, sampled, values, repeats, markers, at, 2 * n_replaced)


def ordinary_tokens(model: HookedTransformer) -> dict[int, str]:
    """The tokens that are not special to the tokenizer, with their names in its vocabulary.

    Without a tokenizer all tokens are, and have no names.
    """
    tokenizer: Any = model.tokenizer
    if tokenizer is None:
        return dict.fromkeys(range(model.cfg.d_vocab), "")
    special = set(tokenizer.all_special_ids)
    return {i: name for name, i in tokenizer.get_vocab().items() if i not in special}


def default_markers(
    model: HookedTransformer, tokens: Int[Tensor, "row pos"], n: int
) -> tuple[int, ...]:
    """The n tokens that occur least in the rows, of those not special to the tokenizer.

    Among equals those with the lowest id; mostly they do not occur at all. Tokens for bytes
    (`<0x0A>`) and for blanks are taken only if there are no others: text has few of them, and a
    model may never have learned to tell them apart.

    Raises:
        InputError: if the vocabulary has fewer tokens than that besides one for the rows.
    """
    counts = torch.bincount(tokens.flatten().cpu(), minlength=model.cfg.d_vocab).tolist()
    names = ordinary_tokens(model)
    require(
        len(names) > n,
        f"{n} markers and another token are needed. The vocabulary has {len(names)} that are not "
        "special",
    )

    def rank(token: int) -> tuple[bool, int, int]:
        odd = model.tokenizer is not None and _is_odd(names[token])
        return odd, counts[token], token

    return tuple(heapq.nsmallest(n, names, key=rank))


def _is_odd(name: str) -> bool:
    """Whether a token of a vocabulary is a byte or a blank."""
    visible = name.strip(_BLANKS)
    return not visible.isprintable() or not visible or _BYTE.fullmatch(name) is not None


def _targets(
    name: TargetName,
    made: Tensor,
    sampled: Tensor,
    values: Tensor,
    repeats: int,
    markers: tuple[int, ...],
    marks: Tensor,
    n_replaced: int,
) -> Targets:
    rows = _row_of(sampled)
    places = torch.arange(made.shape[1], device=made.device).expand_as(made)[sampled]
    return Targets(
        name, made, sampled, values, rows // repeats, rows, places, markers, marks, n_replaced
    )


def _row_of(sampled: Bool[Tensor, "row pos"]) -> Int[Tensor, "sample"]:
    rows = torch.arange(len(sampled), device=sampled.device)
    return rows[:, None].expand_as(sampled)[sampled]


def _check_tokens(tokens: Tensor) -> None:
    require(
        isinstance(tokens, Tensor) and tokens.ndim == 2 and tokens.shape[1] > 0,
        "tokens must be [row, pos]. Received "
        f"{tuple(tokens.shape) if isinstance(tokens, Tensor) else tokens!r}",
    )
    require(len(tokens) > 1, f"there must be at least two rows. Received {len(tokens)}")


def _free(tokens: Tensor) -> tuple[int, int]:
    """The places from the first to (not including) the one after the last that is not fixed."""
    fixed = fixed_places(tokens).tolist()
    if all(fixed):
        raise InputError("rows must differ from one another. All of their tokens agree.")
    return fixed.index(False), len(fixed) - fixed[::-1].index(False)


def _evenly(n: int, n_choices: int, generator: torch.Generator) -> Int[Tensor, "n"]:
    """n draws of 0 … n_choices - 1 in random order, each as often as any other, within one."""
    rounds = [torch.randperm(n_choices, generator=generator) for _ in range(-(-n // n_choices))]
    return torch.cat(rounds)[:n]


def _with(made: Tensor, markers: tuple[int, ...], at: Int[Tensor, "row mark"]) -> Tensor:
    """The rows with each marker at its place."""
    put = torch.tensor(markers, device=made.device).expand(len(made), len(markers))
    return made.scatter(1, at, put)


def _without(
    made: Tensor,
    markers: Sequence[int],
    generator: torch.Generator,
    free: Tensor,
) -> tuple[Tensor, int]:
    """The rows with other tokens, of those in free places, for markers; and how many that were."""
    given = torch.tensor(markers, device=made.device)
    there = torch.isin(made, given)
    n = int(there.sum())
    if n == 0:
        return made, 0
    choices = free.unique()
    choices = choices[~torch.isin(choices, given)]
    require(
        len(choices) > 0, f"rows must hold tokens beside the markers {tuple(markers)}. They do not"
    )
    drawn = torch.randint(len(choices), (n,), generator=generator).to(made.device)
    made = made.clone()
    made[there] = choices[drawn]
    return made, n
