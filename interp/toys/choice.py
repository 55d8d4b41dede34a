"""Some instances of many."""

from __future__ import annotations

import copy
from typing import Protocol, Self, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Toys(Protocol):
    """A module whose parameters and buffers all have an instance axis in front.

    `ToyModel`, `ModuleToy`, or a class of the user's.
    """

    @property
    def n_instances(self) -> int:
        """How many models."""

    def __call__(
        self, x: Float[Tensor, "instance batch feature"]
    ) -> Float[Tensor, "instance batch out"]:
        """Each instance's output on its own batch."""

    def select(self, instances: Int[Tensor, "chosen"]) -> Self:
        """A copy of some instances alone."""


M = TypeVar("M", bound=nn.Module)


def selected(models: M, instances: Int[Tensor, "chosen"]) -> M:
    """A copy of some instances of a module whose every tensor has an instance axis in front."""
    memo: dict[int, object] = {}
    for tensor in (*models.parameters(), *models.buffers()):
        part = tensor.detach()[instances]
        trained = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(part, tensor.requires_grad) if trained else part
    return copy.deepcopy(models, memo)  # which takes the parts for the tensors that they are of


def put_back(models: nn.Module, instances: Int[Tensor, "chosen"], part: nn.Module) -> None:
    """Write what `selected` gave, trained, into the models that it was of."""
    with torch.no_grad():
        for whole, trained in zip(models.parameters(), part.parameters(), strict=True):
            whole[instances] = trained
        for whole_buffer, buffer in zip(models.buffers(), part.buffers(), strict=True):
            whole_buffer[instances] = buffer
