"""The residual stream as a sum of what each component wrote into it.

Law of exactness: without `apply_ln` the parts of a decomposition sum to the residual stream that
they decompose; with it, to its normalised form less the norm's bias. Where norms lie on the way of
a part to that stream (`interp.frozen_norms`), it is shown as it arrives there, through norms whose
scale is held as recorded.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from interp.carried_parts import CarriedParts
from interp.components.by_hand import check_width
from interp.components.norm import Norm
from interp.errors import InputError, as_whole, require
from interp.frozen_norms import Step, pass_on, steps_before
from interp.run.slicing import Slice, SliceInput

Stack = Float[Tensor, "component *batch_and_pos d_model"]
Mode = Literal["all", "mlp", "attn"]
TokenChoice = str | int | Int[Tensor, "*batch_and_pos"]


class Decomposition(CarriedParts):
    """Methods of `ActivationCache` that take the residual stream apart.

    `layer` counts residual streams: l is what block l reads, `n_layers` (None or -1) what the
    unembedding reads; `mlp_input` takes block l's resid_mid instead. Stacks have the component as
    their first axis. With `return_labels` the labels come beside the stack. Of an encoder–decoder
    it is the decoder's stream.
    """

    def _layer(self, layer: int | None) -> int:
        n_layers = self.model.cfg.n_layers
        layer = n_layers if layer is None else as_whole("layer", layer)
        if layer == -1:
            return n_layers
        if not 0 <= layer <= n_layers:
            raise InputError(f"layer must lie in 0 … {n_layers} (or be -1). Received {layer}.")
        return layer

    def _check_mlp_input(self, layer: int, mlp_input: bool) -> None:
        if mlp_input and (layer == self.model.cfg.n_layers or not self.model.cfg.has_resid_mid):
            raise InputError(f"no MLP reads a resid_mid at layer {layer} of this model.")

    def accumulated_resid(
        self,
        layer: int | None = None,
        incl_mid: bool = False,
        apply_ln: bool = False,
        pos_slice: SliceInput = None,
        mlp_input: bool = False,
        return_labels: bool = False,
    ) -> Stack | tuple[Stack, list[str]]:
        """The residual stream as it grows, up to `layer`: the input of the logit lens.

        With `apply_ln` all entries are divided by the scale found at `layer`.
        """
        layer = self._layer(layer)
        self._check_mlp_input(layer, mlp_input)
        positions = Slice.unwrap(pos_slice)
        n_layers = self.model.cfg.n_layers
        streams, labels = [], []
        for i in range(layer + 1):
            streams.append(self._stream(i))
            if i == n_layers:
                labels.append("final_post")
                continue
            labels.append(f"{i}_pre")
            if (incl_mid and i < layer and self.model.cfg.has_resid_mid) or (
                mlp_input and i == layer
            ):
                streams.append(self[self._mid_name, i])
                labels.append(f"{i}_mid")
        stack = torch.stack([positions.apply(s, -2) for s in streams])
        return self._finished(stack, labels, layer, mlp_input, positions, apply_ln, return_labels)

    def decompose_resid(
        self,
        layer: int | None = None,
        mlp_input: bool = False,
        mode: Mode = "all",
        apply_ln: bool = False,
        pos_slice: SliceInput = None,
        incl_embeds: bool = True,
        return_labels: bool = False,
    ) -> Stack | tuple[Stack, list[str]]:
        """Embeddings, attention layers and MLPs: what was written before `layer` reads.

        `mode` keeps attention or MLPs only; `mode="all"` with embeddings sums to the stream.

        Raises:
            InputError: for another mode.
        """
        layer = self._layer(layer)
        self._check_mlp_input(layer, mlp_input)
        if mode not in ("all", "mlp", "attn"):
            raise InputError(f"mode must be 'all', 'mlp' or 'attn'. Received {mode!r}.")
        positions = Slice.unwrap(pos_slice)
        steps = list(steps_before(self.model.main_stack, layer, mlp_input))
        parts: list[Tensor] = []
        labels: list[str] = []
        if incl_embeds:
            embeds, labels = self._embeddings()
            parts = [self._carried(positions.apply(e, -2), steps, positions, -1) for e in embeds]
        for number, step in enumerate(steps):
            if mode == "all" or (mode == "mlp") == (step.part == "mlp"):
                out = positions.apply(self[f"{step.part}_out", step.layer], -2)
                parts.append(self._carried(out, steps, positions, number))
                labels.append(f"{step.layer}_{step.part}_out")
        if mode == "all" and incl_embeds and self._norms_add_biases:
            parts.append(self._bias(steps, positions, attn=False, mlp=False).expand_as(parts[0]))
            labels.append("norm_bias")
        stack = self._stacked(parts, positions)
        return self._finished(stack, labels, layer, mlp_input, positions, apply_ln, return_labels)

    @property
    def _mid_name(self) -> str:
        """The stream that an MLP reads (or what stands last in a block without one)."""
        crosses = self.model.cfg.architecture == "encoder-decoder"
        return "resid_mid_cross" if crosses and not self.model.cfg.attn_only else "resid_mid"

    def compute_head_results(self) -> None:
        """Put every layer's `hook_result` into the cache, computed from `hook_z`."""
        stack = self.model.main_stack
        for step in steps_before(stack, self.model.cfg.n_layers):
            if step.part != "mlp" and ("result", step.layer, step.part) not in self:
                name = self.full_name(("result", step.layer, step.part))
                attn = getattr(stack.blocks[step.layer], step.part)
                self.cache_dict[name] = attn.head_results(self["z", step.layer, step.part])

    def stack_head_results(
        self,
        layer: int | None = -1,
        return_labels: bool = False,
        incl_remainder: bool = False,
        pos_slice: SliceInput = None,
        apply_ln: bool = False,
    ) -> Stack | tuple[Stack, list[str]]:
        """What each head before `layer` wrote, without b_O. Computed from `hook_z` if need be.

        Heads of cross-attention are `L0C0`, … . `incl_remainder` adds the rest of the residual
        stream, so that the stack sums to it.
        """
        layer = self._layer(layer)
        positions = Slice.unwrap(pos_slice)
        steps = list(steps_before(self.model.main_stack, layer))
        stack, labels = self._head_results(steps, positions)
        if incl_remainder:
            stack, labels = self._with_remainder(stack, labels, layer, positions)
        return self._finished(stack, labels, layer, False, positions, apply_ln, return_labels)

    def _head_results(self, steps: list[Step], positions: Slice) -> tuple[Stack, list[str]]:
        stacks, labels = [], []
        for number, step in enumerate(steps):
            if step.part == "mlp":
                continue
            place = (step.layer, step.part)
            if ("result", *place) in self:
                result = positions.apply(self[("result", *place)], -3)
            else:
                attn = getattr(self.model.main_stack.blocks[step.layer], step.part)
                result = attn.head_results(positions.apply(self[("z", *place)], -3))
            by_head = rearrange(result, "... head d_model -> head ... d_model")
            stacks.append(self._carried(by_head, steps, positions, number, raw=True))
            kind = "C" if step.part == "cross_attn" else "H"
            labels += [f"L{step.layer}{kind}{h}" for h in range(self.model.cfg.n_heads)]
        return (torch.cat(stacks) if stacks else self._stacked([], positions)), labels

    def get_neuron_results(
        self, layer: int, neuron_slice: SliceInput = None, pos_slice: SliceInput = None
    ) -> Float[Tensor, "*batch_and_pos neuron d_model"]:
        """What each neuron of a layer wrote: its activation times its row of W_out."""
        if self.model.cfg.num_experts is not None:
            raise InputError("neurons of a mixture of experts have no one W_out.")
        neurons = Slice.unwrap(neuron_slice)
        post = neurons.apply(Slice.unwrap(pos_slice).apply(self["post", layer], -2), -1)
        W_out = neurons.apply(self.model.main_stack.blocks[layer].mlp.W_out, 0)
        if isinstance(neurons.index, int):
            return post[..., None, None] * W_out
        return post[..., None] * W_out

    def _by_neuron(
        self, steps: list[Step], number: int, positions: Slice, neurons: SliceInput = None
    ) -> Stack:
        """What each neuron of one MLP wrote, as it arrives behind the last of these steps."""
        result = self.get_neuron_results(steps[number].layer, neurons, positions)
        by_neuron = rearrange(result, "... neuron d_model -> neuron ... d_model")
        return self._carried(by_neuron, steps, positions, number, raw=True)

    def stack_neuron_results(
        self,
        layer: int | None = -1,
        pos_slice: SliceInput = None,
        neuron_slice: SliceInput = None,
        return_labels: bool = False,
        incl_remainder: bool = False,
        apply_ln: bool = False,
    ) -> Stack | tuple[Stack, list[str]]:
        """What each neuron before `layer` wrote, without b_out."""
        if self.model.cfg.attn_only:
            raise InputError("this model has no neurons (attn_only).")
        layer = self._layer(layer)
        positions, neurons = Slice.unwrap(pos_slice), Slice.unwrap(neuron_slice)
        chosen = neurons.indices(self.model.cfg.width_mlp)
        stacks: list[Tensor] = []
        labels: list[str] = []
        steps = list(steps_before(self.model.main_stack, layer))
        for number, step in enumerate(steps):
            if step.part == "mlp":
                stacks.append(self._by_neuron(steps, number, positions, neurons))
                labels += [f"L{step.layer}N{n}" for n in chosen]
        stack = torch.cat(stacks) if stacks else self._stacked([], positions)
        if incl_remainder:
            stack, labels = self._with_remainder(stack, labels, layer, positions)
        return self._finished(stack, labels, layer, False, positions, apply_ln, return_labels)

    def get_full_resid_decomposition(
        self,
        layer: int | None = None,
        mlp_input: bool = False,
        expand_neurons: bool = True,
        apply_ln: bool = False,
        pos_slice: SliceInput = None,
        return_labels: bool = False,
    ) -> Stack | tuple[Stack, list[str]]:
        """Heads, then neurons (or MLPs), embeddings, and one `bias`: they sum to the stream."""
        layer = self._layer(layer)
        self._check_mlp_input(layer, mlp_input)
        positions = Slice.unwrap(pos_slice)
        steps = list(steps_before(self.model.main_stack, layer, mlp_input))
        stack, labels = self._head_results(steps, positions)
        parts = [stack]
        for number, step in enumerate(steps):
            if step.part != "mlp":
                continue
            if expand_neurons:
                parts.append(self._by_neuron(steps, number, positions))
                labels += [f"L{step.layer}N{n}" for n in range(len(parts[-1]))]
            else:
                written = positions.apply(self["mlp_out", step.layer], -2)[None]
                parts.append(self._carried(written, steps, positions, number))
                labels.append(f"{step.layer}_mlp_out")
        embeds, embed_labels = self._embeddings()
        parts += [self._carried(positions.apply(e, -2), steps, positions, -1)[None] for e in embeds]
        bias = self._bias(steps, positions, attn=True, mlp=expand_neurons)
        parts.append(bias.expand_as(parts[-1]))
        labels = [*labels, *embed_labels, "bias"]
        full = torch.cat(parts)
        return self._finished(full, labels, layer, mlp_input, positions, apply_ln, return_labels)

    def apply_ln_to_stack(
        self,
        residual_stack: Stack,
        layer: int | None = None,
        mlp_input: bool = False,
        pos_slice: SliceInput = None,
        batch_slice: SliceInput = None,
        has_batch_dim: bool = True,
        recompute_ln: bool = False,
    ) -> Stack:
        """Each part as the norm in front of `layer` passes it on, its scale frozen as recorded.

        The stack is centred where the norm centres, divided by the recorded scale and multiplied by
        the norm's weight, so the parts sum to the norm's output less its bias. (TransformerLens
        leaves the weight out; for folded weights, where it is one, the two agree.) `pos_slice` has
        been applied to the stack already and is applied here to the scale; `batch_slice` to both.

        `recompute_ln` gives instead what the norm makes of each part by itself, bias included: the
        logit lens, for whole residual streams.

        Raises:
            InputError: for a scale that was recorded head by head, and for a stack of another
                width.
        """
        layer = self._layer(layer)
        self._check_mlp_input(layer, mlp_input)
        check_width("the residual stack", residual_stack, self.model.cfg.d_model)
        positions, rows = Slice.unwrap(pos_slice), Slice.unwrap(batch_slice)
        if has_batch_dim:
            residual_stack = rows.apply(residual_stack, 1)
        norm, name = self._norm_before(layer, mlp_input)
        if not isinstance(norm, Norm):
            return residual_stack
        if recompute_ln:
            return norm(residual_stack, False)
        scale = self[f"{name}.hook_scale"]
        if scale.ndim != 2 + self.has_batch_dim:
            raise InputError(
                f"{name}.hook_scale was recorded head by head {tuple(scale.shape)}, as split "
                "inputs were edited or their gradients recorded: there is no one scale to apply."
            )
        scale = positions.apply(scale, -2)
        if self.has_batch_dim:
            scale = rows.apply(scale, 0)
        return pass_on(norm, residual_stack, scale)

    def _norm_before(self, layer: int, mlp_input: bool) -> tuple[torch.nn.Module | None, str]:
        stack = self.model.main_stack
        if layer == self.model.cfg.n_layers:
            return stack.ln_final, "ln_final"
        block = stack.blocks[layer]
        name = block.mlp_norm if mlp_input else "ln1"
        return (getattr(block, name) if block.reads_normalised else None), f"blocks.{layer}.{name}"

    def logit_attrs(
        self,
        residual_stack: Stack,
        tokens: TokenChoice,
        incorrect_tokens: TokenChoice | None = None,
        pos_slice: SliceInput = None,
        batch_slice: SliceInput = None,
        has_batch_dim: bool = True,
    ) -> Float[Tensor, "component *batch_and_pos"]:
        """Direct effect of each part on the logit of `tokens` (less that of `incorrect_tokens`).

        The final norm's scale is frozen as recorded. The parts of a whole decomposition sum to the
        logit less its constant, the unembedding's bias and what the final norm's bias adds.

        Args:
            residual_stack: Parts of the final residual stream.
            tokens: One token, one per row `[batch]`, or one per position `[batch, pos]`.
            incorrect_tokens: Of the same shape.
            pos_slice: The positions that the stack holds.
            batch_slice: Rows to keep.
            has_batch_dim: Whether the stack has a batch axis.

        Raises:
            InputError: if the two choices of tokens differ in shape or do not fit the stack.
        """
        if self.model.cfg.head != "lm":
            raise InputError(
                f"logits are linear in the residual stream only with head='lm'. "
                f"This model's is {self.model.cfg.head!r}."
            )
        directions = self.model.tokens_to_residual_directions(tokens)
        if incorrect_tokens is not None:
            wrong = self.model.tokens_to_residual_directions(incorrect_tokens)
            if wrong.shape != directions.shape:
                raise InputError(
                    f"tokens and incorrect_tokens must have the same shape. "
                    f"Received {tuple(directions.shape[:-1])} and {tuple(wrong.shape[:-1])}."
                )
            directions = directions - wrong
        scaled = self.apply_ln_to_stack(
            residual_stack,
            layer=-1,
            pos_slice=pos_slice,
            batch_slice=batch_slice,
            has_batch_dim=has_batch_dim,
        )
        directions = directions.to(scaled.dtype)  # wider than half precision behind a norm
        if directions.ndim == 2 and scaled.ndim == 4:
            directions = rearrange(directions, "batch d_model -> batch 1 d_model")
        if directions.ndim == 1:
            return scaled @ directions
        each = zip(reversed(scaled.shape), reversed(directions.shape), strict=False)
        require(
            directions.ndim <= scaled.ndim and all(n == m or 1 in (n, m) for n, m in each),
            "tokens must be one, or one for each row or place of the stack, "
            f"{tuple(scaled.shape)}. Received {tuple(directions.shape[:-1])}",
        )
        return (scaled * directions).sum(-1)

    def _with_remainder(
        self, stack: Stack, labels: list[str], layer: int, positions: Slice
    ) -> tuple[Stack, list[str]]:
        whole = positions.apply(self._stream(layer), -2)
        return torch.cat([stack, (whole - stack.sum(0))[None]]), [*labels, "remainder"]

    def _stacked(self, parts: list[Tensor], positions: Slice) -> Stack:
        if parts:
            return torch.stack(parts)
        embed = positions.apply(self["hook_embed"], -2)
        return embed.new_empty(0, *embed.shape)

    def _finished(
        self,
        stack: Stack,
        labels: list[str],
        layer: int,
        mlp_input: bool,
        positions: Slice,
        apply_ln: bool,
        return_labels: bool,
    ) -> Stack | tuple[Stack, list[str]]:
        if apply_ln:
            stack = self.apply_ln_to_stack(
                stack, layer, mlp_input, positions, has_batch_dim=self.has_batch_dim
            )
        return (stack, labels) if return_labels else stack
