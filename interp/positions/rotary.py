"""Rotary positions: pairs of query and key dimensions turn with position (Su et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.errors import InputError
from interp.positions.base import PositionalEncoding, Rotation


class RotaryPositions(PositionalEncoding):
    """At position t, pair i of a head's first `rotary_dim` dimensions turns by t·base^(-2i/dim).

    A score then depends on the distance of query and key alone. Defined for every position.
    `cfg.rotary_scaling` stretches the frequencies, but not those of layers with a window where they
    have a base of their own (`cfg.rotary_base_local`, Gemma 3).

    Angles are computed in fp32 as the reference implementations do, in fp64 for an fp64 model.
    """

    rotates = True

    def __init__(self, cfg: HookedTransformerConfig, causal: bool = True) -> None:
        super().__init__(cfg, causal)
        assert cfg.rotary_dim is not None
        assert not isinstance(cfg.rotary_scaling, Mapping)
        self.dim = cfg.rotary_dim
        self.base = cfg.rotary_base
        self.base_local = cfg.rotary_base_local
        self.scaling = cfg.rotary_scaling
        self.depends_on_length = self.scaling is not None and self.scaling.depends_on_length
        self.adjacent_pairs = cfg.rotary_adjacent_pairs
        self._tables: dict[tuple[torch.device, torch.dtype, bool], _Table] = {}

    def check_cached_length(self, length: int) -> None:
        """Raise `InputError` where dynamic scaling would turn cached keys otherwise by now."""
        if self.scaling is None or not self.depends_on_length:
            return
        if length > self.scaling.original_n_ctx:
            raise InputError(
                "with dynamic rotary scaling a key/value cache holds at most original_n_ctx "
                f"({self.scaling.original_n_ctx}) tokens: beyond, each new token turns all earlier "
                f"ones anew (use_past_kv_cache=False). Received {length} tokens."
            )

    def frequencies(
        self, device: torch.device, dtype: torch.dtype, length: int = 1, local: bool = False
    ) -> Float[Tensor, "dim"]:
        """Radians per position of every rotated dimension, in a text of this length."""
        own = self.base_local if local else None
        base = self.base if own is None else own
        exponent = torch.arange(0, self.dim, 2, device=device, dtype=dtype) / self.dim
        frequencies = 1.0 / base**exponent
        if self.scaling is not None and own is None:
            frequencies = self.scaling.frequencies(frequencies, base, length)
        if self.adjacent_pairs:
            return frequencies.repeat_interleave(2)
        return frequencies.repeat(2)

    def has_own_base(self, local: bool) -> bool:
        """Whether layers of this kind turn by a base of their own, which nothing stretches."""
        return local and self.base_local is not None

    def multiplier(self, local: bool = False) -> float:
        """What queries and keys are multiplied by, beside turning."""
        return 1.0 if self.scaling is None or self.has_own_base(local) else self.scaling.multiplier

    def table(
        self, length: int, device: torch.device, dtype: torch.dtype, local: bool = False
    ) -> tuple[Float[Tensor, "pos dim"], Float[Tensor, "pos dim"]]:
        """Cosine and sine for positions 0 … at least `length - 1`, kept for the next run."""
        local = self.has_own_base(local)
        stretches_with = 0
        if self.scaling is not None and self.depends_on_length and not local:
            stretches_with = max(length, self.scaling.original_n_ctx)
        key = (device, dtype, local)
        kept = self._tables.get(key)
        if kept is None or kept.cos.shape[0] < length or kept.stretched_for != stretches_with:
            wide = torch.float64 if dtype == torch.float64 else torch.float32
            with torch.inference_mode(False):
                # Grown by doubling: a table for a context of 128k would be large.
                grown = 1 << max(length - 1, 63).bit_length()
                places = torch.arange(grown, device=device, dtype=wide)
                angles = places[:, None] * self.frequencies(device, wide, length, local)
                more = self.multiplier(local)
                cos, sin = (angles.cos() * more).to(dtype), (angles.sin() * more).to(dtype)
            self._tables[key] = kept = _Table(cos, sin, stretches_with)
        return kept.cos, kept.sin

    def rotation(
        self,
        positions: Int[Tensor, "batch pos"],
        length: int,
        dtype: torch.dtype,
        local: bool = False,
    ) -> Rotation:
        """The turn at these positions, all below `length`."""
        # A text that is not longer than what the model was trained on stretches nothing.
        stretched = self.scaling is not None and length > self.scaling.original_n_ctx
        by_row = self.depends_on_length and stretched
        if by_row and positions.shape[0] > 1:
            # Each row by its own length.
            tables = [self.table(n + 1, positions.device, dtype, local) for n in _last(positions)]
            rows = [(c[row], s[row]) for (c, s), row in zip(tables, positions, strict=True)]
            cos, sin = (torch.stack(part) for part in zip(*rows, strict=True))
        else:
            if by_row:
                length = _last(positions)[0] + 1
            cos, sin = (t[positions] for t in self.table(length, positions.device, dtype, local))
        # [batch, pos, 1, dim]: the same for every head.
        return _Turn(cos.unsqueeze(2), sin.unsqueeze(2), self.adjacent_pairs)

    def turn(self, angles: Float[Tensor, "batch pos dim"], dtype: torch.dtype) -> Rotation:
        """The turn by these angles, one for each rotated dimension in the order of `frequencies`.

        It is that alone: nothing is multiplied as `cfg.rotary_scaling` may have it.
        """
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        return _Turn(cos.unsqueeze(2), sin.unsqueeze(2), self.adjacent_pairs)


def _last(positions: Int[Tensor, "batch pos"]) -> list[int]:
    """The highest position of each row."""
    return positions.amax(1).tolist()


class _Table(NamedTuple):
    cos: Float[Tensor, "pos dim"]
    sin: Float[Tensor, "pos dim"]
    stretched_for: int  # the length of text, where the frequencies depend on it


@dataclass(frozen=True, slots=True)
class _Turn:
    cos: Float[Tensor, "batch pos 1 dim"]
    sin: Float[Tensor, "batch pos 1 dim"]
    adjacent_pairs: bool

    def __call__(
        self, x: Float[Tensor, "batch pos head d_head"]
    ) -> Float[Tensor, "batch pos head d_head"]:
        dim = self.cos.shape[-1]
        turning = x[..., :dim]
        turned = turning * self.cos + self._quarter_turn(turning) * self.sin
        return turned if dim == x.shape[-1] else torch.cat([turned, x[..., dim:]], -1)

    def to(self, device: torch.device) -> _Turn:
        return _Turn(self.cos.to(device), self.sin.to(device), self.adjacent_pairs)

    def _quarter_turn(self, x: Float[Tensor, "*axes dim"]) -> Float[Tensor, "*axes dim"]:
        """(a, b) → (-b, a) in every pair."""
        if self.adjacent_pairs:
            return torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
        a, b = x.chunk(2, -1)
        return torch.cat([-b, a], -1)
