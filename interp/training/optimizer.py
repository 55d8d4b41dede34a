"""AdamW, and what decays under it."""

from __future__ import annotations

import torch
from torch import nn

from interp.errors import InputError
from interp.training.settings import TrainSettings


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices alone: not on biases, whatever their shape, or norms.

    Raises:
        InputError: without parameters.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise InputError("a model must have parameters that require gradients. This one has none.")
    groups = [
        {"params": [p for n, p in named if _decays(n, p)], "weight_decay": settings.weight_decay},
        {"params": [p for n, p in named if not _decays(n, p)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=settings.lr, betas=settings.betas
    )


def _decays(name: str, parameter: nn.Parameter) -> bool:
    last = name.rsplit(".", 1)[-1].lstrip("_")
    return parameter.ndim >= 2 and not last.startswith("b_")  # b_Q is [head, d_head]
