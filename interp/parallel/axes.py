"""Which axis of each weight and of each hook's tensor lies spread over the ranks.

Heads and neurons are shared out; what they read and write, and so the residual stream, norms,
embeddings and logits, every rank holds whole.
"""

from __future__ import annotations

from interp.config import HookedTransformerConfig
from interp.errors import InputError

ATTENTION_WEIGHTS = {
    **dict.fromkeys(("W_Q", "W_K", "W_V", "W_O", "_W_K", "_W_V"), 0),
    **dict.fromkeys(("b_Q", "b_K", "b_V", "_b_K", "_b_V", "sinks"), 0),
}
ATTENTION_HOOKS = {
    **dict.fromkeys(("hook_q", "hook_k", "hook_v", "hook_rot_q", "hook_rot_k"), 2),
    **dict.fromkeys(("hook_z", "hook_result"), 2),
    **dict.fromkeys(("hook_attn_scores", "hook_pattern"), 1),
}
# Of queries' and keys' norms, where each head is normalised by itself.
HEAD_NORM_HOOKS = {"hook_scale": 2, "hook_normalized": 2}

MLP_WEIGHTS = {"W_in": 1, "W_gate": 1, "b_in": 0, "W_out": 0}
MLP_HOOKS = dict.fromkeys(("hook_pre", "hook_pre_linear", "hook_mid", "hook_post"), -1)


def check_divisible(cfg: HookedTransformerConfig, n_ranks: int) -> None:
    """Raise `InputError` unless so many ranks can share a model of this config."""
    if cfg.num_experts is not None:
        raise InputError(
            f"a mixture of experts cannot be spread over ranks. This one has {cfg.num_experts}."
        )
    counts = {"n_heads": cfg.n_heads, "n_key_value_heads": cfg.n_kv_heads}
    if not cfg.attn_only:
        counts["d_mlp"] = cfg.width_mlp
    for name, count in counts.items():
        if count % n_ranks:
            raise InputError(
                f"the number of ranks must divide {name} ({count}). Received {n_ranks} ranks."
            )


def config_of_part(cfg: HookedTransformerConfig, n_ranks: int) -> HookedTransformerConfig:
    """The config of one rank's heads and neurons."""
    changes = {} if cfg.attn_only else {"d_mlp": cfg.width_mlp // n_ranks}
    return cfg.replace(
        n_heads=cfg.n_heads // n_ranks,
        n_key_value_heads=cfg.n_kv_heads // n_ranks,
        d_head=cfg.d_head,
        attn_scale=cfg.attn_scale,
        initializer_range=cfg.initializer_range,
        **changes,
    )
