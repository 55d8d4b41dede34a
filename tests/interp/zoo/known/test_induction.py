import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.zoo import known
from tests.covering import examples
from tests.interp.zoo.known import plain


@torch.no_grad()
@settings(max_examples=examples(20), deadline=None)
@given(
    sharpness=st.floats(1, 10), length=st.integers(6, 14), n_each=st.integers(1, 2),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_the_formulas_and_predictions_hold_for_all_constants(sharpness, length, n_each, seed):
    truth = known.induction(
        sharpness, length=length, d_vocab=15, n_ctx=14, n_each=n_each, seed=seed, device="cpu"
    )
    logits = truth.model(truth.clean)[:, -1]
    assert (logits - truth.logits).abs().max() < 1e-10
    assert truth.found(plain.patched_edges(truth)) == truth.edges
    assert truth.found(plain.first_order_nodes(truth)) == {"L0H0", "L1H1"}


def test_a_pattern_worked_out_by_hand():
    """x A B C D A with sharpness 5, at the last position: the keys' weights one by one."""
    truth = known.induction(5.0, d_vocab=8, n_ctx=6, length=6, device="cpu")
    _, cache = truth.model.run_with_cache(torch.tensor([[7, 0, 1, 2, 3, 0]]))
    e = math.exp(5.0)
    # What L0H0 at j gives to copies of A, at positions 1 and 5.
    matched = [0, 1 / (e + 1), e / (e + 2), 1 / (e + 3), 1 / (e + 4), (1 + 1) / (e + 5)]
    weights = [math.exp(5.0 * m) for m in matched]
    expected = torch.tensor([w / sum(weights) for w in weights], dtype=torch.float64)
    assert (cache["pattern", 1][0, 1, -1] - expected).abs().max() < 1e-12


def test_it_continues_repeated_tokens():
    truth = known.induction(saturated=True, device="cpu")
    tokens = torch.randperm(16).repeat(2)[None]
    best = truth.model(tokens)[0].argmax(-1)
    assert best[17:-1].equal(tokens[0, 18:])  # the first token is its own predecessor


def test_each_third_of_the_rows_needs_other_edges():
    truth = known.induction(saturated=True, n_each=1, device="cpu")
    effects = plain.patched_edges(truth)
    shares = {edge: (effects[edge] / 8.0).round(decimals=12).tolist() for edge in truth.edges}
    assert shares == {
        "embed->L1H1.q": [1, 0, 0],
        "embed->L0H0.v": [0, 1, 0],
        "L0H0->L1H1.k": [0, 1, 0],
        "embed->L1H1.v": [0, 0, 1],
        "L1H1->logits": [1, 1, 1],
    }


@torch.no_grad()
def test_saturated_patterns_have_no_gradient():
    truth = known.induction(saturated=True, device="cpu")
    estimates = plain.first_order_nodes(truth)
    assert float(estimates["L0H0"].abs().max()) < 1e-12
    assert float(plain.patched_nodes(truth)["L0H0"].max()) == pytest.approx(8.0)
    _, cache = truth.model.run_with_cache(truth.clean)
    largest = cache["pattern", 1][:, 1, -1].max(-1).values
    assert largest.sub(1).abs().max() < 1e-15


@pytest.mark.parametrize(
    ("given_", "rule"),
    [
        ({"sharpness": 4.0, "saturated": True}, "give one of the two. Received sharpness 4.0"),
        ({"sharpness": 0.5}, "sharpness must lie between 1 and 10. Received 0.5"),
        ({"sharpness": 11}, "sharpness must lie between 1 and 10. Received 11"),
        ({"sharpness": float("nan")}, "sharpness must be a number"),
        ({"length": 5}, "length must be a whole number of at least 6"),
        ({"d_vocab": 9}, "d_vocab must be a whole number of at least 10"),
        ({"n_each": 0}, "n_each"),
    ],
)
def test_what_breaks_a_rule_is_refused(given_, rule):
    with pytest.raises(InputError, match=rule):
        known.induction(**given_)
