"""From a config to a sparse autoencoder."""

from __future__ import annotations

from interp.sae.config import Kind, SAEConfig
from interp.sae.gated import GatedSAE
from interp.sae.relu import ReluSAE
from interp.sae.sae import SparseAutoencoder
from interp.sae.topk import TopKSAE

_KINDS: dict[Kind, type[SparseAutoencoder]] = {
    "relu": ReluSAE,
    "topk": TopKSAE,
    "gated": GatedSAE,
}


def make_sae(cfg: SAEConfig) -> SparseAutoencoder:
    """A sparse autoencoder with initial weights."""
    return _KINDS[cfg.kind](cfg)
