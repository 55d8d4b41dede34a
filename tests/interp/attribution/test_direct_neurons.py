"""What single neurons add to a logit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.attribution import (
    direct_logit_attribution,
    mlp_bias_attribution,
    neuron_attribution,
)
from interp.attribution.direct import hooks_needed
from tests.interp.attribution.recorded import WITH_NEURONS, run
from tests.interp.kinds import given_to, with_padding

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]


@pytest.mark.parametrize(("dtype", "padded"), [("float32", False), ("float64", True)])
@pytest.mark.parametrize("name", WITH_NEURONS)
def test_neurons_sum_to_their_mlp(
    name: str, dtype: str, padded: bool, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """In every kind of model with MLPs and linear logits, wherever its norms are."""
    model = make_model(dtype=dtype, **WITH_NEURONS[name])
    given = given_to(model)
    if padded:
        given = with_padding(given, [0, 2, 1], left=True)
    hooks = [*hooks_needed(model), *(n for n in model.hook_dict if n.endswith("mlp.hook_post"))]
    hooks += [n for n in model.hook_dict if n.endswith("hook_expert_weights")]
    with torch.no_grad():
        _, cache = model.run_with_cache(**given, names_filter=hooks)
    found = direct_logit_attribution(model, cache, 3, 7)
    rows = {part.layer: v for part, v in zip(found.components, found.values, strict=True)
            if part.kind == "mlp"}  # fmt: skip
    assert rows.keys() == set(range(model.cfg.n_layers))
    for layer, row in rows.items():
        neurons = neuron_attribution(model, cache, found, layer)
        assert neurons.shape == cache["post", layer].shape
        total = neurons.flatten(2).sum(-1) + mlp_bias_attribution(model, cache, found, layer)
        assert_close(total, row, f"{name} {layer}")


@pytest.mark.parametrize("fields", [{}, {"gated_mlp": True, "normalization_type": None}])
def test_one_neuron_by_hand(
    fields: dict[str, Any], make_model: MakeModel, assert_close: AssertClose
) -> None:
    """With norms before what reads, its vector goes through the final norm alone."""
    model = make_model(dtype="float64", **fields)
    _, cache = run(model)
    found = direct_logit_attribution(model, cache, 3)
    written = cache["post", 0][2, 4, 7] * model.blocks[0].mlp.W_out[7]
    W_U = model.W_U[:, 3]
    if not fields:
        stream = cache["resid_post", 1][2, 4]
        scale = (stream.var(unbiased=False) + model.cfg.eps).sqrt()
        written = (written - written.mean()) / scale * model.ln_final.w
    assert_close(neuron_attribution(model, cache, found, 0)[2, 4, 7], written @ W_U)


def test_neurons_of_a_mixture_by_hand(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(
        dtype="float64", gated_mlp=True, num_experts=4, experts_per_token=2,
        normalization_type=None,
    )  # fmt: skip
    _, cache = run(model)
    found = direct_logit_attribution(model, cache, 3)
    neurons = neuron_attribution(model, cache, found, 1)
    weights = cache["expert_weights", 1]
    assert (neurons[weights == 0] == 0).all()
    expert = int(weights[2, 4].argmax())
    W_out = model.blocks[1].mlp.W_out[expert, 7]
    expected = weights[2, 4, expert] * cache["post", 1][2, 4, expert, 7] * (W_out @ model.W_U[:, 3])
    assert_close(neurons[2, 4, expert, 7], expected)


def test_neurons_that_are_not_there(make_model: MakeModel) -> None:
    model = make_model()
    _, cache = run(model)
    found = direct_logit_attribution(model, cache, 3)
    for function in (neuron_attribution, mlp_bias_attribution):
        for layer in (-3, 2):
            with pytest.raises(InputError, match=rf"0 … 1, .* Received {layer}"):
                function(model, cache, found, layer)
        assert torch.equal(function(model, cache, found, -1), function(model, cache, found, 1))
    model = make_model(attn_only=True)
    _, cache = run(model)
    found = direct_logit_attribution(model, cache, 3)
    with pytest.raises(InputError, match="no MLPs"):
        neuron_attribution(model, cache, found, 0)
