from __future__ import annotations

import pytest
import torch

from analyses.attribution.stream_parts import is_neuron, neuron_part, stream_parts
from interp import InputError
from tests.interp.kinds import KINDS

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9]])
DECODED = torch.tensor([[2, 7, 1, 8]])


def inputs_of(model):
    both = model.cfg.architecture == "encoder-decoder"
    return {"input": TOKENS, **({"decoder_input": DECODED} if both else {})}


@pytest.mark.parametrize("by", ["layer", "head"])
@pytest.mark.parametrize("name", ["gpt2", "gemma2", "mixtral-post", "bert", "t5"])
def test_parts_sum_to_the_stream(name, by, make_model):
    model = make_model(dtype="float64", **KINDS[name])
    inputs = inputs_of(model)
    _, cache = model.run_with_cache(**inputs)
    last = cache["resid_post", model.cfg.n_layers - 1][0]
    for position in (0, 2, -1):
        found = stream_parts(model, position, by, **inputs)
        assert torch.allclose(found.stream, last[position], rtol=0, atol=1e-10)
        assert torch.allclose(found.vectors.sum(0), last[position], rtol=0, atol=1e-10)


def test_what_each_part_is(make_model):
    """Without norms on the way a part is what the component wrote: by plain products."""
    model = make_model(dtype="float64")
    logits, cache = model.run_with_cache(TOKENS)
    found = stream_parts(model, 3, "head", input=TOKENS)
    by_label = {p.label: v for p, v in zip(found.parts, found.vectors, strict=True)}
    heads = [f"L0H{h}" for h in range(4)]
    assert list(by_label)[:7] == ["embed", "pos_embed", *heads, "L0MLP"]
    assert list(by_label)[-2:] == ["L1MLP", "biases"]
    written = cache["z", 1][0, 3, 2] @ model.W_O[1, 2]
    assert torch.allclose(by_label["L1H2"], written, rtol=0, atol=1e-10)
    assert torch.allclose(by_label["biases"], model.b_O.sum(0), rtol=0, atol=1e-10)
    assert [(p.kind, p.layer, p.number) for p in found.parts if p.label == "L1H2"] == [
        ("head", 1, 2)
    ]
    layers = stream_parts(model, 3, "layer", input=TOKENS)
    labels = [p.label for p in layers.parts]
    assert labels == ["embed", "pos_embed", "L0ATTN", "L0MLP", "L1ATTN", "L1MLP"]
    out = layers.vectors[labels.index("L1ATTN")]
    assert torch.allclose(out, cache["attn_out", 1][0, 3], rtol=0, atol=1e-10)
    assert torch.allclose(layers.linear, logits[0, 3], rtol=0, atol=1e-10)


def test_order_of_an_encoder_decoder(make_model):
    model = make_model(**KINDS["marian"])
    labels = [p.label for p in stream_parts(model, 1, "layer", **inputs_of(model)).parts]
    first = labels.index("L0ATTN")
    assert labels[first : first + 3] == ["L0ATTN", "L0CROSS", "L0MLP"]
    by_head = stream_parts(model, 1, "head", **inputs_of(model)).parts
    assert {p.kind for p in by_head if "C" in p.label} == {"cross-head"}


def test_a_neuron(make_model):
    model = make_model(dtype="float64")
    _, cache = model.run_with_cache(TOKENS)
    found, activation = neuron_part(model, -1, 1, 7, input=TOKENS)
    assert activation == pytest.approx(float(cache["post", 1][0, -1, 7]), abs=1e-12)
    assert torch.allclose(found.vectors[0], activation * model.W_out[1, 7], rtol=0, atol=1e-10)
    assert is_neuron("L12N345") == (12, 345) and is_neuron("L1H2") is None


def test_refusals(make_model):
    with pytest.raises(InputError, match="no layers"):
        stream_parts(make_model(n_layers=0), 0, input=TOKENS)
    model = make_model()
    with pytest.raises(InputError, match=r"position must lie in -6 … 5. Received 6"):
        stream_parts(model, 6, input=TOKENS)
    with pytest.raises(InputError, match=r"L0N0 … L1N19. Received L1N20"):
        neuron_part(model, 0, 1, 20, input=TOKENS)
    with pytest.raises(InputError, match="no MLPs"):
        neuron_part(make_model(**KINDS["attn-only"]), 0, 0, 0, input=TOKENS)
    with pytest.raises(InputError, match="mixture of experts"):
        neuron_part(make_model(**KINDS["mixtral-post"]), 0, 0, 0, input=TOKENS)
