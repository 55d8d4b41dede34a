"""A module that knows its hook points: attach, run, record, and always undo."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from interp.errors import InputError
from interp.hooks import AttachedHook, Direction, HookFunction, HookPoint, Watchers
from interp.names import usual_name
from interp.run.recording import CacheRecorder
from interp.run.slicing import SliceInput

NamesFilter = str | Iterable[str] | Callable[[str], bool] | None
"""A hook name, a glob such as `blocks.*.hook_resid_post`, a list of both, or a predicate.

A predicate is asked about every name, also those that are not recorded by default (per-head results
and inputs): what it says yes to is asked for.
"""

FwdHooks = Sequence[tuple[str | Callable[[str], bool], HookFunction]]


class HookedRootModule(nn.Module):
    """The top of a model with `HookPoint`s in it. Call `setup()` once all of them exist.

    Attributes:
        hook_dict: Every hook point by its full name, in the order of the module tree.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hook_dict: dict[str, HookPoint] = {}
        self.mod_dict: dict[str, nn.Module] = {}
        self.context_level = 0
        self._watchers = Watchers()

    def setup(self) -> None:
        """Give every hook point its name."""
        self.mod_dict = {name: m for name, m in self.named_modules() if name}
        self.hook_dict = {n: m for n, m in self.mod_dict.items() if isinstance(m, HookPoint)}
        for name, point in self.hook_dict.items():
            point.name = name
            point.watchers = self._watchers
            parent, _, attribute = name.rpartition(".")
            # Found at once there; torch looks for a module's parts only after all else has failed,
            # which for all hook points takes 5 % of a small model's run.
            vars(self.get_submodule(parent))[attribute] = point
        self._watchers.names = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`forward`, counting runs inside runs."""
        self._watchers.run_depth += 1
        try:
            return super().__call__(*args, **kwargs)
        finally:
            self._watchers.run_depth -= 1

    def hook_points(self) -> list[HookPoint]:
        """Every hook point, in the order of the module tree."""
        return list(self.hook_dict.values())

    def default_hook_names(self) -> frozenset[str]:
        """What `names_filter=None` records."""
        return frozenset(self.hook_dict)

    def watched_hooks(self) -> tuple[frozenset[str], frozenset[str]]:
        """Names with anything attached, and those where more than a forward recorder is."""
        if self._watchers.names is None:
            points = [(n, p) for n, p in self.hook_dict.items() if p.is_watched]
            self._watchers.names = (
                frozenset(n for n, _ in points),
                frozenset(n for n, p in points if p.intervenes),
            )
        return self._watchers.names

    # --- attaching -------------------------------------------------------------------------------

    def add_hook(
        self,
        name: str | Callable[[str], bool],
        hook: HookFunction,
        dir: Direction = "fwd",
        is_permanent: bool = False,
        level: int | None = None,
        prepend: bool = False,
    ) -> None:
        """Attach `hook` where `name` says: a hook name, a glob, or a predicate on names.

        Raises:
            InputError: for a name or glob that fits no hook point.
        """
        for point_name in self.match_hooks(name):
            self.hook_dict[point_name].add_hook(hook, dir, is_permanent, level, prepend)

    def add_perma_hook(
        self, name: str | Callable[[str], bool], hook: HookFunction, dir: Direction = "fwd"
    ) -> None:
        """Attach a hook that `reset_hooks` leaves alone unless told otherwise."""
        self.add_hook(name, hook, dir=dir, is_permanent=True)

    def reset_hooks(
        self,
        clear_contexts: bool = True,
        direction: Literal["fwd", "bwd", "both"] = "both",
        including_permanent: bool = False,
        level: int | None = None,
    ) -> None:
        """Remove hooks everywhere; `level` limits it to hooks of that context depth.

        Recorders that `reset_hooks_end=False` left behind go too.
        """
        for point in self.hook_dict.values():
            point.remove_hooks(direction, including_permanent, level)
            if level is None and point.recorder is not None:
                point.set_recorder(None)
        if clear_contexts:
            self.clear_contexts()

    def remove_all_hook_fns(
        self,
        direction: Literal["fwd", "bwd", "both"] = "both",
        including_permanent: bool = False,
        level: int | None = None,
    ) -> None:
        """`reset_hooks` that leaves the contexts."""
        self.reset_hooks(False, direction, including_permanent, level)

    def clear_contexts(self) -> None:
        """Empty every hook point's `ctx`."""
        for point in self.hook_dict.values():
            point.clear_context()

    def match_hooks(self, names: NamesFilter) -> list[str]:
        """The hook names that a filter means, in the order of the module tree.

        Raises:
            InputError: for a name or glob that fits no hook point.
        """
        if names is None:
            chosen = self.default_hook_names()
        elif callable(names):
            chosen = frozenset(filter(names, self.hook_dict))
        else:
            if not isinstance(names, Iterable):
                raise InputError(f"names_filter must hold hook names. Received {names!r}.")
            patterns = [names] if isinstance(names, str) else list(names)
            chosen = frozenset().union(*map(self._match_pattern, patterns))
        return [n for n in self.hook_dict if n in chosen]

    def _match_pattern(self, pattern: str) -> set[str]:
        if not isinstance(pattern, str):
            raise InputError(f"a hook name must be a string. Received {pattern!r}.")
        pattern = pattern if pattern in self.hook_dict else usual_name(pattern)
        if pattern in self.hook_dict:
            return {pattern}
        found = set(fnmatch.filter(self.hook_dict, pattern)) if is_glob(pattern) else set()
        if not found:
            close = difflib.get_close_matches(pattern, self.hook_dict, n=3)
            hint = f" Did you mean {', '.join(close)}?" if close else ""
            kind = "hook matches the glob" if is_glob(pattern) else "hook is called"
            raise InputError(f"no {kind} {pattern!r} in this model.{hint}")
        return found

    @contextmanager
    def hooks(
        self,
        fwd_hooks: FwdHooks = (),
        bwd_hooks: FwdHooks = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
    ) -> Iterator[HookedRootModule]:
        """Hooks for the length of a `with` block; gone after it, also after an exception.

        Args:
            fwd_hooks: `(name, fn)` pairs; a name may be a glob or a predicate.
            bwd_hooks: The same for gradients.
            reset_hooks_end: False leaves the hooks attached.
            clear_contexts: Empty the contexts of these hook points at the end.

        Raises:
            InputError: for a name that fits no hook point (before anything is attached), or for
                gradient hooks while gradients are off.
        """
        wanted: list[tuple[HookPoint, HookFunction, Direction]] = []
        directions: tuple[tuple[Direction, FwdHooks], ...] = (
            ("fwd", fwd_hooks),
            ("bwd", bwd_hooks),
        )
        for direction, pairs in directions:
            for name, fn in _named(pairs, direction):
                wanted += [(self.hook_dict[n], fn, direction) for n in self.match_hooks(name)]
        if bwd_hooks and not torch.is_grad_enabled():
            raise InputError("bwd_hooks need gradients, but torch.is_grad_enabled() is False.")
        attached: list[tuple[HookPoint, AttachedHook]] = []
        self.context_level += 1
        try:
            for point, fn, direction in wanted:
                attached.append((point, point.add_hook(fn, direction, level=self.context_level)))
            yield self
        finally:
            self.context_level -= 1
            if reset_hooks_end:
                for point, hook in attached:
                    point.detach(hook)
            if clear_contexts:
                for point, _, _ in wanted:
                    point.clear_context()

    @contextmanager
    def _recording(self, names: Sequence[str], recorder: CacheRecorder) -> Iterator[CacheRecorder]:
        """Let `recorder` see what flows on from these hook points, after every edit."""
        previous = [(p, p.set_recorder(recorder)) for p in map(self.hook_dict.__getitem__, names)]
        try:
            yield recorder
        finally:
            for point, before in reversed(previous):
                point.set_recorder(before)

    def get_caching_hooks(
        self,
        names_filter: NamesFilter = None,
        incl_bwd: bool = False,
        device: torch.device | str | None = None,
        remove_batch_dim: bool = False,
        cache: dict[str, Shaped[Tensor, "..."]] | None = None,
        pos_slice: SliceInput = None,
        *,
        dtype: torch.dtype | None = None,
        max_bytes: int | None = None,
    ) -> tuple[dict[str, Shaped[Tensor, "..."]], FwdHooks, FwdHooks]:
        """A dictionary and the hooks that fill it, to be attached with others of one's own.

        `run_with_cache` is cheaper: these hooks count as edits and get copies, and where another
        device is wanted each waits for its transfer. A run stops once the dictionary holds more
        than `max_bytes`.
        """
        recorder = CacheRecorder(
            device, remove_batch_dim, incl_bwd, pos_slice, dtype=dtype, max_bytes=max_bytes
        )
        if cache is not None:
            recorder.cache = cache
        names = self.match_hooks(names_filter)
        fwd = [(n, lambda x, hook: recorder.record(hook.name, x)) for n in names]
        bwd = [(n, lambda g, hook: recorder.record_gradient(hook.name, g)) for n in names]
        return recorder.cache, fwd, bwd if incl_bwd else []

    def add_caching_hooks(
        self,
        names_filter: NamesFilter = None,
        incl_bwd: bool = False,
        device: torch.device | str | None = None,
        remove_batch_dim: bool = False,
        cache: dict[str, Shaped[Tensor, "..."]] | None = None,
        *,
        dtype: torch.dtype | None = None,
        max_bytes: int | None = None,
    ) -> dict[str, Shaped[Tensor, "..."]]:
        """Attach `get_caching_hooks` until `reset_hooks`; returns the dictionary they fill."""
        found, fwd, bwd = self.get_caching_hooks(
            names_filter,
            incl_bwd,
            device,
            remove_batch_dim,
            cache,
            dtype=dtype,
            max_bytes=max_bytes,
        )
        for name, fn in fwd:
            self.add_hook(name, fn, "fwd")
        for name, fn in bwd:
            self.add_hook(name, fn, "bwd")
        return found

    # --- running ---------------------------------------------------------------------------------

    def run_with_hooks(
        self,
        *model_args: Any,
        fwd_hooks: FwdHooks = (),
        bwd_hooks: FwdHooks = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
        **model_kwargs: Any,
    ) -> Any:
        """Run once with these hooks.

        Gradient hooks still fire when `backward` is called on the result later.

        Returns:
            What the model's `forward` returns.
        """
        with self.hooks(fwd_hooks, bwd_hooks, reset_hooks_end, clear_contexts):
            return self(*model_args, **model_kwargs)

    def record(
        self,
        *model_args: Any,
        names_filter: NamesFilter = None,
        device: torch.device | str | None = None,
        remove_batch_dim: bool = False,
        incl_bwd: bool = False,
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
        pos_slice: SliceInput = None,
        dtype: torch.dtype | None = None,
        max_bytes: int | None = None,
        **model_kwargs: Any,
    ) -> tuple[Any, dict[str, Shaped[Tensor, "..."]]]:
        """Run once and keep the tensors of the hooks asked for, as a plain dictionary.

        `run_with_cache` of `HookedTransformer` documents the arguments.

        Raises:
            InputError: as there; for hooks that are not reached, or gradients where they are
                switched off.
        """
        if isinstance(names_filter, Iterable) and not isinstance(names_filter, str):
            names_filter = list(names_filter)
        names = self.match_hooks(names_filter)
        recorder = CacheRecorder(
            device, remove_batch_dim, incl_bwd, pos_slice, dtype=dtype, max_bytes=max_bytes
        )
        recorder.run_depth = self._watchers.run_depth + 1
        if incl_bwd and not torch.is_grad_enabled():
            raise InputError("incl_bwd needs gradients, but torch.is_grad_enabled() is False.")
        to_the_end = model_kwargs.get("stop_at_layer") is None
        outer = self._watchers.before_blocks
        self._watchers.before_blocks = self._record_budget(names, recorder, to_the_end)
        recorder.begin()
        try:
            with self._recording(names, recorder):
                output = self(*model_args, **model_kwargs)
            if incl_bwd:
                _check_scalar(output)
                output.backward()
        finally:
            self._watchers.before_blocks = outer
            recorder.finish()
        found = recorder.cache
        missed = [n for n in _exact_names(names_filter) if not {n, usual_name(n)} & found.keys()]
        if missed:
            raise InputError(
                f"asked for but not reached in this run: {', '.join(missed)}. "
                "It began after them or stopped before them."
            )
        if not reset_hooks_end:
            for name in names:
                self.hook_dict[name].set_recorder(recorder)
        if clear_contexts:
            self.clear_contexts()
        return output, recorder.cache

    def _record_budget(
        self, names: Sequence[str], recorder: CacheRecorder, to_the_end: bool
    ) -> Callable[..., None] | None:
        """What checks the size of a recording before it is made; None: nothing can tell it."""
        return None

    def run_with_cache(self, *model_args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """`record`, under the name that the field knows."""
        return self.record(*model_args, **kwargs)


def is_glob(name: str) -> bool:
    """Whether a hook name holds wildcards."""
    return any(c in name for c in "*?[")


def _exact_names(names: NamesFilter) -> list[str]:
    if names is None or callable(names):
        return []
    return [n for n in ([names] if isinstance(names, str) else names) if not is_glob(n)]


def _check_scalar(output: object) -> None:
    if not isinstance(output, Tensor) or output.ndim != 0:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(
            f"incl_bwd needs a scalar to differentiate (return_type='loss'). The output is {found}."
        )


def _named(pairs: object, direction: Direction) -> list[tuple[Any, HookFunction]]:
    """Hooks as they are handed in, checked to be pairs."""
    found: list[Any] = list(pairs) if isinstance(pairs, Iterable) else [pairs]
    for pair in found:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise InputError(
                f"{direction}_hooks must be a list of pairs (name, function). "
                f"Received {pair!r:.80}."
            )
    return found
