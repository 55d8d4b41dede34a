"""Every truth beside a model by construction, against runs and against methods in plain loops."""

from __future__ import annotations

import functools
import re

import pytest
import torch

from interp.attribution.direct import direct_logit_attribution
from interp.zoo import known
from tests.interp.zoo.known import plain

MAKERS = {
    **known.MODELS,
    "induction, saturated": lambda **given: known.induction(saturated=True, **given),
}


@functools.cache
@torch.no_grad()
def made(name):
    """One for all tests: `plain` remembers what it found of it."""
    return MAKERS[name](device="cpu")


@pytest.fixture(scope="module", params=MAKERS)
def truth(request):
    return made(request.param)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def test_logits_and_metric_are_those_of_the_formulas(truth, assert_close):
    logits = truth.model(truth.clean)
    assert logits.dtype == torch.float64
    assert_close(logits[:, truth.position], truth.logits, "logits")
    assert_close(plain.metric(truth, logits), truth.clean_value, "clean")
    assert_close(plain.run(truth, truth.corrupted), truth.corrupted_value, "corrupted")
    assert_close(truth.metric.per_prompt(logits), truth.clean_value, "metric")


def test_the_clean_prompts_show_the_behaviour_and_the_corrupted_ones_do_not(truth):
    assert (truth.clean_value > 0).all()
    assert (truth.corrupted_value <= 1e-12).all()
    assert (truth.logits.argmax(-1) == truth.right).all()


def test_patterns_are_those_of_the_formulas(truth, assert_close):
    _, cache = truth.model.run_with_cache(truth.clean, names_filter="blocks.*.attn.hook_pattern")
    assert truth.patterns
    for (label, pos), expected in truth.patterns.items():
        layer, head = map(int, re.findall(r"\d+", label))
        assert_close(cache["pattern", layer][:, head, pos], expected, f"{label} at {pos}")


def test_direct_attributions_are_those_of_the_formulas(truth, assert_close):
    _, cache = truth.model.run_with_cache(truth.clean)
    named = set()
    for row, (right, wrong) in enumerate(zip(truth.right, truth.wrong, strict=True)):
        found = direct_logit_attribution(truth.model, cache, int(right), int(wrong))
        for component, values in zip(found.components, found.values, strict=True):
            value = values[row, truth.position]
            expected = truth.direct.get(component.label, torch.zeros(len(truth.right)))[row]
            assert abs(value - expected) < 1e-10, component.label
            named.add(component.label)
    assert named >= set(truth.direct)
    assert_close(sum(truth.direct.values()), truth.clean_value, "the sum")
    parts = {label: value for label, value in truth.direct.items() if label.startswith("L")}
    assert truth.found(parts) == truth.expected["direct"]


@pytest.mark.parametrize("kind", ["zero", "mean"])
def test_single_ablations(truth, kind):
    labels = plain.components(truth.model)
    effects = {label: plain.ablations(truth, [label], kind) for label in labels}
    assert truth.found(effects) == truth.expected["ablation"]
    for together in truth.expected.get("joint_ablation", ()):
        assert not together & truth.expected["ablation"]
        assert truth.found({"together": plain.ablations(truth, together, kind)})


def test_activation_patching(truth):
    assert truth.found(plain.patched_nodes(truth)) == truth.expected["activation_patching"]


@pytest.mark.parametrize(
    ("key", "denoise"), [("attribution_patching", True), ("attribution_patching_noise", False)]
)
def test_attribution_patching(truth, key, denoise):
    assert truth.found(plain.first_order_nodes(truth, denoise)) == truth.expected[key]


@pytest.mark.parametrize("denoise", [True, False])
def test_exact_edge_patching_finds_the_circuit(truth, denoise):
    effects = plain.patched_edges(truth, denoise)
    assert truth.found(effects) == truth.edges == truth.expected["path_patching"]
    rest = {edge: effects[edge] for edge in truth.fixed_edges | truth.silent_edges}
    assert not truth.found(rest)


@pytest.mark.parametrize(("key", "steps"), [("eap", 0), ("eap_ig", 5), ("eap_ig", 16)])
def test_edge_attribution_patching(truth, key, steps):
    assert truth.found(plain.first_order_edges(truth, steps)) == truth.expected[key]


def test_what_is_found_is_far_from_the_threshold(truth):
    """Nothing hangs on where exactly the threshold lies: a factor of 2 below or above it."""
    for effects in (
        plain.patched_edges(truth), plain.first_order_edges(truth), plain.first_order_nodes(truth),
    ):  # fmt: skip
        for effect in effects.values():
            share = abs(float(effect.mean() / truth.span))
            assert not truth.threshold / 2 < share < truth.threshold * 2


def test_fixed_edges_carry_the_same_but_are_needed(truth):
    """No patch between the prompts can see them; without positions the patterns are others."""
    clean, corrupted = (plain.written(truth, x) for x in (truth.clean, truth.corrupted))
    for edge in truth.fixed_edges:
        sender = edge.split("->")[0]
        assert torch.equal(clean[sender], corrupted[sender])
    if truth.fixed_edges:
        without = plain.run(truth, truth.clean, [("hook_pos_embed", lambda x, hook: 0 * x)])
        assert (without - truth.clean_value).abs().mean() > 0.1 * truth.span


def test_labels_exist(truth):
    labels = set(plain.components(truth.model))
    assert set(truth.heads) | set(truth.mlps) == labels
    edges = {"->".join(edge) for edge in plain.edges(truth.model)}
    for some in (truth.edges, truth.fixed_edges, truth.silent_edges):
        assert some <= edges
    assert not truth.edges & (truth.fixed_edges | truth.silent_edges)
    assert set(truth.direct) <= labels | {"b_U"}


def test_prompts_have_words(truth):
    pytest.importorskip("transformers", reason="needs the extra 'hf'")
    model = truth.give_tokenizer()
    assert model.to_tokens(truth.texts).equal(truth.clean)
    assert len(set(truth.words)) == len(truth.words) == model.cfg.d_vocab
    assert model.to_str_tokens(truth.clean[0]) == [truth.words[i] for i in truth.clean[0]]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_other_dtypes_and_seeds(make, assert_close):
    truth = make(dtype="float32", seed=3, device="cpu")
    assert truth.model.W_E.dtype == torch.float32
    logits = truth.model(truth.clean)
    assert_close(logits[:, truth.position], truth.logits, "fp32", 1e-5)
    assert not truth.clean.equal(make(seed=4, device="cpu").clean) or truth.name == "cancellation"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_truths_lie_where_the_model_is(make, assert_close):
    truth = make(device="cuda")
    logits = truth.model(truth.clean)
    assert_close(logits[:, truth.position], truth.logits, "logits")
    assert truth.reference.is_cuda
    assert all(value.is_cuda for value in (*truth.direct.values(), *truth.patterns.values()))
    assert truth.found(plain.patched_edges(truth)) == truth.edges


def test_pairs_as_plain_lists(truth):
    assert truth.model.cfg.model_name == f"known:{truth.name}"
    pairs = truth.as_pairs()
    assert torch.tensor(pairs["clean_tokens"]).equal(truth.clean)
    assert torch.tensor(pairs["corrupted_tokens"]).equal(truth.corrupted)
    assert (pairs["right"], pairs["wrong"]) == (truth.right.tolist(), truth.wrong.tolist())
    assert pairs["position"] == truth.position


def test_every_model_goes_by_its_name():
    for name, make in known.MODELS.items():
        assert make(device="cpu").name == name == make.__name__


def test_found_compares_means_with_the_span():
    truth = known.previous_token(device="cpu")
    span = float(truth.span)
    effects = {"a": torch.tensor([span, -span]), "b": -span * truth.threshold * 1.1}
    assert truth.found(effects) == {"b"}
    assert truth.found({"c": span * truth.threshold * 0.9}) == frozenset()
