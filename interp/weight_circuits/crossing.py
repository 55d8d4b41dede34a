"""Circuits of cross-attention: what a decoder's heads do with source tokens, read past the encoder.

Source tokens are taken as the encoder's stream carries them past all of its layers, target tokens
as the decoder's stream carries them to the head. Norms and biases are taken as everywhere in this
package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from interp.components.norm import Norm
from interp.errors import require
from interp.factored import FactoredMatrix
from interp.frozen_norms import steps_before
from interp.precision import wide
from interp.weight_circuits.circuits import to_logits
from interp.weight_circuits.norms import Path, check_head, push
from interp.weight_circuits.vectors import token_vectors

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


def cross_ov_circuit(
    model: HookedTransformer, layer: int, head: int, less_mean: bool = False
) -> FactoredMatrix:
    """W_E W_V W_O W_U of a cross-attention head: what attending to each source token adds to each
    logit, `[d_vocab, d_vocab_out]`.

    Args:
        model: An encoder–decoder.
        layer: The decoder's.
        head: Its number.
        less_mean: Take each row less its mean over the vocabulary.

    Raises:
        InputError: for another architecture, a head that is not there, or another `cfg.head` than
            `lm`.
    """
    attn = _cross(model, layer, head).cross_attn
    A = _source_vectors(model) @ wide(attn.W_V[head])
    B = to_logits(model, attn.W_O[head], layer, "cross_attn", less_mean)
    return FactoredMatrix(A, B)


def cross_qk_circuit(
    model: HookedTransformer, layer: int, head: int, scaled: bool = False
) -> FactoredMatrix:
    """W_E W_Q W_Kᵀ W_Eᵀ of a cross-attention head: how much each target token likes each source
    token, `[target token, source token]`.

    Args:
        model: An encoder–decoder.
        layer: The decoder's.
        head: Its number.
        scaled: Divide by the attention's scale, so that entries are scores.

    Raises:
        InputError: for another architecture, a head that is not there, or norms of queries and
            keys, which no head's circuit holds here.
    """
    block = _cross(model, layer, head)
    attn = block.cross_attn
    require(
        not any(isinstance(norm, Norm) for norm in (attn.q_norm, attn.k_norm)),
        "cross-attention with norms of queries and keys has no QK circuit here. "
        f"This model has qk_norm {model.cfg.qk_norm!r}",
    )
    W_Q = wide(attn.W_Q[head]) / (attn.attn_scale if scaled else 1.0)
    queries = push(_path_to_cross(model, layer), token_vectors(model)) @ W_Q
    keys = _source_vectors(model) @ wide(attn.W_K[head])
    return FactoredMatrix(queries, keys.mT)


def _source_vectors(model: HookedTransformer) -> Float[Tensor, "d_vocab d_model"]:
    """Source tokens as cross-attention reads them past the encoder's layers."""
    stack: Any = model.encoder
    steps = steps_before(stack, model.cfg.n_encoder_layers or 0)
    summed = [stack.get_submodule(step.summed) for step in steps if step.summed is not None]
    return push(
        _real([_embedding_norm(model, stack), *summed, stack.ln_final]), token_vectors(model)
    )


def _path_to_cross(model: HookedTransformer, layer: int) -> Path:
    """Norms between the decoder's embeddings and the queries of a layer's cross-attention."""
    stack: Any = model.decoder
    norms = [_embedding_norm(model, stack)]
    for step in steps_before(stack, layer, mlp_input=True):
        if (step.layer, step.part) == (layer, "cross_attn"):
            break
        if step.summed is not None:
            norms.append(stack.get_submodule(step.summed))
    block = stack.blocks[layer]
    return _real([*norms, block.ln2 if block.reads_normalised else None])


def _embedding_norm(model: HookedTransformer, stack: Any) -> Any:
    return stack.ln_embed if model.cfg.post_embedding_ln else None


def _real(norms: list[Any]) -> Path:
    return tuple(norm for norm in norms if isinstance(norm, Norm))


def _cross(model: HookedTransformer, layer: int, head: int) -> Any:
    require(
        model.cfg.architecture == "encoder-decoder",
        "only an encoder–decoder has cross-attention. This model's architecture is "
        f"{model.cfg.architecture!r}",
    )
    check_head(model, layer, head)
    block: Any = model.decoder.blocks[layer]
    return block
