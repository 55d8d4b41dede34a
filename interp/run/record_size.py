"""What a recording will hold, told from names and shapes before a block has run.

A record is as large as its tensor, and names for one tensor count once: which these are follows
from the configuration. Gradients are not counted: which of them autograd shares cannot be told
beforehand. Nor can what forward hooks make of a run (they may change its batch): with any attached,
records are counted as they are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.components.block import CrossContext
from interp.components.norm import Norm
from interp.devices.memory import bytes_kept, free_memory, readable
from interp.devices.placement import require_room
from interp.errors import InputError
from interp.run.inputs import RunInput
from interp.run.plan import NORM_HOOKS, BlockPlan, RunPlan
from interp.run.recording import WHAT_HELPS, CacheRecorder, largest, once, position_axis_of

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_HEAD_INPUTS = ("hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input")
_AFTER_BLOCKS = ("ln_final.", "mlm_head.", "pooler.", "unembed.")
_WIDE = (torch.float32, torch.float64)
# A recording that cannot be larger is not compared with free memory, so small runs pay nothing.
_SMALL = 64 << 20
_MOST_KEPT = 64


@dataclass(frozen=True, slots=True)
class StackSizes:
    """The sizes of what is recorded of one stack, known when its first block is about to run.

    Attributes:
        model: The model that runs.
        stack: The stack: the model itself, or its encoder or decoder.
        shape: Of what the first block reads, `[batch, pos, d_model]`.
        single: The same without repetitions of one entry.
        dtype: Its dtype.
        layers: The blocks that will run.
        plan: What they compute.
        given: The stack's input.
        source_pos: How many positions of an encoder its blocks read.
        to_the_end: Whether the run goes on after the blocks.
    """

    model: HookedTransformer
    stack: Any
    shape: tuple[int, ...]
    single: tuple[int, ...]
    dtype: torch.dtype
    layers: range
    plan: RunPlan
    given: RunInput
    source_pos: int
    to_the_end: bool

    def at_most(self, n_names: int) -> int:
        """A bound on the bytes of this many records, found at once."""
        cfg, plans = self.model.cfg, self.plan.blocks
        d_mlp = 0 if cfg.attn_only else cfg.width_mlp
        keys = max(self.given.n_keys, self.source_pos)
        widths = [
            cfg.d_model,
            cfg.n_heads * max(keys, cfg.d_head),
            (cfg.num_experts or 1) * max(cfg.d_model, d_mlp),
        ]
        if any(p.attn.per_head_result or p.cross_attn.per_head_result for p in plans):
            widths.append(cfg.n_heads * cfg.d_model)
        if any(p.copies_for_heads or p.copies_for_qkv for p in plans):
            widths.append(3 * cfg.n_heads * cfg.d_model)
        batch, pos, _ = self.shape
        return 8 * batch * max(pos, self.source_pos) * (n_names * max(widths) + cfg.d_vocab_out)

    def by_name(self, names: Sequence[str], recorder: CacheRecorder) -> dict[str, int]:
        """Bytes by name; each tensor under the first of the names for it.

        Kept for the next run of the same shape, as it takes as long as a small run.
        """
        kept: dict[Any, dict[str, int]] = vars(self.model).setdefault("_record_sizes", {})
        key = self._key(names, recorder)
        if key not in kept:
            first: dict[str, str] = {}
            for name in names:
                if self._is_reached(name):
                    first.setdefault(self._owner(name), name)
            if len(kept) >= _MOST_KEPT:
                kept.clear()
            kept[key] = {name: self._bytes(owner, recorder) for owner, name in first.items()}
        return kept[key]

    def _key(self, names: Sequence[str], recorder: CacheRecorder) -> tuple[object, ...]:
        """All that the sizes depend on, beside what never changes in a model."""
        given, positions = self.given, None
        if not recorder.pos_slice.is_everything and self._prefix != "encoder.":
            positions = tuple(recorder.pos_slice.indices(self.shape[1]))
        return (
            self._prefix,
            tuple(names),
            self.model.watched_hooks(),
            self.model.cfg.ungroup_grouped_query_attention,
            str(self.model.placement),
            self.shape,
            self.single,
            self.dtype,
            self.layers,
            self.to_the_end,
            None if given.tokens is None else once(given.tokens).shape,
            given.token_types is None,
            given.positions.shape,
            given.n_keys,
            self.source_pos,
            recorder.dtype,
            positions,
        )

    # --- which names are reached, and which are for one tensor ------------------------------------

    @property
    def _prefix(self) -> str:
        if self.model.cfg.architecture != "encoder-decoder":
            return ""
        return "encoder." if self.stack is self.model.encoder else "decoder."

    def _local(self, name: str) -> tuple[int | None, str]:
        """The block of a name of this stack, and the name inside it."""
        rest = name.removeprefix(self._prefix)
        if not rest.startswith("blocks."):
            return None, rest
        _, layer, rest = rest.split(".", 2)
        return int(layer), rest

    def _is_reached(self, name: str) -> bool:
        if self._prefix == "encoder." and not name.startswith("encoder."):
            return False
        if self._prefix == "decoder." and name.startswith("encoder."):
            return False
        layer, rest = self._local(name)
        if layer is not None:
            return layer in self.layers
        if rest.startswith(_AFTER_BLOCKS):
            return self.to_the_end or self._prefix == "encoder."
        if rest == "hook_pos_bias":
            return True
        if rest == "hook_pos_embed" and self.stack.pos_embed.adds_to_queries_and_keys:
            return True
        return self.given.tokens is not None

    def _owner(self, name: str) -> str:
        """The first hook that the tensor passes."""
        placement = self.model.placement
        while (before := self._before(*self._local(name))) is not None:
            shared = before.startswith(("unembed.", "mlm_head.", "pooler."))
            before = before if shared else self._prefix + before
            if placement is not None and placement.of(before) != placement.of(name):
                break  # it is a copy on another device
            name = before
        return name

    def _before(self, layer: int | None, rest: str) -> str | None:
        """The hook before this one that has the same tensor."""
        if layer is None:
            return self._before_unembedding() if rest == "unembed.hook_in" else None
        cfg, block = self.model.cfg, f"blocks.{layer}."
        if rest == "hook_resid_pre":
            return self._stream(layer)
        if rest in _HEAD_INPUTS:
            from_copy = rest != "hook_attn_in" and self.plan.blocks[layer].copies_for_heads
            return block + ("hook_attn_in" if from_copy else "hook_resid_pre")
        if rest == "hook_cross_attn_in":
            return block + "hook_resid_mid"
        if rest == "hook_mlp_in":
            crosses = self.stack.blocks[layer].crosses
            between = "hook_resid_mid_cross" if crosses else "hook_resid_mid"
            return block + ("hook_resid_pre" if cfg.parallel_attn_mlp else between)
        if rest == "mlp.hook_post" and cfg.act_fn == "solu_ln":
            return self._behind(f"{block}mlp.ln", None)
        return None

    def _stream(self, layer: int) -> str | None:
        """The hook in front of a block that has the tensor that it reads."""
        if layer > self.layers.start:
            return f"blocks.{layer - 1}.hook_resid_post"
        adds = self.stack.pos_embed.adds_embedding or self.model.cfg.n_token_types
        if self.given.tokens is None or adds:
            return None
        has_norm = self.model.cfg.post_embedding_ln
        return self._behind("ln_embed", "hook_embed") if has_norm else "hook_embed"

    def _before_unembedding(self) -> str | None:
        if self.model.cfg.classifies:
            return "pooler.hook_post"
        if self.model.cfg.head == "mlm":
            return self._behind("mlm_head.ln", "mlm_head.hook_post")
        return self._behind("ln_final", self._stream(self.layers.stop))

    def _behind(self, name: str, before: str | None) -> str | None:
        """The hook with the tensor that leaves a norm; `before` has the one that enters."""
        root = self.model if name.startswith("mlm_head.") else self.stack
        norm = root.get_submodule(name)
        if not isinstance(norm, Norm):
            return before
        passes_on = norm.w is None and self.dtype in _WIDE
        return f"{name}.hook_normalized" if passes_on else None

    # --- how large a tensor is --------------------------------------------------------------------

    def _bytes(self, name: str, recorder: CacheRecorder) -> int:
        layer, rest = self._local(name)
        dtype = recorder.dtype or self.dtype
        if rest == "hook_tokens":
            dtype = torch.int64
        elif recorder.dtype is None and rest.endswith(NORM_HOOKS) and dtype not in _WIDE:
            dtype = torch.float32
        shape = self._shape(layer, rest)
        n = math.prod(shape)
        axis = position_axis_of(name, len(shape))
        if axis is not None and shape[axis] > 1 and not recorder.pos_slice.is_everything:
            n = n // shape[axis] * len(recorder.pos_slice.indices(shape[axis]))
        return n * dtype.itemsize

    def _shape(self, layer: int | None, rest: str) -> tuple[int, ...]:
        """Of the tensor at this hook, without repetitions of one entry."""
        cfg, given = self.model.cfg, self.given
        batch, pos, d_model = self.shape
        scope, _, last = rest.rpartition(".")
        rows = given.positions.shape[0]
        if layer is None:
            sequence = cfg.classifies and rest.startswith(("pooler.", "unembed."))
            place = (batch,) if sequence else (batch, pos)
            if last == "hook_tokens":
                assert given.tokens is not None
                return tuple(once(given.tokens).shape)
            if last == "hook_pos_embed":
                return rows, pos, d_model
            if last == "hook_pos_bias":
                return rows, cfg.n_heads, pos, given.n_keys
            if last == "hook_token_type_embed" and given.token_types is None:
                return 1, 1, d_model
            if rest == "unembed.hook_out":
                return *place, cfg.d_vocab_out
            return *place, 1 if last == "hook_scale" else d_model
        if last == "hook_resid_pre" and given.residual is not None and layer == self.layers.start:
            return self.single
        plan = self.plan.blocks[layer]
        if scope in ("attn", "cross_attn", "attn.q_norm", "attn.k_norm") or scope.startswith(
            "cross_attn."
        ):
            return self._attention_shape(scope, last, plan)
        if scope.startswith("mlp"):
            return self._mlp_shape(last)
        copies = plan.copies_for_heads or plan.copies_for_qkv
        if scope == "ln1" and copies and self.stack.blocks[layer].reads_normalised:
            heads = cfg.n_heads + 2 * self._input_heads(plan)
            return batch, pos, heads, 1 if last == "hook_scale" else d_model
        if last in ("hook_attn_in", "hook_q_input"):
            return batch, pos, cfg.n_heads, d_model
        if last in ("hook_k_input", "hook_v_input"):
            return batch, pos, self._input_heads(plan), d_model
        return batch, pos, 1 if last == "hook_scale" else d_model

    def _input_heads(self, plan: BlockPlan) -> int:
        """How many key (or value) heads read copies of their own."""
        cfg = self.model.cfg
        every = plan.copies_for_heads or cfg.ungroup_grouped_query_attention
        return cfg.n_heads if every else cfg.n_kv_heads

    def _attention_shape(self, scope: str, last: str, plan: BlockPlan) -> tuple[int, ...]:
        cfg = self.model.cfg
        batch, pos, d_model = self.shape
        crosses = scope.startswith("cross_attn")
        if last in ("hook_attn_scores", "hook_pattern"):
            n_keys = self.source_pos if crosses else self.given.n_keys
            return batch, cfg.n_heads, pos, n_keys
        if last == "hook_result":
            return batch, pos, cfg.n_heads, d_model
        heads = cfg.n_heads
        if last in ("hook_k", "hook_v", "hook_rot_k") or scope.endswith("k_norm"):
            pos = self.source_pos if crosses else pos
            ungrouped = cfg.ungroup_grouped_query_attention
            heads = (heads if ungrouped else cfg.n_kv_heads) if crosses else self._input_heads(plan)
        if last in NORM_HOOKS and cfg.qk_norm == "full":
            return batch, pos, 1 if last == "hook_scale" else heads * cfg.d_head
        return batch, pos, heads, 1 if last == "hook_scale" else cfg.d_head

    def _mlp_shape(self, last: str) -> tuple[int, ...]:
        cfg = self.model.cfg
        batch, pos, d_model = self.shape
        if last == "hook_scale":
            return batch, pos, 1
        if cfg.num_experts is None:
            return batch, pos, cfg.width_mlp
        widths = {
            "hook_router_logits": (),
            "hook_expert_weights": (),
            "hook_expert_out": (d_model,),
        }
        return batch, pos, cfg.num_experts, *widths.get(last, (cfg.width_mlp,))


class RecordBudget:
    """Refuses a run whose records would not fit, as soon as its shapes are known.

    Args:
        model: The model that runs.
        names: The hooks that will be recorded.
        recorder: What records them.
        to_the_end: Whether the run goes on after the blocks.
    """

    def __init__(
        self,
        model: HookedTransformer,
        names: Sequence[str],
        recorder: CacheRecorder,
        to_the_end: bool,
    ) -> None:
        self.model, self.names, self.recorder = model, names, recorder
        self.to_the_end = to_the_end
        self.stacks: list[StackSizes] = []
        self.at_most = 0

    def __call__(
        self,
        stack: Any,
        residual: Float[Tensor, "batch pos d_model"],
        layers: range,
        plan: RunPlan,
        given: RunInput,
        source: CrossContext | None,
    ) -> None:
        """Check what is recorded of this stack and of those that have run before.

        Raises:
            InputError: if it is more than the recorder's `max_bytes`, or, without that, more than
                the device has left. With forward hooks attached, the recorder raises it instead.
        """
        if self.model._watchers.run_depth != self.recorder.run_depth:
            return  # a run that a hook started
        source_pos = 0 if source is None else source.residual.shape[1]
        # Not the residual stream itself, which would live on as long as this does.
        sizes = StackSizes(
            self.model,
            stack,
            tuple(residual.shape),
            tuple(once(residual).shape),
            residual.dtype,
            layers,
            plan,
            given,
            source_pos,
            self.to_the_end,
        )
        self.stacks.append(sizes)
        self.at_most += sizes.at_most(len(self.names))
        limit = self.recorder.max_bytes
        if limit is None and self.at_most <= _SMALL:
            return
        placement = self.model.placement
        if limit is None and self.recorder.device is None and placement is not None:
            require_room(self.estimate(), placement)
            return
        device = self.recorder.device or residual.device
        kind = "max_bytes"
        if limit is None:
            limit, kind = free_memory(device), f"what {device} has left"
            if limit is None:
                return
            limit = self.model._agreed(limit) + bytes_kept(self.recorder.cache.values())
        if self.at_most <= limit:
            return
        if any(self.model.hook_dict[name].fwd_hooks for name in self.model.watched_hooks()[1]):
            self.recorder.limit_run(limit, kind)
            return
        found = self.estimate()
        total = sum(found.values())
        if total > limit:
            elsewhere = " device= keeps it elsewhere; max_bytes= sets another limit."
            raise InputError(
                f"recording would keep {readable(total)}: more than {kind} ({readable(limit)}). "
                f"Largest: {largest(found)}. {WHAT_HELPS}"
                f"{'' if kind == 'max_bytes' else elsewhere}"
            )

    def estimate(self) -> dict[str, int]:
        """Bytes by name of what is recorded of the stacks so far."""
        found: dict[str, int] = {}
        for sizes in self.stacks:
            found |= sizes.by_name(self.names, self.recorder)
        return found
