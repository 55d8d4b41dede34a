"""A run as one program of tensors: traced once, hooks and recorders included, then compiled."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from unittest.mock import patch as replaced

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_map_only

from interp.compiled.held import are_unchanged, links_to
from interp.compiled.outputs import Outputs
from interp.compiled.packing import unpack
from interp.compiled.patch import Extent, PatchSite
from interp.errors import InputError
from interp.hooks import HookFunction, HookPoint
from interp.root import FwdHooks
from interp.run.arguments import Output, Wanted
from interp.run.recording import CacheRecorder

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


class _Fakes(FakeTensorMode):
    """Tensors have a shape, dtype and device, and no values; asking for one is an error.

    That goes for tensors that a hook has from elsewhere too: while a run is traced nothing is
    computed from them or written into them.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # torch would compute what no input is part of. Only a lift is of numbers that are known.
        if func not in self.lift_fns and not any(isinstance(x, FakeTensor) for x in args):
            args, kwargs = tree_map_only(Tensor, self._faked, (args, kwargs))
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _faked(self, x: Tensor) -> Tensor:
        return x if isinstance(x, FakeTensor) else self.from_tensor(x)


def _watched(fn: HookFunction, reached: set[str]) -> HookFunction:
    """A hook function that notes where it is called and says what is wrong with it."""

    def traced(x: Tensor, hook: HookPoint) -> Any:
        assert hook.name is not None
        reached.add(hook.name)
        try:
            return fn(x, hook=hook)
        except InputError:
            raise
        except RuntimeError as error:  # torch's own errors; others speak for themselves
            raise InputError(
                f"a hook at {hook.name} failed while it was compiled in. It is run once, on "
                "tensors that have a shape and no values, and must not look at values. "
                f"{type(error).__name__}: {error}"
            ) from error

    return traced


class Program:
    """A run of a model on inputs of one form, with a flat list of tensors in and out.

    Args:
        model: Without hooks of its own.
        fixed: What acts in the run.
        records: Whether the run records.
        wanted: What it is asked for.
        packed: The inputs, by name; an example of their values.

    Attributes:
        extent: What there is to index for a patch.

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
        packed: dict[str, Shaped[Tensor, "..."]],
    ) -> None:
        self.model, self.fixed, self.records, self.wanted = model, fixed, records, wanted
        self.input_names = tuple(packed)
        self.extent = Extent()
        self._kind: type | None = None
        inputs = list(packed.values())
        # Once without hooks: what the model makes once and keeps, such as tables of positions, has
        # to be made of numbers.
        model._compute(unpack(packed), Wanted(range(model.cfg.n_layers)), static=True)
        self.graph, self.outputs = self._trace(inputs)
        own = {
            name: attrgetter(name)(self.graph)
            for name in (str(n.target) for n in self.graph.graph.nodes if n.op == "get_attr")
        }
        read = [*own.values(), *self.outputs.constants]
        self._links = [
            link for _, fn in fixed.fwd_hooks for link in links_to(read, [fn], model.modules())
        ]
        self._memory = [(x, x.detach()) for x in own.values()]
        # The same memory under parameters without gradients: freezing a model, or no longer
        # freezing it, is nothing that torch has to compile anew for.
        for name, p in list(self.graph.named_parameters(remove_duplicate=False)):
            setattr(self.graph, name, nn.Parameter(p.detach(), requires_grad=False))

    @property
    def is_current(self) -> bool:
        """Whether the tensors that it reads are where, and as, they were.

        Of hooks also whether they still read these tensors, as far as that can be followed.
        """
        same = all(x.is_set_to(was) and x.dtype == was.dtype for x, was in self._memory)
        return same and are_unchanged(self._links)

    def _run(self, inputs: Sequence[Tensor], fwd_hooks: FwdHooks) -> tuple[Any, dict[str, Tensor]]:
        """The run itself: its output and its records."""
        packed = dict(zip(self.input_names, inputs, strict=True))
        hooks = list(fwd_hooks)
        if "patch.value" in packed:
            assert self.fixed.site is not None
            hooks += self.fixed.site.hooks(packed, self.extent)
        recorder = _Records()
        recorder.run_depth = self.model._watchers.run_depth
        names = self.fixed.names if self.records else []
        with self.model.hooks(hooks), self.model._recording(names, recorder):
            output = self.model._compute(unpack(packed), self.wanted, static=True)
        return output, recorder.cache

    def _trace(self, inputs: list[Tensor]) -> tuple[GraphModule, Outputs]:
        reached: set[str] = set()
        hooks = [(name, _watched(fn, reached)) for name, fn in self.fixed.fwd_hooks]
        found: list[Outputs] = []

        def run(*tensors: Tensor) -> list[Tensor]:
            output, records = self._run(tensors, hooks)
            self._kind = type(output)
            parts = () if output is None else output if self._kind is Output else (output,)
            named: dict[Hashable, Tensor] = dict(enumerate(parts))
            named.update(records)
            self._check_reached(records, reached)
            found.append(Outputs(tensors, named))
            return found[0].take()

        mode = _Fakes(allow_non_fake_inputs=True)
        with _without_values(mode):
            graph = make_fx(run)(*map(mode.from_tensor, inputs))
        for node in graph.graph.nodes:
            node.meta.clear()  # examples of its result
        if hooks:
            last = weakref.ref(mode)
            del mode
            gc.collect()
            # Every tensor of the traced run holds its mode.
            if last() is not None:
                raise InputError(
                    "a hook that is compiled in is run once and must not keep what it is given, or "
                    "anything made of it: name it in names_filter to have it recorded. One of the "
                    f"hooks at {', '.join(sorted(reached))} does."
                )
        return graph, found[0]

    def _check_reached(self, records: dict[str, Tensor], reached: set[str]) -> None:
        asked = self.fixed.asked if self.records else []
        missed = [n for n in asked if n not in records]
        missed += [n for n, _ in self.fixed.fwd_hooks if n not in reached]
        if missed:
            raise InputError(
                f"compiled in but not reached in this run: {', '.join(missed)}. "
                "It began after them or stopped before them."
            )

    def result(
        self, inputs: Sequence[Shaped[Tensor, "..."]], made: Sequence[Shaped[Tensor, "..."]]
    ) -> tuple[Any, dict[str, Shaped[Tensor, "..."]]]:
        """Output and records of a run of `graph`."""
        found: dict[Any, Tensor] = {**self.outputs.find(inputs, made)}
        if self._kind is Output:
            return Output(found.pop(0), found.pop(1)), found
        return found.pop(0, None), found


@contextmanager
def _without_values(mode: FakeTensorMode) -> Iterator[None]:
    """A run in here computes no values."""
    with mode, replaced.object(torch.compiler, "_is_compiling_flag", True):
        try:
            yield
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise InputError(
                "this run depends on the values of its tensors, so it cannot be compiled: "
                f"{error.func}."
            ) from error
