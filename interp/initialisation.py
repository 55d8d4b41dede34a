"""Fresh weights, the same on every device and in every dtype."""

from __future__ import annotations

import torch
from torch import nn

from interp.config import HookedTransformerConfig


@torch.no_grad()
def initialise(model: nn.Module, cfg: HookedTransformerConfig) -> None:
    """GPT-2's scheme: matrices normal with `cfg.initializer_range`, biases 0, norm weights 1.

    Numbers are drawn on the CPU in fp32 from a generator seeded with `cfg.seed`; the global random
    state is neither read nor moved.
    """
    assert cfg.seed is not None
    generator = torch.Generator().manual_seed(cfg.seed)
    for name, parameter in model.named_parameters():
        if _kind(name).startswith("W"):
            # torch's fp32 normal_ is drawn in one order whatever the layout of the parameter.
            drawn = torch.empty(parameter.shape, device="cpu", dtype=torch.float32)
            parameter.copy_(drawn.normal_(0.0, cfg.initializer_range, generator=generator))
    fill_constants(model)


@torch.no_grad()
def fill_constants(model: nn.Module) -> None:
    """Biases 0 and norm weights 1, as a model that is filled from a file needs them too."""
    for name, parameter in model.named_parameters():
        kind = _kind(name)
        if kind.startswith("b") or kind == "sinks":
            parameter.zero_()
        elif not kind.startswith("W"):
            parameter.fill_(1.0)


def _kind(name: str) -> str:
    """`W_K` of `blocks.0.attn._W_K`."""
    return name.rsplit(".", 1)[-1].removeprefix("_")
