"""What a configuration must fulfil, checked as soon as it is made."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, get_args

from interp import config as c
from interp.errors import is_whole, require, require_number, require_one_of, require_whole

if TYPE_CHECKING:
    from interp.config import HookedTransformerConfig


def check(cfg: HookedTransformerConfig) -> None:
    """Raise `InputError` for the first rule that a filled-in configuration breaks."""
    _check_switches(cfg)
    _check_sizes(cfg)
    _check_choices(cfg)
    _check_mlp(cfg)
    _check_attention(cfg)
    _check_positions(cfg)
    _check_shape(cfg)
    _check_meaning(cfg)


def _check_switches(cfg: HookedTransformerConfig) -> None:
    for field in dataclasses.fields(cfg):
        if field.type == "bool" or field.name == "final_norm":
            value = getattr(cfg, field.name)
            require(
                isinstance(value, bool),
                f"{field.name} must be True or False. Received {value!r}",
            )


def _check_meaning(cfg: HookedTransformerConfig) -> None:
    """Refuse fields that say something about what this model does not have."""
    encoding, rotary = cfg.positional_embedding_type, ("rotary",)
    for name, encodings in (
        ("rotary_dim", rotary),
        ("rotary_base", rotary),
        ("rotary_adjacent_pairs", rotary),
        ("rotary_scaling", rotary),
        ("rotary_base_local", rotary),
        ("sinusoidal_layout", ("sinusoidal",)),
        ("alibi_max_bias", ("alibi",)),
        ("relative_attention_num_buckets", ("relative_positional_bias",)),
        ("relative_attention_max_distance", ("relative_positional_bias",)),
    ):
        value = getattr(cfg, name)
        default = next(f.default for f in dataclasses.fields(cfg) if f.name == name)
        require(
            encoding in encodings or value == default,
            f"{name} needs {encodings[0]} positions. These are {encoding!r}; "
            f"received {name}={value!r}",
        )
    local = "local" in (cfg.attn_types or ())
    for name, present, why in (
        ("window_size", local or cfg.n_layers == 0, "local layers"),
        ("rotary_base_local", local, "local layers"),
        ("head_act_fn", cfg.head != "lm", "another head than 'lm'"),
        ("experts_per_token", cfg.num_experts is not None, "num_experts"),
    ):
        value = getattr(cfg, name)
        require(present or value is None, f"{name} needs {why}. Received {value!r}")


def _check_sizes(cfg: HookedTransformerConfig) -> None:
    for name in ("n_ctx", "d_head", "n_heads", "n_key_value_heads"):
        require_whole(name, getattr(cfg, name), 1)
    require_whole("seed", cfg.seed, 0)
    require_whole("n_token_types", cfg.n_token_types, 0)
    require(
        cfg.n_heads % cfg.n_kv_heads == 0,
        f"n_key_value_heads must divide n_heads: "
        f"{cfg.n_kv_heads} key/value heads, {cfg.n_heads} query heads",
    )
    for name in ("d_vocab", "d_vocab_out"):
        value = getattr(cfg, name)
        require(
            is_whole(value, 1) or value == -1,
            f"{name} must be a whole number of at least 1, or -1 for the tokenizer's. "
            f"Received {value!r}",
        )
    for name in ("eps", "initializer_range"):
        require_number(name, getattr(cfg, name), zero=True)
    for name in ("attn_scale", "rotary_base", "embed_scale", "logit_scale", "alibi_max_bias"):
        require_number(name, getattr(cfg, name))
    require(
        cfg.d_vocab_out == -1
        or all(is_whole(t, 0) and t < cfg.d_vocab_out for t in cfg.suppress_tokens),
        f"suppress_tokens must lie in 0 … {cfg.d_vocab_out - 1}. Received {cfg.suppress_tokens}",
    )
    if cfg.tie_word_embeddings:
        require(
            cfg.d_vocab_out == cfg.d_vocab,
            f"tied embeddings need d_vocab_out == d_vocab. "
            f"Received {cfg.d_vocab_out} and {cfg.d_vocab}",
        )


def _check_choices(cfg: HookedTransformerConfig) -> None:
    for name, choices in (
        ("normalization_type", (*get_args(c.NormalizationType), None)),
        ("positional_embedding_type", get_args(c.PositionalEmbeddingType)),
        ("attention_dir", get_args(c.AttentionDirection)),
        ("init_mode", ("gpt2",)),
        ("architecture", get_args(c.Architecture)),
        ("norm_placement", get_args(c.NormPlacement)),
        ("qk_norm", ("head", "full", "per_head", None)),
        ("head", get_args(c.Head)),
        ("sinusoidal_layout", ("interleaved", "halves")),
    ):
        require_one_of(name, getattr(cfg, name), choices)


def _check_mlp(cfg: HookedTransformerConfig) -> None:
    if cfg.attn_only:
        for name in ("gated_mlp", "parallel_attn_mlp", "num_experts"):
            require(not getattr(cfg, name), f"{name} needs an MLP, but attn_only is set")
        for name in ("d_mlp", "act_fn"):
            value = getattr(cfg, name)
            # A masked-LM head takes the MLPs' activation function for its own.
            of_head = name == "act_fn" and cfg.head == "mlm"
            require(
                value is None or of_head,
                f"{name} is of an MLP, but attn_only is set. Received {value!r}",
            )
        if cfg.act_fn is not None:
            require_one_of("act_fn", cfg.act_fn, get_args(c.ActivationFunction))
        return
    require_one_of("act_fn", cfg.act_fn, get_args(c.ActivationFunction))
    require_whole("d_mlp", cfg.d_mlp, 1)
    require(
        not (cfg.gated_mlp and cfg.act_fn == "solu_ln"),
        "solu_ln is defined for a plain MLP, but gated_mlp is set",
    )
    if cfg.num_experts is None:
        require(cfg.experts_per_token is None, "experts_per_token needs num_experts")
        return
    require_whole("num_experts", cfg.num_experts, 1)
    require(
        is_whole(cfg.experts_per_token, 1) and (cfg.experts_per_token or 0) <= cfg.num_experts,
        f"experts_per_token must lie in 1 … num_experts ({cfg.num_experts}). "
        f"Received {cfg.experts_per_token!r}",
    )
    require(cfg.gated_mlp, "num_experts needs gated_mlp: experts are gated MLPs")


def _check_attention(cfg: HookedTransformerConfig) -> None:
    require(
        cfg.use_attn_scale or cfg.attn_scale == 1.0,
        f"attn_scale needs use_attn_scale, which is False. Received {cfg.attn_scale}",
    )
    if cfg.head_act_fn is not None:
        choices = set(get_args(c.ActivationFunction)) - {"solu_ln"}
        require_one_of("head_act_fn", cfg.head_act_fn, sorted(choices))
    require(
        not cfg.classifies or cfg.attention_dir == "bidirectional",
        f"head={cfg.head!r} reads the first token, which sees the others only with "
        f"attention_dir='bidirectional'. Received {cfg.attention_dir!r}",
    )
    for name in ("attn_scores_soft_cap", "output_logits_soft_cap"):
        value = getattr(cfg, name)
        if value != -1:
            require_number(f"{name} (or -1 for none)", value)
    if cfg.window_size is not None:
        require_whole("window_size", cfg.window_size, 1)
    types = cfg.attn_types or ()
    deepest = max(cfg.n_layers, cfg.n_encoder_layers or 0)
    require(
        len(types) == deepest and set(types) <= set(get_args(c.AttentionType)),
        f"attn_types must give 'global' or 'local' for each of {deepest} layers. "
        f"Received {types!r}",
    )
    require(
        "local" not in types or cfg.window_size is not None,
        f"local layers need a window_size. attn_types is {types!r}",
    )
    if cfg.qk_norm is not None:
        require(
            cfg.normalization_type is not None,
            f"qk_norm {cfg.qk_norm!r} needs a normalization_type. It is None",
        )


def _check_positions(cfg: HookedTransformerConfig) -> None:
    rotary = cfg.positional_embedding_type == "rotary"
    if rotary:
        dim = cfg.rotary_dim
        require(
            isinstance(dim, int) and 0 < dim <= cfg.d_head and dim % 2 == 0,
            f"rotary_dim must be even and at most d_head ({cfg.d_head}). Received {dim!r}",
        )
        if cfg.rotary_base_local is not None:
            require_number("rotary_base_local", cfg.rotary_base_local)
        if cfg.rotary_scaling is not None:
            require(
                isinstance(cfg.rotary_scaling, c.RotaryScaling),
                f"rotary_scaling must be a RotaryScaling. Received {cfg.rotary_scaling!r}",
            )
            require(cfg.rotary_base > 1, f"rotary_base must be above 1. Received {cfg.rotary_base}")
            grows = isinstance(cfg.rotary_scaling, c.RotaryScaling) and (
                cfg.rotary_scaling.depends_on_length
            )
            require(
                not grows or (dim or 0) > 2,
                f"dynamic rotary scaling needs a rotary_dim above 2. Received {dim!r}",
            )
    if cfg.positional_embedding_type == "sinusoidal":
        require(
            cfg.d_model % 2 == 0,
            f"sinusoidal positions need an even d_model. Received {cfg.d_model}",
        )
    require_whole("relative_attention_num_buckets", cfg.relative_attention_num_buckets, 4)
    require(
        cfg.relative_attention_num_buckets % 4 == 0
        and is_whole(cfg.relative_attention_max_distance, 2)
        and cfg.relative_attention_max_distance > cfg.relative_attention_num_buckets // 2,
        "relative_attention_num_buckets must be a multiple of 4, and "
        "relative_attention_max_distance a whole number of more than half of it. Received "
        f"{cfg.relative_attention_num_buckets} and {cfg.relative_attention_max_distance!r}",
    )


def _check_shape(cfg: HookedTransformerConfig) -> None:
    if cfg.architecture == "encoder-decoder":
        require_whole("n_encoder_layers", cfg.n_encoder_layers, 0)
    else:
        for name in ("n_encoder_layers", "decoder_start_token_id"):
            require(
                getattr(cfg, name) is None,
                f"{name} needs architecture='encoder-decoder'. This is a {cfg.architecture!r}",
            )
    if cfg.architecture != "decoder":
        wanted = "bidirectional" if cfg.architecture == "encoder" else "causal"
        require(
            cfg.attention_dir == wanted,
            f"an {cfg.architecture} must have attention_dir={wanted!r}. "
            f"Received {cfg.attention_dir!r}",
        )
    if cfg.architecture == "encoder-decoder":
        require(
            cfg.head == "lm" and not cfg.parallel_attn_mlp and cfg.n_token_types == 0,
            "an encoder-decoder has head='lm', no parallel_attn_mlp and no token types. Received "
            f"{cfg.head!r}, {cfg.parallel_attn_mlp} and {cfg.n_token_types}",
        )
    if cfg.parallel_attn_mlp:
        require(
            cfg.norm_placement == "pre",
            f"parallel_attn_mlp needs norm_placement='pre'. Received {cfg.norm_placement!r}",
        )
    if cfg.norm_placement != "pre" and cfg.normalization_type is not None:
        folded = cfg.normalization_type.endswith("Pre")
        require(
            not folded or cfg.norm_placement == "sandwich",
            f"{cfg.normalization_type} is for norms whose weights were folded into what reads "
            f"them; with norm_placement={cfg.norm_placement!r} nothing can take them",
        )
    if cfg.decoder_start_token_id is not None:
        require(
            is_whole(cfg.decoder_start_token_id, 0)
            and (cfg.d_vocab == -1 or cfg.decoder_start_token_id < cfg.d_vocab),
            f"decoder_start_token_id must lie in 0 … {cfg.d_vocab - 1}. "
            f"Received {cfg.decoder_start_token_id!r}",
        )
