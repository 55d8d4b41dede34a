"""Fits of a dataset read from disk are those of its rows in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import InputError
from interp.harvest.dataset import ActivationDataset
from interp.harvest.manifest import HookSpec
from interp.probes import (
    ConvergenceError,
    ProbeFit,
    Split,
    fit_logistic,
    fit_logistic_streamed,
    fit_ridge,
    fit_ridge_streamed,
    split_by_group,
)
from interp.probes.streamed_logistic import _StreamedLoss
from interp.probes.streaming import Stream
from tests.interp.harvest.written import write_dataset

WIDE, NARROW, HEADS = "blocks.0.hook_resid_post", "blocks.0.hook_mlp_out", "blocks.0.attn.hook_z"


@dataclass(frozen=True)
class Case:
    """A dataset, the same features in memory, targets for its rows, and a split."""

    data: ActivationDataset
    features: dict[str, Tensor]
    position: Tensor
    split: Split


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[torch.dtype], Case]:
    def make(dtype: torch.dtype) -> Case:
        specs = {
            WIDE: HookSpec((12,), dtype), NARROW: HookSpec((5,), dtype),
            HEADS: HookSpec((3, 5), dtype),
        }  # fmt: skip
        out = tmp_path_factory.mktemp("probes") / "set"
        n = 600
        position = torch.arange(n) % 10
        made = write_dataset(
            out, specs, [250, 0, 311, 39],
            # Position is planted, off centre, beside a constant feature.
            lambda hook, x: _planted(x, position),
        )  # fmt: skip
        features = {WIDE: made.rows[WIDE], NARROW: made.rows[NARROW]}
        features |= {f"{HEADS}.{head}": made.rows[HEADS][:, head] for head in range(3)}
        split = split_by_group(torch.arange(n) // 10)
        return Case(ActivationDataset(out), features, position, split)

    return make


def _planted(x: Tensor, position: Tensor) -> Tensor:
    x = x.double()
    x[..., 0] += 100
    x[..., 1] += position.reshape(-1, *[1] * (x.ndim - 2)) / 3
    x[..., 2] = 7.25
    return x


def _assert_same_fits(
    found: dict[str, ProbeFit], expected: dict[str, ProbeFit], assert_close: Any, tolerance: float
) -> None:
    assert set(found) == set(expected)
    for site, fit in found.items():
        wanted = expected[site]
        assert (fit.site, fit.chosen) == (site, wanted.chosen)
        assert_close(fit.weight, wanted.weight, site, tolerance)
        assert_close(fit.bias, wanted.bias, site, tolerance)
        assert_close(fit.mean, wanted.mean, site, tolerance)
        finite = wanted.scale.isfinite()
        assert torch.equal(fit.scale.isfinite(), finite)
        assert_close(fit.scale[finite], wanted.scale[finite], site, tolerance)
        assert list(fit.validation) == list(wanted.validation)
        for option, loss in fit.validation.items():
            assert loss == pytest.approx(wanted.validation[option], rel=tolerance, abs=tolerance)
        for name, score in fit.scores.items():
            for one, other in zip(astuple(score), astuple(wanted.scores[name]), strict=True):
                assert one == pytest.approx(other, rel=tolerance, abs=tolerance, nan_ok=True)
        assert fit.probe.one_target == wanted.probe.one_target


@pytest.mark.parametrize("batch_rows", [64, 10_000])
@pytest.mark.parametrize("scaling", ["feature", "site", "none"])
def test_ridge(
    case: Callable[[torch.dtype], Case], assert_close: Any, scaling: str, batch_rows: int
) -> None:
    given = case(torch.float64)
    targets = given.position if scaling != "site" else torch.stack(
        [given.position, given.position**2], 1
    )  # fmt: skip
    found = fit_ridge_streamed(
        given.data, targets, given.split, scaling=scaling, batch_rows=batch_rows
    )
    expected = fit_ridge(given.features, targets, given.split, scaling=scaling)
    _assert_same_fits(found, expected, assert_close, 1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_ridge_of_narrow_rows(
    case: Callable[[torch.dtype], Case], assert_close: Any, dtype: torch.dtype
) -> None:
    given = case(dtype)
    found = fit_ridge_streamed(given.data, given.position, given.split, batch_rows=64)
    expected = fit_ridge(given.features, given.position, given.split)
    _assert_same_fits(found, expected, assert_close, 1e-10)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_logistic(case: Callable[[torch.dtype], Case], assert_close: Any, n_classes: int) -> None:
    """Both end where the gradient is at most tol; weights differ by what that leaves open."""
    given = case(torch.float32)
    targets = given.position % n_classes if n_classes == 4 else (given.position > 4).long()
    how: dict[str, Any] = {"Cs": (1e-3, 1e-1), "tol": 1e-11}
    found = fit_logistic_streamed(given.data, targets, given.split, batch_rows=64, **how)
    expected = fit_logistic(given.features, targets, given.split, **how)
    _assert_same_fits(found, expected, assert_close, 1e-7)


def test_logistic_that_needs_the_hessian(
    tmp_path: Path, assert_close: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two classes that are told apart with certainty."""
    label = (torch.arange(300) // 3) % 2
    made = write_dataset(
        tmp_path / "set", {"h": HookSpec((4,), torch.float64)}, [100, 200],
        lambda hook, x: x + 5.0 * label[:, None],
    )  # fmt: skip
    split = split_by_group(torch.arange(300) // 3)
    called = []
    whole = _StreamedLoss.hessian
    monkeypatch.setattr(_StreamedLoss, "hessian", lambda *args: called.append(1) or whole(*args))
    how: dict[str, Any] = {"Cs": (1.0, 1e3), "tol": 1e-11}
    found = fit_logistic_streamed(ActivationDataset(made.out), label, split, batch_rows=50, **how)
    _assert_same_fits(found, fit_logistic(made.rows, label, split, **how), assert_close, 1e-6)
    assert called


@pytest.mark.parametrize("batch_rows", [7, 64, 10_000])
def test_the_hessian_has_the_penalty_once(
    case: Callable[[torch.dtype], Case], assert_close: Any, batch_rows: int
) -> None:
    """Of one site and C, beside that of the formula by autograd."""
    given, sites, Cs = case(torch.float32), [f"{HEADS}.{head}" for head in range(3)], (0.3, 2.0)
    labels = (given.position > 4).long()
    stream = Stream(given.data, given.split, batch_rows, torch.device("cpu"))
    known = stream.moments(sites, labels.double()[:, None], "feature")
    loss = _StreamedLoss(stream, sites, known, labels, 2, Cs)
    x = given.features[sites[1]][given.split.train].double()
    x, wanted = (x - known.mean[1]) / known.scale[1], labels[given.split.train].double()

    def formula(w: Tensor) -> Tensor:
        outputs = x @ w[:-1] + w[-1]
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            outputs, wanted, reduction="sum"
        )
        return Cs[1] * losses + w[:-1].square().sum() / 2

    w = torch.linspace(-0.4, 0.6, 6, dtype=torch.float64)
    expected = torch.autograd.functional.hessian(formula, w)
    assert_close(loss.hessian(1, 1, w), expected, "hessian", 1e-10)


def test_refusals(case: Callable[[torch.dtype], Case], tmp_path: Path) -> None:
    given = case(torch.float32)
    with pytest.raises(
        InputError, match=r"the split must be of the dataset's 600 rows. It is of 9"
    ):
        fit_ridge_streamed(given.data, given.position, split_by_group(torch.arange(9)))
    with pytest.raises(InputError, match="batch_rows must be a whole number"):
        fit_ridge_streamed(given.data, given.position, given.split, batch_rows=0)
    with pytest.raises(InputError, match="scaling must be one of"):
        fit_ridge_streamed(given.data, given.position, given.split, scaling="all")
    with pytest.raises(ConvergenceError, match="allow more steps"):
        fit_logistic_streamed(given.data, given.position, given.split, max_iter=1)
    whole = write_dataset(tmp_path / "whole", {"h": HookSpec((2,), torch.int64)}, [600])
    with pytest.raises(InputError, match=r"h holds torch.int64 \[2\]"):
        fit_ridge_streamed(ActivationDataset(whole.out), given.position, given.split)
    bad = write_dataset(
        tmp_path / "bad", {"h": HookSpec((2,), torch.float32)}, [600],
        lambda hook, x: x.index_fill(0, given.split.train[5:6], float("nan")),
    )  # fmt: skip
    with pytest.raises(InputError, match="NaN or infinity at 'h'"):
        fit_ridge_streamed(ActivationDataset(bad.out), given.position, given.split)
