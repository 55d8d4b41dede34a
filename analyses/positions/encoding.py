"""What an encoding of positions is by itself, whatever the text: its vectors and angles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.behaviour.reading import check_part
from interp.errors import require, require_whole
from interp.position_effects import band_frequencies, position_pca, position_spectrum
from interp.position_effects.curve import Curve

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Part = Literal["decoder", "encoder"] | None
COMPONENTS = 3


@torch.no_grad()
def vectors_of_positions(
    model: HookedTransformer, n: int, part: Part = None
) -> Float[Tensor, "pos d_model"]:
    """The vectors of positions 0 … n - 1, as they are added.

    Args:
        model: With positions that are vectors: learned, sinusoidal or shortformer.
        n: How many, at most n_ctx.
        part: Of an encoder–decoder, whose. None: the decoder's.

    Raises:
        InputError: for another encoding, a part that the model does not have, or positions that it
            does not read.
    """
    check_part(model, part)
    n_ctx = model.cfg.n_ctx
    require_whole("n", n, 1)
    require(n <= n_ctx, f"this model reads {n_ctx} positions. Received n {n}")
    encoding: Any = (model.encoder if part == "encoder" else model.main_stack).pos_embed
    require(
        bool(encoding.adds_embedding or encoding.adds_to_queries_and_keys),
        f"positions of this model are no vectors but {model.cfg.positional_embedding_type!r}",
    )
    places = torch.arange(n, device=model.W_E.device)[None]
    found: Tensor = encoding.embedding(places, n)[0]
    return found


def cosines_table(model: HookedTransformer, n: int, part: Part = None) -> pd.DataFrame:
    """The cosine of every two positions' vectors (0 for one of zeros).

    Returns:
        position, other, cosine.

    Raises:
        InputError: as `vectors_of_positions`.
    """
    x = vectors_of_positions(model, n, part).double()
    norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    unit = x / torch.where(norms > 0, norms, 1.0)
    cosine = (unit @ unit.T).clamp(-1, 1).flatten().tolist()
    return pd.DataFrame(
        {
            "position": [i for i in range(n) for _ in range(n)],
            "other": list(range(n)) * n,
            "cosine": cosine,
        }
    )


def waves_table(model: HookedTransformer, n: int, part: Part = None) -> pd.DataFrame:
    """The discrete spectrum of the positions' vectors, a straight line taken out.

    Returns:
        turns (over all n positions), period, share (of the power of the vectors less their mean).

    Raises:
        InputError: as `vectors_of_positions`, or for fewer than 4 positions.
    """
    require(n >= 4, f"a spectrum needs 4 positions or more. Received n {n}")
    found = position_spectrum(Curve.of_table(vectors_of_positions(model, n, part)))
    return pd.DataFrame(
        {
            "turns": found.frequency.tolist(),
            "period": found.period.tolist(),
            "share": (found.power / (found.total or 1.0)).tolist(),
        }
    )


def paths_table(model: HookedTransformer, n: int, part: Part = None) -> pd.DataFrame:
    """The leading principal components' scores by position.

    Returns:
        component (`component 1 (41 %)`, with its share of the variance), position, score.

    Raises:
        InputError: as `waves_table`.
    """
    require(n >= 4, f"components need 4 positions or more. Received n {n}")
    pca = position_pca(Curve.of_table(vectors_of_positions(model, n, part)))
    variance = pca.variance / pca.variance.sum()
    frames = [
        pd.DataFrame(
            {
                "component": f"component {i + 1} ({float(variance[i]):.0%})",
                "position": range(n),
                "score": pca.scores[:, i].tolist(),
            }
        )
        for i in range(min(COMPONENTS, pca.scores.shape[1]))
    ]
    return pd.concat(frames, ignore_index=True)


def angles_table(model: HookedTransformer, n: int, layer: int = 0) -> pd.DataFrame:
    """How far each rotary band has turned at each distance.

    Queries and keys of a band whose angle is the same add |q||k| cos(ω d) at the distance d.

    Args:
        model: With rotary positions.
        n: Distances 0 … n - 1, and the length of the text that stretched frequencies are for.
        layer: Whose (layers may differ in their base).

    Returns:
        band (0 turns fastest), wavelength (positions in a full turn; infinite for what does not
        turn), label (the wavelength in words), distance, cosine.

    Raises:
        InputError: for another encoding, or a layer that is not there.
    """
    require_whole("n", n, 1)
    frequencies = band_frequencies(model, layer, n).cpu()
    cosine = (frequencies[:, None] * torch.arange(n, dtype=torch.float64)).cos()
    wavelengths = (2 * torch.pi / frequencies).tolist()
    frames = [
        pd.DataFrame(
            {
                "band": band,
                "wavelength": wavelength,
                "label": _told(wavelength),
                "distance": range(n),
                "cosine": cosine[band].tolist(),
            }
        )
        for band, wavelength in enumerate(wavelengths)
    ]
    return pd.concat(frames, ignore_index=True)


def _told(wavelength: float) -> str:
    if math.isinf(wavelength):
        return "still"
    return f"{wavelength:,.0f}" if wavelength >= 100 else f"{wavelength:.3g}"
