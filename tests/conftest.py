"""What all tests share: how errors are measured, random models, and third-party files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any test imports huggingface_hub

import pytest
import torch
from torch import Tensor, nn

TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}
_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def third_party() -> Callable[[str], Path]:
    """The path of a third-party file or folder; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        if not (_DATA / name).exists():
            pytest.skip(f"needs the third-party {name}, which belongs beside the repository in "
                        f"{_DATA.relative_to(_DATA.parents[1])}")  # fmt: skip
        return _DATA / name

    return find


@pytest.fixture(scope="session")
def assert_close() -> Callable[..., None]:
    """|found - expected| <= tolerance · max(1, max |expected|), by default that of the dtype."""

    def check(found: Tensor, expected: Tensor, what: str = "", tolerance: float = -1.0) -> None:
        assert found.shape == expected.shape, what
        found, expected = found.detach(), expected.detach()
        if tolerance < 0:
            tolerance = max(TOLERANCES[x.dtype] for x in (found, expected))
        found, expected = found.double(), expected.double()
        assert torch.equal(found.isfinite(), expected.isfinite()), what
        finite = expected.isfinite()
        assert torch.equal(found[~finite], expected[~finite]), what
        found, expected = found[finite], expected[finite]
        if expected.numel():
            error = float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))
            assert error <= tolerance, f"{what}: {error:.1e} > {tolerance:.0e}"

    return check


@pytest.fixture(scope="session")
def scramble() -> Callable[..., Any]:
    """Fill every parameter with numbers large enough for an error to show."""

    @torch.no_grad()
    def fill(model: nn.Module, std: float = 0.2, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            drawn = torch.empty(parameter.shape).normal_(0.0, std, generator=generator)
            is_norm_weight = parameter.ndim == 1 and name.endswith((".w", "norm.weight")) or (
                "ln_" in name and name.endswith("weight")
            )
            parameter.copy_(drawn + 1.0 if is_norm_weight else drawn)
        return model

    return fill
