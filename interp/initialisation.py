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
        kind = name.rsplit(".", 1)[-1].removeprefix("_")
        if kind == "W" or kind.startswith("W_"):
            # torch's fp32 normal_ is drawn in one order whatever the layout of the parameter.
            drawn = torch.empty(parameter.shape, device="cpu", dtype=torch.float32)
            parameter.copy_(drawn.normal_(0.0, cfg.initializer_range, generator=generator))
        elif kind.startswith("b") or kind == "sinks":
            parameter.zero_()
        else:
            parameter.fill_(1.0)
