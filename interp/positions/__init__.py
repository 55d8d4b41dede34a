"""Positional encodings: one file each, all with the interface of `PositionalEncoding`."""

from interp.config import HookedTransformerConfig
from interp.positions.base import NoPositions, PositionalEncoding
from interp.positions.learned import LearnedPositions
from interp.positions.rotary import RotaryPositions

ENCODINGS: dict[str, type[PositionalEncoding]] = {
    "standard": LearnedPositions,
    "rotary": RotaryPositions,
    "none": NoPositions,
}


def make_positions(cfg: HookedTransformerConfig) -> PositionalEncoding:
    """The encoding that the config names."""
    return ENCODINGS[cfg.positional_embedding_type](cfg)


__all__ = [
    "ENCODINGS",
    "LearnedPositions",
    "NoPositions",
    "PositionalEncoding",
    "RotaryPositions",
    "make_positions",
]
