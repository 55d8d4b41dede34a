"""Generating: greedy, by drawing or with beams, with a key/value cache, streamed and recorded.

`Generation` holds the methods of a model: `generate`, `generate_stream` (each token as it comes),
`generate_with_cache` (what a run over the whole text would record) and `beam_search`.
"""

from interp.generation.beam import BeamOutput, BeamSettings
from interp.generation.generate import Generation
from interp.generation.run import Step
from interp.generation.sampling import Sampling

__all__ = ["BeamOutput", "BeamSettings", "Generation", "Sampling", "Step"]
