"""Whether a model still holds the weights that it was compiled with."""

from __future__ import annotations

from typing import Any

from torch import nn

from interp.errors import InputError
from interp.hooks import HookPoint


class Weights:
    """The parameters and modules of a model, as they were when this was made.

    Args:
        model: Its hook points are left out: they hold no weights.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = [m for m in model.modules() if not isinstance(m, HookPoint)]
        self._children: list[tuple[dict[str, Any], str, nn.Module]] = []
        self._parameters: list[tuple[dict[str, Any], str, nn.Parameter | None]] = []
        for module in self._modules:
            children, own = module._modules, module._parameters
            for name, child in children.items():
                if child is not None and not isinstance(child, HookPoint):
                    self._children.append((children, name, child))
            self._parameters += [(own, name, p) for name, p in own.items()]

    def are_still_there(self) -> bool:
        """Whether all are the same objects. What they hold is not looked at."""
        return all(parts.get(name) is child for parts, name, child in self._children) and all(
            own.get(name) is parameter for own, name, parameter in self._parameters
        )

    def refuse_torch_hooks(self) -> None:
        """Raise `InputError` if torch's own hooks are on a module: a compiled run skips them."""
        for module in self._modules:
            if module._forward_hooks or module._forward_pre_hooks:
                raise InputError(
                    "a compiled model takes hooks through compile(fwd_hooks=…), not through "
                    f"torch's register_*. A {type(module).__name__} has some."
                )
