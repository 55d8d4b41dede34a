"""Before, after and difference against two runs made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analyses.patching.intervention_effects import effects, pattern_effects
from interp import InputError
from interp.attribution.direct import direct_logit_attribution
from interp.interventions import KnockOutHead, Place, Scale, Zero
from interp.lens import logit_lens

TOKENS = torch.tensor([[1, 5, 9, 7, 5, 3]])
PLAN = [KnockOutHead("L0H2"), Zero(Place("mlp_out", layers=1, positions=2))]


def zero_head(x, hook):
    x = x.clone()
    x[:, :, 2] = 0
    return x


def zero_mlp(x, hook):
    x = x.clone()
    x[:, 2] = 0
    return x


HOOKS = [("blocks.0.attn.hook_z", zero_head), ("blocks.1.hook_mlp_out", zero_mlp)]


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


@pytest.fixture(scope="module")
def runs(model):
    """Logits and caches of both runs, hooks put on by hand."""
    with torch.no_grad():
        before = model.run_with_cache(TOKENS)
        with model.hooks(fwd_hooks=HOOKS):
            after = model.run_with_cache(TOKENS)
    return before, after


@pytest.fixture(scope="module")
def found(model):
    return effects(model, {"input": TOKENS}, PLAN, position=4, target=8, wrong=11)


def close(found, expected):
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected
    np.testing.assert_allclose(np.asarray(found, float), expected, atol=1e-5, rtol=1e-5)


def test_difference_is_after_less_before(found):
    for table in (
        found.outcome,
        found.predictions,
        found.positions,
        found.streams,
        found.components,
    ):
        for column in table.columns[table.columns.str.endswith("difference")]:
            start = column.removesuffix("difference")
            change = table[f"{start}after"] - table[f"{start}before"]
            np.testing.assert_array_equal(table[column], change)
            assert change.abs().max() > 1e-4, column


def test_outcome(found, runs):
    for (logits, _), run in zip(runs, ("before", "after"), strict=True):
        x = logits[0, 4]
        p = x.softmax(-1)
        expected = [x[8] - x[11], x[8], p[8], x[11], p[11]]
        close(found.outcome[run], torch.stack(expected))
    assert found.quantity == "logit of “8” less that of “11”"
    assert found.outcome["quantity"].iloc[0] == found.quantity


def test_predictions_lead_or_move(found, runs):
    before, after = (logits[0, 4].softmax(-1) for logits, _ in runs)
    rows = found.predictions
    close(rows["before"], before[rows["token_id"].tolist()])
    close(rows["after"], after[rows["token_id"].tolist()])
    wanted = {
        *before.topk(5).indices.tolist(),
        *after.topk(5).indices.tolist(),
        *(after - before).abs().topk(5).indices.tolist(),
    }
    assert set(rows["token_id"]) == wanted
    assert rows[["before", "after"]].max(axis=1).is_monotonic_decreasing
    assert rows["rank"].tolist() == list(range(1, len(rows) + 1))


def test_every_position(found, runs):
    log_probs = [logits[0].double().log_softmax(-1) for logits, _ in runs]
    p, q = log_probs
    rows = found.positions
    close(rows["kl"], (p.exp() * (p - q)).sum(-1))
    for name, each in zip(("before", "after"), log_probs, strict=True):
        surprise = [-float(each[i - 1, TOKENS[0, i]]) for i in range(1, 6)]
        close(rows[f"surprise_{name}"][1:], np.array(surprise))
        assert np.isnan(rows[f"surprise_{name}"][0])
        assert rows[f"top_{name}"].tolist() == [str(int(i)) for i in each.argmax(-1)]


def test_streams(model, found, runs):
    rows = found.streams
    before, after = (
        torch.stack([cache["resid_pre", 0], cache["resid_pre", 1], cache["resid_post", 1]])[:, 0]
        for _, cache in runs
    )
    assert rows["stream"].unique().tolist() == ["0_pre", "1_pre", "final_post"]
    close(rows["norm_before"], before.norm(dim=-1).flatten())
    close(rows["norm_after"], after.norm(dim=-1).flatten())
    close(rows["moved"], (after - before).norm(dim=-1).flatten())
    lens = logit_lens(model, TOKENS, targets=8, top_k=1)
    close(rows["probability_before"], lens.target_probability.flatten())
    with model.hooks(fwd_hooks=HOOKS):
        lens = logit_lens(model, TOKENS, targets=8, top_k=1)
    close(rows["probability_after"], lens.target_probability.flatten())
    assert rows["top_after"].tolist() == [str(i) for i in lens.top_tokens.flatten().tolist()]
    bare = effects(model, {"input": TOKENS}, PLAN, lens=False).streams
    assert "probability_before" not in bare


def test_components(model, found, runs):
    for (_, cache), name in zip(runs, ("before", "after"), strict=True):
        expected = direct_logit_attribution(model, cache, 8, 11)
        close(found.components[name], expected.values[:, 0, 4])
    head = found.components.set_index("component").loc["L0H2"]
    assert head["after"] == 0 and head["before"] != 0


def test_without_interventions_nothing_changes(model):
    found = effects(model, {"input": TOKENS}, [], position=0)
    assert (found.outcome["difference"] == 0).all() and (found.positions["kl"] == 0).all()
    assert found.target == int(model(TOKENS)[0, 0].argmax())
    assert (found.streams["moved"] == 0).all()


def test_patterns(model, runs):
    found = pattern_effects(model, {"input": TOKENS}, PLAN, "blocks.1.attn.hook_pattern", 3)
    assert len(found) == 21 and (found["source"] <= found["destination"]).all()
    for (_, cache), name in zip(runs, ("before", "after"), strict=True):
        pattern = cache["pattern", 1][0, 3]
        close(found[name], pattern[found["destination"].tolist(), found["source"].tolist()])
    assert found["difference"].abs().max() > 1e-3
    for hook in ("blocks.1.attn.hook_z", "blocks.7.attn.hook_pattern"):
        with pytest.raises(InputError, match="one of patterns"):
            pattern_effects(model, {"input": TOKENS}, PLAN, hook, 0)
    with pytest.raises(InputError, match="head must lie in 0 … 3"):
        pattern_effects(model, {"input": TOKENS}, PLAN, "blocks.1.attn.hook_pattern", 4)


def test_an_encoder_decoder(make_model):
    model = make_model(architecture="encoder-decoder", n_encoder_layers=2)
    inputs = {"input": TOKENS, "decoder_input": torch.tensor([[0, 4, 8]])}
    plan = [KnockOutHead("L1H1", part="encoder.attn")]

    def zero(x, hook):
        x = x.clone()
        x[:, :, 1] = 0
        return x

    with torch.no_grad():
        after = model.run_with_hooks(**inputs, fwd_hooks=[("encoder.blocks.1.attn.hook_z", zero)])
    found = effects(model, inputs, plan, target=6)
    close(found.outcome["after"].iloc[0], after[0, -1, 6])
    assert len(found.positions) == 3 and set(found.components["kind"]) >= {"head", "cross_head"}
    hook = "decoder.blocks.0.cross_attn.hook_pattern"
    crossed = pattern_effects(model, inputs, plan, hook, 0)
    assert len(crossed) == 18 and crossed["difference"].abs().max() > 0
    encoder = pattern_effects(model, inputs, plan, "encoder.blocks.1.attn.hook_pattern", 1)
    assert len(encoder) == 36 and encoder["source_token"].iloc[1] == "5"


def test_a_classifier_answers_once(make_model):
    model = make_model(architecture="encoder", head="classification", d_vocab_out=4)
    found = effects(
        model, {"input": TOKENS}, [KnockOutHead("L1H1")], position=-1, wrong=0, target=3
    )
    with torch.no_grad():
        before = model(TOKENS)[0]
    assert found.positions is None and found.components is None
    close(found.outcome["before"].iloc[0], before[3] - before[0])
    assert sorted(found.predictions["token"]) == ["0", "1", "2", "3"]
    assert "probability_before" not in found.streams


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"position": 6}, "position must lie in"),
        ({"target": 31}, "an output must lie in 0 … 30"),
        ({"target": 3, "wrong": 3}, "wrong must differ"),
    ],
)
def test_what_is_not_there(model, given, message):
    with pytest.raises(InputError, match=message):
        effects(model, {"input": TOKENS}, PLAN, **given)
    with pytest.raises(InputError, match="on one prompt"):
        effects(model, {"input": TOKENS.repeat(2, 1)}, PLAN)


@pytest.mark.parametrize("factor", [1e38, 1e300])
def test_a_run_that_overflows_is_told(model, factor):
    too_much = Scale(Place("resid_post", layers=0, positions=3), factor)
    with pytest.raises(InputError, match=r"^with the interventions, .* range of float32"):
        effects(model, {"input": TOKENS}, [too_much], position=0)
    reset = Zero(Place("resid_pre", layers=1))  # the logits know nothing of it, the streams do
    with pytest.raises(InputError, match=r"^with the interventions"):
        effects(model, {"input": TOKENS}, [Scale(Place("resid_pre", layers=0), 1e300), reset])
