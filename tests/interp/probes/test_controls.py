"""Controls against scikit-learn, scipy and plain loops, and what each must destroy or keep."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, HookedTransformerConfig, InputError
from interp.probes import fit_logistic, fit_ridge, split_by_group
from interp.probes.controls import (
    chance_accuracy,
    control_task,
    most_frequent,
    random_twin,
    relabelled,
    shuffled,
    token_baseline,
)
from interp.probes.targets import Targets, absolute_position, relative_offset, token_order
from tests.interp.kinds import KINDS

Make = Callable[..., HookedTransformer]
ONE_STACK = {k: v for k, v in KINDS.items() if v.get("architecture") != "encoder-decoder"}


def some_rows(n: int = 40, length: int = 17, seed: int = 0) -> Tensor:
    tokens = torch.randint(1, 20, (n, length), generator=torch.Generator().manual_seed(seed))
    tokens[:, 0] = 0
    return tokens


def asked() -> dict[str, Targets]:
    tokens = some_rows()
    return {
        "position": absolute_position(tokens),
        "offset": relative_offset(tokens, 30, 4),
        "order": token_order(tokens, (30, 29), 4),
    }


@pytest.mark.parametrize("name", ["position", "offset", "order"])
def test_shuffles_keep_what_they_say_and_nothing_else(name: str) -> None:
    of = asked()[name]
    found = shuffled(of, 3)
    assert torch.equal(found, shuffled(of, 3)) and not torch.equal(found, shuffled(of, 4))
    if name == "order":
        for row in of.rows.unique():
            assert len(found[of.rows == row].unique()) == 1, "one answer a row"
        within = torch.zeros_like(of.rows)
    else:
        within = of.rows if name == "position" else of.places
    for group in within.unique():
        before, after = of.values[within == group], found[within == group]
        assert Counter(before.tolist()) == Counter(after.tolist())
    # Nothing is left of the pairing: about 4 standard errors of a correlation of nothing.
    n = len(of.rows.unique()) if name == "order" else of.n_samples
    pair = np.corrcoef(found.double().numpy(), of.values.double().numpy())[0, 1]
    assert abs(pair) < 4 / n**0.5


def test_shuffles_within_uneven_rows() -> None:
    """Rows that padding made of different lengths."""
    tokens = some_rows(5, 9)
    mask = torch.ones_like(tokens)
    for row in range(5):
        mask[row, :row] = 0
    of = absolute_position(tokens, mask, include_fixed=True)
    found = shuffled(of)
    for row in range(5):
        assert sorted(found[of.rows == row].tolist()) == list(range(9 - row))


@pytest.mark.parametrize("name", ["position", "offset", "order"])
def test_the_control_task_is_a_random_function_of_the_token(name: str) -> None:
    of = asked()[name]
    outputs = defaultdict(set)
    for token, output in zip(of.sample_tokens.tolist(), control_task(of).tolist(), strict=True):
        outputs[token].add(output)
    assert all(len(found) == 1 for found in outputs.values()), "structure (Hewitt & Liang, §2)"
    assert set.union(*outputs.values()) <= set(of.values.tolist())
    assert len(set.union(*outputs.values())) > 1, "randomness"
    assert not torch.equal(control_task(of, 1), control_task(of, 2))


def test_outputs_of_the_control_task_are_as_frequent_as_the_targets() -> None:
    tokens = torch.arange(2, 20002).view(2000, 10)  # each token once
    of = absolute_position(tokens)
    values = torch.where(of.values < 3, 1, 0)  # 30 % are of class 1
    of = Targets("order", tokens, of.sampled, values, of.groups, of.rows, of.places)
    assert abs(float(control_task(of).double().mean()) - 0.3) < 4 * (0.21 / 20000) ** 0.5


def test_the_control_task_has_no_class_that_training_lacks() -> None:
    """Of many tokens each once, those of the test samples alone may draw what no other drew."""
    of = absolute_position(torch.arange(60).view(6, 10))
    split = split_by_group(of.groups)
    lacking = 0
    for seed in range(20):
        free, found = control_task(of, seed), control_task(of, seed, split.train)
        lacking += int((~torch.isin(free, free[split.train])).sum())
        assert torch.isin(found, found[split.train]).all()
        assert torch.equal(found[split.train], free[split.train])
    assert lacking > 0, "as it was planted"
    fit_logistic({"x": torch.randn(60, 3)}, found, split, [0.1])


def test_relabelling_is_one_to_one() -> None:
    of = asked()["position"]
    pairs = {*zip(of.values.tolist(), relabelled(of).tolist(), strict=True)}
    assert sorted(a for a, _ in pairs) == sorted(b for _, b in pairs) == list(range(1, 17))
    assert any(a != b for a, b in pairs)


def test_relabelled_positions_are_read_from_a_direction_each_but_not_from_a_line() -> None:
    """What the control is for: one-hot positions and position as one number, both R² 1."""
    of = absolute_position(some_rows(60, 17))
    split = split_by_group(of.groups)
    features = {
        "one-hot": torch.nn.functional.one_hot(of.values, 17).double(),
        "line": of.values[:, None].double(),
    }
    true = fit_ridge(features, of.values.double(), split)
    other = fit_ridge(features, relabelled(of).double(), split)
    assert true["one-hot"]["r2"].value > 0.999 and true["line"]["r2"].value > 0.999
    assert other["one-hot"]["r2"].value > 0.999 and other["line"]["r2"].value < 0.3


@pytest.mark.parametrize("kind", ONE_STACK)
def test_a_twin_has_the_shape_and_fresh_weights(kind: str, make_model: Make) -> None:
    model = make_model(**ONE_STACK[kind])
    before = {name: x.clone() for name, x in model.state_dict().items()}
    model.add_hook("blocks.0.hook_resid_pre", lambda x, hook: x * 0)
    twin = random_twin(model, 7)
    assert twin.watched_hooks() == (set(), set())
    assert {n: x.shape for n, x in twin.state_dict().items()} == {
        n: x.shape for n, x in before.items()
    }
    fresh = HookedTransformer(model.cfg.replace(seed=7)).state_dict()
    for name, x in twin.state_dict().items():
        assert torch.equal(x, fresh[name]), name
        assert torch.equal(model.state_dict()[name], before[name]), name
    assert not torch.equal(twin.W_E, model.W_E)
    tokens = some_rows(2, 8)
    assert twin(tokens, return_type=None) is None and twin.cfg.device == model.cfg.device


def test_a_twin_is_no_copy_of_the_beginning() -> None:
    cfg = HookedTransformerConfig(
        n_layers=1, d_model=8, n_ctx=8, n_heads=2, d_vocab=9, act_fn="relu", seed=4, device="cpu"
    )
    with pytest.raises(InputError, match="another than the model's own"):
        random_twin(HookedTransformer(cfg), 4)


@pytest.mark.parametrize("smoothing", [0.5, 10.0])
def test_the_token_baseline_is_ridge_on_one_hot_tokens(
    smoothing: float, assert_close: Callable[..., None]
) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="needs the extra 'dev'")
    of = relative_offset(some_rows(30, 12, 5), 30, 2)
    split = split_by_group(of.groups)
    found = token_baseline(of, split.train, split.validation, [smoothing])
    one_hot = torch.nn.functional.one_hot(of.sample_tokens, 31).double().numpy()
    y = of.values.double().numpy()
    mean = y[split.train].mean()
    theirs = linear_model.Ridge(alpha=smoothing, fit_intercept=False)
    theirs.fit(one_hot[split.train], y[split.train] - mean)
    assert_close(found.numbers, torch.tensor(theirs.predict(one_hot) + mean))


def test_the_token_baseline_by_counting() -> None:
    tokens = torch.tensor([[1, 2, 1], [2, 1, 1], [1, 3, 2], [9, 1, 2]])
    of = absolute_position(tokens)
    train, validation = torch.arange(9), torch.arange(9, 12)
    found = token_baseline(of, train, validation, [0.0])
    ones, twos = [0, 2, 1, 2, 0], [1, 0, 2]
    by_token = {1: np.mean(ones), 2: np.mean(twos), 3: 1.0, 9: np.mean([0, 1, 2] * 3)}
    expected = [by_token[int(t)] for t in tokens.flatten()]
    assert found.numbers.tolist() == pytest.approx(expected)
    # Of equally frequent targets the first; a token that training lacks gets that of all.
    assert found.classes.tolist() == [{1: 0, 2: 0, 3: 1, 9: 0}[int(t)] for t in tokens.flatten()]


def test_smoothing_is_chosen_by_validation() -> None:
    of = absolute_position(some_rows(60, 17))  # tokens say nothing: the more the better
    split = split_by_group(of.groups)
    assert token_baseline(of, split.train, split.validation).smoothing == 100.0
    places = torch.arange(17).expand(60, -1).clone()
    places[0] = places[0].flip(0)  # tokens say all: the less the better
    of = absolute_position(places)
    split = split_by_group(of.groups)
    assert token_baseline(of, split.train, split.validation).smoothing == 0.0


@pytest.mark.parametrize(("p", "n"), [(0.02, 600), (0.5, 51), (1 / 47, 3000), (0.9, 7), (0.0, 5)])
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_chance_is_binomial(p: float, n: int, level: float) -> None:
    stats = pytest.importorskip("scipy.stats", reason="needs the extra 'dev'")
    found = chance_accuracy(p, n, level)
    ends = stats.binom.ppf([(1 - level) / 2, (1 + level) / 2], n, p) / n
    assert (found.accuracy, found.low, found.high) == pytest.approx((p, *ends))


def test_most_frequent() -> None:
    assert most_frequent(torch.tensor([3, 3, 1, 0])) == 0.5


def test_bad_input() -> None:
    of = asked()["position"]
    some = torch.arange(4)
    for call, rule in [
        (lambda: token_baseline(of, some[:0], some), "training samples"),
        (lambda: token_baseline(of, some, some[:0]), "validation samples"),
        (lambda: token_baseline(of, some, some, [-1.0]), "smoothing"),
        (lambda: token_baseline(of, some, some, []), "smoothing"),
        (lambda: chance_accuracy(1.1, 4), "accuracy must lie"),
        (lambda: chance_accuracy(0.1, 0), "n must be"),
        (lambda: chance_accuracy(0.1, 4, 1.0), "level must lie"),
    ]:
        with pytest.raises(InputError, match=rule):
            call()
