from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.weight_circuits import neuron_input_circuit, neuron_output_circuit
from tests.covering import every_nth
from tests.interp.kinds import KINDS
from tests.interp.weight_circuits.isolation import alone, every_token, seen, without_biases

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]
WITH_MLP = [n for n, f in KINDS.items() if f.get("head", "lm") == "lm" and not f.get("attn_only")]


@pytest.mark.parametrize("kind", WITH_MLP)
def test_neurons_alone(kind: str, make_model: Make, assert_close: Check) -> None:
    model = without_biases(make_model(**{**KINDS[kind], "dtype": "float64"}))
    experts = model.cfg.num_experts
    gated = model.cfg.gated_mlp or experts is not None
    tokens = every_token(model)
    for layer in range(model.cfg.n_layers):
        chosen = [None] if experts is None else [0, experts - 1]
        for expert in chosen:
            what = f"layer {layer}, expert {expert}"
            of_expert: Any = slice(None) if expert is None else expert
            mlp = f"blocks.{layer}.mlp"
            read = seen(model, tokens, f"{mlp}.hook_pre", alone(model))[:, 0, of_expert]
            assert_close(neuron_input_circuit(model, layer, expert=expert).AB, read, what)
            weight = "gate" if gated else "in"
            named = neuron_input_circuit(model, layer, weight, expert=expert)  # type: ignore[arg-type]
            assert_close(named.AB, read, what)
            if gated:
                linear = seen(model, tokens, f"{mlp}.hook_pre_linear", alone(model))
                found = neuron_input_circuit(model, layer, "in", expert=expert)
                assert_close(found.AB, linear[:, 0, of_expert], what)


@pytest.mark.parametrize(
    ("kind", "layer"),
    [(kind, layer) for i, kind in enumerate(WITH_MLP) for layer in every_nth([0, -1], 2, i)],
)
def test_what_neurons_write(kind: str, layer: int, make_model: Make, assert_close: Check) -> None:
    """One neuron after the other set to one, all else of the MLP to zero."""
    model = without_biases(make_model(**{**KINDS[kind], "dtype": "float64"}))
    experts = model.cfg.num_experts
    d_mlp = model.cfg.width_mlp
    tokens = torch.zeros(d_mlp, 1, dtype=torch.long)
    prefix = "decoder." if model.cfg.architecture == "encoder-decoder" else ""
    layer %= model.cfg.n_layers
    expert = None if experts is None else 1
    muted = [hook for hook in alone(model) if not _names_mlp_out(hook)]

    def one_by_one(post: Tensor, hook: Any) -> Tensor:
        flat = torch.zeros_like(post)
        flat[:, 0, slice(None) if expert is None else expert] = torch.eye(d_mlp, dtype=post.dtype)
        return flat

    def only_this(weights: Tensor, hook: Any) -> Tensor:
        return torch.nn.functional.one_hot(torch.ones_like(weights[..., 0]).long(), experts).to(
            weights
        )

    nothing = lambda x, hook: torch.zeros_like(x)
    others = lambda name: (
        name.endswith("hook_mlp_out") and name != f"{prefix}blocks.{layer}.hook_mlp_out"
    )
    mlp = f"{prefix}blocks.{layer}.mlp"
    hooks = [*muted, (others, nothing), (f"{mlp}.hook_post", one_by_one)]
    if experts is not None:
        hooks.append((f"{mlp}.hook_expert_weights", only_this))
    silent = [*muted, (lambda name: name.endswith("hook_mlp_out"), nothing)]
    past = seen(model, tokens, "unembed.hook_out", silent)[:, 0]
    added = seen(model, tokens, "unembed.hook_out", hooks)[:, 0] - past
    assert_close(neuron_output_circuit(model, layer, expert).AB, added)
    less_mean = neuron_output_circuit(model, layer, expert, less_mean=True).AB
    assert_close(less_mean, added - added.mean(-1, keepdim=True))


def _names_mlp_out(hook: Any) -> bool:
    return callable(hook[0]) and hook[0]("blocks.0.hook_mlp_out")


def test_plain_products(make_model: Make, assert_close: Check) -> None:
    model = make_model(normalization_type=None, dtype="float64")
    with torch.no_grad():
        assert_close(neuron_input_circuit(model, 1).AB, model.W_E @ model.W_in[1])
        assert_close(neuron_output_circuit(model, 0).AB, model.W_out[0] @ model.W_U)


@pytest.mark.parametrize(
    ("fields", "call", "message"),
    [
        ({"attn_only": True}, lambda m: neuron_input_circuit(m, 0), "no neurons"),
        ({}, lambda m: neuron_input_circuit(m, 2), "layer must lie"),
        ({}, lambda m: neuron_input_circuit(m, 0, "gate"), "have no gate"),
        ({}, lambda m: neuron_input_circuit(m, 0, "out"), "weight must be one of"),
        ({}, lambda m: neuron_output_circuit(m, 0, 1), "only a mixture"),
        (KINDS["gpt-oss"], lambda m: neuron_output_circuit(m, 0), "expert must be"),
        (KINDS["gpt-oss"], lambda m: neuron_output_circuit(m, 0, 4), "expert must lie in 0 … 3"),
        (KINDS["bert"], lambda m: neuron_output_circuit(m, 0), "head='lm'"),
    ],
)
def test_what_is_not_there(
    fields: dict[str, Any], call: Callable[[HookedTransformer], Any], message: str,
    make_model: Make,
) -> None:  # fmt: skip
    with pytest.raises(InputError, match=message):
        call(make_model(**fields))
