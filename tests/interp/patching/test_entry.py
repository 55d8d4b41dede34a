"""Which layer a patched world enters, and how: no more is run again than has to be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from interp import HookedTransformer
from interp.patching.entry import Stage, entry_of
from tests.interp.kinds import KINDS

_BEHIND_HEADS = ("attn.hook_z", "attn.hook_result", "hook_attn_out", "hook_resid_mid")
_BEFORE = ("hook_attn_in", "hook_q_input", "hook_v_input", "attn.hook_q", "attn.hook_pattern")


@pytest.mark.parametrize(
    ("kind", "hook", "layer", "stage"),
    [
        ("gpt2", "hook_embed", 0, Stage.EMBEDDING),
        ("gpt2", "hook_pos_embed", 0, Stage.EMBEDDING),
        ("shortformer", "hook_pos_embed", 2, Stage.WHOLE),  # every layer reads it
        ("bloom", "ln_embed.hook_scale", 0, Stage.EMBEDDING),
        ("gpt2", "blocks.1.hook_resid_pre", 1, Stage.STREAM),
        ("gpt2", "blocks.0.hook_resid_post", 1, Stage.STREAM),
        ("gpt2", "blocks.1.hook_resid_post", 2, Stage.STREAM),
        *[("gpt2", f"blocks.1.{name}", 1, Stage.ATTENTION) for name in _BEFORE],
        *[("gpt2", f"blocks.1.{name}", 1, Stage.SUBLAYERS) for name in _BEHIND_HEADS],
        ("gpt2", "blocks.1.mlp.hook_post", 1, Stage.SUBLAYERS),
        ("gpt2", "blocks.1.ln1.hook_scale", 1, Stage.ATTENTION),
        ("gpt2", "blocks.1.ln2.hook_scale", 1, Stage.SUBLAYERS),
        ("bert", "blocks.1.ln1.hook_scale", 1, Stage.SUBLAYERS),  # of attention's sum
        ("gemma2", "blocks.1.ln1_post.hook_scale", 1, Stage.ATTENTION),
        ("gpt2", "ln_final.hook_scale", 2, Stage.READ_OUT),
        ("bert", "mlm_head.hook_post", 2, Stage.READ_OUT),
        ("t5", "decoder.hook_embed", 0, Stage.EMBEDDING),
        ("t5", "decoder.blocks.0.attn.hook_z", 0, Stage.SUBLAYERS),
        ("t5", "decoder.ln_final.hook_scale", 1, Stage.READ_OUT),
        ("t5", "encoder.blocks.0.hook_resid_pre", 1, Stage.WHOLE),
    ],
)
def test_worlds_enter_where_they_depart(
    kind: str, hook: str, layer: int, stage: Stage, make_model: Callable[..., HookedTransformer]
) -> None:
    model = make_model(**KINDS[kind])
    assert hook in model.hook_dict
    assert entry_of(model, hook) == (layer, stage)
