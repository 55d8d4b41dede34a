"""What a sparse autoencoder is: its kind, its sizes, and what keeps it sparse."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from interp.devices.parsing import dtype_name, parse_device, parse_dtype
from interp.errors import InputError, require, require_number, require_one_of, require_whole

Kind = Literal["relu", "topk", "gated"]

AUX_COEFFICIENT = 1 / 32  # Gao et al. 2024, appendix A.2


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """A sparse autoencoder.

    Attributes:
        kind: `relu` (L1 penalty), `topk` or `gated`.
        d_in: Numbers in what is read.
        d_sae: Units of the dictionary.
        l1_coefficient: λ, the weight of the L1 penalty beside the squared error summed over `d_in`:
            it is in units of the input. Needed by `relu` and `gated`, refused by `topk`.
        k: Units that fire at most for one input. Needed by `topk`, refused by the others.
        aux_k: Dead units that are fitted at most to what is left of the input, of `topk` alone.
            None: half of `d_in`, as Gao et al. 2024; 0: none.
        aux_coefficient: Weight of their error in the loss, of `topk` alone. None: 1/32.
        seed: Of the initial weights: the same numbers on every device.
        device: None: CUDA where there is one, else the CPU.
        dtype: Of the weights.

    Raises:
        InputError: for a value out of bounds, or one that the kind needs and has not, or has no
            use for.
    """

    kind: Kind
    d_in: int
    d_sae: int
    l1_coefficient: float | None = None
    k: int | None = None
    aux_k: int | None = None
    aux_coefficient: float | None = None
    seed: int = 0
    device: torch.device | str | None = None
    dtype: torch.dtype | str = torch.float32

    def __post_init__(self) -> None:
        require_one_of("kind", self.kind, get_args(Kind))
        require_whole("d_in", self.d_in, 1)
        require_whole("d_sae", self.d_sae, 1)
        require_whole("seed", self.seed, 0)
        if self.kind == "topk":
            self._check_topk()
        else:
            self._check_l1()
        self._fill("device", parse_device(self.device))
        self._fill("dtype", parse_dtype(self.dtype))

    def _check_l1(self) -> None:
        for name in ("k", "aux_k", "aux_coefficient"):
            value = getattr(self, name)
            require(value is None, f"{name} is for kind 'topk'. Received {value!r}")
        require_number("l1_coefficient", self.l1_coefficient, zero=True)

    def _check_topk(self) -> None:
        require(
            self.l1_coefficient is None,
            f"l1_coefficient is not for kind 'topk'. Received {self.l1_coefficient!r}",
        )
        require_whole("k", self.k, 1)
        assert self.k is not None
        require(self.k <= self.d_sae, f"k must be at most d_sae ({self.d_sae}). Received {self.k}")
        if self.aux_k is None:
            self._fill("aux_k", max(self.d_in // 2, 1))
        require_whole("aux_k", self.aux_k, 0)
        if self.aux_coefficient is None:
            self._fill("aux_coefficient", AUX_COEFFICIENT)
        require_number("aux_coefficient", self.aux_coefficient, zero=True)

    def _fill(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def torch_device(self) -> torch.device:
        """`device`, filled in."""
        return parse_device(self.device)

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype`, as torch's own."""
        return parse_dtype(self.dtype)

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        fields = dataclasses.asdict(self)
        return {**fields, "device": str(self.device), "dtype": dtype_name(self.torch_dtype)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> SAEConfig:
        """The config with these fields.

        Raises:
            InputError: for an unknown field, a missing one, or as the class.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        foreign = sorted(set(fields) - known)
        missing = sorted({"kind", "d_in", "d_sae"} - set(fields))
        if foreign or missing:
            raise InputError(
                "an SAEConfig must have kind, d_in and d_sae, and no fields but its own. "
                f"Missing: {missing}; unknown: {foreign}."
            )
        return cls(**fields)
