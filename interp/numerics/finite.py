"""Where a run first makes a NaN or an infinity."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from interp.components.attention import Attention
from interp.components.context import AttentionContext
from interp.components.mask import AttentionMask
from interp.hooks import HookPoint, Recorder
from interp.numerics.report import report
from interp.run.plan import NORM_HOOKS

if TYPE_CHECKING:
    from interp.root import NamesFilter
    from interp.transformer import HookedTransformer

_SCORES = "hook_attn_scores"
# Views or sums of other hooks' tensors that take a copy for every head.
_PER_HEAD = ("hook_result", "hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input")
# What changes how a run computes, if gradients are watched there.
_COSTLY = (*_PER_HEAD, *NORM_HOOKS, _SCORES, "hook_pattern")


@contextmanager
def check_finite(
    model: HookedTransformer, names_filter: NamesFilter = (), backward: bool = False
) -> Iterator[None]:
    """Let runs of `model` in this block stop at the first NaN or infinity, and name its hook.

    Looked at are the embedding, each block's output, what the final norm and the unembedding give:
    one sum over each; and, where attention is fused, the largest query and key, since torch's
    kernels make finite numbers of scores that are not (a NaN there counts as masked). That changes
    nothing in how a run computes. Only when something is found bad, the run is repeated with every
    hook watched, up to there, to find the first; hook functions of the caller's then act a second
    time. -inf in `hook_attn_scores` is no fault where the mask forbids, or where a function is
    attached.

    A layer may swallow such a value: a norm makes zeros of an infinite scale. `names_filter="*"`
    looks at every hook in the run itself, which is then spelled out. Compiled runs are not looked
    at.

    Args:
        model: The model.
        names_filter: Hooks to look at in every run besides: as in `run_with_cache`.
        backward: Look at gradients too, at every hook where that does not change how the run
            computes and those of `names_filter`. The first in the order of the backward pass is
            named.

    Raises:
        InputError: for a name that fits no hook.
        NonFiniteError: while a run or its backward pass is under way; it says how many values are
            bad, where, and whether the layer's weights are.
    """
    names = model.match_hooks(names_filter)
    checker = _Checker(model, names, backward)
    with ExitStack() as handles:
        for handle in checker.attach():
            handles.callback(handle.remove)
        yield


def is_bad(x: Shaped[Tensor, "..."]) -> bool:
    """Whether any value is NaN or infinite: one pass, and one number that is waited for."""
    if not x.is_floating_point() or x.device.type == "meta":
        return False
    # What is not finite stays so in a sum. Large numbers may add up to infinity, so look again.
    total = float(x.detach().sum())
    return not math.isfinite(total) and not bool(torch.isfinite(x).all())


def may_overflow(
    q: Float[Tensor, "... d_head"], k: Float[Tensor, "... d_head"], scale: float
) -> bool:
    """Whether scores of these could be infinite, or are NaN, by the largest entries of both."""
    if q.device.type == "meta":
        return False
    largest = (float(torch.linalg.vector_norm(x.detach(), torch.inf)) for x in (q, k))
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    bound = math.prod(largest) * q.shape[-1] * max(1.0, 1.0 / scale)
    return not bound <= torch.finfo(wide).max


class _NothingFiner(Exception):
    """The repeated run came to where the first one was bad without anything bad before."""


class _Checker:
    """What is attached to a model while it is looked at."""

    def __init__(self, model: HookedTransformer, names: list[str], backward: bool) -> None:
        self.model, self.names, self.backward = model, names, backward
        self.masks: dict[str, AttentionMask] = {}
        self._given: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._before: list[tuple[HookPoint, Recorder | None]] = []
        self._depth = 0  # of the run that is looked at
        self._repeats = False
        self._until = ""  # the attention layer that a repeated run stops behind

    def attach(self) -> Iterator[Any]:
        """Attach torch's own hooks, which change no plan and give way to no recorder."""
        model = self.model
        yield model.register_forward_pre_hook(self._begin, with_kwargs=True)
        yield model.register_forward_hook(self._end, always_call=True)
        for name, module in _stations(model):
            yield module.register_forward_hook(self._look_at_output(name))
        for name, module in model.named_modules():
            if isinstance(module, Attention):
                yield module.register_forward_pre_hook(self._note_mask(name))
                yield module.register_forward_hook(self._stop_behind(name))
                # Of a model that is spread over ranks, this rank's part of the heads computes.
                part = getattr(module, "part", module)
                yield _FusedLook(part, self._look_at_scores(name, module))

    # --- one run ---------------------------------------------------------------------------------

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._given is not None or torch.compiler.is_compiling():
            return  # a run inside the one that is looked at
        self._given, self._depth = (args, kwargs), self.model._watchers.run_depth
        gradients = self._gradient_names() if self.backward and torch.is_grad_enabled() else set()
        forward = set(self.names)
        for name in self.model.hook_dict:
            if name in forward or name in gradients:
                point = self.model.hook_dict[name]
                watch = _Watch(
                    self, point.recorder, self._depth, name in forward, name in gradients
                )
                self._before.append((point, point.set_recorder(watch)))

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.model._watchers.run_depth != self._depth:
            return
        for point, recorder in self._before:
            point.set_recorder(recorder)
        self._before.clear()
        self._given = None
        self.masks.clear()

    def _gradient_names(self) -> set[str]:
        inside_experts = self.model.cfg.num_experts is not None
        return {
            name
            for name in self.model.default_hook_names()
            if not name.endswith((*_COSTLY, "hook_tokens"))
            and not (inside_experts and ".mlp." in name)
        } | set(self.names)

    def _note_mask(self, name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: tuple[Any, ...]) -> None:
            self.masks[f"{name}.{_SCORES}"] = args[4].mask

        return note

    def _look_at_scores(self, name: str, attn: Attention) -> Callable[[Tensor, Tensor], None]:
        def look(q: Tensor, k: Tensor) -> None:
            if self._repeats or self._given is None or torch.compiler.is_compiling():
                return
            # Ranks that share the model have other heads each: all repeat the run, or none.
            if not self.model._agreed(int(not may_overflow(q, k, attn.attn_scale))):
                self._until = name
                self._repeat(*self._given)

        return look

    def _stop_behind(self, name: str) -> Callable[..., None]:
        def stop(module: nn.Module, args: Any, output: Tensor) -> None:
            if self._repeats and self._until == name:
                raise _NothingFiner

        return stop

    def _look_at_output(self, name: str) -> Callable[..., None]:
        # Functions attached to hook_embed act behind the module, and may mend what it gives.
        is_last = name != "hook_embed"

        def look(module: nn.Module, args: Any, output: Tensor) -> None:
            if torch.compiler.is_compiling() or not is_bad(output):
                return
            if self._repeats:
                if is_last:
                    raise _NothingFiner
                return
            if self._given is not None:
                self._repeat(*self._given)
            if is_last:
                raise self.error(name, output, flows_on=True)

        return look

    def _repeat(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The run once more, every hook watched; raises at the first that is bad, if there is."""
        model, self._repeats = self.model, True
        depth = model._watchers.run_depth + 1
        before = [
            (point, point.set_recorder(_Watch(self, None, depth, True, False)))
            for name, point in model.hook_dict.items()
            if not name.endswith(_PER_HEAD)
        ]
        try:
            model(*args, **kwargs)
        except _NothingFiner:
            pass
        finally:
            self._repeats, self._until = False, ""
            for point, recorder in before:
                point.set_recorder(recorder)

    # --- what was found --------------------------------------------------------------------------

    def look(self, name: str, x: Tensor, is_gradient: bool) -> None:
        """Raise `NonFiniteError` if this tensor of a hook is bad."""
        if not x.is_floating_point() or not is_bad(x):
            return
        if not is_gradient and name.endswith(_SCORES):
            x = self._without_masked(name, x)
            if not is_bad(x):
                return
        raise self.error(name, x, is_gradient)

    def _without_masked(self, name: str, scores: Tensor) -> Tensor:
        """Zeros for every -inf that stands for an attention that is not allowed."""
        ignored = scores == -torch.inf
        if not self.model.hook_dict[name].fwd_hooks and name in self.masks:
            ignored = ignored & self.masks[name].forbidden
        return scores.masked_fill(ignored, 0.0)

    def error(
        self, name: str, x: Tensor, is_gradient: bool = False, flows_on: bool = False
    ) -> Exception:
        """What to raise about the tensor of a hook, or about what is made of it behind the hook."""
        args, kwargs = self._given or ((), {})
        given = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        given_bad = any(map(is_bad, given))
        return report(self.model, name, x, is_gradient, given_bad, flows_on)


class _Watch:
    """A recorder that looks at what passes a hook point, in front of the one that was there."""

    def __init__(
        self,
        checker: _Checker,
        inner: Recorder | None,
        run_depth: int,
        forward: bool,
        gradients: bool,
    ) -> None:
        self.inner = inner if inner is not None and inner.run_depth == run_depth else None
        self.run_depth = run_depth
        self._passes_gradients = self.inner is not None and self.inner.records_gradients
        self.records_gradients = gradients or self._passes_gradients
        self._checker, self._forward, self._gradients = checker, forward, gradients

    def record(self, name: str, tensor: Tensor) -> None:
        if self._forward:
            self._checker.look(name, tensor, is_gradient=False)
        if self.inner is not None:
            self.inner.record(name, tensor)

    def record_gradient(self, name: str, gradient: Tensor) -> None:
        if self._gradients:
            self._checker.look(name, gradient, is_gradient=True)
        if self.inner is not None and self._passes_gradients:
            self.inner.record_gradient(name, gradient)


class _FusedLook:
    """Shows the queries and keys of fused attention to a function, until removed."""

    def __init__(self, attn: Attention, look: Callable[[Tensor, Tensor], None]) -> None:
        self._attn, fused = attn, attn._attend_fused
        self._before = vars(attn).get("_attend_fused")

        def attend(q: Tensor, k: Tensor, v: Tensor, context: AttentionContext) -> Tensor:
            look(q, k)
            return fused(q, k, v, context)

        vars(attn)["_attend_fused"] = attend

    def remove(self) -> None:
        if self._before is None:
            del vars(self._attn)["_attend_fused"]
        else:
            vars(self._attn)["_attend_fused"] = self._before


def _stations(model: HookedTransformer) -> Iterator[tuple[str, nn.Module]]:
    """Modules that a run passes, and the hook that has what each gives."""
    yield "hook_embed", model.embed
    prefixes = ("encoder.", "decoder.") if model.cfg.architecture == "encoder-decoder" else ("",)
    for prefix in prefixes:
        stack = model.get_submodule(prefix.rstrip("."))
        for i, block in enumerate(stack.blocks):  # type: ignore[arg-type]
            yield f"{prefix}blocks.{i}.hook_resid_post", block
        yield f"{prefix}ln_final.hook_normalized", stack.ln_final  # type: ignore[misc]
    yield "unembed.hook_out", model.unembed
