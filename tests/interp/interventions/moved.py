"""A restatement of the model in which every token is told where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from interp import HookedTransformer
from interp.interventions import (
    hooks_for,
)
from tests.interp.definitions import alibi_slopes, frequency, relative_bucket, sinusoid
from tests.interp.restatement import _Run

Told = Callable[[int], list[float | None]]
"""From the number of a row's tokens to the position at which each is treated; None: none."""


class Moved(_Run):
    """The restatement, with positions of one's own where the encoding acts."""

    def __init__(
        self, model: Any, queries: Told, keys: Told, mask: Tensor, layers: Sequence[int] | None
    ) -> None:
        super().__init__(model, {})
        self.real, self.layers = mask.bool(), layers
        self.queries, self.keys = (
            [self._row(told, row) for row in self.real] for told in (queries, keys)
        )

    def _row(self, told: Told, real: Tensor) -> list[float | None]:
        """Along the tensor; padding is at 0."""
        of_tokens = iter(told(int(real.sum())))
        return [next(of_tokens) if is_real else 0 for is_real in real.tolist()]

    def at(self, name: str, x: Tensor) -> Tensor:
        if name == "hook_pos_embed":
            x = torch.stack([torch.stack([self._vector(p) for p in row]) for row in self.queries])
            x = x * self.real[..., None]
        elif name.endswith(("hook_rot_q", "hook_rot_k")):
            layer = int(name.split(".")[1])
            x = self._turned(x, self.queries if name.endswith("q") else self.keys, layer)
        return super().at(name, x)

    def attention(self, *given: Any) -> Tensor:
        *others, turning = given
        if turning is not None:  # nothing is turned by angles of 0; what multiplies does so
            turning = (torch.zeros_like(turning[0]), *turning[1:])
        return super().attention(*others, turning)

    def _vector(self, place: float | None) -> Tensor:
        cfg = self.cfg
        if place is None:
            return torch.zeros(cfg.d_model, dtype=torch.float64)
        if cfg.positional_embedding_type == "sinusoidal":
            waves = sinusoid(int(place), cfg.d_model, cfg.sinusoidal_layout)
            return torch.tensor(waves, dtype=torch.float64)
        return self.w["pos_embed.W_pos"][int(place)]

    def _turned(self, x: Tensor, places: list[list[float | None]], layer: int) -> Tensor:
        cfg, out = self.cfg, x.clone()
        dim = cfg.rotary_dim
        stays = self.layers is not None and layer not in self.layers
        angles = torch.zeros(*x.shape[:2], dim // 2, dtype=torch.float64)
        for row in range(x.shape[0]):
            n, seen = int(self.real[row].sum()), 0
            of_pairs = [
                frequency(cfg, i, n, cfg.attn_types[layer] == "local") for i in range(dim // 2)
            ]
            for pos in range(x.shape[1]):
                place = seen if stays else (places[row][pos] or 0)
                seen += int(self.real[row, pos])
                for i, each in enumerate(of_pairs):
                    angles[row, pos, i] = place * each
        for i in range(dim // 2):
            a, b = (2 * i, 2 * i + 1) if cfg.rotary_adjacent_pairs else (i, i + dim // 2)
            cos, sin = (turn(angles[:, :, None, i]) for turn in (torch.cos, torch.sin))
            out[..., a] = x[..., a] * cos - x[..., b] * sin
            out[..., b] = x[..., a] * sin + x[..., b] * cos
        return out

    def position_bias(self, prefix: str, places: Tensor, causal: bool) -> Tensor | None:
        cfg = self.cfg
        if cfg.positional_embedding_type not in ("alibi", "relative_positional_bias"):
            return None
        batch, n = places.shape
        bias = torch.zeros(batch, cfg.n_heads, n, n, dtype=torch.float64)
        slopes = torch.tensor(alibi_slopes(cfg.n_heads, cfg.alibi_max_bias), dtype=torch.float64)
        sizes = (cfg.relative_attention_num_buckets, cfg.relative_attention_max_distance)
        for row in range(batch):
            for i, q in enumerate(self.queries[row]):
                for j, k in enumerate(self.keys[row]):
                    if q is None or k is None:
                        continue
                    if cfg.positional_embedding_type == "alibi":
                        bias[row, :, i, j] = -slopes * abs(q - k)
                    else:
                        bucket = relative_bucket(int(k - q), causal, *sizes)
                        bias[row, :, i, j] = self.w["pos_embed.W_rel"][bucket]
        return self.at("hook_pos_bias", bias)


def plain(n: int) -> list[float | None]:
    return list(range(n))


def restated(
    model: HookedTransformer, given: dict[str, Tensor], queries: Told, keys: Told,
    layers: Sequence[int] | None = None,
) -> Tensor:  # fmt: skip
    mask = given.get("attention_mask", torch.ones_like(given["input"]))
    run = Moved(model, queries, keys, mask, layers)
    causal = model.cfg.attention_dir != "bidirectional"
    stream, real = run.stack(
        "", model.cfg.n_layers, causal, given["input"], mask, given.get("token_type_ids")
    )
    return run.logits(stream, real)


def found(model: HookedTransformer, given: dict[str, Tensor], item: Any) -> Tensor:
    with torch.no_grad():
        return model.run_with_hooks(**given, fwd_hooks=hooks_for(model, item, **given))


def compare(found: Tensor, expected: Tensor, given: Any, label: str = "") -> None:
    """Where tokens are real."""
    if found.ndim == 3 and "attention_mask" in given:
        real = given["attention_mask"].bool()
        found, expected = found[real], expected[real]
    error = float((found - expected).abs().max() / expected.abs().max().clamp(min=1))
    assert error <= 1e-10, (label, error)
