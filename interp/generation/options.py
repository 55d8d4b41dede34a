"""What `generate` is asked for, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import InputError, require, require_whole
from interp.generation.beam import BeamSettings
from interp.generation.sampling import Sampling
from interp.generation.stopping import Stop
from interp.tokenization.text import PaddingSide


@dataclass(frozen=True)
class Options:
    """The arguments of `Generation.generate` but for the input and the form of the output.

    Raises:
        InputError: for a value out of its range, or options that contradict each other.
    """

    max_new_tokens: int = 10
    stop_at_eos: bool = True
    eos_token_id: int | Sequence[int] | None = None
    do_sample: bool | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    temperature: float = 1.0
    freq_penalty: float = 0.0
    repetition_penalty: float = 1.0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    num_return_sequences: int = 1
    stop: Stop | None = None
    use_past_kv_cache: bool = True
    prepend_bos: bool | None = None
    padding_side: PaddingSide | None = None
    attention_mask: Int[Tensor, "batch pos"] | None = None
    decoder_input: Any = None
    generator: torch.Generator | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        require_whole("max_new_tokens", self.max_new_tokens, 0)
        beams, sampling = self.beams, self.sampling
        if self.uses_beams:
            self._check_beams()
            require(
                beams.num_return_sequences <= beams.num_beams,
                f"num_return_sequences must be at most num_beams ({self.num_beams}). "
                f"Received {self.num_return_sequences}",
            )
            return
        for name in ("length_penalty", "early_stopping"):
            if getattr(self, name) != getattr(Options, name):
                raise InputError(f"{name} needs a beam search: num_beams above 1.")
        require(
            self.num_return_sequences == 1 or not sampling.is_greedy,
            "num_return_sequences above 1 needs draws or beams: the likeliest tokens are the same "
            "each time",
        )

    def _check_beams(self) -> None:
        if self.do_sample:
            raise InputError("num_beams above 1 and do_sample=True contradict each other.")
        for name in ("top_k", "top_p", "min_p", "temperature", "freq_penalty"):
            if getattr(self, name) != getattr(Options, name):
                raise InputError(f"{name} has no meaning in a beam search: nothing is drawn.")
        require_whole("max_new_tokens of a beam search", self.max_new_tokens, 1)

    @property
    def uses_beams(self) -> bool:
        """Whether this is a beam search."""
        return self.num_beams > 1

    @property
    def beams(self) -> BeamSettings:
        """How the beam search goes."""
        return BeamSettings(
            self.num_beams, self.length_penalty, self.early_stopping, self.num_return_sequences
        )

    @property
    def sampling(self) -> Sampling:
        """How a next token is chosen."""
        do_sample = not self.uses_beams if self.do_sample is None else self.do_sample
        if self.uses_beams:
            return Sampling(False, repetition_penalty=self.repetition_penalty)
        return Sampling(
            do_sample,
            self.temperature,
            self.top_k,
            self.top_p,
            self.min_p,
            self.repetition_penalty,
            self.freq_penalty,
        )
