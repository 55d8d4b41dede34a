"""Sines and cosines of position, added to the embedding (Vaswani et al. 2017, §3.5)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.positions.base import PositionalEncoding


class SinusoidalPositions(PositionalEncoding):
    """PE(t, 2i) = sin(t / 10000^(2i/d)), PE(t, 2i+1) = cos(t / 10000^(2i/d)).

    PE(t+k) is PE(t) with every pair (2i, 2i+1) turned by the same angle whatever t is. Defined for
    every position. With `cfg.sinusoidal_layout="halves"` the sines of all i come first, then the
    cosines.
    """

    adds_embedding = True

    def __init__(self, cfg: HookedTransformerConfig, causal: bool = True) -> None:
        super().__init__(cfg, causal)
        self.d_model = cfg.d_model
        self.interleaved = cfg.sinusoidal_layout == "interleaved"
        self.dtype = cfg.dtype
        self._tables: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def _apply(self, fn: object, recurse: bool = True) -> SinusoidalPositions:
        # There are no weights to ask for their dtype: see what becomes of one.
        moved = fn(torch.empty(0, dtype=self.dtype))  # type: ignore[operator]
        self.dtype = moved.dtype
        return super()._apply(fn, recurse)

    def frequencies(self, device: torch.device) -> Float[Tensor, "pair"]:
        """Radians per position of every pair of dimensions."""
        exponent = torch.arange(0, self.d_model, 2, device=device, dtype=torch.float64)
        return 10_000.0 ** (-exponent / self.d_model)

    def table(self, length: int, device: torch.device) -> Float[Tensor, "pos d_model"]:
        """The vectors of positions 0 … at least `length - 1`, kept for the next run."""
        kept = self._tables.get((device, self.dtype))
        if kept is None or kept.shape[0] < length:
            with torch.inference_mode(False):
                grown = 1 << max(length - 1, 63).bit_length()
                places = torch.arange(grown, device=device, dtype=torch.float64)
                angles = places[:, None] * self.frequencies(device)
                waves = torch.stack([angles.sin(), angles.cos()], -1 if self.interleaved else 1)
                kept = waves.flatten(1).to(self.dtype)
            self._tables[device, self.dtype] = kept
        return kept

    def embedding(
        self, positions: Int[Tensor, "batch pos"], length: int
    ) -> Float[Tensor, "batch pos d_model"]:
        """The vectors of these positions, all below `length`."""
        return self.table(length, positions.device)[positions]
