"""Estimates on every device, and in half precision as far as that goes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, patching
from interp.attribution import atp_star, edge_attribution, estimate
from tests.interp.test_devices import DEVICES, make, scaled_error, tokens_for


def estimates(model: HookedTransformer) -> dict[str, Tensor]:
    clean = tokens_for(model)
    corrupted = clean.roll(1, 0)
    metric = patching.LogitDiff(3, 5)
    with torch.no_grad():
        _, source = model.run_with_cache(clean)
    found = {
        part: estimate(model, corrupted, source, part, metric).change
        for part in ("resid_pre", "z", "k", "pattern")
    }
    for part in ("q", "k", "v"):
        found[f"AtP* {part}"] = atp_star(model, corrupted, source, part, metric).change
    for method in ("eap", "eap-ig"):
        scores = edge_attribution(model, clean, corrupted, metric, method)  # type: ignore[arg-type]
        assert len(scores.to_frame()) == len(scores.ranked()) == int(scores.graph.exists.sum())
        found[method] = scores.scores.nan_to_num()
    return found


@pytest.mark.parametrize("device", DEVICES)
def test_fp64_as_on_the_cpu(device: str) -> None:
    expected = estimates(make("cpu", torch.float64))
    for name, found in estimates(make(device, torch.float64)).items():
        assert found.device.type == device
        assert scaled_error(found, expected[name]) < 1e-10, name
        assert expected[name].abs().max() > 1e-6, name


@pytest.mark.parametrize("device", DEVICES)
def test_half_precision(device: str) -> None:
    """The weights of the reference are those that were rounded."""
    half = make(device, torch.bfloat16)
    wide = make(device, torch.float64)
    wide.load_state_dict({k: v.double() for k, v in half.state_dict().items()})
    expected = estimates(wide)
    for name, found in estimates(half).items():
        assert found.dtype == torch.float32
        error = (found.double() - expected[name]).abs().max() / expected[name].abs().max()
        assert error < 0.1, name
