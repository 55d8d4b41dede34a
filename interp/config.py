"""One validated description of a Transformer's architecture."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from interp.devices.parsing import default_device, dtype_name, parse_device, parse_dtype
from interp.errors import InputError, require, require_whole
from interp.rotary_scaling import RotaryScaling

NormalizationType = Literal["LN", "LNPre", "RMS", "RMSPre"]
PositionalEmbeddingType = Literal[
    "standard",
    "sinusoidal",
    "rotary",
    "alibi",
    "relative_positional_bias",
    "shortformer",
    "none",
]
AttentionDirection = Literal["causal", "bidirectional"]
ActivationFunction = Literal[
    "relu",
    "gelu",
    "gelu_new",
    "gelu_fast",
    "gelu_bloom",
    "gelu_pytorch_tanh",
    "silu",
    "tanh",
    "solu",
    "solu_ln",
]
Architecture = Literal["decoder", "encoder", "encoder-decoder"]
NormPlacement = Literal["pre", "post", "sandwich", "output"]
Head = Literal["lm", "mlm", "classification", "next-sentence"]
AttentionType = Literal["global", "local"]

# What marks a field as left to be filled in.
_UNFILLED: dict[str, Any] = {
    "n_heads": -1, "d_head": -1, "n_key_value_heads": None, "d_mlp": None, "d_vocab_out": -1,
    "n_encoder_layers": None, "attention_dir": None, "attn_types": None, "attn_scale": -1.0,
    "final_norm": None, "head_act_fn": None, "rotary_dim": None, "initializer_range": -1.0,
}  # fmt: skip


@dataclass
class HookedTransformerConfig:
    """Everything that decides what a `HookedTransformer` computes.

    Names are TransformerLens's, and so are defaults but for `seed`. Fields left at `-1` or `None`
    are filled in from the others when the config is made, so that a finished config has no
    unknowns.

    Attributes:
        n_layers: Number of blocks; of an encoder–decoder, the decoder's.
        d_model: Width of the residual stream.
        n_ctx: Longest sequence the model was made for.
        d_head: Width of one head. Default: `d_model / n_heads`.
        model_name: Where the weights come from; shown with every result.
        n_heads: Number of query heads. Default: `d_model / d_head`.
        d_mlp: Hidden width of the MLP. Default: `4 * d_model`.
        act_fn: The MLP's non-linearity; needed unless `attn_only` (an `mlm` head may take it).
        d_vocab: Number of tokens. Default: the tokenizer's.
        d_vocab_out: Number of output logits. Default: `d_vocab`.
        eps: Added to the variance inside a norm's square root.
        normalization_type: `LN`, `RMS`, their weightless forms `LNPre` and `RMSPre`, or None: no
            norm stands where `norm_placement`, `final_norm` and `post_embedding_ln` say.
        positional_embedding_type: `standard` (learned, added to the embedding), `sinusoidal`,
            `rotary`, `alibi`, `relative_positional_bias` (T5), `shortformer`, `none`.
        attention_dir: `causal`: a position sees itself and what is before it; `bidirectional`: all.
            Of an encoder–decoder it is the decoder's. Default: `bidirectional` for an encoder.
        attn_only: No MLPs.
        gated_mlp: `act(x W_gate) * (x W_in)` instead of `act(x W_in)`.
        parallel_attn_mlp: Attention and MLP both read `resid_pre`.
        n_key_value_heads: Fewer than `n_heads`: grouped-query attention. Default: `n_heads`.
        use_attn_scale: Divide scores by `attn_scale`.
        attn_scale: Default: √d_head.
        scale_attn_by_inverse_layer_idx: Divide layer l's scores by l + 1 as well.
        use_fused_attention: Fuse attention in layers whose scores and pattern nobody watches. False
            spells it out everywhere: fused kernels have no second derivatives.
        rotary_dim: How many of a head's dimensions turn. Default: `d_head`.
        rotary_base: Base of the rotary wavelengths.
        rotary_adjacent_pairs: Pair dimensions (0, 1), (2, 3), … (GPT-J) instead of
            (0, d/2), (1, d/2 + 1), … (GPT-NeoX, Llama).
        tie_word_embeddings: The unembedding is the embedding, transposed: one tensor.
        ungroup_grouped_query_attention: Repeat keys and values to `n_heads` before their hooks.
        use_attn_result, use_split_qkv_input, use_attn_in, use_hook_mlp_in, use_hook_tokens:
            Widen what `names_filter=None` records. They change nothing else: every hook fires
            whenever it is asked for.
        default_prepend_bos: Whether text gets a beginning-of-sequence token unless told otherwise.
        tokenizer_name: Hub name or directory of the tokenizer.
        init_mode: `gpt2`: normal weights with `initializer_range`, zero biases.
        initializer_range: Standard deviation of fresh weights. Default: `0.8 / √d_model`.
        init_weights: False leaves weights uninitialised, to be loaded.
        seed: Of the fresh weights: the same by default, other than in TransformerLens. None draws
            one from the system and writes it here. torch's global random state is neither read
            nor moved.
        dtype: float64, float32, bfloat16 or float16 (a name is turned into the dtype).
        device: Default: CUDA where there is one, else the CPU.
        architecture: `decoder`, `encoder`, or `encoder-decoder`, whose decoder also attends to what
            the encoder made of a second sequence (Vaswani et al. 2017).
        n_encoder_layers: Blocks of an encoder–decoder's encoder. Default: `n_layers`.
        norm_placement: `pre`: x + f(norm(x)); `post`: norm(x + f(x)), the original Add & Norm;
            `sandwich`: x + norm(f(norm(x))), as Gemma 2; `output`: x + norm(f(x)), as OLMo 2.
        final_norm: A norm after the last block. Default: yes, but for `post`.
        post_embedding_ln: A norm over the sum of all embeddings.
        embed_scale: Token embeddings are multiplied by it.
        logit_scale: What is unembedded is multiplied by it.
        qk_norm: A norm of queries and keys before they turn: of each `head` (weights shared by the
            heads, Qwen 3), of all heads as one vector (`full`, OLMo 2); `per_head`: each head has
            weights of its own (StableLM 2). None: no such norm.
        attn_scores_soft_cap, output_logits_soft_cap: cap · tanh(x / cap), or -1 for none.
        window_size: Local attention: a destination sees sources less than this many positions
            away (so that many, itself included, with causal attention).
        attn_types: `global` or `local` for every layer. Default: all local where there is a
            window_size, else all global.
        attn_sinks: Each head has a learned score that no source owns, as in GPT-OSS.
        num_experts, experts_per_token: A mixture of MLPs, of which each token takes the best few.
        head: What is made of the last residual stream: `lm` unembeds it; `mlm` transforms it first
            (BERT); `classification` and `next-sentence` read the first token and give one vector of
            logits for the sequence.
        head_act_fn: Non-linearity inside the head. Default: `act_fn` for `mlm` (`gelu` without
            MLPs), else `tanh`.
        n_token_types: Number of segment embeddings (BERT). 0: none.
        decoder_start_token_id: What an encoder–decoder's output begins with. None: BOS.
        suppress_tokens: What `generate` never writes (Marian's pad token).
        rotary_scaling: How rotary frequencies are stretched: a `RotaryScaling` or its fields.
        rotary_base_local: Base in `local` layers, which are never stretched. None: as the others.
        sinusoidal_layout: `interleaved` sines and cosines, or first the one `halves`, then the
            other (Marian).
        alibi_max_bias: The last head's slope is 2 to the minus this.
        relative_attention_num_buckets, relative_attention_max_distance: T5's.
        original_architecture: The Hugging Face class that the weights were made for.
        weight_processing: What `process_weights` has applied, in order.
        n_devices: Over how many devices the model with this config is spread; kept by the model.
    """

    n_layers: int
    d_model: int
    n_ctx: int
    d_head: int = -1
    model_name: str = "custom"
    n_heads: int = -1
    d_mlp: int | None = None
    act_fn: ActivationFunction | None = None
    d_vocab: int = -1
    d_vocab_out: int = -1
    eps: float = 1e-5
    normalization_type: NormalizationType | None = "LN"
    positional_embedding_type: PositionalEmbeddingType = "standard"
    attention_dir: AttentionDirection | None = None
    attn_only: bool = False
    gated_mlp: bool = False
    parallel_attn_mlp: bool = False
    n_key_value_heads: int | None = None
    use_attn_scale: bool = True
    attn_scale: float = -1.0
    scale_attn_by_inverse_layer_idx: bool = False
    use_fused_attention: bool = True
    rotary_dim: int | None = None
    rotary_base: float = 10_000.0
    rotary_adjacent_pairs: bool = False
    tie_word_embeddings: bool = False
    ungroup_grouped_query_attention: bool = False
    use_attn_result: bool = False
    use_split_qkv_input: bool = False
    use_attn_in: bool = False
    use_hook_mlp_in: bool = False
    use_hook_tokens: bool = False
    default_prepend_bos: bool = True
    tokenizer_name: str | None = None
    init_mode: Literal["gpt2"] = "gpt2"
    initializer_range: float = -1.0
    init_weights: bool = True
    seed: int | None = 0
    dtype: torch.dtype = torch.float32
    device: torch.device | str | None = None
    architecture: Architecture = "decoder"
    n_encoder_layers: int | None = None
    norm_placement: NormPlacement = "pre"
    final_norm: bool | None = None
    post_embedding_ln: bool = False
    embed_scale: float = 1.0
    logit_scale: float = 1.0
    qk_norm: Literal["head", "full", "per_head"] | None = None
    attn_scores_soft_cap: float = -1.0
    output_logits_soft_cap: float = -1.0
    window_size: int | None = None
    attn_types: tuple[AttentionType, ...] | None = None
    attn_sinks: bool = False
    num_experts: int | None = None
    experts_per_token: int | None = None
    head: Head = "lm"
    head_act_fn: ActivationFunction | None = None
    n_token_types: int = 0
    decoder_start_token_id: int | None = None
    suppress_tokens: tuple[int, ...] = ()
    rotary_scaling: RotaryScaling | Mapping[str, Any] | None = None
    rotary_base_local: float | None = None
    sinusoidal_layout: Literal["interleaved", "halves"] = "interleaved"
    alibi_max_bias: float = 8.0
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    original_architecture: str | None = None
    weight_processing: tuple[str, ...] = ()
    n_devices: int = field(init=False, compare=False, default=1)
    # What fields that were left out were filled in with: `replace` fills them in anew.
    _filled_in: dict[str, Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._fill_in()
        from interp.config_rules import check

        check(self)

    def _fill_in(self) -> None:
        from interp.config_types import check_types

        check_types(self)
        left_out = [name for name, mark in _UNFILLED.items() if getattr(self, name) == mark]
        require_whole("d_model", self.d_model, 1)
        require_whole("n_layers", self.n_layers, 0)
        self.dtype = parse_dtype(self.dtype)
        self.device = parse_device(self.device)
        self.weight_processing = tuple(self.weight_processing)
        self.suppress_tokens = tuple(self.suppress_tokens)
        if self.seed is None:
            self.seed = secrets.randbits(48)
        if self.d_head == -1 and self.n_heads > 0:
            require(
                self.d_model % self.n_heads == 0,
                f"d_head must be given where n_heads does not divide d_model: "
                f"{self.n_heads} heads, d_model {self.d_model}",
            )
            self.d_head = self.d_model // self.n_heads
        if self.n_heads == -1 and self.d_head > 0:
            require(
                self.d_model % self.d_head == 0,
                f"n_heads must be given where d_head does not divide d_model: "
                f"d_head {self.d_head}, d_model {self.d_model}",
            )
            self.n_heads = self.d_model // self.d_head
        if self.n_key_value_heads is None:
            self.n_key_value_heads = self.n_heads
        if not self.attn_only and self.d_mlp is None:
            self.d_mlp = 4 * self.d_model
        if self.d_vocab_out == -1:
            self.d_vocab_out = self.d_vocab
        if self.attn_scale == -1.0:
            self.attn_scale = float(self.d_head) ** 0.5 if self.use_attn_scale else 1.0
        if self.initializer_range == -1.0:
            self.initializer_range = 0.8 / self.d_model**0.5
        if self.positional_embedding_type == "rotary" and self.rotary_dim is None:
            self.rotary_dim = self.d_head
        if self.attention_dir is None:
            self.attention_dir = "bidirectional" if self.architecture == "encoder" else "causal"
        if self.n_encoder_layers is None and self.architecture == "encoder-decoder":
            self.n_encoder_layers = self.n_layers
        if self.final_norm is None:
            self.final_norm = self.norm_placement != "post"
        if self.attn_types is None:
            deepest = max(self.n_layers, self.n_encoder_layers or 0)
            self.attn_types = ("local" if self.window_size else "global",) * deepest
        else:
            self.attn_types = tuple(self.attn_types)
        if self.head_act_fn is None and self.head != "lm":
            self.head_act_fn = (self.act_fn or "gelu") if self.head == "mlm" else "tanh"
        if isinstance(self.rotary_scaling, Mapping):
            self.rotary_scaling = RotaryScaling.of(self.rotary_scaling)
        self._filled_in = {name: getattr(self, name) for name in left_out}

    @property
    def n_params(self) -> int:
        """Weights of heads and MLPs, without embeddings, biases and norms.

        TransformerLens's own counts keys and values as if each query head had its own.
        """
        assert self.n_key_value_heads is not None
        attention = 2 * self.d_model * self.d_head * (self.n_heads + self.n_key_value_heads)
        mlp = 0 if self.attn_only else (3 if self.gated_mlp else 2) * self.d_model * self.width_mlp
        if self.num_experts is not None:
            mlp = (mlp + self.d_model) * self.num_experts
        n_blocks = self.n_layers + (self.n_encoder_layers or 0)
        cross = self.n_layers * attention if self.architecture == "encoder-decoder" else 0
        return n_blocks * (attention + mlp) + cross

    @property
    def has_resid_mid(self) -> bool:
        """Whether something of a block reads what its attention has already written to."""
        crosses = self.architecture == "encoder-decoder"
        return crosses or not (self.attn_only or self.parallel_attn_mlp)

    @property
    def width_mlp(self) -> int:
        """`d_mlp` of a model that has MLPs.

        Raises:
            InputError: for a model without any.
        """
        if self.d_mlp is None:
            raise InputError("this model has no MLPs (attn_only)")
        return self.d_mlp

    @property
    def norm_centres(self) -> bool:
        """Whether the norms take the mean off (LayerNorm), as RMSNorm does not."""
        return self.normalization_type in ("LN", "LNPre")

    @property
    def can_fuse_attention(self) -> bool:
        """Whether a fused kernel computes this attention where nobody looks inside."""
        capped = self.attn_scores_soft_cap > 0
        return self.use_fused_attention and not (capped or self.attn_sinks)

    @property
    def norm_kind_with_weights(self) -> Literal["LN", "RMS"] | None:
        """The norm with its weights, for norms that nothing could take them from."""
        if self.normalization_type is None:
            return None
        return "LN" if self.norm_centres else "RMS"

    @property
    def classifies(self) -> bool:
        """Whether a sequence gets one vector of logits, instead of one a token."""
        return self.head in ("classification", "next-sentence")

    @property
    def groups_queries(self) -> bool:
        """Whether query heads share keys and values."""
        return self.n_kv_heads != self.n_heads

    @property
    def n_kv_heads(self) -> int:
        """`n_key_value_heads`, filled in."""
        assert self.n_key_value_heads is not None
        return self.n_key_value_heads

    @property
    def torch_device(self) -> torch.device:
        """`device`, filled in."""
        return torch.device(self.device) if self.device is not None else default_device()

    def is_filled_in(self, name: str) -> bool:
        """Whether a field has the value that was worked out from others for it."""
        return name in self._filled_in and getattr(self, name) == self._filled_in[name]

    def _repr_html_(self) -> str:
        from interp.display.config import config_html

        return config_html(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, ready for JSON. `from_dict` undoes it."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        fields["dtype"] = dtype_name(self.dtype)
        fields["device"] = str(self.device)
        filled_in = self._filled_in.get("attn_types") == self.attn_types
        fields["attn_types"] = None if filled_in else list(self.attn_types or ())
        if isinstance(self.rotary_scaling, RotaryScaling):
            fields["rotary_scaling"] = dataclasses.asdict(self.rotary_scaling)
        fields["weight_processing"] = list(self.weight_processing)
        fields["suppress_tokens"] = list(self.suppress_tokens)
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> HookedTransformerConfig:
        """The config with these fields.

        Raises:
            InputError: for a field that does not exist or a value that breaks a rule.
        """
        known = {f.name: f for f in dataclasses.fields(cls) if f.init}
        unknown = sorted(str(name)[:80] for name in set(fields) - set(known))
        if unknown:
            raise InputError(
                f"unknown config field{'s' if len(unknown) > 1 else ''}: {', '.join(unknown[:8])}"
                f"{', …' if len(unknown) > 8 else ''}"
            )
        needed = [name for name, f in known.items() if f.default is dataclasses.MISSING]
        missing = [name for name in needed if name not in fields]
        if missing:
            raise InputError(f"a config must give {', '.join(missing)}.")
        return cls(**fields)

    def replace(self, **changes: Any) -> HookedTransformerConfig:
        """A copy with these fields changed; those that were filled in are filled in anew.

        Raises:
            InputError: for a field that does not exist or a value that breaks a rule.
        """
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        untouched = [n for n, filled in self._filled_in.items() if fields[n] == filled]
        return type(self).from_dict({**fields, **{n: _UNFILLED[n] for n in untouched}, **changes})
