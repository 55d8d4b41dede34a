import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.zoo import known
from tests.covering import examples
from tests.interp.zoo.known import plain


@torch.no_grad()
def test_it_counts_in_every_prompt_of_six_brackets():
    truth = known.bracket_counter(6, slope=1.5, bias=2.0, device="cpu")
    prompts = list(itertools.product("()", repeat=6))
    tokens = torch.tensor([["()".index(x) for x in prompt] + [2] for prompt in prompts])
    logits = truth.model(tokens)[:, -1]
    for prompt, (_, _, _, yes, no) in zip(prompts, logits.tolist(), strict=True):
        assert yes == 2.0
        assert no == pytest.approx(1.5 * abs(prompt.count("(") - prompt.count(")")), abs=1e-12)
        assert (yes > no) == (prompt.count("(") == 3)


@torch.no_grad()
@settings(max_examples=examples(15), deadline=None)
@given(half=st.integers(1, 8), slope=st.floats(0.1, 9), share=st.floats(0.01, 0.99),
       seed=st.integers(0, 99))  # fmt: skip
def test_the_circuit_is_the_same_for_all_constants(half, slope, share, seed):
    truth = known.bracket_counter(2 * half, slope, 2 * slope * share, seed=seed, device="cpu")
    assert truth.found(plain.patched_edges(truth)) == truth.edges
    assert (plain.run(truth, truth.clean) - truth.clean_value).abs().max() < 1e-10


def test_first_order_is_exact_or_nothing():
    """By the slope of the prompt out of balance it is exact; a balanced prompt has none."""
    truth = known.bracket_counter(device="cpu")
    first, exact = plain.first_order_nodes(truth)["L0H0"], plain.patched_nodes(truth)["L0H0"]
    assert (first[:4] - exact[:4]).abs().max() < 1e-12  # corrupted: not balanced
    assert exact[4:].min() > 1
    assert first[4:].abs().max() == 0  # corrupted: balanced


@pytest.mark.parametrize(
    ("given_", "rule"),
    [
        ({"n_brackets": 7}, "n_brackets must be even. Received 7"),
        ({"bias": 2.0}, "bias must be less than 2 slope = 2.0"),
        ({"slope": 0.0}, "slope"),
        ({"n_ctx": 8}, "n_ctx must be a whole number of at least 9"),
        ({"n_each": 0}, "n_each"),
    ],
)
def test_what_breaks_a_rule_is_refused(given_, rule):
    with pytest.raises(InputError, match=rule):
        known.bracket_counter(**given_)
