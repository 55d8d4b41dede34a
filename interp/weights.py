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
    fold_ln: bool | None = None,
    center_writing_weights: bool | None = None,
    center_unembed: bool | None = None,
    fold_value_biases: bool | None = None,
    refactor_factored_attn_matrices: bool = False,
) -> HookedTransformer:
    """A new model that computes the same next-token probabilities with simpler weights.

    Its embedding and unembedding are two tensors even if the model's were tied. The arithmetic is
    done in fp64. What was applied is added to `cfg.weight_processing`; applying it twice changes
    nothing more. Each step left at None is taken where it changes no prediction.

    Args:
        model: Left as it is.
        fold_ln: Move the norms' weights and biases into the matrices that read them, and take from
            those the mean that LayerNorm's output does not have. `LN` becomes `LNPre`, `RMS`
            becomes `RMSPre`. Only norms in front of what reads can be folded (`norm_placement`
            `pre` or `sandwich`), and not where positions are added behind them (shortformer).
        center_writing_weights: Take from what writes into the residual stream its mean over
            d_model, where LayerNorm removes it from all that is read.
        center_unembed: Take from W_U and b_U their mean over the vocabulary; logits move by a
            constant. Not with a soft cap, behind which they would not.
        fold_value_biases: Move b_V through W_O into b_O: patterns sum to one, so it is a constant.
            Not with attention sinks, where they do not.
        refactor_factored_attn_matrices: Write QK and OV circuits in their singular bases, which
            leaves both circuits as they are: W_Q and W_K get the same norms, W_O orthonormal rows.

    Raises:
        InputError: for a step that would change what this model computes, or refactoring where it
            has no such form (rotary positions, grouped queries, normalised queries and keys, or
            d_head above d_model).
    """
    from interp.transformer import HookedTransformer

    cfg = model.cfg
    fold_ln = _decide("fold_ln", fold_ln, _can_fold_norms(cfg) or _bias_without_reader(model))
    center_writing_weights = _decide(
        "center_writing_weights", center_writing_weights, _can_center_writing(cfg)
    )
    uncapped = "" if cfg.output_logits_soft_cap <= 0 else "this model's logits have a soft cap"
    if cfg.d_vocab_out == 1:
        uncapped = "there is a single logit, and nothing left of it less its mean"
    center_unembed = _decide("center_unembed", center_unembed, uncapped)
    whole = "attention sinks take a share of the pattern" if cfg.attn_sinks else ""
    fold_value_biases = _decide("fold_value_biases", fold_value_biases, whole)
    changes: dict[str, Any] = {"tie_word_embeddings": False}
    folds = fold_ln and cfg.normalization_type in ("LN", "LNPre", "RMS")
    if folds and cfg.normalization_type is not None:
        changes["normalization_type"] = cfg.normalization_type.removesuffix("Pre") + "Pre"
    # The tokenizer is taken over below, not opened again by its name.
    processed = HookedTransformer.uninitialised(
        cfg.replace(tokenizer_name=None, **changes),
        device_map=None if model.placement is None else model.placement.devices,
    )
    processed.cfg.tokenizer_name = cfg.tokenizer_name
    processed.tokenizer = model.tokenizer
    processed.train(model.training)

    weights = _Weights(model, processed)
    applied = list(cfg.weight_processing)
    if folds:
        _fold_norms(weights, model)
        applied.append("fold_ln")
    if center_writing_weights:
        _center_writing_weights(weights, model)
        applied.append("center_writing_weights")
    if center_unembed:
        weights["unembed.W_U"] = _centred(weights["unembed.W_U"], -1)
        weights["unembed.b_U"] = _centred(weights["unembed.b_U"], -1)
        applied.append("center_unembed")
    if fold_value_biases:
        _fold_value_biases(weights, model)
        applied.append("fold_value_biases")
    if refactor_factored_attn_matrices:
        _refactor_heads(weights, model)
        applied += ["fold_value_biases", "refactor_factored_attn_matrices"]
    processed.cfg.weight_processing = tuple(dict.fromkeys(applied))
    return processed


def _decide(name: str, wanted: bool | None, obstacle: str) -> bool:
    """Whether to take a step: as asked for, or wherever nothing stands against it."""
    if wanted and obstacle:
        raise InputError(f"{name} would change what the model computes: {obstacle}.")
    return not obstacle if wanted is None else wanted


def _can_fold_norms(cfg: HookedTransformerConfig) -> str:
    if cfg.norm_placement not in ("pre", "sandwich"):
        return f"nothing reads what its norms give alone (norm_placement={cfg.norm_placement!r})"
    if cfg.positional_embedding_type == "shortformer":
        return "shortformer positions are added behind the norms"
    return ""


def _bias_without_reader(model: HookedTransformer) -> str:
    """Why a norm's bias has no place to go, if so: a gated MLP adds b_in after its product."""
    if not model.cfg.gated_mlp:
        return ""
    for prefix, stack in _stacks(model):
        for i, block in enumerate(stack.blocks):
            bias = getattr(getattr(block, block.mlp_norm, None), "b", None)
            if bias is not None and bool(bias.any()) and block.reads_normalised:
                return (
                    f"{prefix}blocks.{i}.{block.mlp_norm}.b has no place in a gated MLP, "
                    "which adds b_in after its product"
                )
    return ""


def _can_center_writing(cfg: HookedTransformerConfig) -> str:
    if not cfg.norm_centres:
        return (
            f"only LayerNorm takes off the mean; its normalization_type is "
            f"{cfg.normalization_type!r}"
        )
    if cfg.norm_placement != "pre" or not cfg.final_norm:
        return (
            "the residual stream is read without a norm (norm_placement="
            f"{cfg.norm_placement!r}, final_norm={cfg.final_norm})"
        )
    return ""


class _Weights:
    """A new model's weights, begun as a copy of another's; read in fp64, written in their dtype.

    Only the weight at hand is ever wide, so that processing needs the memory of one model more.
    """

    def __init__(self, model: HookedTransformer, processed: HookedTransformer) -> None:
        found = model.state_dict()
        if model.cfg.tie_word_embeddings:
            found["unembed.W_U"] = rearrange(found["embed.W_E"], "vocab d_model -> d_model vocab")
        self._kept = processed.state_dict()
        # A model over several devices is processed on that of its embedding, weight by weight.
        self._device = processed.cfg.torch_device
        self._folded_away = {n: w for n, w in found.items() if n not in self._kept}
        for name, weight in self._kept.items():
            weight.copy_(found[name])

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    def __getitem__(self, name: str) -> Tensor:
        return self._kept[name].to(self._device, torch.float64)

    def __setitem__(self, name: str, weight: Tensor) -> None:
        self._kept[name].copy_(weight)

    def folded_away(self, name: str) -> Tensor | None:
        """A weight that the new model has no place for; None if the old one had none either."""
        weight = self._folded_away.get(name)
        return None if weight is None else weight.to(self._device, torch.float64)


def _centred(weight: Tensor, axis: int) -> Tensor:
    return weight - weight.mean(axis, keepdim=True)


def _key_value_prefix(cfg: HookedTransformerConfig) -> str:
    """Grouped-query attention stores W_K as _W_K."""
    return "_" if cfg.groups_queries else ""


def _stacks(model: HookedTransformer) -> list[tuple[str, Any]]:
    """The prefix and the module of each stack of blocks."""
    if model.cfg.architecture == "encoder-decoder":
        return [("encoder.", model.encoder), ("decoder.", model.decoder)]
    return [("", model)]


def _attention_layers(model: HookedTransformer) -> list[str]:
    """`blocks.0.attn.`, … of all stacks, cross-attention included."""
    return [
        f"{prefix}blocks.{i}.{part}."
        for prefix, stack in _stacks(model)
        for i, block in enumerate(stack.blocks)
        for part in (("attn", "cross_attn") if block.crosses else ("attn",))
    ]


def _fold_norms(weights: _Weights, model: HookedTransformer) -> None:
    cfg = model.cfg
    centres, grouped = cfg.norm_centres, _key_value_prefix(cfg)

    def heads(attn: str, kinds: str) -> list[tuple[str, str | None]]:
        marks = {"Q": "", "K": grouped, "V": grouped}
        return [(f"{attn}{marks[x]}W_{x}", f"{attn}{marks[x]}b_{x}") for x in kinds]

    encoded_for: list[tuple[str, str | None]] = []
    for prefix, stack in _stacks(model):
        for i, block in enumerate(stack.blocks):
            name = f"{prefix}blocks.{i}."
            _fold_norm(weights, f"{name}ln1", heads(f"{name}attn.", "QKV"), centres)
            if block.crosses:
                _fold_norm(weights, f"{name}ln2", heads(f"{name}cross_attn.", "Q"), centres)
                encoded_for += heads(f"{name}cross_attn.", "KV")
            if cfg.attn_only:
                continue
            mlp = f"{name}mlp."
            # A gated MLP adds b_in after its product, so nothing there can take the norm's bias.
            readers: list[tuple[str, str | None]] = [(mlp + "W_in", mlp + "b_in")]
            if cfg.gated_mlp:
                readers = [(mlp + "W_in", None), (mlp + "W_gate", None)]
            if cfg.num_experts is not None:
                readers.append((mlp + "W_router", None))
            _fold_norm(weights, name + block.mlp_norm, readers, centres)
            if cfg.act_fn == "solu_ln":
                _fold_norm(weights, mlp + "ln", [(mlp + "W_out", mlp + "b_out")], centres=True)
    if encoded_for and cfg.final_norm:
        _fold_norm(weights, "encoder.ln_final", encoded_for, centres)
    if cfg.final_norm:
        prefix, _ = _stacks(model)[-1]
        reader = ("unembed.W_U", "unembed.b_U")
        if cfg.head != "lm":
            reader = ("mlm_head.W", "mlm_head.b") if cfg.head == "mlm" else ("pooler.W", "pooler.b")
        # What is unembedded may be scaled, and the bias of the logits is not.
        scale = cfg.logit_scale if cfg.head == "lm" else 1.0
        _fold_norm(weights, f"{prefix}ln_final", [reader], centres, scale)


def _fold_norm(
    weights: _Weights,
    norm: str,
    readers: Sequence[tuple[str, str | None]],
    centres: bool,
    scale: float = 1.0,
) -> None:
    """Fold one norm into weights `[..., d_model, out]` and their biases `[..., out]`.

    `scale`: what the readers multiply the norm's output by, biases aside.
    """
    w, b = weights.folded_away(f"{norm}.w"), weights.folded_away(f"{norm}.b")
    for weight, bias in readers:
        if b is not None and b.any():
            if bias is None:
                raise InputError(f"{norm}.b cannot be folded: {weight} has no bias to take it.")
            read = einsum(b, weights[weight], "d_in, ... d_in d_out -> ... d_out")
            weights[bias] = weights[bias] + read * scale
        folded = weights[weight] if w is None else w[:, None] * weights[weight]
        # The norm's output has mean zero, so what reads the mean reads nothing.
        weights[weight] = _centred(folded, -2) if centres else folded


def _center_writing_weights(weights: _Weights, model: HookedTransformer) -> None:
    writers = ["embed.W_E", "token_type_embed.W_token_type"]
    for prefix, stack in _stacks(model):
        if stack.pos_embed.adds_embedding:
            writers.append(f"{prefix}pos_embed.W_pos")
        for i in range(len(stack.blocks)):
            writers += [f"{prefix}blocks.{i}.mlp.W_out", f"{prefix}blocks.{i}.mlp.b_out"]
    for attn in _attention_layers(model):
        writers += [f"{attn}W_O", f"{attn}b_O"]
    for name in writers:
        if name in weights:
            weights[name] = _centred(weights[name], -1)


def _fold_value_biases(weights: _Weights, model: HookedTransformer) -> None:
    cfg = model.cfg
    name = f"{_key_value_prefix(cfg)}b_V"
    for attn in _attention_layers(model):
        per_query_head = weights[attn + name].repeat_interleave(cfg.n_heads // cfg.n_kv_heads, 0)
        written = einsum(
            per_query_head, weights[attn + "W_O"], "head d_head, head d_head d_model -> d_model"
        )
        weights[attn + "b_O"] = weights[attn + "b_O"] + written
        weights[attn + name] = torch.zeros_like(weights[attn + name])


def _refactor_heads(weights: _Weights, model: HookedTransformer) -> None:
    cfg = model.cfg
    turned = cfg.positional_embedding_type == "rotary" or cfg.qk_norm is not None
    if turned or cfg.attn_sinks or cfg.groups_queries or cfg.d_head > cfg.d_model:
        raise InputError(
            "refactor_factored_attn_matrices needs plain heads: no rotary positions, no qk_norm, "
            "no sinks, no grouped queries, d_head at most d_model."
        )
    _fold_value_biases(weights, model)
    for attn in _attention_layers(model):
        # Biases as one more input that is always one: [head, d_model + 1, d_head].
        W_Q, W_K = (
            torch.cat([weights[f"{attn}W_{x}"], weights[f"{attn}b_{x}"][:, None]], 1) for x in "QK"
        )
        W_Q, W_K_T = FactoredMatrix(W_Q, W_K.mT).make_even().pair
        for x, weight in (("Q", W_Q), ("K", W_K_T.mT)):
            weights[f"{attn}W_{x}"], weights[f"{attn}b_{x}"] = weight[:, :-1], weight[:, -1]
        U, S, V = FactoredMatrix(weights[f"{attn}W_V"], weights[f"{attn}W_O"]).svd()
        weights[f"{attn}W_V"], weights[f"{attn}W_O"] = U * S[:, None, :], V.mT
