"""Scores beside plain loops, numbers made by hand, and what must not change them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.sae import (
    dead_units,
    detection,
    duplicates,
    explained_variance,
    geometric_median,
    l0,
    score_sae,
)


def test_firing() -> None:
    activations = torch.tensor([[0.0, 2.0, 0.0], [1.0, 3.0, 0.0]])
    assert l0(activations) == 1.5
    assert dead_units(activations).tolist() == [False, False, True]
    assert l0(activations[None]) == 1.5 and dead_units(activations[None]).tolist()[2]


def test_explained_variance(inputs: Any) -> None:
    x = inputs()
    told = x + inputs(seed=7) * 0.3
    error = sum((a - b) ** 2 for a, b in zip(x.flatten(), told.flatten(), strict=True))
    columns = [x[:, i] for i in range(5)]
    spread = sum(sum((a - c.mean()) ** 2 for a in c) for c in columns)
    assert explained_variance(x, told).item() == pytest.approx(float(1 - error / spread))
    assert explained_variance(x, x) == 1
    assert explained_variance(x, x.mean(0).expand_as(x)).item() == pytest.approx(0, abs=1e-12)
    shifted = explained_variance(x + 1000, told + 1000).item()
    assert shifted == pytest.approx(explained_variance(x, told).item())


@settings(max_examples=10, deadline=None)
@given(n=st.integers(2, 9), d_in=st.integers(1, 3), seed=st.integers(0, 99))
def test_no_step_from_the_geometric_median_is_shorter(
    inputs: Any, n: int, d_in: int, seed: int
) -> None:
    x = inputs(n, d_in, seed)

    def total(point: torch.Tensor) -> float:
        return float((x - point).norm(dim=1).sum())

    median = geometric_median(x, steps=1000, tolerance=1e-12)
    for direction in torch.cat([torch.eye(d_in), -torch.eye(d_in)]).double():
        for size in (1e-2, 0.3):
            assert total(median) <= total(median + size * direction) + 1e-6


def test_geometric_median_by_hand() -> None:
    line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [100.0, 0.0]])
    torch.testing.assert_close(
        geometric_median(line, steps=1000, tolerance=1e-9), line[1], atol=1e-4, rtol=0
    )
    assert torch.equal(geometric_median(line[:1].repeat(4, 1)), line[0])
    # The mean is a sample, which is not the median; and one that is.
    found = geometric_median(torch.tensor([[-3.0], [0], [1], [1], [1]]), tolerance=1e-9)
    assert found.item() == pytest.approx(1)
    held = torch.tensor([[-3.0], [0], [0], [0], [1], [1], [1]])  # pulled by 2, held by 3
    assert geometric_median(held).item() == 0


@pytest.mark.parametrize("kind", ["relu", "topk", "gated"])
def test_all_scores_beside_the_whole_batch(kind: str, random_sae: Any, inputs: Any) -> None:
    sae, x = random_sae(kind), inputs(40)
    with torch.no_grad():
        sae.W_dec[4] = sae.W_dec[1]
        for name in ("b_enc", "b_gate"):
            if hasattr(sae, name):
                getattr(sae, name)[6] = -100.0
    for size in (7, 40, 1000):
        found = score_sae(sae, x, batch_size=size)
        f = sae.encode(x).detach()
        told = (f @ sae.W_dec + sae.b_dec).detach()
        alive = (f > 0).any(0)
        assert found.reconstruction == pytest.approx(float(((x - told) ** 2).sum(1).mean()))
        assert found.fve == pytest.approx(
            float(1 - ((x - told) ** 2).mean() / ((x - x.mean(0)) ** 2).mean()), abs=1e-12
        )
        assert found.l0 == pytest.approx(float((f > 0).sum() / 40))
        assert (found.dead, found.living) == (int((~alive).sum()), int(alive.sum()))
        assert found.dead >= 1 and found.samples == 40
        assert torch.equal(found.fires, (f > 0).double().mean(0))
        assert found.duplicates == int(duplicates(sae.W_dec[alive]).sum())
        assert found.spare == (found.dead + found.duplicates) / 9


def test_a_dead_unit_is_nobodys_duplicate(random_sae: Any, inputs: Any) -> None:
    sae, x = random_sae("relu"), inputs(200)
    with torch.no_grad():
        sae.W_dec[:4] = torch.eye(5)[0]
        sae.W_dec[4:] = -torch.eye(5)
        sae.b_enc[:] = 5.0
    assert score_sae(sae, x).duplicates == 3
    with torch.no_grad():
        sae.b_enc[1:4] = -100.0
    assert score_sae(sae, x).duplicates == 0 and score_sae(sae, x).dead == 3


def test_detection_by_hand() -> None:
    present = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0]]).bool()
    fires = torch.tensor([[0, 1, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0]]).bool()
    found = detection(fires, present, torch.tensor([1, 0, 2]))
    assert found.precision[:2].tolist() == [1.0, 0.0] and found.precision[2].isnan()
    assert found.recall[:2].tolist() == [1.0, 0.0] and found.recall[2].isnan()
    assert found.f1[:2].tolist() == [1.0, 0.0] and found.f1[2].isnan()
    swapped = detection(fires, present, torch.tensor([0, 1, 2]))
    assert swapped.precision[:2].tolist() == pytest.approx([1 / 2, 1 / 3])
    assert swapped.recall[:2].tolist() == pytest.approx([1 / 3, 1.0])
    assert swapped.f1[:2].tolist() == pytest.approx([2 / 5, 1 / 2])


def test_bad_input(random_sae: Any, inputs: Any) -> None:
    with pytest.raises(InputError, match="at least two samples"):
        score_sae(random_sae("relu"), inputs(1))
    with pytest.raises(InputError, match=r"must be a tensor .* Received dict"):
        score_sae(random_sae("relu"), {"hook": inputs()})
    with pytest.raises(InputError, match="batch_size"):
        score_sae(random_sae("relu"), inputs(), batch_size=0)
    flags = torch.ones(4, 3, dtype=torch.bool)
    with pytest.raises(InputError, match=r"Received \(4, 3\), \(4, 3\), \(2,\)"):
        detection(flags, flags, torch.tensor([0, 1]))
    with pytest.raises(InputError, match="must be one of 3"):
        detection(flags, flags, torch.tensor([0, 1, -1]))
