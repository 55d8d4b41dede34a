"""Weights by name: state dicts, their hash, and processing that keeps what the model computes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from einops import einsum, rearrange
from torch import Tensor

from interp.config import HookedTransformerConfig
from interp.errors import InputError
from interp.factored import FactoredMatrix

if TYPE_CHECKING:
    from torch import nn

    from interp.transformer import HookedTransformer

# Tables that TransformerLens keeps beside its weights and that this model computes when needed.
_BUFFERS = ("mask", "IGNORE", "rotary_sin", "rotary_cos")


def adapt_state_dict(state_dict: Mapping[str, Any], cfg: HookedTransformerConfig) -> dict[str, Any]:
    """The same weights without TransformerLens's buffers and without a copy of a tied embedding.

    Raises:
        InputError: if a tied model is given an unembedding that is not its embedding transposed.
    """
    adapted = {k: v for k, v in state_dict.items() if k.rsplit(".", 1)[-1] not in _BUFFERS}
    if cfg.tie_word_embeddings and "unembed.W_U" in adapted:
        W_U, W_E = adapted.pop("unembed.W_U"), adapted.get("embed.W_E")
        if W_E is None or W_U.shape != W_E.T.shape or not torch.equal(W_U, W_E.T):
            raise InputError(
                "this model's embeddings are tied, but unembed.W_U is not embed.W_E transposed. "
                "Load into a model with tie_word_embeddings=False."
            )
    return adapted


def weight_hash(model: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all weights: equal for equal models."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        flat = weight.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def process_weights(
    model: HookedTransformer,
    fold_ln: bool = True,
    center_writing_weights: bool | None = None,
    center_unembed: bool = True,
    fold_value_biases: bool = True,
    refactor_factored_attn_matrices: bool = False,
) -> HookedTransformer:
    """A new model that computes the same next-token probabilities with simpler weights.

    Its embedding and unembedding are two tensors even if the model's were tied. The arithmetic is
    done in fp64. What was applied is added to `cfg.weight_processing`; applying it twice changes
    nothing more.

    Args:
        model: Left as it is.
        fold_ln: Move the norms' weights and biases into the matrices that read them, and take from
            those the mean that LayerNorm's output does not have. `LN` becomes `LNPre`, `RMS`
            becomes `RMSPre`.
        center_writing_weights: Take from what writes into the residual stream its mean over
            d_model, which LayerNorm removes anyway. None: where the model has LayerNorm.
        center_unembed: Take from W_U and b_U their mean over the vocabulary; logits move by a
            constant.
        fold_value_biases: Move b_V through W_O into b_O: patterns sum to one, so it is a constant.
        refactor_factored_attn_matrices: Write QK and OV circuits in their singular bases, which
            leaves both circuits as they are: W_Q and W_K get the same norms, W_O orthonormal rows.

    Raises:
        InputError: for `center_writing_weights=True` in a model without LayerNorm, or refactoring
            in one with rotary positions, grouped queries or d_head above d_model: there it would
            change what the model computes, or has no such form.
    """
    from interp.transformer import HookedTransformer

    cfg = model.cfg
    if center_writing_weights is None:
        center_writing_weights = cfg.norm_centres
    if center_writing_weights and not cfg.norm_centres:
        raise InputError(
            "center_writing_weights needs LayerNorm, which removes the mean. "
            f"This model's normalization_type is {cfg.normalization_type!r}."
        )
    changes: dict[str, Any] = {"tie_word_embeddings": False}
    folds = fold_ln and cfg.normalization_type in ("LN", "LNPre", "RMS")
    if folds and cfg.normalization_type is not None:
        changes["normalization_type"] = cfg.normalization_type.removesuffix("Pre") + "Pre"
    # The tokenizer is taken over below, not opened again by its name.
    processed = HookedTransformer.uninitialised(cfg.replace(tokenizer_name=None, **changes))
    processed.cfg.tokenizer_name = cfg.tokenizer_name
    processed.tokenizer = model.tokenizer
    processed.train(model.training)

    weights = _Weights(model, processed)
    applied = list(cfg.weight_processing)
    if folds:
        _fold_norms(weights, cfg)
        applied.append("fold_ln")
    if center_writing_weights:
        _center_writing_weights(weights, cfg)
        applied.append("center_writing_weights")
    if center_unembed:
        weights["unembed.W_U"] = _centred(weights["unembed.W_U"], -1)
        weights["unembed.b_U"] = _centred(weights["unembed.b_U"], -1)
        applied.append("center_unembed")
    if fold_value_biases:
        _fold_value_biases(weights, cfg)
        applied.append("fold_value_biases")
    if refactor_factored_attn_matrices:
        _refactor_heads(weights, cfg)
        applied += ["fold_value_biases", "refactor_factored_attn_matrices"]
    processed.cfg.weight_processing = tuple(dict.fromkeys(applied))
    return processed


class _Weights:
    """A new model's weights, begun as a copy of another's; read in fp64, written in their dtype.

    Only the weight at hand is ever wide, so that processing needs the memory of one model more.
    """

    def __init__(self, model: HookedTransformer, processed: HookedTransformer) -> None:
        found = model.state_dict()
        if model.cfg.tie_word_embeddings:
            found["unembed.W_U"] = rearrange(found["embed.W_E"], "vocab d_model -> d_model vocab")
        self._kept = processed.state_dict()
        self._folded_away = {n: w for n, w in found.items() if n not in self._kept}
        for name, weight in self._kept.items():
            weight.copy_(found[name])

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    def __getitem__(self, name: str) -> Tensor:
        return self._kept[name].double()

    def __setitem__(self, name: str, weight: Tensor) -> None:
        self._kept[name].copy_(weight)

    def folded_away(self, name: str) -> Tensor | None:
        """A weight that the new model has no place for; None if the old one had none either."""
        weight = self._folded_away.get(name)
        return None if weight is None else weight.double()


def _centred(weight: Tensor, axis: int) -> Tensor:
    return weight - weight.mean(axis, keepdim=True)


def _key_value_prefix(cfg: HookedTransformerConfig) -> str:
    """Grouped-query attention stores W_K as _W_K."""
    return "_" if cfg.groups_queries else ""


def _fold_norms(weights: _Weights, cfg: HookedTransformerConfig) -> None:
    centres = cfg.norm_centres
    grouped = _key_value_prefix(cfg)
    for i in range(cfg.n_layers):
        attn, mlp = f"blocks.{i}.attn.", f"blocks.{i}.mlp."
        heads = [
            ("W_Q", "b_Q"),
            (f"{grouped}W_K", f"{grouped}b_K"),
            (f"{grouped}W_V", f"{grouped}b_V"),
        ]
        readers = [(attn + W, attn + b) for W, b in heads]
        _fold_norm(weights, f"blocks.{i}.ln1", readers, centres)
        if cfg.attn_only:
            continue
        # A gated MLP adds b_in after its product, so nothing there can take the norm's bias.
        mlp_readers: list[tuple[str, str | None]] = [(mlp + "W_in", mlp + "b_in")]
        if cfg.gated_mlp:
            mlp_readers = [(mlp + "W_in", None), (mlp + "W_gate", None)]
        _fold_norm(weights, f"blocks.{i}.ln2", mlp_readers, centres)
        if cfg.act_fn == "solu_ln":
            _fold_norm(weights, mlp + "ln", [(mlp + "W_out", mlp + "b_out")], centres=True)
    _fold_norm(weights, "ln_final", [("unembed.W_U", "unembed.b_U")], centres)


def _fold_norm(
    weights: _Weights, norm: str, readers: Sequence[tuple[str, str | None]], centres: bool
) -> None:
    """Fold one norm into weights `[..., d_model, out]` and their biases `[..., out]`."""
    w, b = weights.folded_away(f"{norm}.w"), weights.folded_away(f"{norm}.b")
    for weight, bias in readers:
        if b is not None and b.any():
            if bias is None:
                raise InputError(f"{norm}.b cannot be folded: {weight} has no bias to take it.")
            read = einsum(b, weights[weight], "d_in, ... d_in d_out -> ... d_out")
            weights[bias] = weights[bias] + read
        folded = weights[weight] if w is None else w[:, None] * weights[weight]
        # The norm's output has mean zero, so what reads the mean reads nothing.
        weights[weight] = _centred(folded, -2) if centres else folded


def _center_writing_weights(weights: _Weights, cfg: HookedTransformerConfig) -> None:
    writers = ["embed.W_E", "pos_embed.W_pos"]
    for i in range(cfg.n_layers):
        writers += [f"blocks.{i}.attn.W_O", f"blocks.{i}.attn.b_O"]
        writers += [f"blocks.{i}.mlp.W_out", f"blocks.{i}.mlp.b_out"]
    for name in writers:
        if name in weights:
            weights[name] = _centred(weights[name], -1)


def _fold_value_biases(weights: _Weights, cfg: HookedTransformerConfig) -> None:
    name = f"{_key_value_prefix(cfg)}b_V"
    for i in range(cfg.n_layers):
        attn = f"blocks.{i}.attn."
        per_query_head = weights[attn + name].repeat_interleave(cfg.n_heads // cfg.n_kv_heads, 0)
        written = einsum(
            per_query_head, weights[attn + "W_O"], "head d_head, head d_head d_model -> d_model"
        )
        weights[attn + "b_O"] = weights[attn + "b_O"] + written
        weights[attn + name] = torch.zeros_like(weights[attn + name])


def _refactor_heads(weights: _Weights, cfg: HookedTransformerConfig) -> None:
    if cfg.positional_embedding_type == "rotary" or cfg.groups_queries or cfg.d_head > cfg.d_model:
        raise InputError(
            "refactor_factored_attn_matrices needs plain heads: no rotary positions, no grouped "
            "queries, d_head at most d_model."
        )
    _fold_value_biases(weights, cfg)
    for i in range(cfg.n_layers):
        attn = f"blocks.{i}.attn."
        # Biases as one more input that is always one: [head, d_model + 1, d_head].
        W_Q, W_K = (
            torch.cat([weights[f"{attn}W_{x}"], weights[f"{attn}b_{x}"][:, None]], 1) for x in "QK"
        )
        W_Q, W_K_T = FactoredMatrix(W_Q, W_K.mT).make_even().pair
        for x, weight in (("Q", W_Q), ("K", W_K_T.mT)):
            weights[f"{attn}W_{x}"], weights[f"{attn}b_{x}"] = weight[:, :-1], weight[:, -1]
        U, S, V = FactoredMatrix(weights[f"{attn}W_V"], weights[f"{attn}W_O"]).svd()
        weights[f"{attn}W_V"], weights[f"{attn}W_O"] = U * S[:, None, :], V.mT
