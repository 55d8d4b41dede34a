"""What puts a clean activation into a corrupted one, place by place, as TransformerLens has it.

A patch setter takes the corrupted activation, an index whose first number is the layer, and the
clean activation, and returns the patched one. In a sweep it is given a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

PatchSetter = Callable[
    [Float[Tensor, "batch ..."], Sequence[int], Float[Tensor, "batch ..."]],
    Float[Tensor, "batch ..."],
]


def layer_pos_patch_setter(
    corrupted_activation: Float[Tensor, "batch pos *axes"],
    index: Sequence[int],
    clean_activation: Float[Tensor, "batch pos *axes"],
) -> Float[Tensor, "batch pos *axes"]:
    """Patch one position: `[layer, pos]`."""
    _, pos = index
    corrupted_activation[:, pos] = clean_activation[:, pos]
    return corrupted_activation


def layer_pos_head_vector_patch_setter(
    corrupted_activation: Float[Tensor, "batch pos head *axes"],
    index: Sequence[int],
    clean_activation: Float[Tensor, "batch pos head *axes"],
) -> Float[Tensor, "batch pos head *axes"]:
    """Patch one head's vector at one position: `[layer, pos, head]`."""
    _, pos, head = index
    corrupted_activation[:, pos, head] = clean_activation[:, pos, head]
    return corrupted_activation


def layer_head_vector_patch_setter(
    corrupted_activation: Float[Tensor, "batch pos head *axes"],
    index: Sequence[int],
    clean_activation: Float[Tensor, "batch pos head *axes"],
) -> Float[Tensor, "batch pos head *axes"]:
    """Patch one head's vectors at every position: `[layer, head]`."""
    _, head = index
    corrupted_activation[:, :, head] = clean_activation[:, :, head]
    return corrupted_activation


def layer_head_pattern_patch_setter(
    corrupted_activation: Float[Tensor, "batch head pos src_pos"],
    index: Sequence[int],
    clean_activation: Float[Tensor, "batch head pos src_pos"],
) -> Float[Tensor, "batch head pos src_pos"]:
    """Patch one head's pattern (or scores): `[layer, head]`."""
    _, head = index
    corrupted_activation[:, head] = clean_activation[:, head]
    return corrupted_activation


def layer_head_pos_pattern_patch_setter(
    corrupted_activation: Float[Tensor, "batch head pos src_pos"],
    index: Sequence[int],
    clean_activation: Float[Tensor, "batch head pos src_pos"],
) -> Float[Tensor, "batch head pos src_pos"]:
    """Patch one destination of a head's pattern: `[layer, head, dest_pos]`."""
    _, head, pos = index
    corrupted_activation[:, head, pos] = clean_activation[:, head, pos]
    return corrupted_activation


def layer_head_dest_src_pos_pattern_patch_setter(
    corrupted_activation: Float[Tensor, "batch head pos src_pos"],
    index: Sequence[int],
    clean_activation: Float[Tensor, "batch head pos src_pos"],
) -> Float[Tensor, "batch head pos src_pos"]:
    """Patch one entry of a head's pattern: `[layer, head, dest_pos, src_pos]`."""
    _, head, pos, source = index
    corrupted_activation[:, head, pos, source] = clean_activation[:, head, pos, source]
    return corrupted_activation


_VECTORS, _PATTERNS = ("pos", "head"), ("head", "pos", "src_pos")
AXES_OF: dict[PatchSetter, tuple[tuple[str, ...], tuple[str, ...]]] = {
    layer_pos_patch_setter: (("pos",), ("pos",)),
    layer_pos_head_vector_patch_setter: (_VECTORS, ("pos", "head")),
    layer_head_vector_patch_setter: (_VECTORS, ("head",)),
    layer_head_pattern_patch_setter: (_PATTERNS, ("head",)),
    layer_head_pos_pattern_patch_setter: (_PATTERNS, ("head", "pos")),
    layer_head_dest_src_pos_pattern_patch_setter: (_PATTERNS, ("head", "pos", "src_pos")),
}
"""Setter → the leading axes that it takes an activation to have, and those its index is of."""
