"""A model's weights, stacked over layers, and what follows from them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from interp.devices.placement import require_one_device
from interp.errors import InputError
from interp.factored import FactoredMatrix

if TYPE_CHECKING:
    from interp.config import HookedTransformerConfig


class WeightViews:
    """Properties of `HookedTransformer`. Stacked weights are copies: editing one edits no model.

    Of an encoder–decoder they are the decoder's self-attention and MLPs. Those of a mixture have an
    axis of experts behind the layer.
    """

    cfg: HookedTransformerConfig
    embed: Any
    unembed: Any
    main_stack: Any

    @property
    def W_E(self) -> Float[Tensor, "d_vocab d_model"]:
        """Token embeddings (the parameter itself)."""
        return self.embed.W_E

    @property
    def W_pos(self) -> Float[Tensor, "n_ctx d_model"]:
        """Learned positions (the parameter itself).

        Raises:
            InputError: if the model has none.
        """
        if not hasattr(self.main_stack.pos_embed, "W_pos"):
            kind = self.cfg.positional_embedding_type
            raise InputError(f"only learned positions have a W_pos. This model's are {kind!r}.")
        return self.main_stack.pos_embed.W_pos

    @property
    def W_E_pos(self) -> Float[Tensor, "d_vocab_and_n_ctx d_model"]:
        """Tokens, then positions: everything that can enter the residual stream at the bottom."""
        return torch.cat([self.W_E, self.W_pos])

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab_out"]:
        """The unembedding (the parameter itself, or the tied embedding transposed)."""
        return self.unembed.W_U

    @property
    def b_U(self) -> Float[Tensor, "d_vocab_out"]:
        """The unembedding's bias (the parameter itself)."""
        return self.unembed.b_U

    def _stacked(self, part: str, name: str) -> Tensor:
        if part == "mlp" and self.cfg.attn_only:
            raise InputError(f"this model has no {name}: it has no MLPs (attn_only).")
        if self.cfg.n_layers == 0:
            raise InputError(f"this model has no {name}: it has no layers.")
        require_one_device(self, f"{name} of all layers")
        return torch.stack(
            [getattr(getattr(block, part), name) for block in self.main_stack.blocks]
        )

    @property
    def W_Q(self) -> Float[Tensor, "layer head d_model d_head"]:
        """Query weights."""
        return self._stacked("attn", "W_Q")

    @property
    def W_K(self) -> Float[Tensor, "layer head d_model d_head"]:
        """Key weights, one per query head."""
        return self._stacked("attn", "W_K")

    @property
    def W_V(self) -> Float[Tensor, "layer head d_model d_head"]:
        """Value weights, one per query head."""
        return self._stacked("attn", "W_V")

    @property
    def W_O(self) -> Float[Tensor, "layer head d_head d_model"]:
        """Output weights."""
        return self._stacked("attn", "W_O")

    @property
    def b_Q(self) -> Float[Tensor, "layer head d_head"]:
        """Query biases."""
        return self._stacked("attn", "b_Q")

    @property
    def b_K(self) -> Float[Tensor, "layer head d_head"]:
        """Key biases, one per query head."""
        return self._stacked("attn", "b_K")

    @property
    def b_V(self) -> Float[Tensor, "layer head d_head"]:
        """Value biases, one per query head."""
        return self._stacked("attn", "b_V")

    @property
    def b_O(self) -> Float[Tensor, "layer d_model"]:
        """Output biases of attention."""
        return self._stacked("attn", "b_O")

    @property
    def W_in(self) -> Float[Tensor, "layer d_model d_mlp"]:
        """The MLPs' input weights."""
        return self._stacked("mlp", "W_in")

    @property
    def W_gate(self) -> Float[Tensor, "layer d_model d_mlp"] | None:
        """Gate weights; None where MLPs have no gate."""
        return self._stacked("mlp", "W_gate") if self.cfg.gated_mlp else None

    @property
    def W_out(self) -> Float[Tensor, "layer d_mlp d_model"]:
        """The MLPs' output weights."""
        return self._stacked("mlp", "W_out")

    @property
    def b_in(self) -> Float[Tensor, "layer d_mlp"]:
        """The MLPs' input biases."""
        return self._stacked("mlp", "b_in")

    @property
    def b_out(self) -> Float[Tensor, "layer d_model"]:
        """The MLPs' output biases."""
        return self._stacked("mlp", "b_out")

    @property
    def QK(self) -> FactoredMatrix:
        """W_Q W_Kᵀ, `[layer, head, d_model, d_model]`, factored."""
        return FactoredMatrix(self.W_Q, self.W_K.mT)

    @property
    def OV(self) -> FactoredMatrix:
        """W_V W_O, `[layer, head, d_model, d_model]`, factored."""
        return FactoredMatrix(self.W_V, self.W_O)

    def tl_parameters(self) -> dict[str, Float[Tensor, "..."]]:
        """Every weight by name, none of them shared: what TransformerLens's tools read.

        Keys and values are one per query head, as `blocks.{l}.attn.W_K` (copies where queries are
        grouped); `unembed.W_U` is there also where the embeddings are tied.
        """
        model: Any = self
        weights: dict[str, Tensor] = {}
        for name, _ in model.named_parameters():
            part, _, kind = name.rpartition(".")
            if kind.startswith("_"):
                weights[f"{part}.{kind[1:]}"] = getattr(model.get_submodule(part), kind[1:])
            else:
                weights[name] = getattr(model.get_submodule(part), kind)
        weights.setdefault("unembed.W_U", self.W_U)
        return weights

    def accumulated_bias(
        self, layer: int, mlp_input: bool = False, include_mlp_biases: bool = True
    ) -> Float[Tensor, "d_model"]:
        """The sum of b_O and b_out before `layer`; with `mlp_input`, of that layer's b_O too.

        Raises:
            InputError: for a layer that is not there, a model over several devices, or where norms
                lie on the biases' way: what arrives there is a run's
                (`cache.get_full_resid_decomposition`), not the weights'.
        """
        require_one_device(self, "a sum of biases of several layers")
        if self.cfg.norm_placement != "pre":
            raise InputError(
                f"biases are a sum of weights only with norm_placement='pre'. "
                f"This model's is {self.cfg.norm_placement!r}."
            )
        if self.cfg.num_experts is not None and include_mlp_biases:
            raise InputError(
                "what experts' biases add depends on their weights: include_mlp_biases=False."
            )
        if not 0 <= layer <= self.cfg.n_layers:
            raise InputError(f"layer must lie in 0 … {self.cfg.n_layers}. Received {layer}.")
        total = torch.zeros(self.cfg.d_model, dtype=self.W_E.dtype, device=self.W_E.device)
        for i in range(layer):
            total = total + self.main_stack.blocks[i].attn.b_O
            if self.cfg.architecture == "encoder-decoder":
                total = total + self.main_stack.blocks[i].cross_attn.b_O
            if include_mlp_biases and not self.cfg.attn_only:
                total = total + self.main_stack.blocks[i].mlp.b_out
        if mlp_input:
            if layer == self.cfg.n_layers:
                raise InputError(f"mlp_input needs a layer below {self.cfg.n_layers}.")
            total = total + self.main_stack.blocks[layer].attn.b_O
            if self.cfg.architecture == "encoder-decoder":
                total = total + self.main_stack.blocks[layer].cross_attn.b_O
        return total

    def all_head_labels(self) -> list[str]:
        """`L0H0`, `L0H1`, …"""
        return [f"L{i}H{h}" for i in range(self.cfg.n_layers) for h in range(self.cfg.n_heads)]

    def all_composition_scores(
        self, mode: Literal["Q", "K", "V"]
    ) -> Float[Tensor, "layer head layer head"]:
        """‖W_left W_right‖ / (‖W_left‖ ‖W_right‖) of every earlier head with every later one.

        Left is the earlier head's OV circuit; right the later head's QK circuit (`Q`), its
        transpose (`K`) or OV circuit (`V`). Zero unless the right head's layer is the later one.
        The weights are taken as they are: for a model whose norms are not folded see
        `interp.weight_circuits.composition_scores`, which takes the norms along. (Elhage et al.
        2021, A Mathematical Framework for Transformer Circuits.)

        Raises:
            InputError: for another mode.
        """
        from interp.weight_circuits.composition import composition_scores

        model: Any = self
        return composition_scores(model, mode, norms=False)
