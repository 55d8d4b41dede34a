"""The base run, and what worlds that depart from it take from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.components.block import CrossContext
from interp.components.context import AttentionContext
from interp.devices.placement import require_one_device
from interp.errors import InputError, require
from interp.patching.axes import Window, rows
from interp.patching.entry import stack_prefix
from interp.run.inputs import RunInput, prepare
from interp.run.kv_cache import LayerKeyValueCache
from interp.run.plan import RunPlan, plan_run
from interp.run.recording import CacheRecorder
from interp.run.running import EncoderOutput
from interp.run.steps import attention_contexts, cross_context, embed_tokens

if TYPE_CHECKING:
    from interp.tokenization.text import TextInput
    from interp.transformer import HookedTransformer


class BaseRun:
    """What a model is given, and what it made of it.

    Attributes:
        model, stack: The model, and the part of it that logits come from.
        inputs: Arguments of the model's `forward`, tokens and masks alone.
        given: What the stack reads.
        batch, n_pos: Number of prompts, and of the stack's positions.
        streams: Layer → what it reads, `[batch, pos, d_model]`; one past the last: what is read
            out.
        recorded: Hook name → the activations that were asked for.
    """

    def __init__(
        self,
        model: HookedTransformer,
        tokens: TextInput | Int[Tensor, "batch pos"],
        attention_mask: Int[Tensor, "batch pos"] | None = None,
        decoder_input: TextInput | Int[Tensor, "batch pos"] | None = None,
        decoder_attention_mask: Int[Tensor, "batch pos"] | None = None,
        token_type_ids: Int[Tensor, "batch pos"] | None = None,
    ) -> None:
        self.model, self.stack = model, model.main_stack
        self.prefix = stack_prefix(model)
        self.crosses = model.cfg.architecture == "encoder-decoder"
        self.causal = self.stack.causal
        self.n_layers = model.cfg.n_layers
        for name, value in (
            ("decoder_input", decoder_input),
            ("decoder_attention_mask", decoder_attention_mask),
        ):
            if value is not None and not self.crosses:
                raise InputError(f"{name} has no meaning in this {model.cfg.architecture}.")
        read = prepare(
            model,
            tokens,
            None,
            None,
            None,
            attention_mask,
            None,
            token_type_ids,
            model.encoder if self.crosses else None,
        )
        self.inputs: dict[str, Any] = {
            "input": read.tokens,
            "attention_mask": read.attention_mask,
        }
        self.given = read
        if self.crosses:
            require(
                decoder_input is not None,
                "an encoder-decoder needs decoder_input: what its decoder reads",
            )
            require(token_type_ids is None, "token_type_ids have no meaning in an encoder-decoder")
            self.given = prepare(
                model,
                decoder_input,
                None,
                None,
                None,
                decoder_attention_mask,
                None,
                stack=self.stack,
            )
            self.inputs["decoder_input"] = self.given.tokens
            self.inputs["decoder_attention_mask"] = self.given.attention_mask
        elif token_type_ids is not None:
            self.inputs["token_type_ids"] = self.given.token_types
        assert self.given.tokens is not None and read.tokens is not None
        self.batch, self.n_pos = self.given.tokens.shape
        self.n_source = read.tokens.shape[1] if self.crosses else 0
        self.streams: dict[int, Tensor] = {}
        self.recorded: dict[str, Tensor] = {}
        self.encoded: EncoderOutput | None = None
        self._keys: dict[int, LayerKeyValueCache] = {}

    def run(self, layers: set[int], hooks: set[str], keeps_keys: bool) -> None:
        """Run the model, keeping the streams of these layers, these hooks, and keys and values."""
        model, stack = self.model, self.stack
        require_one_device(model, "this way of patching")
        recorder = CacheRecorder()
        recorder.run_depth = model._watchers.run_depth
        with model._recording(model.match_hooks(list(hooks)), recorder):
            # Where hooks of the user's are attached, they count too.
            fused = model.cfg.can_fuse_attention
            plan = plan_run(*model.watched_hooks(), self.n_layers, self.prefix, fused)
            if self.crosses:
                self.encoded = model.encode(
                    self.inputs["input"], attention_mask=self.inputs["attention_mask"]
                )
            residual, _ = embed_tokens(stack, self.given, model.embed, plan)
            contexts = attention_contexts(stack, residual, range(self.n_layers), self.given)
            source = self.source(1, self.n_pos)
            for layer, block in enumerate(stack.blocks):
                if layer in layers:
                    self.streams[layer] = residual
                entry = None
                if self.crosses or keeps_keys:
                    entry = self._keys[layer] = _Kept()
                residual = block(
                    residual, plan.blocks[layer], contexts[bool(block.local)], entry, source
                )
        self.streams[self.n_layers] = residual
        self.recorded = recorder.cache

    def plan(self, hooks: frozenset[str] = frozenset()) -> RunPlan:
        """What the stack computes with these hooks edited, and no others watched."""
        fused = self.model.cfg.can_fuse_attention
        return plan_run(hooks, hooks, self.n_layers, self.prefix, fused)

    # --- for `n` worlds, one after another, each with all prompts --------------------------------

    def contexts(
        self, n: int, window: Window, like: Float[Tensor, "row pos d_model"]
    ) -> dict[bool, AttentionContext]:
        """What attention shares in these positions."""
        start, end = window.start, window.end
        real = self.given.real_keys

        def repeated(x: Tensor, first: int) -> Tensor:
            x = x[:, first:end]
            return rows(x, n) if x.shape[0] > 1 else x

        cut = replace(
            self.given,
            tokens=None,
            attention_mask=None,
            real_keys=None if real is None else rows(real[:, :end], n),
            positions=repeated(self.given.positions, start),
            key_positions=repeated(self.given.key_positions, 0),
            token_types=None,
            n_keys=end,
        )
        return attention_contexts(self.stack, like, range(self.n_layers), cut)

    @property
    def contexts_depend_on_rows(self) -> bool:
        """Whether `contexts` are other ones for another number of worlds."""
        return self.given.real_keys is not None or self.stack.pos_embed.adds_to_queries_and_keys

    def past(self, layer: int, n: int, window: Window) -> LayerKeyValueCache | None:
        """The base's keys and values of what is before these positions, and of the encoder."""
        if window.start == 0 and not self.crosses:
            return None
        return _Before(self._keys[layer], n, window.start)

    def source(self, n: int, n_queries: int) -> CrossContext | None:
        """What the layers read of the encoder."""
        if self.encoded is None:
            return None
        encoded, mask = self.encoded
        real = None if mask is None else rows(mask.bool(), n)
        # Their projections are in `past`: the encoder's output needs no repeating.
        return cross_context(encoded, real, n_queries, encoded.device)

    def repeated_inputs(self, n: int) -> dict[str, Any]:
        """Arguments of the model's `forward`."""
        return {k: None if x is None else rows(x, n) for k, x in self.inputs.items()}

    def repeated_given(self, n: int) -> RunInput:
        """What the stack reads."""
        given = self.given
        assert given.tokens is not None

        def repeated(x: Tensor) -> Tensor:
            return rows(x, n) if x.shape[0] > 1 else x

        real, types = given.real_keys, given.token_types
        return replace(
            given,
            tokens=rows(given.tokens, n),
            real_keys=None if real is None else rows(real, n),
            positions=repeated(given.positions),
            key_positions=repeated(given.key_positions),
            token_types=None if types is None else rows(types, n),
        )


class _Kept(LayerKeyValueCache):
    """Keeps what a layer of the base run joins to nothing."""

    def __init__(self) -> None:
        empty = torch.empty(0)
        super().__init__(empty, empty)

    def join(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.keys, self.values = keys, values
        return keys, values

    def remember(self, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        self.cross = make()
        return self.cross


class _Before(LayerKeyValueCache):
    """The base's keys and values before `start`, in front of those of `n` worlds."""

    def __init__(self, base: LayerKeyValueCache, n: int, start: int) -> None:
        super().__init__(base.keys[:, :start], base.values[:, :start], base.cross)
        self.n = n

    def join(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if self.keys.shape[1] == 0:
            return keys, values
        return self._behind(self.keys, keys), self._behind(self.values, values)

    def remember(self, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        assert self.cross is not None
        keys, values = self.cross
        return rows(keys, self.n), rows(values, self.n)

    def _behind(self, before: Tensor, now: Tensor) -> Tensor:
        if before.shape[2] < now.shape[2]:  # each query head has keys of its own (hook_attn_in)
            before = before.repeat_interleave(now.shape[2] // before.shape[2], 2)
        batch, start = before.shape[:2]
        joined = now.new_empty(now.shape[0], start + now.shape[1], *now.shape[2:])
        joined[:, :start].unflatten(0, (self.n, batch)).copy_(before)
        joined[:, start:].copy_(now)
        return joined


@contextmanager
def inside_a_run(model: HookedTransformer) -> Iterator[None]:
    """What happens here is no part of a run that somebody records.

    Recorders on the model are set aside: one that was left on it would take this for its own run.
    """
    points = [model.hook_dict[name] for name in model.watched_hooks()[0]]
    recorders = [(p, p.set_recorder(None)) for p in points if p.recorder is not None]
    model._watchers.run_depth += 1
    try:
        yield
    finally:
        model._watchers.run_depth -= 1
        for point, recorder in recorders:
            point.set_recorder(recorder)
