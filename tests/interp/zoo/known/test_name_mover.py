import math

import pytest
import torch

from interp import InputError
from interp.zoo import known
from tests.interp.zoo.known import plain


@pytest.fixture(scope="module")
def truth():
    return known.name_mover(device="cpu")


@pytest.mark.parametrize(("n_names", "n_each", "seed"), [(8, 1, 0), (9, 1, 5), (13, 3, 1)])
@torch.no_grad()
def test_predictions_hold_for_other_prompts(n_names, n_each, seed):
    truth = known.name_mover(n_names=n_names, n_each=n_each, seed=seed, device="cpu")
    assert truth.found(plain.patched_edges(truth)) == truth.edges
    for kind in ("zero", "mean"):
        effects = {x: plain.ablations(truth, [x], kind) for x in plain.components(truth.model)}
        assert truth.found(effects) == {"L0H0", "L1H0"}
        assert truth.found({"both": plain.ablations(truth, ["L2H0", "L3H0"], kind)})


@torch.no_grad()
def test_weights_worked_out_by_hand():
    """BOS IO S and S to: what L0H0 and L2H0 give to each slot."""
    truth = known.name_mover(device="cpu")
    _, cache = truth.model.run_with_cache(torch.tensor([[8, 0, 1, 9, 1, 10]]))
    e = math.exp(3.0)
    z = e + 3 + 1 / e
    assert float(cache["pattern", 0][0, 0, 4, 2]) == pytest.approx(e / z, abs=1e-12)
    assert float(cache["pattern", 0][0, 0, 4, 1]) == pytest.approx(1 / z, abs=1e-12)
    io, s1 = math.exp(6 * (1 - 2 / z)), math.exp(6 * (1 - 2 * e / z))
    pattern = cache["pattern", 2][0, 0, 5]
    assert float(pattern[1]) == pytest.approx(io / (io + s1 + 4), abs=1e-12)
    assert float(pattern[2]) == pytest.approx(s1 / (io + s1 + 4), abs=1e-12)
    logits = truth.model(torch.tensor([[8, 0, 1, 9, 1, 10]]))[0, -1]
    assert float(logits[0]) == pytest.approx(4 * io / (io + s1 + 4), abs=1e-12)
    assert float(logits[1]) == pytest.approx(4 * (s1 + 1) / (io + s1 + 4), abs=1e-12)


@torch.no_grad()
def test_the_backup_wakes_when_the_name_mover_is_missing(truth):
    seen = {}

    def look(x, hook):
        seen["pattern"] = x[:, 0, -1].clone()

    watch = [("blocks.3.attn.hook_pattern", look)]
    plain.run(truth, truth.clean, watch)
    assert (seen["pattern"][:, 0] > 1 - 1e-12).all()
    missing = plain.put("L2H0", torch.zeros(()))
    value = plain.run(truth, truth.clean, [*missing, *watch])
    at_io = truth.clean == truth.right[:, None]
    assert (seen["pattern"][at_io] > 1 - 1e-6).all()
    # It writes what the name mover gives to IO: all but what that gives to the other names.
    assert (value - truth.logits[torch.arange(len(value)), truth.right]).abs().max() < 1e-5


@torch.no_grad()
def test_single_ablation_hides_what_both_do(truth):
    alone = plain.ablations(truth, ["L2H0"], "zero")
    both = plain.ablations(truth, ["L2H0", "L3H0"], "zero")
    assert float(alone.abs().max()) < 0.02
    assert (both + truth.clean_value).abs().max() < 1e-12


@torch.no_grad()
def test_first_order_does_not_see_the_backup(truth):
    """Where S2 is corrupted the backup undoes half of what L2H0 would do."""
    exact, first = plain.patched_nodes(truth)["L2H0"], plain.first_order_nodes(truth)["L2H0"]
    span = truth.clean_value - truth.corrupted_value
    half = torch.tensor([1, 1, 0, 0, 0, 0]).repeat(2).bool()
    assert (first / span)[half].sub(1).abs().max() < 1e-10
    assert (exact / span)[half].sub(0.5).abs().max() < 0.01


@pytest.mark.parametrize(
    ("given_", "rule"),
    [
        ({"n_names": 7}, "n_names must be a whole number of at least 8. Received 7"),
        ({"strength": 0}, "strength"),
        ({"n_each": 0}, "n_each"),
    ],
)
def test_what_breaks_a_rule_is_refused(given_, rule):
    with pytest.raises(InputError, match=rule):
        known.name_mover(**given_)
