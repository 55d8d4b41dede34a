"""Metrics against hand-computed numbers and plain formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.patching import KLDivergence, Logit, LogitDiff, LogProb, Loss, Metric, sweep

Check = Callable[..., None]


def logits() -> Tensor:
    return torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_by_hand() -> None:
    # Two prompts of one position; probabilities 1/2, 1/4, 1/4 and 1/8, 3/4, 1/8.
    p = torch.tensor([[[0.5, 0.25, 0.25]], [[0.125, 0.75, 0.125]]], dtype=torch.float64)
    given = p.log() + 3.0
    close = lambda metric, expected: torch.testing.assert_close(
        metric.per_prompt(given), torch.tensor(expected, dtype=torch.float64)
    )
    close(Logit(0), [3 + math.log(0.5), 3 + math.log(0.125)])
    close(Logit(torch.tensor([1, 0])), [3 + math.log(0.25), 3 + math.log(0.125)])
    close(LogitDiff(0, 1), [math.log(2), math.log(1 / 6)])
    close(LogitDiff(torch.tensor([0, 1]), 2), [math.log(2), math.log(6)])
    close(LogProb(1), [math.log(0.25), math.log(0.75)])
    close(KLDivergence(given), [0.0, 0.0])
    # KL of the uniform distribution to (1/2, 1/4, 1/4): log 4/3 - (log 2)/3.
    uniform = torch.zeros(2, 3, dtype=torch.float64)
    expected = [sum(math.log((1 / 3) / q) / 3 for q in row) for row in p[:, 0].tolist()]
    close(KLDivergence(uniform), expected)
    assert LogitDiff(0, 1)(given).item() == pytest.approx((math.log(2) + math.log(1 / 6)) / 2)


@pytest.mark.parametrize(
    ("pos", "mask", "expected"),
    [
        (-1, None, [3, 3, 3]),
        (1, None, [1, 1, 1]),
        (torch.tensor([0, 2, -1]), None, [0, 2, 3]),
        (-1, [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]], [3, 1, 3]),
        (-2, [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]], [2, 0, 2]),
        (1, [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]], [1, 1, 1]),
    ],
)
def test_where_a_prompt_is_read(
    pos: int | Tensor, mask: list[list[int]] | None, expected: list[int]
) -> None:
    x = logits()
    found = Logit(5, pos).per_prompt(x, None if mask is None else torch.tensor(mask))
    assert torch.equal(found, x[range(3), expected, 5])
    reference = logits().flip(0)
    found = KLDivergence(reference, pos).per_prompt(x, None if mask is None else torch.tensor(mask))
    p = reference[range(3), expected].softmax(-1)
    q = x[range(3), expected].softmax(-1)
    torch.testing.assert_close(found, (p * (p / q).log()).sum(-1))


@pytest.mark.parametrize("padded", [False, True])
def test_loss_is_cross_entropy(padded: bool) -> None:
    x = logits()
    tokens = torch.tensor([[1, 2, 3, 4], [6, 5, 4, 3], [0, 0, 1, 1]])
    ends = [4, 3, 2] if padded else [4, 4, 4]
    mask = torch.tensor([[int(i < end) for i in range(4)] for end in ends])
    found = Loss(tokens, mask).per_prompt(x)
    expected = [
        F.cross_entropy(row[: end - 1], ids[1:end])
        for row, ids, end in zip(x, tokens, ends, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(expected))


def test_a_token_goes_where_the_others_are() -> None:
    many = torch.zeros(2, dtype=torch.long, device="meta")
    for metric in (LogitDiff(many, 5), LogitDiff(5, many)):
        assert metric.columns is not None and metric.columns.device.type == "meta"


def test_what_has_no_probability_adds_nothing_to_a_divergence() -> None:
    reference, x = logits(), logits().flip(0)
    reference[..., 5:] = -torch.inf
    p, q = (z[:, -1].softmax(-1)[:, :5] for z in (reference, x))
    found = KLDivergence(reference).per_prompt(x)
    torch.testing.assert_close(found, (p * (p / q).log()).sum(-1))
    assert not KLDivergence(reference).per_prompt(reference).any()
    assert KLDivergence(x).per_prompt(reference).isposinf().all()


def test_half_precision_is_read_in_fp32() -> None:
    x = logits().to(torch.bfloat16)
    for metric in (LogitDiff(1, 2), LogProb(3), KLDivergence(x), Loss(torch.ones(3, 4).long())):
        assert metric.per_prompt(x).dtype == torch.float32
    assert torch.equal(LogitDiff(1, 2).per_prompt(x), x[:, -1, 1].float() - x[:, -1, 2].float())


def test_a_classifier_has_no_positions() -> None:
    x = logits()[:, 0]
    assert torch.equal(LogitDiff(1, 2).per_prompt(x), x[:, 1] - x[:, 2])


def test_a_metric_of_ones_own(
    make_model: Callable[..., HookedTransformer], assert_close: Check
) -> None:
    class Entropy(Metric):
        def terms(self, logits: Tensor, which: slice) -> Tensor:
            return torch.distributions.Categorical(logits=logits).entropy()

    model = make_model(dtype="float64")
    tokens = torch.arange(10).view(2, 5)
    found = sweep(model, tokens, 0.0, "resid_pre", Entropy())
    plain = sweep(
        model,
        tokens,
        0.0,
        "resid_pre",
        lambda x: torch.distributions.Categorical(logits=x[:, -1]).entropy(),
    )
    assert_close(found.values, plain.values, "entropy", 1e-10)


def test_errors() -> None:
    x = logits()
    for match, metric in (
        ("tokens must lie in 0 … 6. Received 7", Logit(7)),
        ("tokens must lie in 0 … 6. Received -1", LogitDiff(1, -1)),
        ("one per prompt .3.", LogProb(torch.tensor([1, 2]))),
        ("pos must lie within 4", Logit(1, pos=4)),
        ("pos must lie within 4", Logit(1, pos=-5)),
        ("pos must be a whole number", Logit(1, pos=torch.tensor([0, 1]))),
        ("a loss outside of a sweep", Loss()),
        ("tokens of a loss must be .* = .3, 4.*Received .2, 4.", Loss(torch.ones(2, 4).long())),
        ("tokens of a loss must be", Loss(torch.ones(3, 2).long())),
        ("tokens of a loss must be", Loss(torch.ones(3, 5).long())),
        ("attention_mask of a loss", Loss(torch.ones(3, 4).long(), torch.ones(1, 4))),
        ("as long as those of the run .4.. Received 6", KLDivergence(torch.zeros(3, 6, 7), 1)),
        ("pos must be a whole number", Logit(1, pos="last")),  # type: ignore[arg-type]
        ("pos must be a whole number", Logit(1, pos=None)),  # type: ignore[arg-type]
        ("pos must be a whole number", Logit(1, pos=True)),
        ("Received token 9", Loss(torch.full((3, 4), 9))),
        ("3 prompts and 7 tokens", KLDivergence(torch.zeros(3, 6))),
    ):
        with pytest.raises(InputError, match=match):
            metric.per_prompt(x)
    for wrong in (0.5, torch.tensor([[1]]), torch.tensor([True]), torch.tensor([]), " a", None):
        with pytest.raises(InputError, match="whole numbers"):
            Logit(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one token each, or as many"):
        LogitDiff(torch.tensor([1, 2]), torch.tensor([1, 2, 3]))
    with pytest.raises(InputError, match="on one device"):
        LogitDiff(torch.tensor([1, 2]), torch.ones(2, device="meta").long())
    with pytest.raises(InputError, match="reference_logits must be"):
        KLDivergence(torch.zeros(7))
