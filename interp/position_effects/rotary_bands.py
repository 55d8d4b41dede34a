"""Which frequencies of a rotary encoding each head uses, and what for.

A turned query times a turned key is a sum over the pairs of dimensions that turn together. Pair i
turns by ω_i radians a position, so it adds |q_i||k_i| cos(ω_i Δ + φ_i) at the offset Δ = query
position - key position, φ_i being the angle from the key's pair to the query's (Su et al. 2021,
RoFormer, §3.2). Fast pairs tell near offsets apart; those that hardly turn within a text compare
contents (Barbero et al. 2025, Round and Round We Go!). What does not turn (partial rotary) is one
band more, with ω = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require
from interp.position_effects.attention_run import (
    block_of,
    checked_rows,
    chosen_layers,
    in_batches,
    normalised_queries_and_keys,
    rotation_of,
    visible_keys,
    watch_layers,
)
from interp.position_effects.identities import paired_dimensions
from interp.position_effects.key_variance import OffsetSums, SeenKeys, above_rounding
from interp.position_effects.offsets import PositionFit
from interp.positions.rotary import RotaryPositions
from interp.precision import wide

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_Q, _K, _SCORES = "attn.hook_q", "attn.hook_k", "attn.hook_attn_scores"


@dataclass(frozen=True)
class RotaryBands:
    """What each band of each head adds to the scores, before a cap.

    Variances are those over the keys of a query, as in `ScorePartStatistics`.

    Attributes:
        layers: The blocks, in order.
        frequencies: Radians a position, 0 for what does not turn.
        share: The band's covariance with the score over the variance of the score; shares sum to 1.
            NaN where a head's scores differ by no more than rounding.
        spread: Standard deviation over keys of what the band adds, in nats.
        mean_abs: Mean of |what the band adds|, in nats.
        offset_r2: How much of the variance of what the band adds is explained by the offset alone:
            near 1 the band says where, near 0 it says what. NaN for a band that tells no keys
            apart, but for rounding.
        amplitude: Of the curve below, in nats.
        phase: Of the curve below, in radians.
        error: Largest |sum of the bands - `hook_attn_scores`| over max(1, largest score), the cap
            applied where there is one.
        n_sequences: Texts.
    """

    layers: tuple[int, ...]
    frequencies: Float[Tensor, "layer band"]
    share: Float[Tensor, "layer head band"]
    spread: Float[Tensor, "layer head band"]
    mean_abs: Float[Tensor, "layer head band"]
    offset_r2: Float[Tensor, "layer head band"]
    amplitude: Float[Tensor, "layer head band"]
    phase: Float[Tensor, "layer head band"]
    error: float
    n_sequences: int

    @property
    def wavelengths(self) -> Float[Tensor, "layer band"]:
        """Positions in a full turn; inf for what does not turn."""
        return 2 * torch.pi / self.frequencies

    def curves(self, offsets: Int[Tensor, "offset"]) -> Float[Tensor, "layer head band offset"]:
        """What each band adds at each offset for the mean query and the mean key, in nats.

        That is amplitude · cos(frequency · offset + phase): scores that are there whatever the
        content, since queries and keys have a mean. The mean is over texts and positions, before
        the turn. Summed over bands it is the score of the mean query and key.
        """
        at = offsets.to(self.frequencies.device, self.frequencies.dtype)
        angles = self.frequencies[:, None, :, None] * at + self.phase[..., None]
        return self.amplitude[..., None] * angles.cos()


@torch.no_grad()
def rotary_bands(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    layers: Sequence[int] | None = None,
    batch_size: int | None = None,
) -> RotaryBands:
    """Take every head's scores apart by the frequencies of its rotary encoding.

    Args:
        model: With one stack and rotary positions, all dimensions turning or some.
        tokens: Rows without padding (every token counts as one).
        layers: Which blocks. None: all.
        batch_size: Rows that run at once, for less memory. None: all.

    Raises:
        InputError: for another encoding, a layer that does not exist, or tokens that are no rows of
            two tokens or more.
    """
    tokens = checked_rows(model, tokens)
    n_pos = tokens.shape[1]
    bands = band_dimensions(model)
    require(n_pos > 1, f"rows must have two tokens or more. Received {n_pos}")
    chosen = chosen_layers(model, layers)
    frequencies = torch.stack([band_frequencies(model, layer, n_pos) for layer in chosen])
    offsets = OffsetSums(n_pos, bool(model.main_stack.causal), tokens.device)
    fits: dict[bool, PositionFit] = {}
    sums: dict[int, _Sums] = {}
    for layer in chosen:
        local = bool(block_of(model, layer).local)
        if local not in fits:
            keys = SeenKeys(visible_keys(model, layer, n_pos, tokens.device))
            fits[local] = PositionFit(keys, offsets, 1.0 / keys.n.double())
        sums[layer] = _Sums(model, layer, n_pos, fits[local], bands)

    def look(layer: int, seen: dict[str, Tensor]) -> None:
        sums[layer].add(*(wide(seen[name]) for name in (_Q, _K, _SCORES)))

    for rows in in_batches(tokens, batch_size):
        watch_layers(model, rows, (_Q, _K, _SCORES), look, chosen)
    found = [sums[layer].found(len(tokens)) for layer in chosen]
    return RotaryBands(
        layers=tuple(chosen),
        frequencies=frequencies,
        error=float(torch.stack([sums[layer].error for layer in chosen]).max()),
        n_sequences=len(tokens),
        **{name: torch.stack([each[name] for each in found]) for name in found[0]},
    )


def band_dimensions(model: HookedTransformer) -> list[Int[Tensor, "dim"]]:
    """The dimensions of a head that belong to each band: its pairs, then what does not turn.

    Raises:
        InputError: for a model whose positions are not rotary.
    """
    encoding = _rotary(model)
    device = model.W_E.device
    pairs = paired_dimensions(encoding.dim, encoding.adjacent_pairs, device)
    bands = list(torch.stack(pairs, -1))
    if encoding.dim < model.cfg.d_head:
        bands.append(torch.arange(encoding.dim, model.cfg.d_head, device=device))
    return bands


def band_frequencies(model: HookedTransformer, layer: int, n_pos: int) -> Float[Tensor, "band"]:
    """Radians a position of each band of a layer in texts of this length (fp64), stretched as the
    model's are; 0 for what does not turn.

    Raises:
        InputError: for a model whose positions are not rotary, or a layer that it does not have.
    """
    encoding = _rotary(model)
    local = bool(block_of(model, layer).local)
    by_dimension = encoding.frequencies(model.W_E.device, torch.float64, n_pos, local)
    still = by_dimension.new_zeros(model.cfg.d_head - encoding.dim)
    every = torch.cat([by_dimension, still])
    return torch.stack([every[dimensions[0]] for dimensions in band_dimensions(model)])


def _rotary(model: HookedTransformer) -> RotaryPositions:
    encoding = model.main_stack.pos_embed
    require(
        isinstance(encoding, RotaryPositions),
        "rotary bands need rotary positions. This model's are "
        f"{model.cfg.positional_embedding_type!r}",
    )
    assert isinstance(encoding, RotaryPositions)
    return encoding


class _Sums:
    """Sums over the texts of one layer, `[head, band]`."""

    def __init__(
        self,
        model: HookedTransformer,
        layer: int,
        n_pos: int,
        fit: PositionFit,
        bands: list[Int[Tensor, "dim"]],
    ) -> None:
        device = model.W_E.device
        block, encoding = block_of(model, layer), _rotary(model)
        self.attn, self.bands, self.keys = block.attn, bands, fit.keys
        self.n_pairs = encoding.dim // 2
        self.multiplier = encoding.multiplier(bool(block.local))
        self.fit = fit
        self.rotation = rotation_of(model, layer, n_pos, device, model.cfg.dtype)
        n_heads, d_head = model.cfg.n_heads, model.cfg.d_head

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.variance = zeros(n_heads)
        self.covariance, self.own, self.absolute = (zeros(n_heads, len(bands)) for _ in range(3))
        self.by_offset = zeros(n_heads, len(bands), len(fit.sums.offsets))
        self.q, self.k = zeros(n_heads, d_head), zeros(n_heads, d_head)
        self.error = zeros()

    def add(self, q: Tensor, k: Tensor, scores: Tensor) -> None:
        """Count in some more texts: queries and keys in front of their norms, and the scores."""
        attn, keys = self.attn, self.keys
        q, k = normalised_queries_and_keys(attn, q, k)
        self.q += q.double().mean(1).sum(0)
        self.k += k.double().mean(1).sum(0)
        turn = self.rotation
        assert turn is not None
        # [batch, head, pos, d_head]
        rows, columns = (turn(x).transpose(1, 2) for x in (q / attn.attn_scale, k))
        self.dtype = rows.dtype
        total = rows @ columns.mT
        centred_total = keys.centred(total)
        self.variance += keys.product(centred_total, centred_total).sum(0)
        summed = torch.zeros_like(total)
        for i, dimensions in enumerate(self.bands):
            band = rows[..., dimensions] @ columns[..., dimensions].mT
            summed += band
            centred = keys.centred(band)
            self.covariance[:, i] += keys.product(centred, centred_total).sum(0)
            self.own[:, i] += keys.product(centred, centred).sum(0)
            self.absolute[:, i] += keys.mean(band.abs())[..., keys.chooses].double().sum((0, -1))
            self.by_offset[:, i] += self.fit.sums_of(centred.double().sum(0), "offset")
        cap = attn.cfg.attn_scores_soft_cap
        if cap > 0:
            summed = cap * torch.tanh(summed / cap)
        seen = scores.masked_fill(~keys.visible, 0.0)
        off = (summed.masked_fill(~keys.visible, 0.0) - seen).abs().max()
        self.error = torch.maximum(self.error, (off / seen.abs().max().clamp(min=1.0)).double())

    def found(self, n: int) -> dict[str, Tensor]:
        """The fields of `RotaryBands` for this layer, over `n` texts."""
        explained = self.fit.explained(self.by_offset / n, "offset")
        queries = n * self.keys.n_choosing
        spread, mean_abs = (self.own / queries).sqrt(), self.absolute / queries
        differs = above_rounding((self.variance / queries).sqrt(), mean_abs.sum(-1), self.dtype)
        share = self.covariance / self.variance.where(differs, torch.nan)[:, None]
        # Sums of what is rounded may explain a little more than there is.
        r2 = (explained / (self.own / n)).clamp(0, 1)
        amplitude, phase = self._mean_curve(n)
        return {
            "share": share,
            "spread": spread,
            "mean_abs": mean_abs,
            "offset_r2": r2.where(above_rounding(spread, mean_abs, self.dtype), torch.nan),
            "amplitude": amplitude,
            "phase": phase,
        }

    def _mean_curve(self, n: int) -> tuple[Tensor, Tensor]:
        """Amplitude and phase of what the mean query and key have in each band."""
        q, k = self.q / n, self.k / n
        amplitude, phase = torch.empty_like(self.own), torch.empty_like(self.own)
        for i, dimensions in enumerate(self.bands):
            if i < self.n_pairs:
                of_query, of_key = (torch.view_as_complex(x[:, dimensions]) for x in (q, k))
                product = of_query * of_key.conj() * self.multiplier**2
            else:
                product = (q[:, dimensions] * k[:, dimensions]).sum(-1) + 0j
            amplitude[:, i], phase[:, i] = product.abs() / self.attn.attn_scale, product.angle()
        return amplitude, phase
