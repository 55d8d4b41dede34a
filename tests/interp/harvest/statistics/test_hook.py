"""Statistics of a hook: asked for by name, written, read from hostile files, merged in order."""

from __future__ import annotations

from functools import reduce

import pytest
import torch
from torch import Tensor

from interp import InputError
from interp.harvest.statistics import STATISTICS, HookStatistics

NAMES = list(STATISTICS)


def rows(n: int = 50, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(n, *(shape or (3,)), generator=torch.Generator().manual_seed(seed)).half()


def same(a: HookStatistics, b: HookStatistics) -> bool:
    one, other = a.to_tensors(), b.to_tensors()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def through_file(found: HookStatistics) -> HookStatistics:
    return HookStatistics.from_tensors(found.to_tensors(), list(found.by_name), found.row_shape)


@pytest.mark.parametrize("shape", [(3,), (2, 4)])
@pytest.mark.parametrize("n", [0, 1, 50])
def test_tensors_give_the_same_back(n: int, shape: tuple[int, ...]) -> None:
    found = HookStatistics.measure(rows(n, *shape), NAMES)
    assert same(through_file(found), found)


def test_the_order_in_which_shards_were_made_leaves_no_trace() -> None:
    parts = rows(400).split([100, 0, 7, 193, 100])
    made = {i: HookStatistics.measure(part, NAMES) for i, part in enumerate(parts)}
    again = {i: through_file(HookStatistics.measure(parts[i], NAMES)) for i in (3, 0, 4, 2, 1)}
    first, *others = (made[i] for i in range(5))
    one, *more = (again[i] for i in range(5))
    assert same(first.merge(others), one.merge(more))
    assert same(first.merge(others), reduce(lambda a, b: a.merge([b]), others, first))


def test_what_it_says() -> None:
    x = rows(400, 2, 3)
    first = HookStatistics.measure(x[:150], NAMES)
    found = first.merge(HookStatistics.measure(part, NAMES) for part in x[150:].split(99))
    y = x.double()
    assert found.n_rows == 400
    for got, expected in (
        (found.mean, y.mean(0)),
        (found.variance, y.var(0, correction=0)),
        (found.mean_square, y.square().mean(0)),
        (found.min, y.amin(0)),
        (found.max, y.amax(0)),
        (found.covariance[1], torch.cov(y[:, 1].T, correction=0)),
    ):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    largest = found.max_activating(4)
    values, numbers = y.topk(4, dim=0)
    assert torch.equal(largest.values, values.movedim(0, -1))
    assert torch.equal(y.gather(0, largest.rows.movedim(-1, 0)), values)
    assert numbers.shape[0] == 4
    median = y.sort(0).values[199]
    assert bool(((found.quantile(0.5) - median).abs() <= median.abs() / 64).all())


def test_what_was_not_asked_for() -> None:
    found = HookStatistics.measure(rows(), ["covariance"])
    assert torch.equal(found.mean, rows().double().mean(0))
    with pytest.raises(InputError, match=r"moments must be among .* It had covariance"):
        _ = found.variance
    with pytest.raises(InputError, match=r"unknown statistic 'momentum'; did you mean 'moments'"):
        HookStatistics.measure(rows(), ["momentum"])
    with pytest.raises(InputError, match="statistics need rows"):
        _ = HookStatistics.measure(rows(0), ["moments"]).mean
    with pytest.raises(InputError, match=r"k must be at most 32.* Received 33"):
        HookStatistics.measure(rows(), NAMES).max_activating(33)
    with pytest.raises(InputError, match=r"with at least one number each\. Received \(4, 0\)"):
        HookStatistics.measure(torch.ones(4, 0), NAMES)


def test_parts_must_fit() -> None:
    found = HookStatistics.measure(rows(), ["moments"])
    for other in (
        HookStatistics.measure(rows(), ["quantiles"]),
        HookStatistics.measure(rows(5, 4), ["moments"]),
    ):
        with pytest.raises(InputError, match=r"parts must have \['moments'\] of rows \[3\]"):
            found.merge([other])


def damage(tensors: dict[str, Tensor], name: str, change: str) -> dict[str, Tensor]:
    tensor = tensors[name].clone()
    if change == "missing":
        return {k: v for k, v in tensors.items() if k != name}
    if change == "shape":
        tensor = tensor[None]
    elif change == "dtype":
        tensor = tensor.to(torch.float32)
    elif change == "entry":
        bad = torch.nan if tensor.is_floating_point() else -5
        tensor.view(-1)[0] = bad
    elif change == "large":
        tensor.view(-1)[-1] = torch.inf if tensor.is_floating_point() else 32_767
    return {**tensors, name: tensor}


@pytest.mark.parametrize("change", ["missing", "shape", "dtype", "entry", "large"])
@pytest.mark.parametrize("name", list(HookStatistics.measure(torch.ones(3, 2), NAMES).to_tensors()))
def test_damaged_tensors_are_refused(name: str, change: str) -> None:
    found = HookStatistics.measure(rows(), NAMES)
    with pytest.raises(InputError):
        HookStatistics.from_tensors(damage(found.to_tensors(), name, change), NAMES, (3,))


def test_unknown_tensors_are_refused() -> None:
    tensors = HookStatistics.measure(rows(), ["moments"]).to_tensors()
    with pytest.raises(InputError, match=r"There is also \['other\.x'\]"):
        HookStatistics.from_tensors({**tensors, "other.x": torch.ones(1)}, ["moments"], (3,))
