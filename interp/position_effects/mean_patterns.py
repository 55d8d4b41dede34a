"""Every head's attention pattern averaged over texts, and what varies about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import require
from interp.position_effects.attention_run import (
    checked_rows,
    in_batches,
    visible_keys,
    watch_layers,
)
from interp.position_effects.key_variance import OffsetSums, SeenKeys

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_PATTERN = "attn.hook_pattern"


@dataclass(frozen=True)
class MeanPatterns:
    """What `mean_patterns` found, in fp64 on the model's device.

    Attributes:
        mean: The mean pattern over texts.
        squares: Sum over queries and their keys of (pattern - its mean over the query's keys)²,
            averaged over texts. An even pattern has 0; a query that looks at one of many keys adds
            about 1, however many there are.
        entropy: -Σ p ln p of each query in nats, averaged over texts.
        visible: Which keys a query may look at.
        causal: Whether no query looks ahead.
        n_sequences: Texts.
        rounding: The least number that counts beside 1 in the patterns' dtype.
    """

    mean: Float[Tensor, "layer head pos key_pos"]
    squares: Float[Tensor, "layer head"]
    entropy: Float[Tensor, "layer head pos"]
    visible: Bool[Tensor, "layer pos key_pos"]
    causal: bool
    n_sequences: int
    rounding: float

    @property
    def n_pos(self) -> int:
        """Tokens of each text."""
        return self.mean.shape[-1]

    @cached_property
    def offset_sums(self) -> OffsetSums:
        """Sums over the queries and keys at each offset."""
        return OffsetSums(self.n_pos, self.causal, self.mean.device)

    def keys(self, layer: int) -> SeenKeys:
        """The keys that a layer's queries see."""
        return SeenKeys(self.visible[layer])

    def first_mass(self) -> Float[Tensor, "layer head"]:
        """Attention to the first token, of all later ones (0 where a window hides it)."""
        return self.mean[:, :, 1:, 0].mean(-1)

    def even_first_mass(self) -> Float[Tensor, "layer"]:
        """The same of even attention."""
        each = [self.keys(layer).even[1:, 0].mean() for layer in range(len(self.visible))]
        return torch.stack(each)

    def learned_sink_mass(self) -> Float[Tensor, "layer head"]:
        """What a learned sink takes of the later queries' attention; 0 where there is none."""
        return (1 - self.mean[:, :, 1:].sum(-1)).mean(-1)

    def mean_entropy(self) -> Float[Tensor, "layer head"]:
        """Entropy in nats, averaged over the queries behind the first."""
        return self.entropy[..., 1:].mean(-1)

    def even_entropy(self) -> Float[Tensor, "layer"]:
        """The same of even attention: the mean of ln(number of keys)."""
        return self.visible.sum(-1)[:, 1:].double().log().mean(-1)


@torch.no_grad()
def mean_patterns(
    model: HookedTransformer, tokens: Int[Tensor, "batch pos"], batch_size: int | None = None
) -> MeanPatterns:
    """Average every head's attention pattern over texts of one length.

    One run for each batch. Patterns of texts are not kept, but the mean of each head is:
    8 bytes · layers · heads · length².

    Args:
        model: With one stack.
        tokens: Rows without padding.
        batch_size: Rows that run at once, for less memory. None: all.

    Raises:
        InputError: for a model with two stacks or without layers, tokens that are no rows, or rows
            of one token.
    """
    tokens = checked_rows(model, tokens)
    n_layers, n_pos = model.cfg.n_layers, tokens.shape[1]
    require(n_layers > 0, "the model must have heads. It has no layers")
    require(n_pos > 1, f"rows must have two tokens or more. Received {n_pos}")
    device = tokens.device
    visible = torch.stack([visible_keys(model, i, n_pos, device) for i in range(n_layers)])
    keys = [SeenKeys(of_layer) for of_layer in visible]
    shape = (n_layers, model.cfg.n_heads)
    mean = torch.zeros(*shape, n_pos, n_pos, dtype=torch.float64, device=device)
    squares = torch.zeros(shape, dtype=torch.float64, device=device)
    entropy = torch.zeros(*shape, n_pos, dtype=torch.float64, device=device)

    def look(layer: int, seen: dict[str, Tensor]) -> None:
        pattern = seen[_PATTERN].double()
        mean[layer] += pattern.sum(0)
        centred = keys[layer].centred(pattern)
        squares[layer] += centred.pow(2).sum((0, 2, 3))
        entropy[layer] += torch.special.entr(pattern).sum((0, 3))

    for rows in in_batches(tokens, batch_size):
        watch_layers(model, rows, [_PATTERN], look)
    n = len(tokens)
    causal = bool(model.main_stack.causal)
    rounding = torch.finfo(model.cfg.dtype).eps
    return MeanPatterns(mean / n, squares / n, entropy / n, visible, causal, n, rounding)
