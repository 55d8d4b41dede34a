"""Scores beside scikit-learn's and a bootstrap that draws whole sequences one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics

from interp.errors import InputError
from interp.probes import Bootstrap, class_scores, regression_scores


def _data(n_outputs: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    groups = torch.randint(0, 9, (70,), generator=draw) * 5
    y = torch.randint(0, 6, (70, n_outputs), generator=draw).double()
    guessed = y + 0.6 * torch.randn(3, 70, n_outputs, generator=draw, dtype=torch.float64)
    return guessed, y, groups


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_numbers_are_scored_as_by_scikit_learn(n_outputs: int) -> None:
    guessed, y, groups = _data(n_outputs)
    for p, scores in zip(guessed.numpy(), regression_scores(guessed, y, groups), strict=True):
        r2 = metrics.r2_score(y, p, multioutput="variance_weighted")
        right = metrics.accuracy_score(np.ones(70), (p.round() == y.numpy()).all(1))
        assert scores["r2"].value == pytest.approx(r2, abs=1e-12)
        assert scores["mae"].value == pytest.approx(metrics.mean_absolute_error(y, p), abs=1e-12)
        assert scores["accuracy"].value == pytest.approx(right, abs=1e-12)


def test_intervals_are_those_of_sequences_drawn_one_by_one() -> None:
    guessed, y, groups = _data()
    bootstrap = Bootstrap(n=200, level=0.8, seed=3)
    scores = regression_scores(guessed[:1], y, groups, bootstrap)[0]
    ids = groups.unique()
    draws = torch.randint(9, (200, 9), generator=torch.Generator().manual_seed(3))
    found: dict[str, list[float]] = {"mae": [], "r2": [], "accuracy": []}
    for drawn in draws:
        rows = torch.cat([(groups == ids[i]).nonzero()[:, 0] for i in drawn])
        p, t = guessed[0, rows].numpy(), y[rows].numpy()
        found["mae"].append(metrics.mean_absolute_error(t, p))
        found["r2"].append(metrics.r2_score(t, p))
        found["accuracy"].append(float((p.round() == t).mean()))
    for name, values in found.items():
        low, high = np.quantile(values, [0.1, 0.9])
        assert scores[name].low == pytest.approx(low, abs=1e-10), name
        assert scores[name].high == pytest.approx(high, abs=1e-10), name


def test_intervals_cover_what_they_estimate() -> None:
    """Errors shared within sequences: of 200 samples of 40, nine in ten of 90 % intervals hold."""
    draw = torch.Generator().manual_seed(1)
    groups = torch.arange(40).repeat_interleave(8)
    shared = torch.randn(200, 40, 1, generator=draw, dtype=torch.float64)
    guessed = shared.repeat_interleave(8, 1)
    truth = (2 / torch.pi) ** 0.5  # mae of a standard normal number
    held = []
    for owners in (groups, torch.arange(320)):
        bootstrap = Bootstrap(n=400, level=0.9)
        scores = regression_scores(guessed, torch.zeros(320, 1), owners, bootstrap)
        held.append(sum(s["mae"].low <= truth <= s["mae"].high for s in scores) / 200)
    assert 0.83 <= held[0] <= 0.95
    assert held[1] < 0.6  # what resampling tokens would have claimed


def test_classes_are_scored_as_by_scikit_learn() -> None:
    draw = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 50, 4, generator=draw, dtype=torch.float64)
    classes, labels = torch.tensor([2, 3, 7, 11]), torch.arange(50) % 4
    groups = torch.arange(50) // 5
    log_probs = logits.log_softmax(-1)
    y = classes[labels].numpy()
    for each, scores in zip(
        log_probs, class_scores(log_probs, labels, classes, groups), strict=True
    ):
        p = each.exp().numpy()
        expected = p @ classes.numpy()
        for name, value in {
            "accuracy": metrics.accuracy_score(y, classes.numpy()[p.argmax(1)]),
            "log_loss": metrics.log_loss(y, p),
            "mae": metrics.mean_absolute_error(y, expected),
            "r2": metrics.r2_score(y, expected),
        }.items():
            assert scores[name].value == pytest.approx(value, abs=1e-12), name
    bare = class_scores(log_probs, labels, classes, groups, numeric=False)[0]
    assert np.isnan([bare["mae"].value, bare["r2"].value, bare["r2"].low]).all()
    assert bare["accuracy"].value == scores_of(log_probs[0], labels)


def scores_of(log_probs: torch.Tensor, labels: torch.Tensor) -> float:
    """Accuracy, by a loop."""
    hits = [int(row.argmax()) == int(label) for row, label in zip(log_probs, labels, strict=True)]
    return sum(hits) / len(hits)


def test_what_is_not_defined_is_nan() -> None:
    guessed, y, groups = _data()
    same = regression_scores(guessed, torch.full_like(y, 0.1), groups)[0]
    assert np.isnan([same["r2"].value, same["r2"].low, same["r2"].high]).all()
    assert np.isnan(same["accuracy"].value)  # targets are no whole numbers
    assert same["mae"].value > 0


def test_bad_bootstraps_are_refused() -> None:
    for fields in ({"n": 1}, {"level": 1.0}, {"seed": -1}):
        with pytest.raises(InputError):
            Bootstrap(**fields)


def test_r2_does_not_depend_on_where_targets_lie() -> None:
    guessed, y, groups = _data()
    far = regression_scores(guessed + 2**26, y + 2**26, groups)
    for a, b in zip(regression_scores(guessed, y, groups), far, strict=True):
        assert b["r2"].value == pytest.approx(a["r2"].value, abs=1e-7)
        assert b["r2"].low == pytest.approx(a["r2"].low, abs=1e-7)
