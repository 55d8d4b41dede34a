"""How a part of the residual stream changes on its way to the stream that is taken apart.

Where norms lie on that way (post-norm, sandwich, a norm of the embeddings), a part passes them with
their scale held as recorded, and what they and the sublayers add as biases is a part by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Shaped
from torch import Tensor

from interp.components.norm import Norm
from interp.frozen_norms import Step, pass_on
from interp.run.slicing import Slice

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


class CarriedParts:
    """What `Decomposition` stands on: recorded parts, as they arrive behind the norms after them.

    `steps` are always all sublayers before the stream that is taken apart
    (`interp.frozen_norms.steps_before`).
    """

    model: HookedTransformer
    has_batch_dim: bool
    cache_dict: dict[str, Shaped[Tensor, "..."]]

    def __getitem__(self, key: str | tuple[str | int | None, ...]) -> Shaped[Tensor, "..."]:
        """A recorded tensor."""
        raise NotImplementedError

    def __contains__(self, key: str | tuple[str | int | None, ...]) -> bool:
        raise NotImplementedError

    def full_name(self, key: str | tuple[str | int | None, ...]) -> str:
        """The hook that a key means."""
        raise NotImplementedError

    def _embeddings(self) -> tuple[list[Tensor], list[str]]:
        parts, labels = [self["hook_embed"]], ["embed"]
        if self.model.main_stack.pos_embed.adds_embedding:
            parts.append(self["hook_pos_embed"].expand_as(parts[0]))
            labels.append("pos_embed")
        if self.model.cfg.n_token_types:
            parts.append(self["hook_token_type_embed"])
            labels.append("token_type_embed")
        return parts, labels

    @property
    def _norms_add_biases(self) -> bool:
        """Whether the stream is normalised on its way by norms that have biases."""
        cfg = self.model.cfg
        on_the_way = cfg.norm_placement == "post" or cfg.post_embedding_ln
        return on_the_way and cfg.norm_kind_with_weights == "LN"

    def _carried(
        self, part: Tensor, steps: list[Step], positions: Slice, number: int, raw: bool = False
    ) -> Tensor:
        """What one part is when it arrives behind the last of these steps.

        Args:
            part: `[..., batch, pos, d_model]`, at these positions.
            steps: All sublayers before that stream.
            positions: Which positions `part` holds.
            number: Which of the steps wrote it; -1: it is part of the embedding.
            raw: It has not passed the norm of what its step adds.
        """
        if number == -1 and self.model.cfg.post_embedding_ln:
            part = self._through("ln_embed", part, positions)
        if raw and steps[number].added is not None:
            part = self._through(steps[number].added, part, positions)
        for step in steps[max(number, 0) :]:
            part = self._through(step.summed, part, positions)
        return part

    def _through(self, name: str | None, part: Tensor, positions: Slice) -> Tensor:
        """A part behind one norm with its scale as recorded; None: as it is."""
        norm = None if name is None else self.model.main_stack.get_submodule(name)
        if not isinstance(norm, Norm):
            return part
        return pass_on(norm, part, positions.apply(self[f"{name}.hook_scale"], -2))

    def _bias(self, steps: list[Step], positions: Slice, attn: bool, mlp: bool) -> Tensor:
        """The biases of norms and, as asked for, of sublayers, as they arrive behind these steps.

        `[d_model]`, or `[batch, pos, d_model]` where they pass norms.
        """
        stack = self.model.main_stack
        total = torch.zeros_like(self.model.W_E[0])
        if self.model.cfg.post_embedding_ln:
            total = _plus_bias(total, stack.get_submodule("ln_embed"))
        for step in steps:
            if mlp if step.part == "mlp" else attn:
                module = getattr(stack.blocks[step.layer], step.part)
                own = module.b_out if step.part == "mlp" else module.b_O
                if step.added is not None:
                    own = self._through(step.added, own, positions)
                    own = _plus_bias(own, stack.get_submodule(step.added))
                total = total + own
            if step.summed is not None:
                total = self._through(step.summed, total, positions)
                total = _plus_bias(total, stack.get_submodule(step.summed))
        return total

    def _stream(self, layer: int) -> Tensor:
        """What block `layer` reads, or the unembedding."""
        if layer < self.model.cfg.n_layers:
            return self["resid_pre", layer]
        if layer > 0:
            return self["resid_post", layer - 1]
        every = Slice.unwrap(None)
        embeds = self._embeddings()[0]
        return torch.stack([self._carried(e, [], every, -1) for e in embeds]).sum(0) + self._bias(
            [], every, attn=False, mlp=False
        )


def _plus_bias(total: Tensor, norm: torch.nn.Module) -> Tensor:
    bias = getattr(norm, "b", None)
    return total if bias is None else total + bias
