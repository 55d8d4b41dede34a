"""What holds of an encoding for any weights: closed forms beside what the model computes.

- Sinusoidal: PE(t + k) = R_k PE(t), with R_k a turn of every pair of dimensions by k ω_i, and
  PE(t)·PE(t + k) = Σ_i cos(k ω_i), for all t (Vaswani et al. 2017, §3.5).
- Rotary: for fixed queries and keys, a score is Σ_i |q_i| |k_i| cos((m - n) ω_i + φ_i) for query
  position m and key position n: a function of m - n (Su et al. 2021, §3.2).
- Rotary, ALiBi, T5 and no positions: where all tokens are the same one, so are the residual streams
  of all positions, in every layer, and scores depend on the offset alone; ALiBi's fall by the slope
  for each step of distance (Press et al. 2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.devices.parsing import dtype_name
from interp.errors import require, require_one_of, require_whole
from interp.position_effects.attention_run import encoding_bias
from interp.position_effects.key_variance import OffsetSums
from interp.positions import RotaryPositions, SinusoidalPositions, make_positions

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

# Rounding: of numbers as large as the reference, and for half precision of all that comes before.
TOLERANCES = {
    torch.float64: 1e-10,
    torch.float32: 1e-5,
    torch.float16: 1e-2,
    torch.bfloat16: 1e-1,
}


@dataclass(frozen=True)
class Identity:
    """An identity, and how far a model is from it.

    Attributes:
        name: What holds.
        dtype: In which it was computed.
        error: Largest |difference| over max(1, largest |reference|).
        tolerance: What rounding in this dtype may come to.
        note: What was compared.
    """

    name: str
    dtype: str
    error: float
    tolerance: float
    note: str


def shift_rotation(
    frequencies: Float[Tensor, "pair"], offset: int, layout: str = "interleaved"
) -> Float[Tensor, "d_model d_model"]:
    """R_k: the matrix that takes PE(t) to PE(t + k) whatever t is (fp64).

    Args:
        frequencies: ω_i, radians per position.
        offset: k; may be negative.
        layout: `interleaved`: dimensions 2i and 2i + 1 are sine and cosine of ω_i; `halves`: i and
            i + d/2 are.

    Raises:
        InputError: for another layout.
    """
    require_one_of("layout", layout, ("interleaved", "halves"))
    axes = torch.eye(2 * len(frequencies), dtype=torch.float64, device=frequencies.device)
    return _turned(axes, frequencies, offset, layout).T


def _turned(
    x: Float[Tensor, "row d_model"],
    frequencies: Float[Tensor, "pair"],
    offset: int,
    layout: str,
) -> Float[Tensor, "row d_model"]:
    """R_k of every row, a pair at a time: R_k is zero but for d_model / 2 blocks of 2 by 2."""
    angles = frequencies.double() * offset
    sine, cosine = paired_dimensions(2 * len(frequencies), layout == "interleaved", x.device)
    found = torch.empty_like(x)
    # sin(a + b) = sin a cos b + cos a sin b, and cos(a + b) = cos a cos b - sin a sin b.
    found[:, sine] = x[:, sine] * angles.cos() + x[:, cosine] * angles.sin()
    found[:, cosine] = x[:, cosine] * angles.cos() - x[:, sine] * angles.sin()
    return found


def sinusoidal_product(
    frequencies: Float[Tensor, "pair"], offsets: Int[Tensor, "offset"]
) -> Float[Tensor, "offset"]:
    """PE(t)·PE(t + k) = Σ_i cos(k ω_i) for each offset k; d / 2 at 0 (fp64)."""
    return (offsets.double()[:, None] * frequencies.double()).cos().sum(-1)


def sinusoidal_identities(
    encoding: SinusoidalPositions, length: int, device: torch.device | str = "cpu"
) -> list[Identity]:
    """Both identities for all positions and offsets below `length`, in the encoding's dtype.

    Raises:
        InputError: for a length below 2.
    """
    require_whole("length", length, 2)
    place = torch.device(device)
    table = encoding.table(length, place)[:length]
    wide, frequencies = table.double(), encoding.frequencies(place)
    layout = "interleaved" if encoding.interleaved else "halves"
    off = wide.new_zeros(())
    for k in range(1, length):
        turned = _turned(wide[:-k], frequencies, k, layout)
        off = torch.maximum(off, (turned - wide[k:]).abs().amax())
    offsets = torch.arange(length, device=place)
    expected = sinusoidal_product(frequencies, (offsets[:, None] - offsets).abs().flatten())
    products = (table @ table.T).double().flatten()
    tolerance = TOLERANCES[table.dtype]
    return [
        Identity(
            "PE(t + k) = R_k PE(t)",
            dtype_name(table.dtype),
            _scaled(off, wide),
            tolerance,
            f"turned by the closed form, all t and k below {length}",
        ),
        Identity(
            "PE(t)·PE(t + k) = Σ cos(k ω)",
            dtype_name(table.dtype),
            _scaled((products - expected).abs().amax(), expected),
            tolerance,
            f"all t and k below {length}",
        ),
    ]


def rotary_identities(
    encoding: RotaryPositions,
    length: int,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    local: bool = False,
    heads: int = 4,
    seed: int = 0,
) -> list[Identity]:
    """Scores of fixed random queries and keys at all positions below `length`.

    Angles are rounded before their cosine is taken (fp32 below fp64), by up to length · 2^-24
    radians: the tolerance grows with the length.

    Args:
        encoding: The encoding.
        length: Of the text.
        dtype: In which queries and keys are turned and multiplied.
        device: Where.
        local: As in layers with a window.
        heads: How many queries and keys.
        seed: Of them.

    Raises:
        InputError: for numbers out of bounds.
    """
    require_whole("length", length, 2)
    require_whole("heads", heads, 1)
    place = torch.device(device)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, heads, encoding.dim, generator=generator, dtype=torch.float64)
    drawn = (drawn / drawn.norm(dim=-1, keepdim=True)).to(place)  # so scores are of size 1
    positions = torch.arange(length, device=place)
    turn = encoding.rotation(positions[None], length, dtype, local)
    turned = [turn(x.to(dtype).expand(1, length, -1, -1))[0] for x in drawn]
    scores = torch.einsum("mhd,nhd->hmn", *turned).double()
    frequencies = encoding.frequencies(place, torch.float64, length, local)
    pairs = paired_dimensions(encoding.dim, encoding.adjacent_pairs, place)
    # As complex numbers: Re(q conj(k) e^{i (m - n) ω}).
    q, k = (torch.complex(x[:, pairs[0]], x[:, pairs[1]]) for x in drawn)
    product = q * k.conj()
    offsets = torch.arange(1 - length, length, device=place)
    angles = offsets.double()[:, None] * frequencies[pairs[0]]
    by_offset = product.real @ angles.cos().T - product.imag @ angles.sin().T
    by_place = by_offset[:, positions[:, None] - positions + length - 1]
    expected = encoding.multiplier(local) ** 2 * by_place
    tolerance = max(TOLERANCES[dtype], _rounding(dtype, length))
    layers = " (layers with a window)" if encoding.has_own_base(local) else ""
    return [
        Identity(
            f"rotary scores depend on the offset alone{layers}",
            dtype_name(dtype),
            _scaled(offset_spread(scores), scores),
            tolerance,
            f"{heads} fixed queries and keys of length 1 at all positions below {length}",
        ),
        Identity(
            f"rotary score = Σ |q||k| cos((m - n) ω + φ){layers}",
            dtype_name(dtype),
            _scaled((scores - expected).abs().amax(), expected),
            tolerance,
            "the same against the closed form",
        ),
    ]


def score_is_relative(model: HookedTransformer) -> str | None:
    """Why scores on one repeated token need not depend on the offset alone; None: they must."""
    cfg = model.cfg
    if cfg.architecture == "encoder-decoder":
        return "it has two stacks"
    if cfg.positional_embedding_type in ("standard", "sinusoidal", "shortformer"):
        return "its positions are vectors"
    if cfg.attn_sinks:
        return "its sinks take a share of attention that depends on the position"
    return None if cfg.n_layers else "it has no heads"


@torch.no_grad()
def scores_on_one_token(
    model: HookedTransformer, token: int, length: int
) -> Float[Tensor, "layer head pos key_pos"]:
    """Every layer's scores on `length` copies of one token; -inf where masked.

    Raises:
        InputError: for a model whose scores then depend on more than the offset
            (`score_is_relative` says why), a token it does not know, or a length below 1.
    """
    reason = score_is_relative(model)
    require(reason is None, f"the model's positions must be relative. Received one: {reason}")
    require_whole("length", length, 1)
    require_whole("token", token, 0)
    tokens = torch.full((1, length), token, device=model.W_E.device)
    _, cache = model.run_with_cache(
        tokens,
        names_filter="blocks.*.attn.hook_attn_scores",
        return_type=None,
        attention_mask=torch.ones_like(tokens),
    )
    layers = range(model.cfg.n_layers)
    return torch.cat([cache[f"blocks.{i}.attn.hook_attn_scores"] for i in layers])


def offset_spread(scores: Float[Tensor, "*heads pos key_pos"]) -> Float[Tensor, ""]:
    """The largest distance of a score from the mean of those at its offset, where not masked."""
    sums = OffsetSums(scores.shape[-1], False, scores.device)
    seen = scores.isfinite()
    wide = scores.double().masked_fill(~seen, 0)
    mean = sums(wide) / sums(seen.double()).clamp(min=1)
    return ((wide - sums.spread(mean)) * seen).abs().amax()


def fitted_slopes(
    scores: Float[Tensor, "*heads pos key_pos"],
) -> Float[Tensor, "*heads"]:
    """How much less a score is for each step of distance: minus the slope of a regression (fp64).

    Scores of one query position are compared with one another alone: each loses its own mean, and
    so does the distance.

    Raises:
        InputError: for fewer than two positions.
    """
    n = scores.shape[-1]
    require(n > 1, f"slopes need two positions or more. Received {n}")
    seen = scores.isfinite()
    wide = scores.double().masked_fill(~seen, 0)
    places = torch.arange(n, device=scores.device)
    distance = (places[:, None] - places).abs().double()
    count = seen.sum(-1, keepdim=True).clamp(min=1)

    def less_mean(x: Tensor) -> Tensor:
        kept = torch.where(seen, x, 0)
        return torch.where(seen, x - kept.sum(-1, keepdim=True) / count, 0)

    far = less_mean(distance.expand_as(wide))
    return -(far * less_mean(wide)).sum((-2, -1)) / far.square().sum((-2, -1))


@torch.no_grad()
def model_identities(
    model: HookedTransformer, length: int, token: int = 0, seed: int = 0
) -> list[Identity]:
    """All that must hold of this model's encoding, its closed forms in fp64 and fp32 both.

    Empty for learned vectors (added to the residual stream or to queries and keys), of which
    nothing is known beforehand.

    Args:
        model: Any with one stack.
        length: Of the texts, and one more than the largest offset.
        token: What scores are looked at on, in the model's own dtype.
        seed: Of rotary's queries and keys.

    Raises:
        InputError: for an encoder–decoder, a length below 2, or an unknown token.
    """
    cfg = model.cfg
    require(
        cfg.architecture != "encoder-decoder",
        "identities need a model with one stack. This is an encoder-decoder",
    )
    require_whole("length", length, 2)
    found: list[Identity] = []
    causal, device = model.main_stack.causal, model.W_E.device
    for dtype in (torch.float64, torch.float32):
        # One of its own, so that the model's keeps no tables of other dtypes.
        encoding: Any = None
        if cfg.positional_embedding_type in ("sinusoidal", "rotary"):
            encoding = make_positions(cfg.replace(dtype=dtype), causal)
        if isinstance(encoding, SinusoidalPositions):
            found += sinusoidal_identities(encoding, length, device)
        if isinstance(encoding, RotaryPositions):
            has_local = encoding.has_own_base("local" in (cfg.attn_types or ()))
            for local in (False, True) if has_local else (False,):
                found += rotary_identities(encoding, length, dtype, device, local, seed=seed)
    if score_is_relative(model) is None:
        found += _on_one_token(model, length, token)
    return found


def _on_one_token(model: HookedTransformer, length: int, token: int) -> list[Identity]:
    scores = scores_on_one_token(model, token, length)
    dtype = scores.dtype
    # Angles are rounded the more, the larger they are. And so is attention's mean of equal values:
    # n weights, each rounded, sum to 1 but for n · 2^-24, which the layers behind see.
    tolerance = max(TOLERANCES[dtype], _rounding(dtype, length))
    seen = scores[scores.isfinite()]
    found = [
        Identity(
            "scores on one repeated token depend on the offset alone",
            dtype_name(dtype),
            _scaled(offset_spread(scores), seen),
            tolerance,
            f"every layer and head, {length} times token {token}",
        )
    ]
    encoding: Any = model.main_stack.pos_embed
    if model.cfg.positional_embedding_type == "alibi":
        slopes = encoding.slopes(scores.device, torch.float64)
        found.append(
            Identity(
                "ALiBi slopes recovered from scores",
                dtype_name(dtype),
                _scaled((fitted_slopes(scores) - slopes).abs().amax(), slopes),
                tolerance,
                "by regression of the same scores on distance, every layer and head",
            )
        )
    if model.cfg.positional_embedding_type == "relative_positional_bias":
        bias = encoding_bias(model, length, scores.device, torch.float64)
        assert bias is not None
        own = bias.diagonal(0, -2, -1)[..., None]
        off = scores.double() - scores.double().diagonal(0, -2, -1)[..., None] - (bias - own)
        found.append(
            Identity(
                "T5 biases recovered from scores",
                dtype_name(dtype),
                _scaled(off.abs().masked_fill(~scores.isfinite(), 0).amax(), seen),
                tolerance,
                "the same scores, less those at distance 0, every layer and head",
            )
        )
    return found


def _rounding(dtype: torch.dtype, length: int) -> float:
    """Of a sum of so many numbers, or an angle of so many radians, in fp32 (or below)."""
    return 0.0 if dtype == torch.float64 else 4 * length * 2.0**-24


def paired_dimensions(
    dim: int, adjacent: bool, device: torch.device
) -> tuple[Int[Tensor, "pair"], Int[Tensor, "pair"]]:
    """The first and the second dimension of every pair that turns together: neighbours or not."""
    i = torch.arange(dim // 2, device=device)
    return (2 * i, 2 * i + 1) if adjacent else (i, i + dim // 2)


def _scaled(off: Tensor, reference: Tensor) -> float:
    largest = float(reference.abs().max()) if reference.numel() else math.nan
    return float(off) / max(1.0, largest)
