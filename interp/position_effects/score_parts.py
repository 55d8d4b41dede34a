"""Attention scores as a sum of what content and position say of query and key.

What a head's query is made from is, under the norm's scale of this run, a sum of

- position: what the model's residual stream is on average at that position (and, with shortformer
  positions, the vector that the encoding adds to queries and keys),
- content: how this text's stream differs from that average,
- bias: the norm's bias, b_Q, and the bias of a norm of queries.

The key is such a sum too, so their product is one of nine. Names say the query's part first.

Source: the split of scores into content and position terms is that of Dai et al. 2019,
Transformer-XL, §3.3, and Ke et al. 2021, TUPE, §3.1, here with what a trained model's stream holds
of position in place of the encoding's vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.components.attention import Attention
from interp.components.norm import Norm
from interp.errors import InputError, require, require_one_of, unknown
from interp.frozen_norms import pass_on
from interp.position_effects.attention_run import (
    block_of,
    checked_rows,
    encoding_bias,
    rotation_of,
    visible_keys,
    watch_layers,
)
from interp.precision import wide

if TYPE_CHECKING:
    from interp.position_effects.means import PositionMeans
    from interp.transformer import HookedTransformer

GrandMean = Literal["position", "bias"]
FOUR = ("content-content", "content-position", "position-content", "position-position")
"""The parts of a score that hold no bias: the query's part, then the key's."""
BIAS_PARTS = ("content-bias", "position-bias", "bias-content", "bias-position", "bias-bias")
"""What the part `bias` is the sum of."""
ENCODING = "encoding"
"""What ALiBi or T5's learned curves add to the scores by themselves."""


@dataclass(frozen=True)
class ScoreParts:
    """The scores of one layer's heads, taken apart.

    Attributes:
        layer: The block.
        parts: By name, `[batch, head, pos, key_pos]`: what is added up, in nats, entries that are
            masked included. `encoding`, where the encoding has scores of its own, comes last.
        visible: `[pos, key_pos]`, which keys each query may look at.
        soft_cap: With a cap c > 0 the model uses c·tanh(x / c) of the sum x of all parts but the
            encoding's; the parts are those of x.
        sinks: `[head]`, a learned score that takes its share of the pattern; None: there is none.
    """

    layer: int
    parts: Mapping[str, Float[Tensor, "batch head pos key_pos"]]
    visible: Bool[Tensor, "pos key_pos"]
    soft_cap: float = 0.0
    sinks: Float[Tensor, "head"] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The parts, in order."""
        return tuple(self.parts)

    def __getitem__(self, name: str) -> Float[Tensor, "batch head pos key_pos"]:
        """One part.

        Raises:
            InputError: for a name that is no part.
        """
        if name not in self.parts:
            raise unknown("part of the scores", name, self.parts)
        return self.parts[name]

    def total(self) -> Float[Tensor, "batch head pos key_pos"]:
        """The sum of all parts, not capped and not masked."""
        return sum_of(list(self.parts.values()))

    def scores(self, without: Iterable[str] = ()) -> Float[Tensor, "batch head pos key_pos"]:
        """What `hook_attn_scores` holds: capped, with the encoding's own, -inf where masked.

        Args:
            without: Parts to leave out.

        Raises:
            InputError: for a name that is no part.
        """
        dropped = set(without)
        for name in dropped:
            self[name]
        kept = {name: part for name, part in self.parts.items() if name not in dropped}
        of_products = [part for name, part in kept.items() if name != ENCODING]
        some = next(iter(self.parts.values()))
        scores = sum_of(of_products) if of_products else torch.zeros_like(some)
        if self.soft_cap > 0:
            scores = self.soft_cap * torch.tanh(scores / self.soft_cap)
        if ENCODING in kept:
            scores = scores + kept[ENCODING]
        return scores.masked_fill(~self.visible, -torch.inf)

    def pattern(self, without: Iterable[str] = ()) -> Float[Tensor, "batch head pos key_pos"]:
        """The attention pattern, or what it would be if these parts were left out of the scores.

        Raises:
            InputError: for a name that is no part.
        """
        scores = self.scores(without)
        if self.sinks is None:
            return scores.softmax(-1)
        sinks = self.sinks.to(scores.dtype)[:, None, None].expand(*scores.shape[:-1], 1)
        return torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]


def score_parts(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    means: PositionMeans,
    layer: int,
    *,
    grand_mean: GrandMean = "position",
    split_bias: bool = False,
) -> ScoreParts:
    """Run a model and take the attention scores of one layer apart.

    The parts sum to `hook_attn_scores` (to what is capped, where scores are): see
    `ScoreParts.scores`. Norms are linear here, their scale being what it was in this run; so are
    the norms of queries and keys. Rotation by position is linear as it is: the parts are those of
    the turned queries and keys, and `content-content` is then what content says at that offset.

    A mean over n texts holds 1/n of the variance of their content, which counts as position.

    Args:
        model: With one stack, of any encoding; with its hooks edited, the parts are those of an
            unedited block that reads what this one did.
        tokens: Rows without padding.
        means: Of `blocks.{layer}.hook_resid_pre`, over texts that are at least as long.
        layer: The block.
        grand_mean: Where the mean over positions of the position part goes: to `position`, which
            is then all of the mean at a position; or to `bias`, since it is the same at all of
            them. A model that knows no position at a layer has a position part of zero with
            `bias`, and a constant one with `position`.
        split_bias: Name the five terms with a bias, instead of their sum as `bias`.

    Raises:
        InputError: for a model with two stacks, means of other hooks or of shorter texts, a layer
            that does not exist, or tokens that are no rows.
    """
    tokens = checked_rows(model, tokens)
    splitter = ScoreSplitter(model, means, tokens.shape[1], grand_mean, split_bias)
    found: list[ScoreParts] = []

    def look(at: int, seen: dict[str, Tensor]) -> None:
        found.append(splitter.split(at, seen))

    watch_layers(model, tokens, splitter.hooks(layer), look, [layer])
    return found[0]


class ScoreSplitter:
    """Takes scores apart, layer by layer, while a model runs.

    Args:
        model, means, grand_mean, split_bias: As in `score_parts`.
        n_pos: The length of the rows.
    """

    def __init__(
        self,
        model: HookedTransformer,
        means: PositionMeans,
        n_pos: int,
        grand_mean: GrandMean = "position",
        split_bias: bool = False,
    ) -> None:
        require_one_of("grand_mean", grand_mean, ("position", "bias"))
        self.model, self.means, self.n_pos = model, means, n_pos
        self.grand_mean, self.split_bias = grand_mean, split_bias

    def hooks(self, layer: int) -> list[str]:
        """What has to be seen of a block."""
        normed = isinstance(self._norm(layer), Norm)
        return ["hook_resid_pre", *(["ln1.hook_scale"] if normed else [])]

    def split(self, layer: int, seen: Mapping[str, Float[Tensor, "batch pos ..."]]) -> ScoreParts:
        """The parts of a layer's scores, given what its hooks held.

        Raises:
            InputError: for means that do not fit.
        """
        block = block_of(self.model, layer)
        attn = block.attn
        read = self._parts_read(layer, seen)
        q = {name: torch.einsum("bpd,hde->bphe", x, wide(attn.W_Q)) for name, x in read.items()}
        W_K, b_K, _, _ = attn.key_value_weights()
        k = {name: torch.einsum("bpd,hde->bphe", x, wide(W_K)) for name, x in read.items()}
        q["bias"], k["bias"] = q["bias"] + wide(attn.b_Q), k["bias"] + wide(b_K)
        q, k = _normalised(attn, q, attn.q_norm), _normalised(attn, k, attn.k_norm)
        some = q["content"]
        turn = rotation_of(self.model, layer, self.n_pos, some.device, some.dtype)
        if turn is not None:
            q = {name: turn(x) for name, x in q.items()}
            k = {name: turn(x) for name, x in k.items()}
        # [batch, head, pos, d_head] and [batch, head, d_head, key_pos]
        rows = {name: x.transpose(1, 2) / attn.attn_scale for name, x in q.items()}
        columns = {name: attn._per_query_head(x).permute(0, 2, 3, 1) for name, x in k.items()}
        parts = {}
        for name in (*FOUR, *BIAS_PARTS) if self.split_bias else FOUR:
            of_query, of_key = name.split("-")
            parts[name] = rows[of_query] @ columns[of_key]
        if not self.split_bias:
            all_keys = sum_of(list(columns.values()))
            without = rows["content"] + rows["position"]
            parts["bias"] = rows["bias"] @ all_keys + without @ columns["bias"]
        bias = encoding_bias(self.model, self.n_pos, some.device, some.dtype)
        if bias is not None:
            parts[ENCODING] = bias[None].expand_as(parts["content-content"])
        return ScoreParts(
            layer,
            parts,
            visible_keys(self.model, layer, self.n_pos, some.device),
            max(attn.cfg.attn_scores_soft_cap, 0.0),
            None if attn.sinks is None else attn.sinks.detach(),
        )

    def _norm(self, layer: int) -> object:
        """The norm in front of this layer's heads; None: they read the stream as it is."""
        block = block_of(self.model, layer)
        return block.ln1 if block.reads_normalised else None

    def _parts_read(self, layer: int, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What queries and keys are made from, by source, `[batch, pos, d_model]`."""
        resid = wide(seen["hook_resid_pre"])
        mean, grand = self._mean(layer, resid)
        content, position, bias = resid - mean, mean.expand_as(resid), torch.zeros_like(resid)
        if self.grand_mean == "bias":
            position, bias = (mean - grand).expand_as(resid), grand.expand_as(resid)
        norm = self._norm(layer)
        if isinstance(norm, Norm):
            scale = wide(seen["ln1.hook_scale"])
            content, position, bias = (pass_on(norm, x, scale) for x in (content, position, bias))
            if norm.b is not None:
                bias = bias + wide(norm.b)
        encoding = self.model.main_stack.pos_embed
        if encoding.adds_to_queries_and_keys:
            length = self._length(layer)
            places = torch.arange(length, device=resid.device)[None]
            added = wide(encoding.embedding(places, length)).to(resid.dtype)
            if self.grand_mean == "bias":
                constant = added.mean(1, keepdim=True)
                added, bias = added - constant, bias + constant
            position = position + added[:, : self.n_pos]
        return {"content": content, "position": position, "bias": bias}

    def _name(self, layer: int) -> str:
        name = f"blocks.{layer}.hook_resid_pre"
        if name not in self.means.mean:
            held = ", ".join(self.means.mean)
            raise InputError(f"means must hold those of {name}. They hold {held}.")
        return name

    def _length(self, layer: int) -> int:
        return int(self.means.mean[self._name(layer)].shape[0])

    def _mean(self, layer: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The mean at each position `[1, pos, d_model]`, and over all of them `[d_model]`."""
        name = self._name(layer)
        length = self._length(layer)
        require(
            length >= self.n_pos,
            f"means must be of texts of at least {self.n_pos} tokens, as these rows have. "
            f"Received means of {length}",
        )
        mean = self.means.mean[name][None, : self.n_pos].to(like.device, like.dtype)
        return mean, self.means.grand[name].to(like.device, like.dtype)


def sum_of(tensors: list[Float[Tensor, "*axes"]]) -> Float[Tensor, "*axes"]:
    """Their sum."""
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total


def _normalised(attn: Attention, parts: dict[str, Tensor], norm: Norm | None) -> dict[str, Tensor]:
    """Parts of queries or keys behind their norm, with the scale of their sum."""
    if norm is None:
        return parts
    whole, shape = attn.cfg.qk_norm == "full", parts["bias"].shape[-2:]
    if whole:
        parts = {name: x.flatten(-2) for name, x in parts.items()}
    total = sum_of(list(parts.values()))
    if norm.centres:
        total = total - total.mean(-1, keepdim=True)
    scale = (total.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt()
    found = {name: pass_on(norm, x, scale) for name, x in parts.items()}
    if norm.b is not None:
        found["bias"] = found["bias"] + wide(norm.b)
    return {name: x.unflatten(-1, shape) for name, x in found.items()} if whole else found
