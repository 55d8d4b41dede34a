"""An optimiser's state from a file, checked before any of it is taken over."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from interp.errors import InputError, is_whole


def require_fit(optimizer: torch.optim.Optimizer, saved: Any, where: object) -> None:
    """Check that a saved state is one of this optimiser, parameter by parameter.

    torch itself checks the number of parameters alone: a tensor of another shape would fail, or be
    broadcast, at the next update.

    Args:
        optimizer: What it would be loaded into.
        saved: What `optimizer.state_dict()` was.
        where: The file, for the error.

    Raises:
        InputError: If it is not.
    """
    fault = _fault_in(optimizer, saved)
    if fault:
        raise InputError(f"{where} does not fit this optimiser: {fault}.")


def _fault_in(optimizer: torch.optim.Optimizer, saved: Any) -> str:
    if not isinstance(saved, dict) or not {"state", "param_groups"} <= set(saved):
        return "it must have a state and groups of parameters"
    groups, own = saved["param_groups"], optimizer.param_groups
    if not isinstance(groups, list) or len(groups) != len(own):
        return f"it must have {len(own)} groups of parameters"
    numbers: dict[int, Tensor] = {}
    for group, ours in zip(groups, own, strict=True):
        listed: Any = group.get("params") if isinstance(group, dict) else None
        whole = isinstance(listed, list) and all(is_whole(number, 0) for number in listed)
        if not whole or len(listed) != len(ours["params"]) or numbers.keys() & set(listed):
            return f"a group must list its {len(ours['params'])} parameters"
        numbers |= dict(zip(listed, ours["params"], strict=True))
    state = saved["state"]
    if not isinstance(state, dict) or not state.keys() <= numbers.keys():
        return "it must have the state of its parameters alone"
    for number, kept in state.items():
        if not isinstance(kept, dict):
            return f"the state of parameter {number} must have names"
        for name, value in kept.items():
            shapes = (numbers[number].shape, torch.Size([]))
            if isinstance(value, Tensor) and value.shape not in shapes:
                return f"{name} of parameter {number} must be {tuple(shapes[0])}"
    return ""
