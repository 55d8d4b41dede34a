"""Silent units beside a plain count; resampling does what the paper says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import AdamW

from interp import InputError
from interp.sae import FiringTracker, resample_


def test_silence_is_counted_in_samples() -> None:
    tracker = FiringTracker(3, torch.device("cpu"))
    batches = [(4, [0, 1]), (2, [1]), (5, [0]), (1, [])]
    silent = [0, 0, 0]
    for size, firing in batches:
        activations = torch.zeros(size, 3)
        activations[-1, firing] = 0.5
        tracker.update(activations)
        silent = [0 if u in firing else n + size for u, n in enumerate(silent)]
        assert tracker.silent_for.tolist() == silent
    assert silent == [1, 6, 12]
    assert tracker.dead(6).tolist() == [False, True, True]
    assert tracker.dead(7).tolist() == [False, False, True]
    assert set(tracker.state_dict()) == {"silent_for", "resampled"}


@pytest.mark.parametrize("kind", ["relu", "gated", "topk"])
def test_what_becomes_of_units(kind: str, random_sae: Any, inputs: Any, assert_close: Any) -> None:
    sae, x = random_sae(kind), inputs(30)
    optimizer = AdamW(sae.parameters(), lr=1e-3)
    sae.loss(x).total.backward()
    optimizer.step()
    before = {name: p.detach().clone() for name, p in sae.named_parameters()}
    moments = {n: optimizer.state[p]["exp_avg_sq"].clone() for n, p in sae.named_parameters()}
    units = torch.zeros(9, dtype=torch.bool)
    units[[2, 5, 6]] = True
    resample_(sae, units, x, torch.Generator().manual_seed(0), optimizer)

    inputs_at_unit_length = (x - sae.b_dec) / (x - sae.b_dec).norm(dim=1, keepdim=True)
    drawn = (sae.W_dec[units] @ inputs_at_unit_length.T).max(1)
    assert_close(drawn.values, torch.ones(3, dtype=torch.float64))
    assert len(set(drawn.indices.tolist())) == 3  # without replacement
    norm = before["W_enc"][:, ~units].norm(dim=0).mean()
    assert_close(sae.W_enc[:, units], 0.2 * norm * sae.W_dec[units].T)
    for name, axis in sae.UNIT_AXES.items():
        now = sae.get_parameter(name).detach().transpose(0, axis)
        assert torch.equal(now[~units], before[name].transpose(0, axis)[~units]), name
        if not name.startswith("W_"):
            assert not now[units].any(), name
        for moment in ("exp_avg", "exp_avg_sq"):
            found = optimizer.state[sae.get_parameter(name)][moment].transpose(0, axis)
            assert not found[units].any(), name
        assert torch.equal(found[~units], moments[name].transpose(0, axis)[~units]), name
    assert torch.equal(sae.b_dec, before["b_dec"])
    assert torch.equal(optimizer.state[sae.b_dec]["exp_avg_sq"], moments["b_dec"])


def test_chances_are_the_squared_losses(random_sae: Any, inputs: Any) -> None:
    sae = random_sae("relu", l1_coefficient=4.0)  # so large that it matters
    x = inputs(3, seed=7)
    loss = sae.loss(x)
    chance = (loss.reconstruction + loss.sparsity) ** 2
    chance = (chance / chance.sum()).tolist()
    directions = (x - sae.b_dec) / (x - sae.b_dec).norm(dim=1, keepdim=True)
    counts = torch.zeros(3)
    start = {k: v.clone() for k, v in sae.state_dict().items()}
    n = 400
    for seed in range(n):
        sae.load_state_dict(start)
        units = torch.arange(9) == seed % 9
        resample_(sae, units, x, torch.Generator().manual_seed(seed))
        counts[int((directions @ sae.W_dec[units][0]).argmax())] += 1
    for count, p in zip(counts.tolist(), chance, strict=True):
        assert abs(count / n - p) < 4 * (p * (1 - p) / n) ** 0.5


def test_corners(random_sae: Any, inputs: Any) -> None:
    sae, x = random_sae("relu"), inputs(4)
    draws = torch.Generator().manual_seed(0)
    before = {k: v.clone() for k, v in sae.state_dict().items()}
    resample_(sae, torch.zeros(9, dtype=torch.bool), x[:0], draws)
    assert all(torch.equal(v, before[k]) for k, v in sae.state_dict().items())
    everybody = torch.ones(9, dtype=torch.bool)
    with pytest.raises(InputError, match="Received none"):
        resample_(sae, everybody, x[:0], draws)
    resample_(sae, everybody, x, draws)  # more units than inputs, and no other unit's norm
    assert sae.W_enc.norm(dim=0).tolist() == pytest.approx([0.2] * 9)
    before = sae.W_dec.detach().clone()
    with torch.no_grad():
        resample_(sae, everybody, sae.b_dec.expand(9, 5).clone(), draws)  # no direction at all
    assert torch.equal(sae.W_dec, before)  # a row of zeros would never fire again
    assert sae.W_enc.norm(dim=0).tolist() == pytest.approx([0.2] * 9)
