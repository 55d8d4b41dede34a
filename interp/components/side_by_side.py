"""Several weights in one piece of memory, so that one product can stand for one of each."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SideBySide:
    """Weights and biases of heads that read the same, moved into one piece of memory each.

    Every parameter keeps a storage of its own, a slice of that memory: to saving, copying and
    sharing they are the separate tensors that they were.

    Args:
        parameters: By name: the weights, `[head, d_model, d_head]` each, and then their biases,
            `[head, d_head]`, in the order in which they are laid.

    Attributes:
        weight: All heads of all weights, as `F.linear` takes a matrix.
        bias: All biases.
        n_heads: How many heads each weight has.
        shape: Of what all heads make at one position.
    """

    weight: Float[Tensor, "all_heads*d_head d_model"]
    bias: Float[Tensor, "all_heads*d_head"]

    def __init__(self, parameters: Mapping[str, Float[Tensor, "..."]]) -> None:
        both = list(parameters.values())
        weights, biases = both[: len(both) // 2], both[len(both) // 2 :]
        self.n_heads = [len(bias) for bias in biases]
        with torch.inference_mode(False), torch.no_grad():  # parameters outlast either mode
            memory = torch.cat([weight.transpose(1, 2) for weight in weights])
            bias = torch.cat(biases)
            parts = [_with_own_storage(part).transpose(1, 2) for part in memory.split(self.n_heads)]
            parts += map(_with_own_storage, bias.split(self.n_heads))
            self.weight, self.bias, self.shape = memory.flatten(0, 1), bias.flatten(), bias.shape
        for parameter, part in zip(both, parts, strict=True):
            parameter.data = part
        self._places = [
            (name, part.data_ptr(), part.stride())
            for name, part in zip(parameters, parts, strict=True)
        ]

    def wants_gradients(self, parameters: Mapping[str, Float[Tensor, "..."] | None]) -> bool:
        """Whether gradients of any of them are asked for: they do not flow through `weight`."""
        wanted = (parameters[name] for name, _, _ in self._places)
        return torch.is_grad_enabled() and any(p is not None and p.requires_grad for p in wanted)

    def holds(self, parameters: Mapping[str, Float[Tensor, "..."] | None]) -> bool:
        """Whether parameters of these names still lie where they were laid."""
        for name, place, strides in self._places:
            parameter = parameters.get(name)
            if (
                type(parameter) is not nn.Parameter
                or parameter.data_ptr() != place
                or parameter.stride() != strides
            ):
                return False
        return True


def lay_side_by_side(parameters: Mapping[str, Float[Tensor, "..."] | None]) -> SideBySide | None:
    """`SideBySide` of parameters that are plain memory of one kind; None: they stay where they are.

    They stay on the `meta` device, where they are shared with other processes or spread over
    devices, and where they were made in inference mode.
    """
    plain = {name: p for name, p in parameters.items() if p is not None and _can_move(p)}
    alike = len({(p.dtype, p.device) for p in plain.values()}) == 1
    return SideBySide(plain) if alike and len(plain) == len(parameters) else None


def _can_move(p: Tensor) -> bool:
    return (
        type(p) is nn.Parameter
        and p.device.type != "meta"
        and not p.is_inference()
        and not (p.device.type == "cpu" and p.is_shared())
    )


def _with_own_storage(part: Tensor) -> Tensor:
    """The same memory, with a storage that begins and ends where the tensor does."""
    start = part.storage_offset() * part.element_size()
    storage = part.untyped_storage()[start : start + part.nbytes]
    alone = torch.empty(0, dtype=part.dtype, device=part.device)
    return alone.set_(storage, 0, part.shape, part.stride())
