"""Configurations that between them use every field, and edits for every hook of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from interp import HookedTransformer
from tests.covering import every_nth
from tests.interp.restatement import Edit

# Those whose hooks are TransformerLens's.
PLAIN: dict[str, dict[str, Any]] = {
    "gpt2": {"act_fn": "gelu_new"},
    "gpt2-folded": {"normalization_type": "LNPre", "d_vocab_out": 13},
    "neox": {"positional_embedding_type": "rotary", "rotary_dim": 4, "parallel_attn_mlp": True},
    "gptj": {
        "positional_embedding_type": "rotary", "rotary_dim": 2, "rotary_adjacent_pairs": True,
        "parallel_attn_mlp": True, "act_fn": "gelu_fast", "normalization_type": "LNPre",
    },
    "llama": {
        "positional_embedding_type": "rotary", "normalization_type": "RMS", "gated_mlp": True,
        "act_fn": "silu", "n_key_value_heads": 2, "rotary_base": 500.0,
    },
    "llama-ungrouped": {
        "positional_embedding_type": "rotary", "normalization_type": "RMSPre", "gated_mlp": True,
        "act_fn": "silu", "n_key_value_heads": 2, "ungroup_grouped_query_attention": True,
        "rotary_adjacent_pairs": True,
    },
    "grouped-standard": {"n_key_value_heads": 2, "act_fn": "gelu_pytorch_tanh"},
    "multi-query": {"n_key_value_heads": 1, "normalization_type": "RMS", "attn_only": True,
                    "act_fn": None},
    "solu": {"act_fn": "solu", "normalization_type": "LNPre"},
    "solu-ln": {"act_fn": "solu_ln"},
    "solu-ln-rms": {"act_fn": "solu_ln", "normalization_type": "RMS"},
    "attn-only": {"attn_only": True, "positional_embedding_type": "none", "act_fn": None},
    "no-norm": {"normalization_type": None, "act_fn": "relu", "positional_embedding_type": "none"},
    "bidirectional-tied": {"attention_dir": "bidirectional", "tie_word_embeddings": True},
    "parallel-grouped-bare": {
        "parallel_attn_mlp": True, "n_key_value_heads": 2, "normalization_type": None,
        "act_fn": "silu",
    },
    "wide-heads": {"d_model": 6, "d_head": 10, "n_heads": 3, "attn_scale": 2.5},
    "unscaled": {"use_attn_scale": False, "scale_attn_by_inverse_layer_idx": True, "eps": 1e-2},
}  # fmt: skip

_ROTARY_RMS = {
    "positional_embedding_type": "rotary", "normalization_type": "RMS", "gated_mlp": True,
    "act_fn": "silu", "n_key_value_heads": 2,
}  # fmt: skip
_RELATIVE = {
    "positional_embedding_type": "relative_positional_bias",
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 11,
}  # fmt: skip
_WINDOW = {"window_size": 2, "attn_types": ("local", "global")}
_EXPERTS = {"num_experts": 4, "experts_per_token": 2}
_ENCODER = {"architecture": "encoder"}
_BOTH = {"architecture": "encoder-decoder"}
_SCALED = {"factor": 4.0, "original_n_ctx": 3}

OTHERS: dict[str, dict[str, Any]] = {
    "gemma2": {
        **_ROTARY_RMS, **_WINDOW, "norm_placement": "sandwich", "act_fn": "gelu_pytorch_tanh",
        "attn_scores_soft_cap": 1.5, "output_logits_soft_cap": 2.0, "embed_scale": 4.9,
        "tie_word_embeddings": True,
    },
    "gemma3": {
        **_ROTARY_RMS, **_WINDOW, "norm_placement": "sandwich", "qk_norm": "head",
        "rotary_base_local": 50.0, "rotary_scaling": {"kind": "linear", **_SCALED},
        "ungroup_grouped_query_attention": True, "normalization_type": "RMSPre",
    },
    "olmo2": {**_ROTARY_RMS, "norm_placement": "output", "qk_norm": "full"},
    "stablelm2": {
        **_ROTARY_RMS, "normalization_type": "LN", "qk_norm": "per_head", "rotary_dim": 4,
        "parallel_attn_mlp": True, "logit_scale": 0.3,
    },
    "full-ungrouped": {
        "n_key_value_heads": 2, "ungroup_grouped_query_attention": True, "qk_norm": "full",
        "normalization_type": "LNPre", "norm_placement": "sandwich",
        "positional_embedding_type": "shortformer", "act_fn": "gelu_bloom",
    },
    "gpt-oss": {
        **_ROTARY_RMS, **_EXPERTS, **_WINDOW, "attn_sinks": True,
        "rotary_scaling": {"kind": "yarn", "original_n_ctx": 64, "factor": 4.0, "beta_fast": 4.0,
                           "truncate": False},
    },
    "mixtral-post": {
        **_ROTARY_RMS, **_EXPERTS, "experts_per_token": 3, "norm_placement": "post",
        "final_norm": True,
        "rotary_scaling": {"kind": "llama3", "original_n_ctx": 64, "factor": 4.0},
    },
    "dynamic": {
        "positional_embedding_type": "rotary", "rotary_scaling": {"kind": "dynamic", **_SCALED},
        "rotary_adjacent_pairs": True, "act_fn": "tanh", "final_norm": False, "n_token_types": 2,
    },
    "shortformer": {
        "positional_embedding_type": "shortformer", "n_key_value_heads": 2, "window_size": 3,
        "qk_norm": "per_head", "attn_sinks": True,
    },
    "bloom": {
        "positional_embedding_type": "alibi", "n_heads": 3, "d_head": 8, "alibi_max_bias": 4.0,
        "post_embedding_ln": True, "act_fn": "gelu_bloom", "n_key_value_heads": 1,
    },
    "bert": {
        **_ENCODER, "norm_placement": "post", "post_embedding_ln": True, "n_token_types": 2,
        "head": "mlm", "tie_word_embeddings": True,
    },
    "bert-folded-mlm": {
        **_ENCODER, "normalization_type": "RMSPre", "head": "mlm", "head_act_fn": "relu",
        "positional_embedding_type": "alibi", "window_size": 2, "qk_norm": "head",
    },
    "classifier": {
        **_ENCODER, **_EXPERTS, "gated_mlp": True, "head": "classification", "d_vocab_out": 3,
        "positional_embedding_type": "sinusoidal", "norm_placement": "output", "window_size": 3,
        "attn_types": ("global", "local"), "attn_scores_soft_cap": 2.0, "n_key_value_heads": 2,
    },
    "next-sentence": {
        **_ENCODER, **_RELATIVE, "head": "next-sentence", "head_act_fn": "gelu", "d_vocab_out": 2,
        "n_token_types": 3, "attn_sinks": True, "output_logits_soft_cap": 2.0,
    },
    "t5": {
        **_BOTH, **_RELATIVE, "normalization_type": "RMS", "use_attn_scale": False,
        "act_fn": "relu", "tie_word_embeddings": True, "logit_scale": 0.2, "n_layers": 1,
        "n_encoder_layers": 2, "decoder_start_token_id": 0,
    },
    "marian": {
        **_BOTH, "positional_embedding_type": "sinusoidal", "sinusoidal_layout": "halves",
        "norm_placement": "post", "act_fn": "silu", "embed_scale": 4.9, "n_encoder_layers": 1,
        "post_embedding_ln": True,
    },
    "translator": {
        **_BOTH, **_ROTARY_RMS, **_EXPERTS, "norm_placement": "sandwich", "qk_norm": "full",
        "attn_sinks": True, "attn_scores_soft_cap": 2.0, "window_size": 2, "n_layers": 1,
    },
    "heads-only-translator": {
        **_BOTH, "attn_only": True, "act_fn": None, "norm_placement": "output",
        "positional_embedding_type": "shortformer", "n_key_value_heads": 2, "n_layers": 1,
        "ungroup_grouped_query_attention": True, "qk_norm": "per_head",
    },
}  # fmt: skip
KINDS = {**PLAIN, **OTHERS}


def some_tokens(n_batch: int = 3, n_pos: int = 5, seed: int = 0) -> Tensor:
    return torch.randint(31, (n_batch, n_pos), generator=torch.Generator().manual_seed(seed))


def given_to(
    model: HookedTransformer, n_batch: int = 3, n_pos: int = 5, seed: int = 0
) -> dict[str, Tensor]:
    """Arguments for the model's `forward` and for `reference`."""
    given = {"input": some_tokens(n_batch, n_pos, seed)}
    if model.cfg.architecture == "encoder-decoder":
        given["decoder_input"] = some_tokens(n_batch, max(n_pos - 1, 1), seed + 100)
    if model.cfg.n_token_types:
        given["token_type_ids"] = given["input"] % model.cfg.n_token_types
    return given


def with_padding(given: dict[str, Tensor], n_pad: list[int], left: bool) -> dict[str, Tensor]:
    """The same with this much padding in each row (of an encoder–decoder's target one less)."""
    masks = {}
    for key, less in (("", 0), ("decoder_", 1)):
        if f"{key}input" in given:
            mask = torch.ones_like(given[f"{key}input"])
            for row, n in enumerate(max(n - less, 0) for n in n_pad):
                mask[row, slice(0, n) if left else slice(mask.shape[1] - n, mask.shape[1])] = 0
            masks[f"{key}attention_mask"] = mask
    return {**given, **masks}


def everything(name: str) -> bool:
    return True


def one_place_each(hooks: Sequence[str], first: int) -> list[str]:
    """Each kind of hook in one of the stacks and layers that have it; in all if `EXHAUSTIVE`.

    Which one that is changes from hook to hook, and with `first`.
    """
    places: dict[str, list[str]] = {}
    for hook in hooks:
        places.setdefault(_anywhere(hook), []).append(hook)
    same = enumerate(places.values(), first)
    return [hook for i, found in same for hook in every_nth(found, len(found), i)]


def shared_out(hooks: dict[str, list[str]], n: int) -> dict[str, list[str]]:
    """Of the hooks of several models each kind in every `n`th model that has it, in two at least.

    All of them if `EXHAUSTIVE`.
    """
    having: dict[str, list[str]] = {}
    for model, names in hooks.items():
        for kind in {_anywhere(hook): None for hook in names}:
            having.setdefault(kind, []).append(model)
    taken = {
        (kind, model)
        for i, (kind, models) in enumerate(having.items())
        for model in every_nth(models, max(1, min(n, len(models) // 2)), i)
    }
    return {
        model: [hook for hook in names if (_anywhere(hook), model) in taken]
        for model, names in hooks.items()
    }


def _anywhere(hook: str) -> str:
    """The name of a hook without its stack and layer."""
    return re.sub(r"^(en|de)coder\.|\.\d+", "", hook)


# --- edits ---------------------------------------------------------------------------------------


def _write(name: str, x: Tensor, n_vocab: int = 31, row: int = 1, place: int = 2) -> None:
    """Change one row, position and (where there is one) head of a tensor, in place."""
    if name.endswith("hook_tokens"):
        x[row, place] = (x[row, place] + 3) % n_vocab
    elif name.endswith(("hook_attn_scores", "hook_pattern", "hook_pos_bias")):
        # Not one number for all keys: a softmax would not see it.
        x[row, 1, place] = x[row, 1, place] * 0.5 + torch.linspace(0.1, 0.4, x.shape[-1]).to(x)
    else:
        # Not one factor for all of d_model: a norm would not see it.
        of_head = x.ndim == 4 and ".mlp." not in name
        at: Any = (row, place, -1) if of_head else (row, place) if x.ndim > 2 else row
        x[at] = x[at] * torch.linspace(0.5, 2.0, x.shape[-1], dtype=x.dtype) + 0.3


def _write_everywhere(name: str, x: Tensor) -> None:
    """Change all of a tensor, in place."""
    if name.endswith("hook_tokens"):
        x.add_(1).remainder_(31)
    else:
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
        x.mul_(0.5).add_(noise.abs() * 0.3)


class Change:
    """One change of the tensors of a hook, as a hook and as an edit of `reference`."""

    def __init__(self, in_place: bool = False, everywhere: bool = False, place: int = 2) -> None:
        self.in_place, self.everywhere, self.place = in_place, everywhere, place

    def __call__(self, x: Tensor, hook: Any) -> Tensor | None:
        if not self.in_place:
            return self.edit(hook.name)(x)
        self._write(hook.name, x)
        return None

    def edit(self, name: str) -> Edit:
        """The same for `reference`."""

        def edit(x: Tensor) -> Tensor:
            x = x.clone()
            self._write(name, x)
            return x

        return edit

    def _write(self, name: str, x: Tensor) -> None:
        if self.everywhere:
            _write_everywhere(name, x)
        else:
            _write(name, x, place=self.place)

    def __repr__(self) -> str:
        where = "everywhere" if self.everywhere else f"at {self.place}"
        return f"{'in place' if self.in_place else 'returned'}, {where}"
