"""A run as one program of tensors: traced once, hooks and recorders included, then compiled."""

from __future__ import annotations

import gc
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest.mock import patch as replaced

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.multiprocessing.reductions import StorageWeakRef

from interp.compiled.outputs import Outputs
from interp.compiled.packing import unpack
from interp.compiled.patch import PatchSite
from interp.errors import InputError
from interp.hooks import HookFunction, HookPoint
from interp.reading import Output, Wanted
from interp.recording import CacheRecorder
from interp.root import FwdHooks

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


@dataclass(frozen=True)
class Fixed:
    """What is fixed when a model is compiled.

    Attributes:
        names: The hooks that are recorded.
        asked: Those of them that were named, not matched: they have to be reached.
        fwd_hooks: What is done to the tensors.
        site: Where patches go.
    """

    names: list[str]
    asked: list[str]
    fwd_hooks: list[tuple[str, HookFunction]]
    site: PatchSite | None


class _Records(CacheRecorder):
    """Keeps tensors as they are: what is made of them is decided once all are known."""

    def record(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor under its hook's name."""
        self.cache[name] = tensor


@dataclass
class _Watched:
    """Hook functions, and what they were given while a run was traced."""

    reached: set[str] = field(default_factory=set)
    given: list[tuple[str, StorageWeakRef]] = field(default_factory=list)

    def wrap(self, fn: HookFunction) -> HookFunction:
        def traced(x: Tensor, hook: HookPoint) -> Any:
            assert hook.name is not None
            self.reached.add(hook.name)
            self.given.append((hook.name, StorageWeakRef(x.untyped_storage())))
            try:
                return fn(x, hook=hook)
            except InputError:
                raise
            except Exception as error:
                raise InputError(
                    f"a hook that is compiled in is run once, on tensors that have a shape and no "
                    f"values, so it must not look at values. At {hook.name} it failed: {error}"
                ) from error

        return traced

    def check(self, graph: GraphModule) -> None:
        """Raise `InputError` if a hook has kept what it was given: it would get no more."""
        if not self.given:
            return
        for node in graph.graph.nodes:
            node.meta.clear()  # examples of its result
        if self._still_there():
            gc.collect()  # what only cycles hold
        kept = sorted(self._still_there())
        if kept:
            raise InputError(
                "a hook that is compiled in is run once and must not keep what it is given: name "
                f"it in names_filter to have it recorded. Kept from {', '.join(kept)}."
            )

    def _still_there(self) -> set[str]:
        return {name for name, memory in self.given if not memory.expired()}


class Program:
    """A run of a model on inputs of one form, with a flat list of tensors in and out.

    Args:
        model: Without hooks of its own.
        fixed: What acts in the run.
        records: Whether the run records.
        wanted: What it is asked for.
        packed: The inputs, by name; an example of their values.

    Attributes:
        sizes: How many layers, positions or heads there are where a patch says which.

    Raises:
        InputError: for a name that is not reached, and for hooks or inputs whose run depends on the
            values of tensors.
    """

    def __init__(
        self,
        model: HookedTransformer,
        fixed: Fixed,
        records: bool,
        wanted: Wanted,
        packed: dict[str, Tensor],
    ) -> None:
        self.model, self.fixed, self.records, self.wanted = model, fixed, records, wanted
        self.input_names = tuple(packed)
        self.sizes: dict[str, int] = {}
        self._kind: type | None = None
        inputs = list(packed.values())
        # Once as it is: errors of hooks show as what they are, and what the model makes once and
        # keeps, such as tables of positions, is made of numbers.
        self._run(inputs, fixed.fwd_hooks)
        self.graph, self.outputs = self._trace(inputs)
        # The same memory under parameters without gradients: freezing a model, or no longer
        # freezing it, is nothing that torch has to compile anew for.
        self._memory = [(p, p.data_ptr()) for p in self.graph.parameters()]
        for name, p in list(self.graph.named_parameters(remove_duplicate=False)):
            setattr(self.graph, name, nn.Parameter(p.detach(), requires_grad=False))

    @property
    def is_current(self) -> bool:
        """Whether the parameters that it reads, also those of hooks, lie where they did."""
        return all(p.data_ptr() == place for p, place in self._memory)

    def _run(self, inputs: Sequence[Tensor], fwd_hooks: FwdHooks) -> tuple[Any, dict[str, Tensor]]:
        """The run itself: its output and its records."""
        packed = dict(zip(self.input_names, inputs, strict=True))
        hooks = list(fwd_hooks)
        if "patch.value" in packed:
            assert self.fixed.site is not None
            hooks += self.fixed.site.hooks(packed, self.sizes)
        recorder = _Records()
        recorder.run_depth = self.model._watchers.run_depth
        names = self.fixed.names if self.records else []
        with self.model.hooks(hooks), self.model.recording(names, recorder):
            output = self.model.compute(unpack(packed), self.wanted, static=True)
        return output, recorder.cache

    def _trace(self, inputs: list[Tensor]) -> tuple[GraphModule, Outputs]:
        watched = _Watched()
        hooks = [(name, watched.wrap(fn)) for name, fn in self.fixed.fwd_hooks]
        found: list[Outputs] = []

        def run(*tensors: Tensor) -> list[Tensor]:
            output, records = self._run(tensors, hooks)
            self._kind = type(output)
            parts = () if output is None else output if self._kind is Output else (output,)
            named: dict[Hashable, Tensor] = dict(enumerate(parts))
            named.update(records)
            self._check_reached(records, watched)
            found.append(Outputs(tensors, named))
            return found[0].take()

        with _without_values() as mode:
            graph = make_fx(run)(*map(mode.from_tensor, inputs))
        watched.check(graph)
        return graph, found[0]

    def _check_reached(self, records: dict[str, Tensor], watched: _Watched) -> None:
        asked = self.fixed.asked if self.records else []
        missed = [n for n in asked if n not in records]
        missed += [n for n, _ in self.fixed.fwd_hooks if n not in watched.reached]
        if missed:
            raise InputError(
                f"compiled in but not reached in this run: {', '.join(missed)}. "
                "It began after them or stopped before them."
            )

    def result(
        self, inputs: Sequence[Tensor], made: Sequence[Tensor]
    ) -> tuple[Any, dict[str, Tensor]]:
        """Output and records of a run of `graph`."""
        found: dict[Any, Tensor] = {**self.outputs.find(inputs, made)}
        if self._kind is Output:
            return Output(found.pop(0), found.pop(1)), found
        return found.pop(0, None), found


@contextmanager
def _without_values() -> Iterator[FakeTensorMode]:
    """Tensors have a shape, dtype and device, and no values; asking for one is an error."""
    with (
        FakeTensorMode(allow_non_fake_inputs=True) as mode,
        replaced.object(torch.compiler, "_is_compiling_flag", True),
    ):
        try:
            yield mode
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise InputError(
                "this run depends on the values of its tensors, so it cannot be compiled: "
                f"{error.func}."
            ) from error
