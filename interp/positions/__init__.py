"""Positional encodings: one file each, all with the interface of `PositionalEncoding`.

`make_positions` makes the one that a config names. What a trained model makes of position is
measured by `interp.position_effects`.
"""

from interp.config import HookedTransformerConfig
from interp.positions.alibi import AlibiPositions
from interp.positions.base import NoPositions, PositionalEncoding
from interp.positions.learned import LearnedPositions
from interp.positions.relative import RelativePositions
from interp.positions.rotary import RotaryPositions
from interp.positions.shortformer import ShortformerPositions
from interp.positions.sinusoidal import SinusoidalPositions

ENCODINGS: dict[str, type[PositionalEncoding]] = {
    "standard": LearnedPositions,
    "sinusoidal": SinusoidalPositions,
    "rotary": RotaryPositions,
    "alibi": AlibiPositions,
    "relative_positional_bias": RelativePositions,
    "shortformer": ShortformerPositions,
    "none": NoPositions,
}


def make_positions(cfg: HookedTransformerConfig, causal: bool = True) -> PositionalEncoding:
    """The encoding that the config names, for causal or bidirectional attention."""
    return ENCODINGS[cfg.positional_embedding_type](cfg, causal)


__all__ = [
    "ENCODINGS",
    "AlibiPositions",
    "LearnedPositions",
    "NoPositions",
    "PositionalEncoding",
    "RelativePositions",
    "RotaryPositions",
    "ShortformerPositions",
    "SinusoidalPositions",
    "make_positions",
]
