"""Short names for hooks: `get_act_name("pattern", 0)` → `blocks.0.attn.hook_pattern`."""

from __future__ import annotations

import re

_ATTN = {
    "k", "v", "q", "z", "rot_k", "rot_q", "result", "pattern", "attn_scores",
}  # fmt: skip
_MLP = {
    "pre", "post", "mid", "pre_linear", "router_logits", "expert_weights", "expert_out",
}  # fmt: skip
_NORM = {"scale", "normalized"}
_SHORT = {
    "attn": "pattern",
    "attn_logits": "attn_scores",
    "key": "k",
    "query": "q",
    "value": "v",
    "mlp_pre": "pre",
    "mlp_mid": "mid",
    "mlp_post": "post",
}
_LAYER_TYPES = {
    "q_norm": "attn.q_norm",
    "k_norm": "attn.k_norm",
    "a": "attn",
    "m": "mlp",
    "b": "",
    "block": "",
    "blocks": "",
    "attention": "attn",
}

# Names that TransformerLens 4 gives to hook points that have another name here.
_MOVED = re.compile(r"(blocks\.[^.]+)\.attn\.(hook_(?:[qkv]_input|attn_in))")


def usual_name(name: str) -> str:
    """A full name or glob as it is here: `blocks.0.attn.hook_q_input` → `blocks.0.hook_q_input`."""
    return _MOVED.sub(r"\1.\2", name)


def get_act_name(
    name: str, layer: int | str | None = None, layer_type: str | int | None = None
) -> str:
    """The full hook name that a short one means, by TransformerLens's rules.

    `("k", 6)` → `blocks.6.attn.hook_k`; `"k6"` and `"pre5"` hold the layer in the name;
    `("scale", 4, "ln1")` → `blocks.4.ln1.hook_scale`; `"embed"` → `hook_embed`;
    `("normalized",)` → `ln_final.hook_normalized`; a full name is returned as `usual_name` has it.
    """
    if ("." in name or name.startswith("hook_")) and layer is None and layer_type is None:
        return usual_name(name)
    packed = re.fullmatch(r"([a-z_]+)(\d+)(.*)", name)
    if packed is not None and layer is None:
        name, layer, found_type = packed[1], int(packed[2]), packed[3] or None
        layer_type = layer_type or found_type
    name = _SHORT.get(name, name)
    if name in _ATTN:
        layer_type = "cross_attn" if layer_type == "cross_attn" else "attn"
    elif name in _MLP:
        layer_type = "mlp"
    elif layer_type is not None:
        layer_type = _LAYER_TYPES.get(str(layer_type), str(layer_type))
    parts = [] if layer is None else [f"blocks.{layer}"]
    if layer is None and name in _NORM and not layer_type:
        layer_type = "ln_final"
    if layer_type:
        parts.append(str(layer_type))
    parts.append(f"hook_{name}")
    return ".".join(parts)
