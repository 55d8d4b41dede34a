"""From the logits of the next token to a token: penalties, filters and the draw.

The filters are pure functions from logits to logits and are applied in Hugging Face's order:
repetition penalty, temperature, (TransformerLens's frequency penalty), top-k, top-p, min-p. A
token that a filter leaves out gets the logit -inf.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import InputError, is_whole, require, require_number, require_whole
from interp.precision import wide

Logits = Float[Tensor, "batch d_vocab"]
Tokens = Int[Tensor, "batch pos"]
Mask = Bool[Tensor, "batch pos"]


def count_tokens(
    tokens: Tokens, n_tokens: int, real: Mask | None = None
) -> Int[Tensor, "batch d_vocab"]:
    """How often each row holds each of `n_tokens` tokens, padding (`real` False) left out."""
    counts = torch.zeros(tokens.shape[0], n_tokens + 1, dtype=torch.long, device=tokens.device)
    # A token that is only read and never written (d_vocab_out < d_vocab) falls into the last bin.
    weights = torch.ones_like(tokens) if real is None else real.long()
    return counts.scatter_add_(1, tokens.clamp(max=n_tokens), weights)[:, :n_tokens]


def repetition_penalty(
    logits: Logits, tokens: Tokens, penalty: float, real: Mask | None = None
) -> Logits:
    """Positive logits of tokens that occurred are divided by `penalty`, negative ones multiplied.

    As in Keskar et al. 2019 (CTRL), §4.1; above 1 it discourages repetition.
    """
    occurred = count_tokens(tokens, logits.shape[-1], real) > 0
    penalised = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(occurred, penalised, logits)


def frequency_penalty(
    logits: Logits, tokens: Tokens, penalty: float, real: Mask | None = None
) -> Logits:
    """`penalty` is subtracted once for every time that a token occurred."""
    return logits - penalty * count_tokens(tokens, logits.shape[-1], real).to(logits.dtype)


def keep_top_k(logits: Logits, k: int) -> Logits:
    """The k largest logits stay, with all that equal the smallest of them."""
    smallest = logits.topk(min(k, logits.shape[-1]), -1).values[:, -1:]
    return logits.masked_fill(logits < smallest, -torch.inf)


def keep_top_p(logits: Logits, p: float) -> Logits:
    """The fewest likeliest tokens that together hold probability `p` (Holtzman et al. 2020)."""
    ascending, order = logits.sort(-1)
    left_out = ascending.softmax(-1).cumsum(-1) <= 1 - p
    left_out[:, -1] = False
    return logits.masked_fill(left_out.scatter(-1, order, left_out), -torch.inf)


def keep_min_p(logits: Logits, p: float) -> Logits:
    """Tokens at least `p` times as probable as the likeliest stay (Nguyen et al. 2024)."""
    probabilities = logits.softmax(-1)
    largest = probabilities.amax(-1, keepdim=True)
    left_out = (probabilities < p * largest).scatter(-1, logits.argmax(-1, keepdim=True), False)
    return logits.masked_fill(left_out, -torch.inf)


@dataclass(frozen=True)
class Sampling:
    """How a next token is chosen.

    Attributes:
        do_sample: False takes the likeliest token.
        temperature: The logits are divided by it; 0 takes the likeliest token.
        top_k, top_p, min_p: What `keep_top_k`, `keep_top_p` and `keep_min_p` keep. None: all.
        repetition_penalty: Hugging Face's; also where the likeliest token is taken.
        freq_penalty: TransformerLens's, on the logits after the temperature.

    Raises:
        InputError: for a value out of its range, or a frequency penalty where nothing is drawn.
    """

    do_sample: bool = True
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    freq_penalty: float = 0.0

    def __post_init__(self) -> None:
        require_number("temperature", self.temperature, zero=True)
        if self.top_k is not None:
            require_whole("top_k", self.top_k, 1)
        for name, zero in (("top_p", False), ("min_p", True)):
            share = getattr(self, name)
            if share is not None:
                require_number(name, share, zero=zero)
                require(share <= 1, f"{name} must be at most 1. Received {share}")
        require_number("repetition_penalty", self.repetition_penalty)
        require_number("freq_penalty", self.freq_penalty, zero=True)
        require(
            not (self.freq_penalty and self.is_greedy),
            "freq_penalty changes draws only: it needs do_sample=True and a temperature above 0",
        )

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken each time."""
        return not self.do_sample or self.temperature == 0

    def filter(
        self, logits: Logits, tokens: Tokens | None = None, real: Mask | None = None
    ) -> Logits:
        """The logits that are drawn from, or whose largest is taken.

        Args:
            logits: Of the next token.
            tokens: All before it; the penalties need them.
            real: False for padding among them.

        Raises:
            InputError: for a penalty without `tokens`.
        """
        logits = wide(logits)
        penalises = self.repetition_penalty != 1 or self.freq_penalty != 0
        if penalises and tokens is None:
            raise InputError("a repetition or frequency penalty needs the tokens so far.")
        if tokens is not None and self.repetition_penalty != 1:
            logits = repetition_penalty(logits, tokens, self.repetition_penalty, real)
        if self.is_greedy:
            return logits
        if self.temperature != 1:
            logits = logits / self.temperature
        if tokens is not None and self.freq_penalty != 0:
            logits = frequency_penalty(logits, tokens, self.freq_penalty, real)
        if self.top_k is not None:
            logits = keep_top_k(logits, self.top_k)
        if self.top_p is not None and self.top_p < 1:
            logits = keep_top_p(logits, self.top_p)
        if self.min_p is not None:
            logits = keep_min_p(logits, self.min_p)
        return logits

    def choose(
        self,
        logits: Logits,
        tokens: Tokens | None = None,
        real: Mask | None = None,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "batch"]:
        """A token per row; `generator` (None: torch's global one) is the source of the draws."""
        logits = self.filter(logits, tokens, real)
        if self.is_greedy:
            return logits.argmax(-1)
        return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]


def make_generator(
    seed: int | None, generator: torch.Generator | None, device: torch.device
) -> torch.Generator | None:
    """The source of draws: one that begins with `seed`, the one given, or None for torch's own.

    Raises:
        InputError: for both, for a seed that is no whole number, or a generator elsewhere.
    """
    if seed is not None:
        require(generator is None, "seed and generator exclude each other: give one of them")
        require(is_whole(seed, -(2**63)), f"seed must be a whole number. Received {seed!r}")
        return torch.Generator(device).manual_seed(seed)
    if generator is not None and generator.device.type != device.type:
        raise InputError(
            f"generator must be on the model's device ({device}). It is on {generator.device}."
        )
    return generator
