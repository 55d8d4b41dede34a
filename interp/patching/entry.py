"""Where in the model a world departs from the base, so that nothing before it is run again."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


class Stage(IntEnum):
    """How a world enters its layer, in the order in which the worlds of a layer are kept."""

    EMBEDDING = 0  # the embeddings are added up again
    STREAM = 1  # the residual stream itself is patched
    WHOLE = 2  # everything is run again
    ATTENTION = 3  # the layer is run again
    SUBLAYERS = 4  # the layer is run again from behind its attention
    READ_OUT = 5  # what follows the last layer is run again


class Entry(NamedTuple):
    """The layer that a world enters (one past the last: it is read out) and how."""

    layer: int
    stage: Stage


HEADS_WROTE = ("attn.hook_z", "attn.hook_result")
_OF_EMBEDDINGS = ("hook_tokens", "hook_embed", "hook_pos_embed", "hook_token_type_embed")


def entry_of(model: HookedTransformer, hook: str) -> Entry:
    """Where worlds enter that are changed at this hook."""
    prefix, n_layers = stack_prefix(model), model.cfg.n_layers
    if hook.startswith(("ln_final.", f"{prefix}ln_final.", "mlm_head.", "pooler.", "unembed.")):
        return Entry(n_layers, Stage.READ_OUT)
    if not hook.startswith(prefix):
        return Entry(n_layers, Stage.WHOLE)
    local = hook.removeprefix(prefix)
    if not local.startswith("blocks."):
        embeds = local in _OF_EMBEDDINGS or local.startswith("ln_embed.")
        if local == "hook_pos_embed" and not model.main_stack.pos_embed.adds_embedding:
            embeds = False  # every layer reads it
        return Entry(0, Stage.EMBEDDING) if embeds else Entry(n_layers, Stage.WHOLE)
    number, inside = local.removeprefix("blocks.").split(".", 1)
    layer = int(number)
    if inside == "hook_resid_pre":
        return Entry(layer, Stage.STREAM)
    if inside == "hook_resid_post":
        return Entry(layer + 1, Stage.STREAM)
    return Entry(layer, Stage.ATTENTION if _before_mlp(model, inside) else Stage.SUBLAYERS)


def _before_mlp(model: HookedTransformer, inside: str) -> bool:
    """Whether a hook of a block comes before what its heads wrote is there."""
    if inside in HEADS_WROTE:
        return False
    if inside.startswith("attn."):
        return True
    reads = model.main_stack.blocks[0].reads_normalised
    if inside.startswith("ln1."):  # before attention, or of its sum with the stream
        return reads
    return inside in ("hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input") or (
        inside.startswith("ln1_post.")
    )


def stack_prefix(model: HookedTransformer) -> str:
    """What the names of the stack that logits come from begin with."""
    return "decoder." if model.cfg.architecture == "encoder-decoder" else ""
