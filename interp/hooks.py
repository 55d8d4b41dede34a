"""A named place in a model where a tensor can be read, replaced and recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Protocol

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from interp.errors import InputError

HookFunction = Callable[..., Any]
"""`fn(tensor, hook=hook_point)`. What it returns replaces the tensor; None keeps it."""

Direction = Literal["fwd", "bwd"]


@dataclass(slots=True, eq=False)
class AttachedHook:
    """A hook function on a hook point, and what decides when it goes."""

    fn: HookFunction
    is_permanent: bool = False
    level: int | None = None


class Recorder(Protocol):
    """Takes what passes through hook points."""

    records_gradients: bool
    run_depth: int

    def record(self, name: str, tensor: Shaped[Tensor, "..."]) -> None:
        """Keep a tensor."""

    def record_gradient(self, name: str, gradient: Float[Tensor, "..."]) -> None:
        """Keep the gradient at a hook point."""


@dataclass(slots=True)
class Watchers:
    """Which hook points of a model have anything attached, forgotten whenever one changes.

    Attributes:
        names: Names with anything attached, and those where more than a forward recorder is.
        run_depth: How many runs of the model are under way, one inside a hook of the other.
        before_blocks: Told of every stack that is about to run its blocks, with what it will run.
    """

    names: tuple[frozenset[str], frozenset[str]] | None = None
    run_depth: int = 0
    before_blocks: Callable[..., None] | None = None


class HookPoint(nn.Module):
    """An identity that hooks can be attached to.

    Forward hooks see the tensor first, in the order in which they were added; a recorder then sees
    what flows on. Hooks may write into the copy that they are given. A hook point with nothing
    attached costs one comparison. A run may miss hooks that are attached while it
    is under way.

    Attributes:
        name: Its full name in the model, such as `blocks.0.attn.hook_z`.
        ctx: A dictionary for hook functions to keep things in between calls.
        fwd_hooks: Functions applied to the tensor.
        bwd_hooks: Functions applied to the gradient of the tensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name: str | None = None
        self.ctx: dict[Any, Any] = {}
        self.fwd_hooks: list[AttachedHook] = []
        self.bwd_hooks: list[AttachedHook] = []
        self.recorder: Recorder | None = None
        self.is_watched = False
        self.watchers: Watchers | None = None

    # It holds no weights and no modules, and torch's own way of setting an attribute, which looks
    # for them, is ten times slower: recording sets one or two on every hook point.
    __setattr__ = object.__setattr__  # type: ignore[assignment]

    def __call__(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Pass a tensor of any shape through."""
        return self._pass_through(x) if self.is_watched else x

    def _pass_through(self, x: Tensor) -> Tensor:
        if self.name is None:
            raise InputError("a hook point needs a name: call setup() once the model is built.")
        recorder = self.recorder
        if recorder is not None and self.watchers is not None:
            # A run that a hook starts inside the recorded run is not part of it.
            recorder = recorder if recorder.run_depth == self.watchers.run_depth else None
        if self.fwd_hooks:
            x = self._edit(x)
        if self.bwd_hooks or (recorder is not None and recorder.records_gradients):
            x = self._follow_gradient(x, recorder)
        if recorder is not None:
            recorder.record(self.name, x)
        return x

    def _edit(self, x: Tensor) -> Tensor:
        # A hook may write into what it is given, and the same memory may be read by another path
        # of the model, the backward pass, a record already made, or the caller: hooks get a copy.
        x = x.clone()
        hooks = tuple(self.fwd_hooks)
        for hook in hooks:
            edited = hook.fn(x, hook=self)
            if edited is not None and edited is not x:
                x = self._checked(edited, x)
                if hook is not hooks[-1]:
                    x = x.clone()
        return x

    def _checked(self, edited: object, x: Tensor) -> Tensor:
        if not isinstance(edited, Tensor):
            raise InputError(
                f"a hook must return a tensor or None. {self.name} received a "
                f"{type(edited).__name__}."
            )
        if edited.is_floating_point() != x.is_floating_point():
            raise InputError(
                f"a hook must return numbers of the kind that it was given. {self.name} has "
                f"{x.dtype}, received {edited.dtype}."
            )
        if edited.shape[1:] != x.shape[1:] or edited.ndim != x.ndim:
            raise InputError(
                f"a hook must keep every axis but the batch. {self.name} has "
                f"{tuple(x.shape)}, received {tuple(edited.shape)}."
            )
        return edited

    def _follow_gradient(self, x: Tensor, recorder: Recorder | None) -> Tensor:
        if not torch.is_grad_enabled() or not x.is_floating_point():
            return x
        if not x.requires_grad:
            # Made of nothing that can be trained (sines, slopes, frozen weights): gradients of what
            # flows on from here begin here.
            x = x.detach().requires_grad_()
        # A node of its own: the gradient here is that of what flows on from here, and names that
        # share a tensor meet the gradient in their own order.
        x = x.view_as(x)
        hooks, name = tuple(self.bwd_hooks), self.name
        assert name is not None

        def on_gradient(gradient: Tensor) -> Tensor | None:
            if hooks:
                # Autograd may hand the same memory to other paths, and a hook may write into it.
                gradient = gradient.clone()
            for hook in hooks:
                edited = hook.fn(gradient, hook=self)
                if isinstance(edited, tuple) and len(edited) == 1:
                    edited = edited[0]
                if edited is not None and edited is not gradient:
                    gradient = self._checked(edited, gradient)
                    if hook is not hooks[-1]:
                        gradient = gradient.clone()
            if recorder is not None and recorder.records_gradients:
                recorder.record_gradient(name, gradient)
            return gradient if hooks else None

        x.register_hook(on_gradient)
        return x

    def add_hook(
        self,
        hook: HookFunction,
        dir: Direction = "fwd",
        is_permanent: bool = False,
        level: int | None = None,
        prepend: bool = False,
    ) -> AttachedHook:
        """Attach a function; it stays until removed.

        Args:
            hook: Called as `hook(tensor, hook=hook_point)`. What it returns replaces the tensor
                (or, for `bwd`, the gradient); returning None keeps it, with what was written into
                it.
            dir: `fwd` for the tensor, `bwd` for the gradient of what flows on from here.
            is_permanent: Only removed when permanent hooks are asked for.
            level: Depth of the context that it belongs to.
            prepend: Put it before the hooks already there.

        Returns:
            The handle that `detach` takes.

        Raises:
            InputError: for another direction or something that cannot be called.
        """
        if dir not in ("fwd", "bwd"):
            raise InputError(f"dir must be 'fwd' or 'bwd'. Received {dir!r}.")
        if not callable(hook):
            raise InputError(f"a hook must be callable. {self.name} received {hook!r}.")
        attached = AttachedHook(hook, is_permanent, level)
        hooks = self.fwd_hooks if dir == "fwd" else self.bwd_hooks
        hooks.insert(0 if prepend else len(hooks), attached)
        self._changed()
        return attached

    def add_perma_hook(self, hook: HookFunction, dir: Direction = "fwd") -> None:
        """Attach a function that `reset_hooks` leaves alone unless told otherwise."""
        self.add_hook(hook, dir=dir, is_permanent=True)

    def detach(self, attached: AttachedHook) -> None:
        """Remove one hook by its handle. One that is already gone is no error."""
        self.fwd_hooks = [h for h in self.fwd_hooks if h is not attached]
        self.bwd_hooks = [h for h in self.bwd_hooks if h is not attached]
        self._changed()

    def remove_hooks(
        self,
        dir: Literal["fwd", "bwd", "both"] = "fwd",
        including_permanent: bool = False,
        level: int | None = None,
    ) -> None:
        """Remove hooks of a direction, all of them or those of one context level.

        Raises:
            InputError: for another direction.
        """
        if dir not in ("fwd", "bwd", "both"):
            raise InputError(f"dir must be 'fwd', 'bwd' or 'both'. Received {dir!r}.")

        def stays(hook: AttachedHook) -> bool:
            if hook.is_permanent and not including_permanent:
                return True
            return level is not None and hook.level != level

        if dir in ("fwd", "both"):
            self.fwd_hooks = [h for h in self.fwd_hooks if stays(h)]
        if dir in ("bwd", "both"):
            self.bwd_hooks = [h for h in self.bwd_hooks if stays(h)]
        self._changed()

    def set_recorder(self, recorder: Recorder | None) -> Recorder | None:
        """Put a recorder in place of the present one, which is returned."""
        previous, self.recorder = self.recorder, recorder
        self._changed()
        return previous

    def clear_context(self) -> None:
        """Empty `ctx`."""
        self.ctx = {}

    def layer(self) -> int:
        """The number of the block that this hook point is in.

        Raises:
            InputError: if it is in none.
        """
        for part in (self.name or "").split("."):
            if part.isdigit():
                return int(part)
        raise InputError(f"{self.name} is not inside a block.")

    @property
    def intervenes(self) -> bool:
        """Whether anything here can change the run or its gradients, beyond forward recording."""
        return bool(
            self.fwd_hooks
            or self.bwd_hooks
            or (self.recorder is not None and self.recorder.records_gradients)
        )

    def _changed(self) -> None:
        self.is_watched = bool(self.fwd_hooks or self.bwd_hooks or self.recorder is not None)
        if self.watchers is not None:
            self.watchers.names = None

    def extra_repr(self) -> str:
        """How many hooks it has, for torch's printout of the model."""
        counts = {"fwd": len(self.fwd_hooks), "bwd": len(self.bwd_hooks)}
        return ", ".join(f"{n} {direction}" for direction, n in counts.items() if n)

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        """torch's own hooks would not be seen here."""
        raise InputError(
            "a HookPoint takes hooks through add_hook, not through torch's register_*."
        )

    register_forward_hook = register_forward_pre_hook = _refuse
    register_full_backward_hook = register_full_backward_pre_hook = _refuse
    register_backward_hook = _refuse
