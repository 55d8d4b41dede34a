"""One update of all instances, eager, compiled, or captured in a CUDA graph."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import require
from interp.toys.batch import Batch, Data
from interp.toys.loss import Loss
from interp.toys.settings import ToySettings, learning_rate

# cuBLAS and the allocator settle before a graph is captured.
_UPDATES_BEFORE_CAPTURE = 3

LossFunction = Callable[..., Float[Tensor, "instance"]]


def losses_of(
    models: Any, data: Data, loss: Loss, step: Int[Tensor, ""] | int, batch_size: int | None
) -> Float[Tensor, "instance"]:
    """Each instance's loss on its batch of one step."""
    return _compare(models, loss, data.batch(step, batch_size))


def _compare(models: Any, loss: Loss, batch: Batch) -> Float[Tensor, "instance"]:
    return loss(models(batch.x), batch)


def _draw(data: Data, step: Int[Tensor, ""], batch_size: int | None) -> Batch:
    return data.batch(step, batch_size)


def compiled_losses() -> LossFunction:
    """`losses_of` compiled, apart from what was compiled before it.

    In two programs: in one, numbers would be drawn again wherever they are used.
    """
    draw, compare = _compiled(_draw), _compiled(_compare)

    def run(
        models: Any, data: Data, loss: Loss, step: Int[Tensor, ""], batch_size: int | None
    ) -> Float[Tensor, "instance"]:
        return compare(models, loss, draw(data, step, batch_size))

    return run


def _compiled(function: Any) -> Callable[..., Any]:
    # torch keeps programs with the code object, and stops at eight of one.
    fresh = types.FunctionType(function.__code__.replace(), function.__globals__)
    return torch.compile(fresh, dynamic=False, fullgraph=True)


class Update:
    """Updates of a stack of models, which stay in place.

    Attributes:
        step: Number of updates that the parameters have had, on their device.
        losses: Each instance's loss at the last update, before it.
        optimizer: One AdamW for all. Its rule is by element, so each instance's update is what it
            would be alone.
    """

    def __init__(
        self, models: nn.Module, data: Data, loss: Loss, settings: ToySettings, run: LossFunction
    ) -> None:
        """Make ready for the first update, or for another by `load`."""
        device = next(models.parameters()).device
        require(
            device.type == "cuda" or not settings.cuda_graph,
            f"cuda_graph needs a CUDA device. Received {device}",
        )
        self._models, self._data, self._loss = models, data, loss
        self._settings, self._run = settings, run
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.losses = torch.zeros(0, device=device)
        # Of a schedule, a tensor: a captured graph can follow it. CUDA's AdamW wants it in fp32.
        dtype = torch.float64 if device.type == "cpu" else torch.float32
        self._lr = torch.tensor(settings.lr, dtype=dtype, device=device)
        self._scheduled = settings.decay != "constant" or settings.warmup_steps > 0
        self.optimizer = torch.optim.AdamW(
            models.parameters(),
            lr=self._lr if self._scheduled else settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
            capturable=settings.cuda_graph,
        )
        self._graph: torch.cuda.CUDAGraph | None = None
        self._aside = torch.cuda.Stream(device) if settings.cuda_graph else None
        self._done = 0

    def load(self, optimizer: dict[str, Any], step: int) -> None:
        """Go on from an optimiser's state, saved after so many updates.

        Its settings stay those of this run: the learning rate must be the tensor that the schedule
        fills, and a run may go on with a graph that began without.
        """
        own = [dict(group) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(optimizer)
        for group, settings in zip(self.optimizer.param_groups, own, strict=True):
            group.update(settings)
        self.step.fill_(step)

    def __call__(self) -> None:
        """One update of every instance. Nothing here waits for a GPU."""
        if not self._settings.cuda_graph:
            self._update()
            return
        if self._graph is None and self._done == _UPDATES_BEFORE_CAPTURE:
            self._capture()
        if self._graph is not None:
            self._graph.replay()
            return
        # Capture asks that what it captures has run before, on a stream that is not the default:
        # one stream for all, since each keeps the memory that it has used.
        assert self._aside is not None
        outer = torch.cuda.current_stream(self.step.device)
        self._aside.wait_stream(outer)
        with torch.cuda.stream(self._aside):
            self._update()
        outer.wait_stream(self._aside)
        self._done += 1

    def _capture(self) -> None:
        # torch's own stream for captures is of the device that was current at the first of them.
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(self.step.device),
            torch.cuda.graph(graph, stream=self._aside),
        ):
            self._update()
        self._graph = graph

    def _update(self) -> None:
        if self._scheduled:
            self._lr.copy_(learning_rate(self.step, self._settings))
        batch_size = self._settings.batch_size
        losses = self._run(self._models, self._data, self._loss, self.step, batch_size)
        self.optimizer.zero_grad(set_to_none=True)
        # Instances share nothing, so the gradient of the sum holds that of each.
        losses.sum().backward()
        self.optimizer.step()
        self.losses = losses.detach()
        self.step += 1
