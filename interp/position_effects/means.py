"""The mean activation at every position, and how far single sequences are from it.

Over sequences whose tokens do not depend on where they stand, what a sequence holds at a position
is its mean there (what position alone says) and a rest (what its content says). The mean over n
sequences is known only so well: its squares are too large by content / n, which every measure made
from it has to allow for (`interp.position_effects.curve`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError, require, require_whole, unknown
from interp.position_effects.curve import Curve
from interp.root import FwdHooks, NamesFilter
from interp.run.recording import position_axis

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


@dataclass(frozen=True, eq=False)
class PositionMeans:
    """Means over sequences at each position, in fp64, by hook name.

    `*rest` are the axes of a hook after batch and position: `d_model`, or `head d_head`. Scores and
    patterns have their axes in the order `pos head key_pos`.

    Attributes:
        mean: `[pos, *rest]`, the mean over sequences at each position. It includes the grand mean.
        squares: `[pos, *rest]`, sums over sequences of squared deviations from that mean.
        n_sequences: How many sequences.
        folds: The same of disjoint groups of the sequences, which together are all of them; each
            has none. Two folds' means have independent noise.
    """

    mean: dict[str, Float[Tensor, "pos *rest"]]
    squares: dict[str, Float[Tensor, "pos *rest"]]
    n_sequences: int
    folds: tuple[PositionMeans, ...] = ()

    @property
    def names(self) -> list[str]:
        """The hooks."""
        return list(self.mean)

    @cached_property
    def grand(self) -> dict[str, Float[Tensor, "*rest"]]:
        """The mean over sequences and positions."""
        return {name: mean.mean(0) for name, mean in self.mean.items()}

    @cached_property
    def centred(self) -> dict[str, Float[Tensor, "pos *rest"]]:
        """The mean at each position less the grand mean: content removed."""
        return {name: mean - self.grand[name] for name, mean in self.mean.items()}

    @cached_property
    def variance(self) -> dict[str, Float[Tensor, "pos *rest"]]:
        """Variance over sequences of each entry at each position (divided by n - 1).

        NaN for a single sequence.
        """
        return {name: _over(of, self.n_sequences - 1) for name, of in self.squares.items()}

    @cached_property
    def stderr(self) -> dict[str, Float[Tensor, "pos *rest"]]:
        """Standard error of each entry of the mean, over sequences; NaN for a single one."""
        return {name: (of / self.n_sequences).sqrt() for name, of in self.variance.items()}

    @cached_property
    def content_power(self) -> dict[str, Float[Tensor, "pos *heads"]]:
        """Trace of the covariance over sequences within each position, over the last axis."""
        return {name: of.sum(-1) for name, of in self.variance.items()}

    def without_fold(self, index: int) -> PositionMeans:
        """The means over the sequences of all folds but one.

        Raises:
            InputError: for fewer than two folds, or one that is not there.
        """
        require(len(self.folds) > 1, f"folds must be two or more. There are {len(self.folds)}")
        require(
            0 <= index < len(self.folds),
            f"a fold must lie in 0 … {len(self.folds) - 1}. Received {index!r}",
        )
        return merged(fold for i, fold in enumerate(self.folds) if i != index)

    def per_head(self) -> PositionMeans:
        """Hooks with heads taken apart: `blocks.0.attn.hook_q` becomes `blocks.0.attn.hook_q[3]`.

        Others stay as they are.
        """

        def split(of: Mapping[str, Tensor]) -> dict[str, Tensor]:
            found = {}
            for name, x in of.items():
                if x.ndim == 2:
                    found[name] = x
                    continue
                heads = x.flatten(1, -2).unbind(1)
                found |= {f"{name}[{i}]": head for i, head in enumerate(heads)}
            return found

        folds = tuple(fold.per_head() for fold in self.folds)
        return PositionMeans(split(self.mean), split(self.squares), self.n_sequences, folds)

    def curve(self, name: str) -> Curve:
        """One hook's means, for the measures of geometry.

        Raises:
            InputError: for a hook that is not there or has heads (`per_head` takes them apart), and
                fewer than two folds.
        """
        if name not in self.mean:
            raise unknown("hook of these means", name, self.mean)
        require(
            self.mean[name].ndim == 2,
            f"a curve has axes [pos, d]. {name} has heads: take them apart with per_head()",
        )
        require(
            len(self.folds) > 1,
            "a curve needs means of two folds or more, whose noise is independent: "
            f"position_means(folds=…). There are {len(self.folds)}",
        )
        return Curve(
            self.mean[name],
            torch.stack([fold.mean[name] for fold in self.folds]),
            tuple(fold.n_sequences for fold in self.folds),
            self.content_power[name],
        )


@torch.no_grad()
def position_means(
    model: HookedTransformer,
    tokens: Int[Tensor, "sequence pos"],
    names: NamesFilter,
    batch_size: int = 32,
    fwd_hooks: FwdHooks = (),
    folds: int = 1,
) -> PositionMeans:
    """Means over sequences at each position, a batch at a time, accumulated in fp64.

    Batches are merged by the rule of Chan, Golub and LeVeque (1983), which loses no digits where a
    mean is large against its variance.

    Args:
        model: A model with one stack.
        tokens: Sequences of one length, without padding. Position 0 is the first token, a BOS where
            there is one.
        names: The hooks: any with a position axis and finite numbers.
        batch_size: Sequences of one run.
        fwd_hooks: Hooks to run the model with, as in `run_with_hooks`.
        folds: Into how many groups of neighbouring sequences to split them too, each of as many
            sequences as the others or one more.

    Raises:
        InputError: for an encoder–decoder, fewer than two sequences, more folds than sequences,
            padding, and hooks without positions or with other than finite numbers.
    """
    require(
        model.cfg.architecture != "encoder-decoder",
        "means by position need a model with one stack. This is an encoder-decoder",
    )
    require(
        tokens.ndim == 2 and tokens.shape[0] > 1 and tokens.shape[1] > 0,
        f"tokens must be two sequences or more, [sequence, pos]. Received {tuple(tokens.shape)}",
    )
    require_whole("batch_size", batch_size, 1)
    require_whole("folds", folds, 1)
    n = tokens.shape[0]
    require(folds <= n, f"folds must be no more than sequences ({n}). Received {folds}")
    tokens = tokens.to(model.W_E.device)
    padding = model.mask_of_padding(tokens, None, None, model.main_stack.causal)
    require(padding is None, "sequences must have no padding. Some of these begin or end with it")
    chosen = model.match_hooks(names)
    require(bool(chosen), "names must mean at least one hook. They mean none")
    bounds = [n * i // folds for i in range(folds + 1)]
    by_fold: list[PositionMeans | None] = [None] * folds
    with model.hooks(fwd_hooks=fwd_hooks):
        for start in range(0, n, batch_size):
            batch = tokens[start : start + batch_size]
            _, cache = model.run_with_cache(batch, names_filter=chosen, return_type=None)
            kept = {name: _by_position(name, cache[name], batch.shape) for name in chosen}
            del cache
            for fold, (first, end) in enumerate(itertools.pairwise(bounds)):
                rows = slice(max(first - start, 0), min(end - start, len(batch)))
                if rows.start < rows.stop:
                    part, before = _means_of({k: x[rows] for k, x in kept.items()}), by_fold[fold]
                    by_fold[fold] = part if before is None else _merge(before, part)
    groups = tuple(group for group in by_fold if group is not None)  # none is empty
    whole = groups[0] if folds == 1 else replace(merged(groups), folds=groups)
    # Once, at the end: a look at a number on a GPU waits for all that came before.
    for name, mean in whole.mean.items():
        require(bool(mean.isfinite().all()), f"{name} must hold finite numbers. Some are not")
    return whole


def merged(parts: Iterable[PositionMeans]) -> PositionMeans:
    """The means over the sequences of all of these, which have the same hooks; without folds.

    Raises:
        InputError: for no parts, or parts of different hooks.
    """
    listed = list(parts)
    require(bool(listed), "there must be parts to merge. Received none")
    require(
        all(part.names == listed[0].names for part in listed),
        "parts must have the same hooks. They have different ones",
    )
    return reduce(_merge, listed)


def _merge(a: PositionMeans, b: PositionMeans) -> PositionMeans:
    n = a.n_sequences + b.n_sequences
    share, weight = b.n_sequences / n, a.n_sequences * b.n_sequences / n
    mean, squares = {}, {}
    for name in a.mean:
        apart = b.mean[name] - a.mean[name]
        mean[name] = a.mean[name] + share * apart
        squares[name] = a.squares[name] + b.squares[name] + weight * apart.square()
    return PositionMeans(mean, squares, n)


def _means_of(kept: Mapping[str, Float[Tensor, "sequence pos *rest"]]) -> PositionMeans:
    mean, squares = {}, {}
    n = 0
    for name, x in kept.items():
        n, x = x.shape[0], x.double()
        mean[name] = x.mean(0)
        squares[name] = (x - mean[name]).square().sum(0)
    return PositionMeans(mean, squares, n)


def _by_position(name: str, x: Tensor, shape: Sequence[int]) -> Float[Tensor, "sequence pos *rest"]:
    axis = position_axis(name, x)
    if axis is None or not x.is_floating_point() or x.ndim < 3 or "attn_scores" in name:
        raise InputError(
            "means by position need hooks with a position axis and finite numbers (scores are -inf "
            f"where masked). Received {name}."
        )
    x = x.movedim(axis, 1)
    require(
        x.shape[:2] == tuple(shape),
        f"{name} must be [{shape[0]}, {shape[1]}, …] here. It is {tuple(x.shape)}",
    )
    return x


def _over(x: Tensor, n: int) -> Tensor:
    return x / n if n else torch.full_like(x, torch.nan)
