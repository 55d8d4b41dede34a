"""Effects of interventions against whole runs and plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.interventions import (
    Mean,
    Patch,
    Place,
    Reference,
    ShiftPositions,
    ShufflePositions,
    SwapPositions,
    Zero,
    applied,
)
from interp.position_effects import Rows, intervention_effects, position_rows
from tests.covering import every_nth
from tests.interp.kinds import KINDS

CASES: dict[str, Any] = {
    "none": [],
    "swap": SwapPositions(0, 3),
    "several": [ShiftPositions(2, positions=1), Zero(Place("z", layers=0, heads=0))],
}


def log_probs(model: HookedTransformer, rows: Rows, items: Any) -> Tensor:
    with torch.no_grad(), applied(model, items):
        logits = model(rows.tokens)
    return logits - logits.exp().sum(-1, keepdim=True).log()


def patterns(model: HookedTransformer, rows: Rows, items: Any) -> list[Tensor]:
    with torch.no_grad(), applied(model, items):
        _, cache = model.run_with_cache(rows.tokens)
    return [cache["pattern", layer] for layer in range(model.cfg.n_layers)]


@pytest.mark.parametrize(
    ("name", "batch_size"),
    [
        (name, batch_size)
        for i, name in enumerate(["gpt2", "llama", "bloom", "gpt-oss", "shortformer"])
        for batch_size in every_nth([None, 2], 2, i)
    ],
)
def test_predictions_and_heads(
    make_model: Callable[..., HookedTransformer],
    name: str,
    batch_size: int | None,
    assert_close: Any,
) -> None:
    model = make_model(dtype="float64", **KINDS[name])
    rows = position_rows(model, 5, 7, prepend_bos=False)
    found = intervention_effects(model, rows, CASES, batch_size=batch_size)
    assert list(found) == list(CASES)
    clean, before = log_probs(model, rows, []), patterns(model, rows, [])
    for label, items in CASES.items():
        effect, after = found[label], patterns(model, rows, items)
        edited = log_probs(model, rows, items)
        kl = (clean.exp() * (clean - edited)).sum(-1)
        assert_close(effect.kl, kl, label)
        assert (effect.kl > -1e-12).all()
        assert_close(torch.tensor(effect.mean_kl.mean), kl.mean().float(), label)
        assert effect.edited is not None and effect.clean is not None
        own = [
            [-float(edited[row, t, rows.tokens[row, t + 1]]) for t in range(6)] for row in range(5)
        ]
        assert_close(effect.edited.losses[:, :-1], torch.tensor(own, dtype=torch.float64), label)
        with torch.no_grad(), applied(model, items):
            assert effect.edited.mean_loss().mean == pytest.approx(
                float(model(rows.tokens, "loss"))
            )
        right = edited[:, :-1].argmax(-1) == rows.tokens[:, 1:]
        assert torch.equal(effect.edited.right[:, :-1], right)
        change = effect.edited.mean_accuracy().mean - effect.clean.mean_accuracy().mean
        assert effect.accuracy_change.mean == pytest.approx(change, abs=1e-12)
        assert effect.heads is not None
        for layer in range(2):
            for row in range(5):
                for head in range(model.cfg.n_heads):
                    at = (row, layer, head)
                    one, other = before[layer][row, head], after[layer][row, head]
                    away, far, mass = [], [], []
                    for i in range(1, 7):
                        away.append(sum(abs(float(one[i, j] - other[i, j])) / 2 for j in range(7)))
                        moment = sum(float(other[i, j]) * abs(i - j) for j in range(7))
                        far.append(moment / float(other[i].sum()))
                        mass.append(float(other[i, i - 1]))
                    of = effect.heads
                    assert float(of.total_variation[at]) == pytest.approx(sum(away) / 6, abs=1e-6)
                    assert float(of.edited.distance[at]) == pytest.approx(sum(far) / 6, abs=1e-6)
                    assert float(of.edited.previous[at]) == pytest.approx(sum(mass) / 6, abs=1e-6)
        if label == "none":
            assert float(effect.kl.abs().max()) < 1e-12
            assert float(effect.heads.total_variation.abs().max()) == 0.0
            assert effect.loss_change.mean == 0.0
        else:
            assert float(effect.kl.abs().max()) > 1e-6


def test_changes_are_paired_by_sequence(make_model: Callable[..., HookedTransformer]) -> None:
    """The error is that of the differences, ratio of sums: sequences with more count more."""
    model = make_model(dtype="float64")
    rows = position_rows(model, 6, 7, prepend_bos=False)
    scored = rows.scored.clone()
    scored[0, 3:] = False
    rows = replace(rows, scored=scored)
    effect = intervention_effects(model, rows, {"a": ShufflePositions()}, heads=False)["a"]
    assert effect.heads is None and effect.clean is not None and effect.edited is not None
    away = torch.where(scored, effect.edited.losses - effect.clean.losses, 0.0)
    sums, counts = away.sum(1), scored.sum(1)
    mean = float(sums.sum() / counts.sum())
    spread = float(((sums - mean * counts) ** 2).sum())
    assert effect.loss_change.mean == pytest.approx(mean)
    error = math.sqrt(6 / 5 * spread) / int(counts.sum())
    assert effect.loss_change.stderr == pytest.approx(error)
    assert effect.mean_kl.stderr == pytest.approx(float(effect.kl.mean(1).std()) / 6**0.5)
    assert not model.watched_hooks()[0]


def test_encoders_and_classifiers(make_model: Callable[..., HookedTransformer]) -> None:
    """Nothing is predicted there; a classifier gives one answer for each sequence."""
    for name, shape in (("classifier", (4, 1)), ("bert", (4, 8))):
        model = make_model(dtype="float64", **KINDS[name])
        tokens = torch.randint(31, (4, 8), generator=torch.Generator().manual_seed(0))
        rows = Rows(tokens, None, torch.zeros_like(tokens, dtype=torch.bool), "tokens", False)
        effect = intervention_effects(model, rows, {"a": SwapPositions(0, 5)})["a"]
        assert effect.kl.shape == shape and float(effect.kl.max()) > 1e-9
        with pytest.raises(InputError, match="losses need rows in which something"):
            _ = effect.loss_change
        one, other = patterns(model, rows, []), patterns(model, rows, SwapPositions(0, 5))
        # A model that looks both ways has a first destination too.
        expected = (one[1] - other[1]).abs().sum(-1).mean(-1) / 2
        assert effect.heads is not None
        assert float((effect.heads.total_variation[:, 1] - expected).abs().max()) < 1e-10


def test_batches_change_nothing(make_model: Callable[..., HookedTransformer]) -> None:
    """Of cases that can be read only once either; nor of means, whose reference is no run's row."""
    model = make_model(dtype="float64")
    rows = position_rows(model, 5, 7, prepend_bos=False)
    mean = Mean("blocks.0.hook_mlp_out", rows.tokens[:2])

    def cases() -> dict[str, Any]:
        return {"once": (item for item in [SwapPositions(0, 3), Zero("blocks.0.hook_mlp_out")]),
                "mean": mean}  # fmt: skip

    one, several = (intervention_effects(model, rows, cases(), batch_size=n) for n in (5, 2))
    for name, effect in one.items():
        assert float((effect.kl - several[name].kl).abs().max()) < 1e-10
        assert float(effect.kl[-1].max()) > 1e-9


@pytest.mark.parametrize("given", ["tokens", "activations"])
def test_references_by_row_need_one_batch(
    make_model: Callable[..., HookedTransformer], given: str
) -> None:
    """Two rows of a reference would else meet the third and fourth of the run again."""
    model = make_model(dtype="float64")
    rows, hook = position_rows(model, 4, 7, prepend_bos=False), "blocks.0.hook_resid_post"
    other = rows.tokens.roll(1, 0)
    with torch.no_grad():
        cache = model.run_with_cache(other)[1]

    def case(n: int) -> Patch:
        if given == "tokens":
            return Patch(hook, other[:n])
        return Patch(hook, Reference(activations={hook: cache[hook][:n]}))

    whole = intervention_effects(model, rows, {"a": case(4)}, batch_size=4)["a"]
    assert float(whole.kl.max()) > 1e-6
    with pytest.raises(InputError, match=r"all of them in one batch\. 4 rows in batches of 2"):
        intervention_effects(model, rows, {"a": [case(2)]}, batch_size=2)
    assert intervention_effects(model, rows, {"a": case(1)}, batch_size=2)["a"].kl.shape == (4, 7)


def test_refusals(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model()
    rows = position_rows(model, 3, 7, prepend_bos=False)
    with pytest.raises(InputError, match="cases must hold at least one"):
        intervention_effects(model, rows, {})
    with pytest.raises(InputError, match="batch_size must be a whole number"):
        intervention_effects(model, rows, CASES, batch_size=0)
    with pytest.raises(InputError, match="needs a model with heads"):
        intervention_effects(make_model(n_layers=0), rows, CASES)
    with pytest.raises(InputError, match="This is an encoder-decoder"):
        intervention_effects(make_model(**KINDS["t5"]), rows, CASES)
