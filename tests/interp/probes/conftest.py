"""Features with position planted in them, of a few sizes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from interp.probes import Split, split_by_group

Data = tuple[dict[str, Tensor], Tensor, Split]


@pytest.fixture(scope="session")
def planted() -> Callable[..., Data]:
    """Features of five sites (one noise, one with a constant), positions, and a split."""

    def make(
        n_seq: int = 40, n_pos: int = 10, dtype: torch.dtype = torch.float64, seed: int = 0
    ) -> Data:
        draw = torch.Generator().manual_seed(seed)
        normal = lambda *shape: torch.randn(*shape, generator=draw, dtype=torch.float64)
        n = n_seq * n_pos
        position = torch.arange(n_pos).repeat(n_seq)
        features = {
            "line": normal(n, 12) @ normal(12, 12) + 4 + position[:, None] * normal(12),
            "line 2": normal(n, 12) @ normal(12, 12) - 9 + position[:, None] * 3 * normal(12),
            "noise": normal(n, 12),
            "means": normal(n, 20) + 3 * normal(n_pos, 20)[position],
            "few": normal(n, 5) * 1e3 + position[:, None] * normal(5),
        }
        features["line 2"][:, 3] = 7.25
        groups = torch.arange(n_seq).repeat_interleave(n_pos)
        features = {site: x.to(dtype) for site, x in features.items()}
        return features, position, split_by_group(groups)

    return make
