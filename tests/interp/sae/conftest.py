"""Small sparse autoencoders with random numbers everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp.sae import SAEConfig, SparseAutoencoder, make_sae

NEEDS: dict[str, dict[str, Any]] = {
    "relu": {"l1_coefficient": 0.3},
    "gated": {"l1_coefficient": 0.3},
    "topk": {"k": 3, "aux_k": 4},
}


@pytest.fixture(scope="session")
def make_config() -> Callable[..., SAEConfig]:
    def make(kind: str, **fields: Any) -> SAEConfig:
        small = {"d_in": 5, "d_sae": 9, "device": "cpu", "dtype": torch.float64}
        return SAEConfig(**{"kind": kind, **small, **NEEDS[kind], **fields})

    return make


@pytest.fixture(scope="session")
def random_sae(make_config: Callable[..., SAEConfig]) -> Callable[..., SparseAutoencoder]:
    """All parameters are drawn anew; rows of W_dec keep unit length unless `of_unit_norm`."""

    def make(kind: str, seed: int = 0, of_unit_norm: bool = True, **fields: Any) -> Any:
        sae = make_sae(make_config(kind, **fields))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in sae.parameters():
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(0.5 * drawn)
            if of_unit_norm:
                sae.W_dec.div_(sae.W_dec.norm(dim=-1, keepdim=True))
        return sae

    return make


@pytest.fixture(scope="session")
def inputs() -> Callable[..., torch.Tensor]:
    def draw(n: int = 17, d_in: int = 5, seed: int = 1) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(n, d_in, generator=generator, dtype=torch.float64)

    return draw
