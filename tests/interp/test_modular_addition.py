"""Progress measures on logits made by hand, beside plain loops, and on the zoo model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import HookedTransformer, InputError, load_model
from interp.modular_addition import (
    addition_logits,
    addition_table,
    answer_loss,
    embedding_power,
    excluded_logits,
    explained_variance,
    key_frequencies,
    neuron_frequencies,
    power_of_sum,
    progress_measures,
    restricted_logits,
    right_answers,
    rule_shares,
    sum_waves,
    why_not_addition,
)

P = 7


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rule(amounts: dict[int, float], p: int = P) -> Tensor:
    """Σ amount · cos(w(a + b - c)), by a loop."""
    logits = torch.zeros(p, p, p, dtype=torch.float64)
    for a in range(p):
        for b in range(p):
            for c in range(p):
                logits[a, b, c] = sum(
                    size * math.cos(2 * math.pi * k * (a + b - c) / p)
                    for k, size in amounts.items()
                )
    return logits


def waves_of(k: int, p: int = P) -> list[Tensor]:
    """cos(w(a + b)) and sin(w(a + b)), each of length 1, `[a, b]`."""
    found = []
    for wave in (math.cos, math.sin):
        grid = torch.tensor(
            [[wave(2 * math.pi * k * (a + b) / p) for b in range(p)] for a in range(p)],
            dtype=torch.float64,
        )
        found.append(grid / grid.square().sum().sqrt())
    return found


def test_powers_of_the_sum_two_ways() -> None:
    logits = noise(9, 9, 9)
    found = power_of_sum(logits)
    for k in range(1, 5):
        assert float(found[k - 1]) == pytest.approx(float(sum_waves(logits, [k]).square().sum()))


def test_shares_of_the_rule_wave_by_wave() -> None:
    logits = noise(P, P, P)
    variance = float((logits - logits.mean()).square().sum())
    for k in range(1, P // 2 + 1):
        expected = 0.0
        for wave in (math.cos, math.sin):
            amount = sum(
                wave(2 * math.pi * k * (a + b - c) / P) * float(logits[a, b, c])
                for a in range(P)
                for b in range(P)
                for c in range(P)
            )
            expected += amount**2 / (P**3 / 2)
        assert float(rule_shares(logits)[k - 1]) == pytest.approx(expected / variance)


@settings(max_examples=20, deadline=None)
@given(frequencies=st.lists(st.integers(1, P // 2), unique=True), seed=st.integers(0, 99))
def test_waves_of_the_sum(frequencies: list[int], seed: int, assert_close: Any) -> None:
    """The projection that the losses use, one wave after the other."""
    logits = noise(P, P, P, seed=seed)
    expected = torch.zeros_like(logits)
    for k in frequencies:
        for wave in waves_of(k):
            expected += wave[..., None] * (wave[..., None] * logits).sum((0, 1))
    assert_close(sum_waves(logits, frequencies), expected)
    assert_close(restricted_logits(logits, frequencies), expected + logits.mean((0, 1)))
    assert_close(excluded_logits(logits, frequencies), logits - expected)
    found = explained_variance(logits, frequencies)
    variance = (logits - logits.mean()).square().sum()
    assert found.sum_waves == pytest.approx(float(expected.square().sum() / variance), abs=1e-12)


def test_the_rule_explains_itself(assert_close: Any) -> None:
    logits = rule({1: 3.0, 3: 4.0}) + 0.5  # a constant is no variance
    assert_close(rule_shares(logits), torch.tensor([9 / 25, 0, 16 / 25], dtype=torch.float64))
    assert key_frequencies(logits) == [3, 1]
    assert key_frequencies(logits, 0.5) == [3]
    found = explained_variance(logits, [1])
    assert (found.sum_waves, found.rule) == (pytest.approx(0.36), pytest.approx(0.36))
    assert_close(restricted_logits(logits, [1, 3]), logits)
    flat = excluded_logits(logits, [1, 3])
    assert answer_loss(flat) == pytest.approx(math.log(P))
    shuffled = logits[:, :, torch.tensor([3, 1, 6, 0, 2, 5, 4])]  # the right waves, wrong answers
    found = explained_variance(shuffled, [1, 3])
    assert found.sum_waves == pytest.approx(1.0)
    assert found.rule < 0.9


def test_noise_follows_no_rule() -> None:
    """Nor do waves of a - b, whose products are of the same frequencies."""
    assert key_frequencies(noise(23, 23, 23)) == []
    number = torch.arange(P)
    difference = (number[:, None, None] - number[:, None] - number) % P
    logits = torch.cos(2 * math.pi * difference.double() / P)
    assert key_frequencies(logits) == []
    assert explained_variance(logits, [1]).sum_waves == pytest.approx(0.0, abs=1e-12)


def test_losses_by_hand() -> None:
    logits = noise(P, P, P)
    pairs = noise(P, P, seed=1) > 0
    log_probs = logits.log_softmax(-1)
    losses = {(a, b): -float(log_probs[a, b, (a + b) % P]) for a in range(P) for b in range(P)}
    assert answer_loss(logits) == pytest.approx(sum(losses.values()) / P**2)
    chosen = [losses[a, b] for a, b in pairs.nonzero().tolist()]
    assert answer_loss(logits, pairs) == pytest.approx(sum(chosen) / len(chosen))
    found = progress_measures(logits, [2], pairs)
    assert found.train_loss == answer_loss(logits, pairs)
    assert found.test_loss == answer_loss(logits, ~pairs)
    assert found.restricted_loss == answer_loss(restricted_logits(logits, [2]))
    assert found.excluded_loss == answer_loss(excluded_logits(logits, [2]), pairs)
    assert found.excluded_loss_all == answer_loss(excluded_logits(logits, [2]))
    unknown = progress_measures(logits, [2])
    assert unknown.train_loss is unknown.test_loss is None
    assert unknown.excluded_loss == unknown.excluded_loss_all


def test_neurons() -> None:
    number = torch.arange(P).double() * 2 * math.pi / P
    one, two = number.cos()[:, None], (2 * number).sin()
    neurons = torch.stack(
        [
            one.expand(P, P) + 5,  # a alone
            torch.relu(one + one.T) * 0 + one * one.T + 2 * one.T,  # both, one frequency
            one * two,  # two frequencies: neither explains it
            3 * one + 4 * two,  # 9 of one, 16 of the other
            torch.full((P, P), 0.1, dtype=torch.float64),
        ],
        -1,
    )
    found = neuron_frequencies(neurons)
    assert found.frequency[[0, 1, 3, 4]].tolist() == [1, 1, 2, 0]
    assert found.explained[[0, 1, 3]].tolist() == [
        pytest.approx(1), pytest.approx(1), pytest.approx(16 / 25),
    ]  # fmt: skip
    assert float(found.explained[2]) == pytest.approx(0.0, abs=1e-12)
    assert bool(found.explained[4].isnan())
    expected = neurons.flatten(0, 1).var(0, unbiased=False)
    assert torch.allclose(found.variance, expected, atol=1e-12)


@pytest.fixture(scope="module")
def trained() -> HookedTransformer:
    return load_model("zoo:modular-addition", device="cpu")


def test_the_table_is_what_the_model_says(trained: HookedTransformer) -> None:
    made = addition_table(trained, batch=1000)
    tokens = torch.tensor([[5, 110, 113], [0, 0, 113], [112, 112, 113]])
    logits, cache = trained.run_with_cache(tokens)
    assert made.neurons is not None
    for row, (a, b, _) in enumerate(tokens.tolist()):
        assert torch.allclose(made.logits[a, b], logits[row, -1].double(), atol=1e-4)
        assert torch.allclose(made.neurons[a, b], cache["post", 0][row, -1].double(), atol=1e-4)
        pattern = cache["pattern", 0][row, :, -1].double()
        assert torch.allclose(made.pattern[a, b], pattern, atol=1e-5)
    assert made.logits.argmax(-1).equal(right_answers(113))
    assert torch.allclose(addition_logits(trained, batch=1000), made.logits, atol=1e-4)


def test_the_zoo_model_adds_by_a_few_waves(trained: HookedTransformer) -> None:
    """At least 95 % of variance, restricted loss <= 1.1 x full, excluded loss above chance."""
    logits = addition_table(trained).logits
    keys = key_frequencies(logits)
    assert 3 <= len(keys) <= 8
    found = progress_measures(logits, keys)
    assert found.explained.sum_waves >= 0.95
    assert 0.9 <= found.explained.rule <= found.explained.sum_waves
    assert found.restricted_loss <= 1.1 * found.loss
    assert found.excluded_loss > math.log(113)
    # The same frequencies as those of the embedding and of the neurons.
    assert set(embedding_power(trained).topk(len(keys)).indices.tolist()) == set(keys)
    neurons = addition_table(trained).neurons
    assert neurons is not None
    clusters = neuron_frequencies(neurons)
    assert set(clusters.frequency.unique().tolist()) == set(keys)
    assert float((clusters.explained > 0.85).double().mean()) > 0.85


def test_models_of_other_kinds(make_model: Callable[..., HookedTransformer]) -> None:
    fits = {"n_ctx": 3, "d_vocab": P + 1, "d_vocab_out": P}
    assert why_not_addition(make_model(**fits)) is None
    assert why_not_addition(make_model(n_ctx=3, d_vocab=P + 1)) is None
    for fields, reason in (
        ({"n_ctx": 4}, "reads 4 tokens"),
        ({"d_vocab_out": 5}, "answers"),
        ({"d_vocab": 9, "d_vocab_out": 8}, "odd"),
        ({"architecture": "encoder"}, "decoder"),
        ({"n_layers": 0}, "no layers"),
    ):
        model = make_model(**{**fits, **fields})
        assert reason in str(why_not_addition(model))
        with pytest.raises(InputError, match=reason):
            addition_table(model)


@pytest.mark.parametrize("fields", [{"attn_only": True, "act_fn": None}, {"d_vocab_out": P + 1}])
def test_without_neurons_and_with_a_logit_for_equals(
    make_model: Callable[..., HookedTransformer], fields: dict[str, Any]
) -> None:
    model = make_model(**{"n_ctx": 3, "d_vocab": P + 1, "d_vocab_out": P, **fields})
    made = addition_table(model)
    assert made.logits.shape == (P, P, P)
    assert (made.neurons is None) == ("attn_only" in fields)
    expected = F.cross_entropy(
        model(torch.tensor([[2, 6, P]]))[:, -1, :P].detach().double(), torch.tensor([1])
    )
    pairs = torch.zeros(P, P, dtype=torch.bool)
    pairs[2, 6] = True
    assert answer_loss(made.logits, pairs) == pytest.approx(float(expected), abs=1e-5)


def test_bad_input() -> None:
    logits = noise(P, P, P)
    for chosen in ([0], [4], [1, 1], [1.0]):
        with pytest.raises(InputError, match="frequencies must lie in 1 … 3"):
            sum_waves(logits, chosen)  # type: ignore[arg-type]
    for shape in ((P, P), (6, 6, 6), (P, P, 5)):
        with pytest.raises(InputError, match="logits must be"):
            answer_loss(noise(*shape))
    with pytest.raises(InputError, match="vary"):
        key_frequencies(torch.ones(P, P, P))
    for share in (0.0, 1.5):
        with pytest.raises(InputError, match="min_share"):
            key_frequencies(logits, share)
    with pytest.raises(InputError, match="at least one pair"):
        answer_loss(logits, torch.zeros(P, P, dtype=torch.bool))
    with pytest.raises(InputError, match="neurons must be"):
        neuron_frequencies(noise(P, 5, 3))
