"""One validated description of a Transformer's architecture."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch

from interp.errors import InputError

NormalizationType = Literal["LN", "LNPre", "RMS", "RMSPre"]
PositionalEmbeddingType = Literal["standard", "rotary", "none"]
AttentionDirection = Literal["causal", "bidirectional"]
ActivationFunction = Literal[
    "relu", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "silu", "solu", "solu_ln"
]

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


# What marks a field as left to be filled in.
_UNFILLED: dict[str, Any] = {
    "d_head": -1,
    "n_heads": -1,
    "d_mlp": None,
    "d_vocab_out": -1,
    "n_key_value_heads": None,
    "attn_scale": -1.0,
    "rotary_dim": None,
    "initializer_range": -1.0,
}


def dtype_name(dtype: torch.dtype) -> str:
    """`torch.float32` → `"float32"`."""
    return str(dtype).removeprefix("torch.")


def parse_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """The floating dtype of that name.

    Raises:
        InputError: if it is not one of float64, float32, bfloat16 and float16.
    """
    name = dtype_name(dtype) if isinstance(dtype, torch.dtype) else dtype.removeprefix("torch.")
    if name not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}. Received {dtype!r}.")
    return DTYPES[name]


def default_device() -> torch.device:
    """CUDA where there is one, the CPU otherwise."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def parse_device(device: torch.device | str | None) -> torch.device:
    """The device of that name; None: `default_device`.

    Raises:
        InputError: if torch knows no such device.
    """
    if device is None:
        return default_device()
    try:
        found = torch.device(device)
    except RuntimeError as fault:
        raise InputError(f"device must be one that torch knows. Received {device!r}.") from fault
    if found.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {str(device)!r} is not here: torch sees no CUDA device.")
    return found


@dataclass
class HookedTransformerConfig:
    """Everything that decides what a `HookedTransformer` computes.

    Names are TransformerLens's, and so are defaults but for `seed`. Fields left at `-1` or `None`
    are filled in from the others when the config is made, so that a finished config has no
    unknowns.

    Attributes:
        n_layers: Number of blocks.
        d_model: Width of the residual stream.
        n_ctx: Longest sequence the model was made for.
        d_head: Width of one head. Default: `d_model / n_heads`.
        model_name: Where the weights come from; shown with every result.
        n_heads: Number of query heads. Default: `d_model / d_head`.
        d_mlp: Hidden width of the MLP. Default: `4 * d_model`.
        act_fn: The MLP's non-linearity; needed unless `attn_only`.
        d_vocab: Number of tokens. Default: the tokenizer's.
        d_vocab_out: Number of output logits. Default: `d_vocab`.
        eps: Added to the variance inside a norm's square root.
        normalization_type: `LN`, `RMS`, their weightless forms `LNPre` and `RMSPre`, or None.
        positional_embedding_type: `standard` (learned, added to the embedding), `rotary`, `none`.
        attention_dir: `causal`: a position sees itself and what is before it; `bidirectional`: all.
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
        original_architecture: The Hugging Face class that the weights were made for.
        weight_processing: What `process_weights` has applied, in order.
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
    attention_dir: AttentionDirection = "causal"
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
    original_architecture: str | None = None
    weight_processing: tuple[str, ...] = ()
    # What fields that were left out were filled in with: `replace` fills them in anew.
    _filled_in: dict[str, Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._fill_in()
        self._validate()

    def _fill_in(self) -> None:
        left_out = [name for name, mark in _UNFILLED.items() if getattr(self, name) == mark]
        _require(
            _is_whole(self.d_model, 1),
            f"d_model must be a whole number of at least 1. Received {self.d_model!r}",
        )
        self.dtype = parse_dtype(self.dtype)
        self.device = parse_device(self.device)
        self.weight_processing = tuple(self.weight_processing)
        if self.seed is None:
            self.seed = secrets.randbits(48)
        if self.d_head == -1 and self.n_heads > 0:
            _require(
                self.d_model % self.n_heads == 0,
                f"d_head must be given where n_heads does not divide d_model: "
                f"{self.n_heads} heads, d_model {self.d_model}",
            )
            self.d_head = self.d_model // self.n_heads
        if self.n_heads == -1 and self.d_head > 0:
            _require(
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
        self._filled_in = {name: getattr(self, name) for name in left_out}

    def _validate(self) -> None:
        for name in ("n_layers", "d_model", "n_ctx", "d_head", "n_heads", "n_key_value_heads"):
            minimum = 0 if name == "n_layers" else 1
            value = getattr(self, name)
            _require(
                _is_whole(value, minimum),
                f"{name} must be a whole number of at least {minimum}. Received {value!r}",
            )
        assert self.n_key_value_heads is not None
        _require(
            _is_whole(self.seed, 0), f"seed must be a whole number, not negative. Got {self.seed!r}"
        )
        _one_of("normalization_type", self.normalization_type, (*get_args(NormalizationType), None))
        _one_of(
            "positional_embedding_type",
            self.positional_embedding_type,
            get_args(PositionalEmbeddingType),
        )
        _one_of("attention_dir", self.attention_dir, get_args(AttentionDirection))
        _one_of("init_mode", self.init_mode, ("gpt2",))
        _require(
            self.n_heads % self.n_key_value_heads == 0,
            f"n_key_value_heads must divide n_heads: "
            f"{self.n_key_value_heads} key/value heads, {self.n_heads} query heads",
        )
        for name in ("d_vocab", "d_vocab_out"):
            value = getattr(self, name)
            _require(
                _is_whole(value, 1) or value == -1,
                f"{name} must be a whole number of at least 1, or -1 for the tokenizer's. "
                f"Received {value!r}",
            )
        for name in ("eps", "attn_scale", "rotary_base", "initializer_range"):
            number = getattr(self, name)
            least = "not negative" if name in ("eps", "initializer_range") else "positive"
            fits = isinstance(number, int | float) and (
                number > 0 or (number == 0 and least == "not negative")
            )
            _require(fits, f"{name} must be a number and {least}. Received {number!r}")
        _require(
            self.use_attn_scale or self.attn_scale == 1.0,
            f"attn_scale needs use_attn_scale, which is False. Received {self.attn_scale}",
        )
        if self.attn_only:
            for name in ("gated_mlp", "parallel_attn_mlp"):
                _require(not getattr(self, name), f"{name} needs an MLP, but attn_only is set")
        else:
            _one_of("act_fn", self.act_fn, get_args(ActivationFunction))
            _require(
                _is_whole(self.d_mlp, 1),
                f"d_mlp must be a whole number of at least 1. Received {self.d_mlp!r}",
            )
            _require(
                not (self.gated_mlp and self.act_fn == "solu_ln"),
                "solu_ln is defined for a plain MLP, but gated_mlp is set",
            )
        if self.positional_embedding_type == "rotary":
            _require(
                isinstance(self.rotary_dim, int)
                and 0 < self.rotary_dim <= self.d_head
                and self.rotary_dim % 2 == 0,
                f"rotary_dim must be even and at most d_head ({self.d_head}). "
                f"Received {self.rotary_dim!r}",
            )
        if self.tie_word_embeddings:
            _require(
                self.d_vocab_out == self.d_vocab,
                f"tied embeddings need d_vocab_out == d_vocab. "
                f"Received {self.d_vocab_out} and {self.d_vocab}",
            )

    @property
    def n_params(self) -> int:
        """Weights of heads and MLPs, without embeddings, biases and norms (as TransformerLens)."""
        assert self.n_key_value_heads is not None
        attention = 2 * self.d_model * self.d_head * (self.n_heads + self.n_key_value_heads)
        mlp = 0 if self.attn_only else (3 if self.gated_mlp else 2) * self.d_model * self.width_mlp
        return self.n_layers * (attention + mlp)

    @property
    def has_resid_mid(self) -> bool:
        """Whether the MLP reads what attention has already written to."""
        return not (self.attn_only or self.parallel_attn_mlp)

    @property
    def width_mlp(self) -> int:
        """`d_mlp` of a model that has MLPs."""
        if self.d_mlp is None:
            raise InputError("this model has no MLPs (attn_only)")
        return self.d_mlp

    @property
    def norm_centres(self) -> bool:
        """Whether the norms take the mean off (LayerNorm), as RMSNorm does not."""
        return self.normalization_type in ("LN", "LNPre")

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

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, ready for JSON. `from_dict` undoes it."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        fields["dtype"] = dtype_name(self.dtype)
        fields["device"] = str(self.device)
        fields["weight_processing"] = list(self.weight_processing)
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> HookedTransformerConfig:
        """The config with these fields.

        Raises:
            InputError: for a field that does not exist or a value that breaks a rule.
        """
        known = {f.name: f for f in dataclasses.fields(cls) if f.init}
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise InputError(
                f"unknown config field{'s' if len(unknown) > 1 else ''}: {', '.join(unknown)}"
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


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message + ".")


def _is_whole(value: object, minimum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        choices = ", ".join(map(repr, allowed))
        raise InputError(f"{name} must be one of {choices}. Received {value!r}.")
