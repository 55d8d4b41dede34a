"""The processes that share a model: which one this is, and how it comes to the others."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from interp.devices.parsing import default_device
from interp.errors import InputError, is_whole, require
from interp.parallel.collectives import Copied, Gathered, OwnPart, Summed

Mesh = DeviceMesh | int | None
"""A mesh with one axis; how many processes there are; or None: all that `torchrun` started."""

_START = "torchrun --nproc-per-node 2 script.py"


@dataclass(frozen=True)
class Ranks:
    """The processes along one axis of a device mesh, each with a part of the model.

    The four operations below are differentiable, any number of times. What every rank holds alike
    (replicated) has the same, complete gradient on every rank; a part has its part of the gradient.

    Attributes:
        mesh: The axis.
    """

    mesh: DeviceMesh

    @classmethod
    def of(cls, mesh: Mesh) -> Ranks:
        """Those of a mesh, joined if they have not met yet.

        Raises:
            InputError: for something else, a mesh of several axes, a number that is not that of the
                processes, or a process that was started alone.
        """
        if isinstance(mesh, DeviceMesh):
            require(
                mesh.ndim == 1,
                "a model is spread over a mesh of one axis: take one of yours, mesh['tp']. "
                f"Received the axes {mesh.mesh_dim_names or mesh.ndim}",
            )
            return cls(mesh)
        require(
            mesh is None or is_whole(mesh, 1),
            f"mesh must be a DeviceMesh, a whole number of processes or None. Received {mesh!r}",
        )
        if not dist.is_initialized():
            missing = [n for n in ("RANK", "WORLD_SIZE", "MASTER_ADDR") if n not in os.environ]
            require(
                not missing,
                f"a model is shared by processes that are started together: {_START}. "
                f"This one was started alone ({missing[:1]} is not set)",
            )
        size = dist.get_world_size() if dist.is_initialized() else int(os.environ["WORLD_SIZE"])
        if mesh not in (None, size):
            raise InputError(
                f"the number of processes is {size}. Received {mesh}: pass a mesh of a part of "
                f"them, or start as many (torchrun --nproc-per-node {mesh} …)."
            )
        kind = default_device().type
        if kind == "cuda" and "LOCAL_RANK" in os.environ:  # else torch or the caller chooses
            _take_gpu(int(os.environ["LOCAL_RANK"]))
        return cls(init_device_mesh(kind, (size,)))

    @property
    def size(self) -> int:
        """How many there are."""
        return self.mesh.size()

    @property
    def rank(self) -> int:
        """Which one this is."""
        return self.mesh.get_local_rank()

    @property
    def group(self) -> dist.ProcessGroup:
        """What torch's collectives take."""
        return self.mesh.get_group()

    @property
    def device(self) -> torch.device:
        """Where this one computes."""
        kind = self.mesh.device_type
        return torch.device(f"cuda:{torch.cuda.current_device()}" if kind == "cuda" else kind)

    def copied(self, x: Shaped[Tensor, "*axes"]) -> Shaped[Tensor, "*axes"]:
        """A replicated tensor, for each rank to make a part from: gradients are summed."""
        return Copied.apply(x, self) if _differentiable(x) else x

    def summed(self, x: Shaped[Tensor, "*axes"]) -> Shaped[Tensor, "*axes"]:
        """The sum of all ranks' tensors."""
        return Summed.apply(x, self)

    def gathered(self, x: Shaped[Tensor, "..."], axis: int) -> Shaped[Tensor, "..."]:
        """All ranks' parts behind one another."""
        return Gathered.apply(x, self, axis)

    def own_part(self, x: Shaped[Tensor, "..."], axis: int) -> Shaped[Tensor, "..."]:
        """This rank's part of a replicated tensor, a copy."""
        return OwnPart.apply(x, self, axis)

    def part_of(self, length: int) -> tuple[int, int]:
        """Where this rank's part of an axis begins, and its length."""
        return self.rank * (length // self.size), length // self.size

    def least(self, number: int) -> int:
        """The least of the numbers that the ranks bring."""
        found = torch.tensor(number, dtype=torch.int64, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MIN, self.group)
        return int(found)

    def of_first(self, x: Shaped[Tensor, "*axes"]) -> Shaped[Tensor, "*axes"]:
        """The first rank's tensor."""
        x = x.detach().clone(memory_format=torch.contiguous_format)
        dist.broadcast(x, dist.get_global_rank(self.group, 0), self.group)
        return x

    def any(self, holds: bool) -> bool:
        """Whether it holds on any rank."""
        return self.least(0 if holds else 1) == 0


def _take_gpu(local_rank: int) -> None:
    """Compute on a GPU of one's own, as the processes of a machine are numbered."""
    n_gpus = torch.cuda.device_count()
    require(
        local_rank < n_gpus,
        f"each process of a machine needs a GPU of its own. There are {n_gpus}; this is process "
        f"{local_rank}, from zero. On CPUs: mesh=init_device_mesh('cpu', (n,))",
    )
    torch.cuda.set_device(local_rank)


def _differentiable(x: Tensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad
