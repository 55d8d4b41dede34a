from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from interp import InputError
from interp.weight_circuits.direction_measures import random_like
from interp.weight_circuits.directions import Directions
from interp.weight_circuits.overlap import alignment, head_overlap

Check = Callable[..., None]


def _heads(n_heads: int = 3, d_head: int = 2, d_model: int = 7, seed: int = 0) -> Directions:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(n_heads, d_model, d_head, generator=generator, dtype=torch.float64)
    scale = torch.linspace(0.5, 2.0, n_heads * d_head, dtype=torch.float64)[:, None]
    frames = torch.linalg.qr(normal).Q.mT.reshape(-1, d_model) * scale
    return Directions("OV", frames, layer=0, per_group=d_head)


def _moments(heads: Directions) -> Tensor:
    assert heads.per_group is not None
    frames = heads.vectors.view(-1, heads.per_group, heads.vectors.shape[-1])
    return torch.stack([frame.T @ frame for frame in frames])


def test_overlap_is_the_cosine_of_moments(assert_close: Check) -> None:
    heads = _heads()
    found = head_overlap(heads)
    for a, M_a in enumerate(_moments(heads)):
        assert float(found.norms[a]) == pytest.approx(float(M_a.trace() ** 0.5))
        effective = M_a.trace() ** 2 / M_a.square().sum()
        assert float(found.effective_dimensions[a]) == pytest.approx(float(effective))
        for b, M_b in enumerate(_moments(heads)):
            expected = torch.cosine_similarity(M_a.flatten(), M_b.flatten(), dim=0)
            assert float(found.overlap[a, b]) == pytest.approx(float(expected), abs=1e-12)


def test_random_overlap_is_the_average_over_turns() -> None:
    """Within five standard errors of 400 draws, with a dimension closed or none."""
    for centred in (False, True):
        heads = _heads()
        vectors = heads.vectors
        if centred:  # seven dimensions whose last is the mean of eight
            basis = torch.linalg.qr(torch.cat([torch.ones(8, 1), torch.eye(8)[:, :7]], 1)).Q[:, 1:]
            vectors = vectors @ basis.double().T
        given = Directions("OV", vectors, centred, layer=0, per_group=2)
        assert given.width == 7
        generator = torch.Generator().manual_seed(0)
        drawn = [head_overlap(random_like(given, generator)).overlap for _ in range(400)]
        found = torch.stack(drawn)
        error = found.std(0) / 20
        expected = head_overlap(given).random
        off = ~torch.eye(3, dtype=torch.bool)
        assert bool(((found.mean(0) - expected).abs() < 5 * error)[off].all())
        assert bool((error[off] < 0.1 * expected[off]).all())


def test_same_and_separate_dimensions() -> None:
    eye = torch.eye(6)
    same = Directions("OV", torch.cat([eye[:2], 3 * eye[[1, 0]], eye[4:]]), layer=0, per_group=2)
    found = head_overlap(same)
    expected = torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert torch.allclose(found.overlap, expected, atol=1e-6)
    assert found.effective_dimensions.tolist() == pytest.approx([2.0] * 3)
    assert found.random[0].tolist() == pytest.approx([1 / 3] * 3)  # two dimensions of six


def test_a_head_that_writes_nothing() -> None:
    vectors = torch.cat([torch.eye(4)[:2], torch.zeros(2, 4)])
    found = head_overlap(Directions("OV", vectors, layer=0, per_group=2))
    assert found.overlap.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert found.random[1].tolist() == [0.0, 0.0]
    assert found.effective_dimensions.tolist() == pytest.approx([2.0, 0.0])


def test_alignment_is_the_mean_over_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    b = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    weighted, weights = 0.0, 0.0
    for x in a:
        for y in b:
            weight = float((x @ x) * (y @ y))
            weights += weight
            weighted += weight * float(torch.cosine_similarity(x, y, dim=0)) ** 2
    found = alignment(a.T @ a, b.T @ b, 4)
    assert float(found) == pytest.approx(4 * weighted / weights)
    assert float(alignment(a.T @ a, torch.zeros(4, 4).double(), 4)) == 0.0
    eye = torch.eye(4)
    assert float(alignment(eye[:1].T @ eye[:1], eye, 4)) == 1.0  # all directions alike
    assert float(alignment(eye[:1].T @ eye[:1], eye[1:2].T @ eye[1:2], 4)) == 0.0


def test_only_heads_overlap() -> None:
    with pytest.raises(
        InputError, match=r"overlaps are between heads. Received directions of W_in"
    ):
        head_overlap(Directions("W_in", torch.eye(3), layer=0))
