"""Heads that act through another: virtual attention heads, and patterns composed of two heads.

Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits. Two heads in a row
move what the first attends to by the product of their patterns and their OV circuits; a QK circuit
through an earlier head compares what that head brought.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import InputError, require, require_one_of
from interp.factored import FactoredMatrix
from interp.precision import wide
from interp.weight_circuits.circuits import Rows, qk_weights, rows_read, to_logits
from interp.weight_circuits.composition import gram_root, pair_norms
from interp.weight_circuits.norms import check_head, norm_of_reader, path_from_writer, push

if TYPE_CHECKING:
    from interp.cache import ActivationCache
    from interp.transformer import HookedTransformer

Head = tuple[int, int]
"""Layer and number of a head."""


def _brought(
    model: HookedTransformer, first: Head, second: Head
) -> Float[Tensor, "d_head d_model"]:
    """The first head's W_O as the second's queries, keys and values read it."""
    check_head(model, *first)
    check_head(model, *second)
    require(
        first[0] < second[0],
        f"the second head must be in a later layer. Received L{first[0]}H{first[1]} and "
        f"L{second[0]}H{second[1]}",
    )
    path = path_from_writer(model, first[0], to=second[0]) + norm_of_reader(model, second[0])
    return push(path, wide(model.main_stack.blocks[first[0]].attn.W_O[first[1]]))


def virtual_ov(model: HookedTransformer, first: Head, second: Head) -> FactoredMatrix:
    """The OV circuit of two heads in a row, W_V¹ W_O¹ W_V² W_O², `[d_model, d_model]`.

    Centring and weights of the norms between the two are in, those around them are not. Its norm
    over the product of the two heads' own norms is their V-composition.

    Args:
        model: Any; of an encoder–decoder the decoder's self-attention.
        first: Layer and number of the head that reads tokens.
        second: Of the later head, which reads the first.

    Raises:
        InputError: for heads that are not there or in the wrong order.
    """
    middle = _brought(model, first, second)
    attn_1, attn_2 = (model.main_stack.blocks[layer].attn for layer, _ in (first, second))
    between = middle @ wide(attn_2.W_V[second[1]])
    return FactoredMatrix(wide(attn_1.W_V[first[1]]), between @ wide(attn_2.W_O[second[1]]))


@torch.no_grad()
def virtual_ov_norms(model: HookedTransformer) -> Float[Tensor, "layer head layer head"]:
    """The Frobenius norm of `virtual_ov` for all pairs; zero unless the second layer is later.

    Nothing of the size d_model² is made for a pair.
    """
    blocks, n_heads = model.main_stack.blocks, model.cfg.n_heads
    weights = [(wide(block.attn.W_V), wide(block.attn.W_O)) for block in blocks]
    norms = torch.zeros(
        len(blocks),
        n_heads,
        len(blocks),
        n_heads,
        dtype=weights[0][0].dtype,
        device=model.W_E.device,
    )
    read = [W_V @ gram_root(W_O.mT) for W_V, W_O in weights]
    for first, (W_V, W_O) in enumerate(weights):
        brought = gram_root(W_V) @ W_O
        for second in range(first + 1, len(blocks)):
            path = path_from_writer(model, first, to=second) + norm_of_reader(model, second)
            norms[first, :, second] = pair_norms(push(path, brought), read[second])
    return norms


def virtual_ov_circuit(
    model: HookedTransformer,
    first: Head,
    second: Head,
    rows: Rows = "token",
    less_mean: bool = False,
) -> FactoredMatrix:
    """W_E W_V¹ W_O¹ W_V² W_O² W_U: what two heads in a row add to the logits, `[row, d_vocab_out]`.

    Raises:
        InputError: for heads that are not there or in the wrong order, rows that the model lacks,
            or another `cfg.head` than `lm`.
    """
    middle = _brought(model, first, second)
    attn_1, attn_2 = (model.main_stack.blocks[layer].attn for layer, _ in (first, second))
    A = rows_read(model, first[0], rows) @ wide(attn_1.W_V[first[1]])
    written = middle @ wide(attn_2.W_V[second[1]]) @ wide(attn_2.W_O[second[1]])
    return FactoredMatrix(A, to_logits(model, written, second[0], less_mean=less_mean))


def composed_qk_circuit(
    model: HookedTransformer,
    first: Head,
    second: Head,
    mode: Literal["Q", "K"] = "K",
    rows: Rows = "token",
    distance: int = 0,
    scaled: bool = False,
) -> FactoredMatrix:
    """The second head's QK circuit with one side read through the first head, `[query, key]`.

    `K`: W_E W_Q W_Kᵀ (W_E W_V¹ W_O¹)ᵀ. Entry (a, b): how much a destination that holds a likes a
    source to which the first head has brought b. With a previous-token head first, an induction
    head has a large diagonal here, and `copying_score` near 1.
    `Q`: the same with what the first head brought to the destination, b in the rows.

    Args:
        model: Any; of an encoder–decoder the decoder's self-attention.
        first: Layer and number of the head that brings something.
        second: Of the later head, which compares.
        mode: Which side is read through the first head.
        rows: What the first head reads and the other side holds.
        distance, scaled: As in `qk_circuit`.

    Raises:
        InputError: for heads that are not there or in the wrong order, another mode, or as
            `qk_circuit`.
    """
    require_one_of("mode", mode, ("Q", "K"))
    middle = _brought(model, first, second)
    W_Q, W_K = qk_weights(model, *second, distance)
    if scaled:
        W_Q = W_Q / model.main_stack.blocks[second[0]].attn.attn_scale
    W_V = wide(model.main_stack.blocks[first[0]].attn.W_V[first[1]])
    read = rows_read(model, first[0], rows) @ W_V
    straight = rows_read(model, second[0], rows)
    if mode == "K":
        # rank d_head of either: the small products in the middle.
        return FactoredMatrix(straight @ W_Q, (read @ (middle @ W_K)).mT)
    return FactoredMatrix(read @ (middle @ W_Q), (straight @ W_K).mT)


def virtual_pattern(
    cache: ActivationCache, first: Head, second: Head
) -> Float[Tensor, "batch pos key_pos"]:
    """A² A¹: from where two heads in a row bring what they bring to each destination.

    Rows sum to one where both heads' do.

    Args:
        cache: With `pattern` of both layers.
        first: Layer and number of the head that reads tokens.
        second: Of the later head.

    Raises:
        InputError: for heads in the wrong order or not there, or a cache without their patterns.
    """
    require(
        first[0] < second[0],
        f"the second head must be in a later layer. Received {first} and {second}",
    )
    patterns = []
    for layer, head in (first, second):
        if ("pattern", layer) not in cache:
            raise InputError(
                f"a virtual pattern needs both heads' patterns: record "
                f"blocks.{layer}.attn.hook_pattern."
            )
        pattern = cache["pattern", layer]
        require(
            0 <= head < pattern.shape[-3],
            f"head must lie in 0 … {pattern.shape[-3] - 1}. Received {head}",
        )
        patterns.append(pattern[..., head, :, :])
    return torch.matmul(patterns[1], patterns[0])
