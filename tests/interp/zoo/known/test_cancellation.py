import pytest
import torch

from interp import InputError
from interp.zoo import known
from tests.interp.zoo.known import plain


@torch.no_grad()
def test_the_logit_of_every_amount():
    """What the head writes is replaced by each amount: strength · (x - f(x))."""
    truth = known.cancellation(strength=3.0, device="cpu")
    for amount, kept in [(0.0, 0.0), (0.2, 0.0), (0.4, 0.0), (0.6, 0.2), (0.8, 0.4), (2.0, 0.4)]:
        value = plain.run(
            truth, truth.clean, plain.put("L0H0", torch.tensor(amount, dtype=torch.float64))
        )
        assert (value - 3.0 * kept).abs().max() < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("denoise", [True, False])
def test_the_head_s_slopes_cancel_exactly(denoise):
    truth = known.cancellation(device="cpu")
    first = plain.first_order_nodes(truth, denoise)
    assert first["L0H0"].abs().max() < 1e-12
    assert float(plain.patched_nodes(truth)["L0H0"].mean() / truth.span) == pytest.approx(1.0)


@torch.no_grad()
def test_each_way_by_itself_has_a_slope():
    truth = known.cancellation(device="cpu")
    effects = plain.first_order_edges(truth)
    shares = {edge: float(effects[edge].mean() / truth.span) for edge in truth.edges}
    assert shares == pytest.approx(
        {"L0H0->logits": 2, "L0H0->L1MLP": -2, "L1MLP->logits": -1, "embed->L0H0.v": 0}, abs=1e-12
    )


@pytest.mark.parametrize("given_", [{"strength": 0.0}, {"n_prompts": 0}])
def test_what_breaks_a_rule_is_refused(given_):
    with pytest.raises(InputError, match=next(iter(given_))):
        known.cancellation(**given_)
