"""Sweeps on one prompt against TransformerLens's helpers and a loop with hooks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analyses.patching.place_effects import place_effects
from interp import InputError
from interp.patching import (
    get_act_patch_attn_head_out_all_pos,
    get_act_patch_mlp_out,
    get_act_patch_resid_pre,
)

TOKENS, OTHER = torch.tensor([[1, 5, 9, 7, 5, 3]]), torch.tensor([[1, 6, 8, 7, 5, 4]])
INPUTS = {"input": TOKENS}


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


def logit_diff(logits):
    return logits[0, 4, 8] - logits[0, 4, 11]


def test_patching_is_that_of_the_helpers(model):
    with torch.no_grad():
        _, cache = model.run_with_cache(OTHER)
        base = float(logit_diff(model(TOKENS)))
    helpers = {
        "resid_pre": get_act_patch_resid_pre,
        "mlp_out": get_act_patch_mlp_out,
        "z": get_act_patch_attn_head_out_all_pos,
    }
    for site, helper in helpers.items():
        found = place_effects(model, INPUTS, site, "patch", "logit-diff", 8, 11, 4, OTHER)
        expected = helper(model, TOKENS, cache, logit_diff).numpy()
        np.testing.assert_allclose(found["value"], expected.ravel(), atol=1e-5)
        np.testing.assert_allclose(found["effect"], expected.ravel() - base, atol=1e-5)
        axis = "head" if site == "z" else "position"
        at = found.set_index(["layer", axis])["value"]
        assert at.loc[1, 2] == pytest.approx(expected[1, 2], abs=1e-5)
    assert found.columns.tolist() == ["layer", "head", "value", "effect"]


@pytest.mark.parametrize("put_in", ["zero", "mean"])
@pytest.mark.parametrize("measure", ["logit", "probability", "kl"])
def test_ablation_is_a_loop_with_hooks(model, put_in, measure):
    with torch.no_grad():
        clean = model(TOKENS)[0, -1].double().log_softmax(-1)

        def value(logits):
            last = logits[0, -1].double()
            q = last.log_softmax(-1)
            if measure == "kl":
                return float((clean.exp() * (clean - q)).sum())
            return float(last[8] if measure == "logit" else q[8].exp())

        base = value(model(TOKENS))
        found = place_effects(model, INPUTS, "attn_out", put_in, measure, 8)
        assert found["token"].tolist() == [str(int(i)) for i in TOKENS[0]] * 2
        for row in found.to_dict("records"):

            def edit(x, hook, at=row["position"]):
                x = x.clone()
                x[:, at] = 0.0 if put_in == "zero" else x.mean(1)
                return x

            hook = f"blocks.{row['layer']}.hook_attn_out"
            expected = value(model.run_with_hooks(TOKENS, fwd_hooks=[(hook, edit)]))
            assert row["value"] == pytest.approx(expected, abs=1e-5)
            assert row["effect"] == pytest.approx(expected - base, abs=1e-5)
        assert found["effect"].abs().max() > 1e-3


def test_an_encoder_decoder(make_model):
    model = make_model(architecture="encoder-decoder", n_encoder_layers=2)
    inputs = {"input": TOKENS, "decoder_input": torch.tensor([[0, 4, 8]])}
    found = place_effects(model, inputs, "resid_pre", "patch", "logit", 6, other=OTHER)
    with torch.no_grad():
        _, other = model.run_with_cache(OTHER, decoder_input=inputs["decoder_input"])

        def edit(x, hook):
            x = x.clone()
            x[:, 1] = other["decoder.blocks.1.hook_resid_pre"][:, 1]
            return x

        logits = model.run_with_hooks(
            **inputs, fwd_hooks=[("decoder.blocks.1.hook_resid_pre", edit)]
        )
    row = found[(found["layer"] == 1) & (found["position"] == 1)].iloc[0]
    assert row["value"] == pytest.approx(float(logits[0, -1, 6]), abs=1e-5)
    assert row["token"] == "4"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("q", "zero", "kl", 8), "site must be one of"),
        (("z", "noise", "kl", 8), "put_in must be one of"),
        (("z", "zero", "loss", 8), "measure must be one of"),
        (("z", "patch", "kl", 8), "a second prompt belongs"),
        (("z", "zero", "kl", 8, None, -1, OTHER), "a second prompt belongs"),
        (("z", "zero", "logit-diff", 8), "a wrong output belongs"),
        (("z", "zero", "kl", 8, 3), "a wrong output belongs"),
    ],
)
def test_what_does_not_go_together(model, given, message):
    with pytest.raises(InputError, match=message):
        place_effects(model, INPUTS, *given)
