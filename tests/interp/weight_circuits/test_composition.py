from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError, load_model
from interp.weight_circuits import composition_baseline, composition_scores
from interp.zoo import known
from tests.interp.kinds import KINDS

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]


@pytest.mark.parametrize("mode", ["Q", "K", "V"])
@pytest.mark.parametrize(
    "kind", ["gpt2", "llama", "gptj", "multi-query", "no-norm", "wide-heads", "solu-ln-rms"]
)
def test_with_norms_as_of_processed_weights(
    mode: Any, kind: str, make_model: Make, assert_close: Check
) -> None:
    model = make_model(**{**KINDS[kind], "dtype": "float64", "n_layers": 3})
    bare = model.all_composition_scores(mode)  # itself compared with plain products elsewhere
    processed = model.process_weights()
    found = composition_scores(model, mode)
    assert_close(found, processed.all_composition_scores(mode), "processed")
    if kind != "no-norm":
        assert float((found - bare).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", ["mixtral-post", "olmo2", "gemma2", "marian"])
def test_norms_on_the_way(kind: str, make_model: Make, assert_close: Check) -> None:
    """Where norms lie behind what writes: the matrices of these norms, multiplied out."""
    model = make_model(**{**KINDS[kind], "dtype": "float64", "n_layers": 2})
    stack = model.main_stack
    eye = torch.eye(24, dtype=torch.float64)

    def matrix(norm: Any) -> torch.Tensor:
        centred = eye - 1 / 24 if norm.centres else eye
        return centred if norm.w is None else centred * norm.w

    first, second = stack.blocks
    names = {
        "olmo2": ["ln1_post"],
        "gemma2": ["ln1_post"],
        "mixtral-post": ["ln1", "ln2"],
        "marian": ["ln1", "ln2", "ln3"],
    }[kind]
    with torch.no_grad():
        way = eye
        for name in names:
            way = way @ matrix(getattr(first, name))
        front = matrix(second.ln1) if second.reads_normalised else eye
        before = matrix(first.ln1) if first.reads_normalised else eye
        found = composition_scores(model, "V")
        added = matrix(second.ln1_post) if second.adds_normalised else eye
        for i in range(4):
            left = before @ first.attn.W_V[i] @ first.attn.W_O[i] @ way
            for j in range(4):
                right = front @ second.attn.W_V[j] @ second.attn.W_O[j] @ added
                expected = (left @ right).norm() / left.norm() / right.norm()
                assert_close(found[0, i, 1, j], expected)


@pytest.mark.parametrize("baseline", ["permuted", "gaussian", "rotated"])
def test_random_weights(baseline: Any, make_model: Make, assert_close: Check) -> None:
    """Two random subspaces: ‖LR‖² is ‖L‖² ‖R‖² / d_model on average."""
    model = make_model(dtype="float64", n_layers=3, normalization_type=None)
    state = torch.random.get_rng_state()
    found = composition_baseline(model, "K", baseline, n_draws=40, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_close(found.scores, model.all_composition_scores("K"))
    later = ~found.mean.isnan()
    assert int(later.sum()) == 3 * 16
    assert torch.equal(later, found.scores > 0)
    assert torch.equal(later, ~found.std.isnan())
    mean, std = found.mean[later], found.std[later]
    assert (std > 0).all()
    assert float((mean.pow(2) + std.pow(2)).mean()) == pytest.approx(1 / 24, rel=0.05)
    assert_close(found.z[later], (found.scores[later] - mean) / std)
    # Weights of these models are random themselves: z-scores are what chance gives.
    assert float(found.z[later].abs().median()) < 1.5
    again = composition_baseline(model, "K", baseline, n_draws=40, seed=3)
    assert torch.equal(again.z[later], found.z[later])
    other = composition_baseline(model, "K", baseline, n_draws=40, seed=4)
    assert not torch.equal(other.mean[later], found.mean[later])


def test_spread_is_of_the_draws(make_model: Make, assert_close: Check) -> None:
    """Mean and standard deviation, from single draws gathered by hand."""
    from interp.weight_circuits import composition as module

    model = make_model(dtype="float64")
    drawn = []
    scores = module._scores

    def watched(*args: Any) -> torch.Tensor:
        drawn.append(scores(*args))
        return drawn[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_scores", watched)
        found = composition_baseline(model, "Q", n_draws=5)
    draws = torch.stack(drawn[1:])
    later = ~found.mean.isnan()
    assert len(draws) == 5
    assert_close(found.mean[later], draws.mean(0)[later])
    assert_close(found.std[later], draws.std(0)[later])


@pytest.mark.parametrize(
    "name", ["previous_token", "induction", "name_mover", "bracket_counter", "cancellation"]
)
@pytest.mark.parametrize("mode", ["Q", "K", "V"])
def test_known_models(name: str, mode: Any) -> None:
    """Just those pairs compose that were wired to, and each far beyond chance."""
    truth = getattr(known, name)()
    expected = truth.expected[f"{mode.lower()}_composition"]
    scores = composition_scores(truth.model, mode)
    assert _pairs(scores > 0) == expected
    if truth.model.cfg.n_layers == 1:
        return
    for baseline in ("gaussian", "rotated"):
        found = composition_baseline(truth.model, mode, baseline)
        assert _pairs(found.z > 5) == expected, baseline


def _pairs(which: torch.Tensor) -> set[tuple[str, str]]:
    return {(f"L{a}H{b}", f"L{c}H{d}") for a, b, c, d in which.nonzero().tolist()}


def test_known_induction_model() -> None:
    """W_V W_O and W_K W_Qᵀ are both partial identities of rank n: √n / n."""
    scores = composition_scores(known.induction().model, "K")
    assert float(scores[0, 0, 1, 1]) == pytest.approx(1 / math.sqrt(32))


def test_zoo_induction() -> None:
    """Of all pairs and all modes, keys of induction heads read previous-token heads the most."""
    model = load_model("zoo:induction", dtype="float64")
    scores = {mode: composition_scores(model, mode) for mode in ("Q", "K", "V")}
    best = max(scores, key=lambda mode: float(scores[mode].max()))
    assert best == "K"
    K = scores["K"][0, :, 1]
    previous = int(K.argmax()) // 4
    assert previous == 1  # its best previous-token head; all heads of layer 1 are induction heads
    assert float(K.max()) == pytest.approx(0.261, abs=1e-3)
    # Its two previous-token heads stand apart from the other two, and from the other modes.
    others = [K[[0, 3]], scores["Q"][0, :, 1], scores["V"][0, :, 1]]
    assert float(K[[1, 2]].min()) > max(float(x.max()) for x in others) + 0.05
    for baseline in ("permuted", "gaussian", "rotated"):
        found = composition_baseline(model, "K", baseline)
        assert found.z[0, [1, 2], 1].min() > 5, baseline


def test_heads_that_do_nothing_compose_with_none(make_model: Make) -> None:
    model = make_model(dtype="float64")
    with torch.no_grad():
        model.blocks[0].attn.W_O[1] = 0.0
    for mode in ("Q", "K", "V"):
        scores = composition_scores(model, mode)
        assert (scores[0, 1, 1] == 0).all()
        assert (scores[0, 0, 1] > 0).all()


def test_what_is_refused(make_model: Make) -> None:
    model = make_model()
    for call, message in (
        (lambda: composition_scores(model, "O"), "mode must be one of"),
        (lambda: composition_baseline(model, "Q", "shuffled"), "baseline must be one of"),
        (lambda: composition_baseline(model, "Q", n_draws=1), "at least two draws"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    one = make_model(n_layers=1)
    assert composition_baseline(one, "Q").mean.isnan().all()
