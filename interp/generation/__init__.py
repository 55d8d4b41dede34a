"""Generating: greedy, by drawing or with beams, with a key/value cache, streamed and recorded."""

from interp.generation.beam import BeamOutput, BeamSettings
from interp.generation.generate import Generation
from interp.generation.run import Step
from interp.generation.sampling import Sampling

__all__ = ["BeamOutput", "BeamSettings", "Generation", "Sampling", "Step"]
