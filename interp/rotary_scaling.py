"""How rotary frequencies are stretched, so that a model reads further than it was trained to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import require, require_number, require_one_of, require_whole

ScalingKind = Literal["linear", "dynamic", "yarn", "llama3"]


@dataclass(frozen=True, kw_only=True)
class RotaryScaling:
    """One way of stretching, and its numbers.

    - `linear`: positions are divided by `factor` (Chen et al. 2023, Position Interpolation).
    - `dynamic`: beyond `original_n_ctx` the base grows with the length of the text (NTK-aware).
    - `yarn`: slow frequencies are divided by `factor`, fast ones kept, with a ramp between them
      (Peng et al. 2023, YaRN); queries and keys are multiplied by `attention_factor`.
    - `llama3`: wavelengths beyond `original_n_ctx / low_freq_factor` are stretched by `factor`,
      those below `original_n_ctx / high_freq_factor` kept (Llama 3.1).

    Attributes:
        kind: One of these.
        factor: How far.
        original_n_ctx: The length that the model was trained on.
        beta_fast, beta_slow: YaRN's ramp, in turns over the original length.
        attention_factor: YaRN's. None: 0.1 ln(factor) + 1.
        truncate: Whether YaRN's ramp begins and ends at whole dimensions.
        low_freq_factor, high_freq_factor: Llama 3's.

    Raises:
        InputError: for a value out of bounds.
    """

    kind: ScalingKind
    factor: float
    original_n_ctx: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0

    def __post_init__(self) -> None:
        require_one_of("rotary scaling's kind", self.kind, get_args(ScalingKind))
        require_number("rotary scaling's factor", self.factor)
        require_whole("rotary scaling's original_n_ctx", self.original_n_ctx, 1)
        for name in ("beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor"):
            require_number(f"rotary scaling's {name}", getattr(self, name))
        if self.attention_factor is not None:
            require_number("rotary scaling's attention_factor", self.attention_factor)
        require(
            isinstance(self.truncate, bool),
            f"rotary scaling's truncate must be True or False. Received {self.truncate!r}",
        )
        require(
            self.beta_slow < self.beta_fast,
            "rotary scaling's beta_slow must be below its beta_fast. "
            f"Received {self.beta_slow} and {self.beta_fast}",
        )
        require(
            self.low_freq_factor < self.high_freq_factor,
            "rotary scaling's low_freq_factor must be below its high_freq_factor. "
            f"Received {self.low_freq_factor} and {self.high_freq_factor}",
        )

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> RotaryScaling:
        """The scaling with these fields.

        Raises:
            InputError: for a field that is missing or does not exist, or a value out of bounds.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        needed = {"kind", "factor", "original_n_ctx"}
        require(
            needed <= set(fields) <= known,
            f"rotary_scaling must give {', '.join(sorted(needed))}, and may give "
            f"{', '.join(sorted(known - needed))}. Received {', '.join(sorted(fields))}",
        )
        return cls(**fields)

    @property
    def depends_on_length(self) -> bool:
        """Whether a longer text turns its earlier tokens differently."""
        return self.kind == "dynamic"

    @property
    def multiplier(self) -> float:
        """What queries and keys are multiplied by, beside turning."""
        if self.kind != "yarn":
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0

    def frequencies(
        self, plain: Float[Tensor, "pair"], base: float, length: int
    ) -> Float[Tensor, "pair"]:
        """Radians per position of every pair.

        Args:
            plain: The same without stretching, `[dim / 2]`.
            base: Of the rotary wavelengths.
            length: Of the text.
        """
        if self.kind == "linear":
            return plain / self.factor
        if self.kind == "dynamic":
            return self._dynamic(plain, base, length)
        return self._yarn(plain, base) if self.kind == "yarn" else self._llama3(plain)

    def _dynamic(self, plain: Tensor, base: float, length: int) -> Tensor:
        length = max(length, self.original_n_ctx)
        dim = 2 * plain.shape[0]
        grown = self.factor * length / self.original_n_ctx - (self.factor - 1)
        base = base * grown ** (dim / (dim - 2))
        exponent = torch.arange(0, dim, 2, device=plain.device, dtype=plain.dtype) / dim
        return 1.0 / base**exponent

    def _yarn(self, plain: Tensor, base: float) -> Tensor:
        dim = 2 * plain.shape[0]

        def dimension_of(turns: float) -> float:
            """Where the dimensions are that turn this often over the original length."""
            wavelength = self.original_n_ctx / (turns * 2 * math.pi)
            return dim * math.log(wavelength) / (2 * math.log(base))

        low, high = dimension_of(self.beta_fast), dimension_of(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        if low == high:
            high += 0.001
        place = torch.arange(dim // 2, device=plain.device, dtype=plain.dtype)
        stretched = ((place - low) / (high - low)).clamp(0, 1)
        return plain / self.factor * stretched + plain * (1 - stretched)

    def _llama3(self, plain: Tensor) -> Tensor:
        wavelength = 2 * math.pi / plain
        longest = self.original_n_ctx / self.low_freq_factor
        shortest = self.original_n_ctx / self.high_freq_factor
        kept = (self.original_n_ctx / wavelength - self.low_freq_factor) / (
            self.high_freq_factor - self.low_freq_factor
        )
        between = (1 - kept) * plain / self.factor + kept * plain
        stretched = torch.where(wavelength > longest, plain / self.factor, plain)
        medium = (wavelength >= shortest) & (wavelength <= longest)
        return torch.where(medium, between, stretched)
