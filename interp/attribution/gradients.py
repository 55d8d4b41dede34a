"""A metric's gradients at hooks, from one forward and one backward pass."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError, require
from interp.patching.base import BaseRun, inside_a_run
from interp.patching.entry import Stage, entry_of
from interp.patching.metrics import Metric
from interp.patching.read_out import LogitsFunction, MetricReadOut
from interp.precision import wide
from interp.run.recording import CacheRecorder

if TYPE_CHECKING:
    from interp.root import FwdHooks, NamesFilter
    from interp.tokenization.text import TextInput
    from interp.transformer import HookedTransformer


@dataclass(frozen=True)
class GradientRun:
    """What a run made at some hooks, and how its metric depends on that.

    Attributes:
        value: The metric, `[batch]`, or a scalar where it gave one number for all prompts.
        activations: Hook name → what flowed on from there.
        gradients: Hook name → ∂ value.sum() / ∂ activation, of the same shape. It is the total
            derivative along all that reads what flows on from the hook. Prompts do not see each
            other, so row b is the gradient of prompt b's value.
    """

    value: Float[Tensor, "*batch"]
    activations: Mapping[str, Float[Tensor, "batch ..."]]
    gradients: Mapping[str, Float[Tensor, "batch ..."]]


def run_with_gradients(
    model: HookedTransformer,
    tokens: TextInput | Int[Tensor, "batch pos"],
    hooks: NamesFilter,
    metric: Metric | LogitsFunction,
    fwd_hooks: FwdHooks = (),
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    decoder_input: TextInput | Int[Tensor, "batch pos"] | None = None,
    decoder_attention_mask: Int[Tensor, "batch pos"] | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
) -> GradientRun:
    """Run once forward and once backward, and keep activations and gradients at hooks.

    Parameters keep the `.grad` that they had, need not require gradients, and nothing is left on
    the model. It works under `torch.no_grad()` too, and under `torch.inference_mode()` with a
    metric made outside of it. Hooks already on the model act, and so do `fwd_hooks`, before a
    tensor is kept.

    Args:
        model: The model.
        tokens: The prompts, as `forward` takes them.
        hooks: A hook name, a glob, a list of these, or a predicate.
        metric: A `Metric`, or a function of full logits `[batch, pos, d_vocab]` that gives a number
            or one per prompt and can be differentiated.
        fwd_hooks: `(name, fn)` pairs for this run. A tensor that one puts in place of another is
            where gradients begin if it was made without them.
        attention_mask: As for `forward`, and so the following.
        decoder_input: Of an encoder–decoder, whose metric is taken of its decoder's logits.
        decoder_attention_mask: `attention_mask` for it.
        token_type_ids: Which segment each token is of.

    Raises:
        InputError: for no hook, one that is not there, holds whole numbers or is not reached; for a
            metric that cannot be differentiated; and as `forward`.
    """
    inputs = (tokens, attention_mask, decoder_input, decoder_attention_mask, token_type_ids)
    with traced(model, inputs, hooks, metric, fwd_hooks) as trace:
        return GradientRun(trace.value, trace.activations, trace.gradients())


class _Tracer(CacheRecorder):
    """A recorder that keeps tensors with the graph that they are in.

    As one that records gradients, it makes hook points give every tensor a node of its own, where
    its gradient is that of what flows on, and blocks make copies for what reads apart.
    """

    def __init__(self, run_depth: int) -> None:
        super().__init__(records_gradients=True)
        self.run_depth = run_depth
        self.tensors: dict[str, Tensor] = {}
        self.gradients: dict[str, Tensor] = {}

    def record(self, name: str, tensor: Tensor) -> None:
        """Keep it as it is."""
        self.tensors[name] = tensor

    def record_gradient(self, name: str, gradient: Tensor) -> None:
        """Keep it as the hooks there left it."""
        self.gradients[name] = gradient


@dataclass
class Trace:
    """A run whose graph is still there, until the block of `traced` ends.

    Attributes:
        value: As in `GradientRun`.
        run: What the run was given.
    """

    value: Float[Tensor, "*batch"]
    run: BaseRun
    _output: Tensor = field(repr=False)
    _tracer: _Tracer = field(repr=False)

    @property
    def activations(self) -> dict[str, Float[Tensor, "batch ..."]]:
        """Hook name → what flowed on from there."""
        return {name: x.detach() for name, x in self._tracer.tensors.items()}

    def gradients(
        self, names: Sequence[str] | None = None, again: bool = False
    ) -> dict[str, Float[Tensor, "batch ..."]]:
        """Hook name → gradient, by a backward pass.

        Args:
            names: Of these alone; None: of all.
            again: Another backward pass is to follow, so the graph has to stay.
        """
        tensors = self._tracer.tensors
        names = list(tensors) if names is None else names
        behind = self._tracer.gradients = {}
        # Gradients are asked for by name: those of weights are not even computed.
        found = torch.autograd.grad(
            self._output,
            [tensors[name] for name in names],
            retain_graph=again,
            allow_unused=True,
            materialize_grads=True,
        )
        # autograd gives some gradients as they were before backward hooks changed them.
        return {n: behind.get(n, gradient) for n, gradient in zip(names, found, strict=True)}


@contextmanager
def traced(
    model: HookedTransformer,
    inputs: tuple[Any, ...],
    hooks: NamesFilter,
    metric: Metric | LogitsFunction,
    fwd_hooks: FwdHooks = (),
    bwd_hooks: FwdHooks = (),
) -> Iterator[Trace]:
    """A run forward, for as many backward passes as are wanted before the end of the block.

    Args:
        model: The model.
        inputs: What `BaseRun` takes behind the model.
        hooks, metric, fwd_hooks: As in `run_with_gradients`.
        bwd_hooks: `(name, fn)` pairs that act in every backward pass.

    Raises:
        InputError: as `run_with_gradients`.
    """
    names = model.match_hooks(hooks)
    whole = [name for name in names if name.endswith("hook_tokens")]
    require(not whole, f"a gradient needs numbers that can change by little. Received {whole}")
    require(bool(names), "hooks must name one at least. Received none")
    if not (isinstance(metric, Metric) or callable(metric)):
        raise InputError(f"metric must be a Metric or a function of logits. Received {metric!r}.")
    with torch.inference_mode(False), torch.enable_grad(), inside_a_run(model):
        run = BaseRun(model, *(_usable(x) for x in inputs))
        recorder = _Tracer(model._watchers.run_depth + 1)
        try:
            with model.hooks(fwd_hooks, bwd_hooks), model._recording(names, recorder):
                value = _value(run, metric)
            missed = ", ".join(name for name in names if name not in recorder.tensors)
            require(not missed, f"hooks must be reached in this run. Not reached: {missed}")
            yield Trace(value.detach(), run, value.sum(), recorder)
        finally:
            # The graph holds the recorder, which must not hold the graph for ever.
            recorder.tensors.clear()
            recorder.gradients.clear()


def _usable(x: Any) -> Any:
    """Tensors made in inference mode may not enter a graph: a copy of them may."""
    return x.clone() if isinstance(x, Tensor) and x.is_inference() else x


def _value(run: BaseRun, metric: Metric | LogitsFunction) -> Float[Tensor, "*batch"]:
    """The metric of the run, with its graph; only the logits that it reads, where nobody looks."""
    model = run.model
    if isinstance(metric, Metric):
        watched = (entry_of(model, name) for name in model.watched_hooks()[0])
        if all(entry.stage is not Stage.READ_OUT for entry in watched):
            run.streams[run.n_layers] = model(**run.inputs, stop_at_layer=run.n_layers)
            value: Tensor = MetricReadOut(run, metric, sys.maxsize).base()
        else:
            logits = model(**run.inputs)
            mask = None if logits.ndim == 2 else run.given.attention_mask
            value = metric.prepared(run.given.tokens, mask).per_prompt(logits, mask)
    else:
        given = metric(model(**run.inputs))
        rule = f"a metric must give a number, or one per prompt ({run.batch}), as a tensor"
        if not isinstance(given, Tensor):
            raise InputError(f"{rule}. Received {given!r}.")
        require(
            given.ndim == 0 or given.shape == (run.batch,), f"{rule}. Received {tuple(given.shape)}"
        )
        value = wide(given)
    require(
        value.requires_grad,
        "a metric must be differentiable, and something that it reads must be hooked or require "
        "gradients. Received a value without a gradient",
    )
    return value
