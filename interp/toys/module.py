"""Any module of the user's, many at once, through `torch.func`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from interp.errors import require, require_whole
from interp.toys.choice import selected


class ModuleToy(nn.Module):
    """Instances of a module that maps `[batch, feature]` to `[batch, out]`.

    Parameters and buffers get an instance axis in front. The module must be one that
    `torch.func.vmap` can map: no branch on values, no random numbers, no state that a forward pass
    changes.
    """

    def __init__(self, make: Callable[[int], nn.Module], n_instances: int) -> None:
        """Make the instances.

        Args:
            make: Makes instance i: all of one class and shape, each with weights of its own.
            n_instances: How many models.

        Raises:
            InputError: If they are not alike.
        """
        super().__init__()
        require_whole("n_instances", n_instances, 1)
        modules = [make(i) for i in range(n_instances)]
        shapes = [{k: (v.shape, v.dtype) for k, v in m.state_dict().items()} for m in modules]
        odd = [i for i, shape in enumerate(shapes) if shape != shapes[0]]
        require(
            not odd,
            "all instances must have parameters of the same names, shapes and dtypes. Received "
            f"another set at instance {odd[:1]}",
        )
        require(
            any(True for _ in modules[0].parameters()),
            f"a module without parameters cannot be trained. Received {type(modules[0]).__name__}",
        )
        parameters, buffers = stack_module_state(modules)
        self._places = _places(modules[0])
        for name, value in parameters.items():
            kept = nn.Parameter(value.detach(), modules[0].get_parameter(name).requires_grad)
            self.register_parameter(_flat(name), kept)
        for name, value in buffers.items():
            self.register_buffer(_flat(name), value)
        # In a tuple, so that it is not registered: its own weights are never used nor trained.
        self._skeleton = (copy.deepcopy(modules[0]),)

    @property
    def n_instances(self) -> int:
        """How many models."""
        return next(self.parameters()).shape[0]

    def forward(
        self, x: Float[Tensor, "instance batch feature"]
    ) -> Float[Tensor, "instance batch out"]:
        """Each instance's output on its own batch."""
        own = dict((*self.named_parameters(), *self.named_buffers()))
        return torch.func.vmap(self._one)(own, x)

    def _one(self, own: dict[str, Tensor], x: Tensor) -> Tensor:
        state = {place: own[name] for place, name in self._places.items()}
        # torch's own search for tied weights fails where one module has two names.
        return functional_call(self._skeleton[0], state, (x,), tie_weights=False)

    def module(self, instance: int) -> nn.Module:
        """One instance as a module of the user's class, with a copy of its weights.

        Raises:
            InputError: for an instance that is not there.
        """
        require(
            0 <= instance < self.n_instances,
            f"instance must lie in 0 … {self.n_instances - 1}. Received {instance}",
        )
        found = copy.deepcopy(self._skeleton[0])
        named = (*found.named_parameters(), *found.named_buffers())
        places = {_flat(name): value for name, value in named}
        with torch.no_grad():
            for name, value in (*self.named_parameters(), *self.named_buffers()):
                places[name].data = value[instance].clone()  # of this dtype and on this device
        return found

    def extra_repr(self) -> str:
        """How many, and of what."""
        return f"{self.n_instances} of {self._skeleton[0]!r}"

    def select(self, instances: Int[Tensor, "chosen"]) -> Self:
        """A copy of some instances alone."""
        return selected(self, instances)


def _flat(name: str) -> str:
    return name.replace(".", "__")


def _places(module: nn.Module) -> dict[str, str]:
    """Every place that holds a tensor, each once, and under which name the tensor is kept."""
    first = {id(v): _flat(k) for k, v in (*module.named_parameters(), *module.named_buffers())}
    found = {}
    for prefix, part in module.named_modules():  # a module with two names comes once
        for name, value in (*part._parameters.items(), *part._buffers.items()):
            if value is not None:
                found[f"{prefix}.{name}" if prefix else name] = first[id(value)]
    return found
