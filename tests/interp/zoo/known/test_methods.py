"""The library's methods on models whose mechanism is known: each finds what its definition says."""

from __future__ import annotations

import pytest
import torch

from interp.attribution.attribution_patching import estimate_several
from interp.attribution.corrections import atp_star
from interp.attribution.edges import edge_attribution
from interp.behaviour import found_heads, head_scores, repeated_tokens
from interp.circuits import (
    Graph,
    greedy,
    judge,
    mean_reference,
    patch_edges,
    resample_reference,
    zero_reference,
)
from interp.interventions import KnockOutEdge, KnockOutHead, Mean, Patch, Place, Zero, applied
from interp.patching import sites, sweep
from interp.weight_circuits import composition_scores, copying_scores
from interp.zoo import known
from tests.interp.zoo.known import plain
from tests.interp.zoo.known.test_truth import MAKERS, made


@pytest.fixture(scope="module", params=MAKERS)
def truth(request):
    return made(request.param)


@pytest.fixture(scope="module")
def clean_cache(truth):
    with torch.no_grad():
        return truth.model.run_with_cache(truth.clean)[1]


@pytest.fixture(scope="module")
def corrupted_cache(truth):
    with torch.no_grad():
        return truth.model.run_with_cache(truth.corrupted)[1]


def parts(truth):
    return ["z"] if truth.model.cfg.attn_only else ["z", "mlp_out"]


def labelled(values, part):
    """`[layer, (head,) batch]` by label."""
    found = {}
    for layer, of_layer in enumerate(values):
        if part == "mlp_out":
            found[f"L{layer}MLP"] = of_layer
            continue
        for head, value in enumerate(of_layer):
            found[f"L{layer}H{head}" + ("" if part == "z" else f".{part}")] = value
    return found


def place(label):
    if label.endswith("MLP"):
        return Place("mlp_out", layers=int(label[1:-3]))
    layer, head = map(int, label[1:].split("H"))
    return Place("z", layers=layer, heads=head)


def pairs(scores):
    """(earlier head, later head) with a composition score above rounding."""
    return {
        (f"L{i}H{h}", f"L{j}H{k}") for i, h, j, k in (scores > 1e-12).nonzero().tolist() if i < j
    }


# --- circuits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("denoise", [True, False])
def test_path_patching_has_precision_and_recall_1(truth, clean_cache, corrupted_cache, denoise):
    tokens, source = (truth.corrupted, clean_cache) if denoise else (truth.clean, corrupted_cache)
    result = patch_edges(truth.model, tokens, source, truth.metric)
    effects = dict(zip(result.paths, result.effects, strict=True))
    assert truth.found(effects) == truth.edges
    expected = plain.patched_edges(truth, denoise)
    assert effects.keys() == expected.keys()
    for edge, effect in effects.items():
        assert (effect - expected[edge]).abs().max() < 1e-10, edge


def test_the_true_circuit_is_faithful_and_nothing_works_without_it(truth):
    reference = resample_reference(truth.model, truth.corrupted)
    judged = judge(truth.model, truth.clean, reference, [sorted(truth.edges)], truth.metric)
    assert float(judged.faithfulness[0]) == pytest.approx(1.0, abs=1e-6)
    assert float(judged.completeness[0]) == pytest.approx(0.0, abs=1e-6)


def test_every_edge_that_search_keeps_is_needed(truth):
    kept = sorted(truth.expected["circuit_search"])
    reference = resample_reference(truth.model, truth.corrupted)
    circuits = [kept, *([edge for edge in kept if edge != left] for left in kept)]
    judged = judge(truth.model, truth.clean, reference, circuits, truth.metric)
    whole, *without = judged.faithfulness.tolist()
    assert whole == pytest.approx(1.0, abs=1e-6)
    assert min(abs(1 - share) for share in without) > 0.05


def test_greedy_search_finds_the_circuit(truth):
    reference = resample_reference(truth.model, truth.corrupted)
    tau = 0.01 * float(truth.span)
    found = greedy(truth.model, truth.clean, reference, truth.metric, tau)
    assert set(Graph.of(truth.model).labels(found)) == truth.expected["circuit_search"]


@pytest.mark.parametrize("kind", ["zero", "mean"])
def test_mechanism_edges_alone_are_faithful_whatever_the_rest_carries(truth, kind):
    """With what positions carry, and the backup's edges, nothing else is needed at all."""
    make = {"zero": zero_reference, "mean": lambda m: mean_reference(m, truth.reference)}[kind]
    mechanism = sorted(truth.edges | truth.fixed_edges | truth.silent_edges)
    judged = judge(truth.model, truth.clean, make(truth.model), [mechanism], truth.metric)
    assert float(judged.faithfulness[0]) == pytest.approx(1.0, abs=1e-9)


# --- attribution ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "denoise"), [("attribution_patching", True), ("attribution_patching_noise", False)]
)
def test_attribution_patching(truth, clean_cache, corrupted_cache, key, denoise):
    tokens, source = (truth.corrupted, clean_cache) if denoise else (truth.clean, corrupted_cache)
    by_part = {part: sites(truth.model, part, positions="all") for part in parts(truth)}
    found = estimate_several(truth.model, tokens, source, by_part, truth.metric)
    effects = {}
    for part, estimate in found.items():
        effects |= labelled(estimate.change, part)
    assert truth.found(effects) == truth.expected[key]
    for label, expected in plain.first_order_nodes(truth, denoise).items():
        assert (effects[label] - expected).abs().max() < 1e-10, label


def test_atp_star(truth, clean_cache):
    effects = {}
    for part in ("q", "k", "v", *parts(truth)):
        found = atp_star(
            truth.model, truth.corrupted, clean_cache, sites(truth.model, part, positions="all"),
            truth.metric, grad_drop=truth.model.cfg.n_layers > 1,
        )  # fmt: skip
        effects |= labelled(found.change, part)
    assert truth.found(effects) == truth.expected["atp_star"]


def test_the_qk_fix_finds_what_saturation_hides():
    """Without it a query and a key of the saturated induction head count nothing."""
    truth = known.induction(saturated=True, device="cpu")
    source = truth.model.run_with_cache(truth.clean)[1]
    for part in ("q", "k"):
        at = sites(truth.model, part, positions="all")
        first, fixed, exact = (
            labelled(found, part)[f"L1H1.{part}"].mean() / truth.span
            for found in (
                *(
                    atp_star(truth.model, truth.corrupted, source, at, truth.metric,
                             qk_fix=fix, grad_drop=False).change
                    for fix in (False, True)
                ),
                sweep(truth.model, truth.corrupted, source, at, truth.metric).values
                - truth.corrupted_value,
            )
        )  # fmt: skip
        assert abs(first) < 1e-12
        assert float(fixed) == pytest.approx(float(exact), abs=1e-10)
        assert float(exact) == pytest.approx(1 / 3, abs=1e-10)


def test_grad_drop_finds_what_cancels():
    truth = known.cancellation(device="cpu")
    source = truth.model.run_with_cache(truth.clean)[1]
    at = sites(truth.model, "z", positions="all")
    plainly, dropped = (
        labelled(
            atp_star(truth.model, truth.corrupted, source, at, truth.metric, grad_drop=drop).change,
            "z",
        )["L0H0"].mean()
        for drop in (False, True)
    )
    assert abs(float(plainly)) < 1e-12
    assert float(dropped / truth.span) == pytest.approx(2.0)  # the direct slope alone


@pytest.mark.parametrize(
    ("key", "method", "steps"),
    [("eap", "eap", 1), ("eap_ig", "eap-ig", 5), ("eap_ig", "eap-ig", 16)],
)
def test_edge_attribution(truth, key, method, steps):
    scores = edge_attribution(
        truth.model, truth.clean, truth.corrupted, truth.metric, method, steps
    )
    expected = plain.first_order_edges(truth, 0 if method == "eap" else steps)
    effects = {edge: scores.of(edge) for edge in expected}
    assert truth.found(effects) == truth.expected[key]
    for edge, effect in expected.items():
        assert effects[edge] == pytest.approx(effect.mean().item(), abs=1e-10), edge


# --- interventions -------------------------------------------------------------------------------


def changed(truth, interventions, tokens=None):
    tokens = truth.clean if tokens is None else tokens
    with torch.no_grad(), applied(truth.model, interventions):
        logits = truth.model(tokens)
    return plain.metric(truth, logits) - plain.run(truth, tokens)


@pytest.mark.parametrize("kind", ["zero", "mean"])
def test_ablations_and_joint_ablations(truth, kind):
    def ablate(label):
        return Zero(place(label)) if kind == "zero" else Mean(place(label), truth.reference)

    effects = {label: changed(truth, [ablate(label)]) for label in plain.components(truth.model)}
    assert truth.found(effects) == truth.expected["ablation"]
    for together in truth.expected.get("joint_ablation", ()):
        assert truth.found({"joint": changed(truth, [ablate(x) for x in together])})


def test_knocking_out_heads_is_zero_ablation(truth):
    effects = {label: changed(truth, [KnockOutHead(label)]) for label in truth.heads}
    assert truth.found(effects) == truth.expected["ablation"] & set(truth.heads)


def test_knocking_out_edges_by_the_other_prompt_is_path_patching(truth):
    effects = {
        edge: changed(truth, [KnockOutEdge(edge, "patch", truth.corrupted)])
        for edge in sorted(truth.edges | truth.fixed_edges | truth.silent_edges)
    }
    assert truth.found(effects) == truth.edges


def test_activation_patching(truth, clean_cache):
    effects, by_sweep = {}, {}
    for part in parts(truth):
        at = sites(truth.model, part, positions="all")
        found = sweep(truth.model, truth.corrupted, clean_cache, at, truth.metric)
        by_sweep |= labelled(found.values - found.base, part)
    for label in plain.components(truth.model):
        effects[label] = changed(truth, [Patch(place(label), truth.clean)], truth.corrupted)
        assert (effects[label] - by_sweep[label]).abs().max() < 1e-10
    assert truth.found(effects) == truth.expected["activation_patching"]


# --- weights and behaviour -----------------------------------------------------------------------


def test_copying_heads(truth):
    names = range(8) if truth.name == "name_mover" else None
    scores = copying_scores(truth.model, None if names is None else list(names))
    found = {f"L{layer}H{head}" for layer, head in (scores.score > 0.99).nonzero().tolist()}
    assert found == truth.expected["copying_heads"]
    assert ((scores.score > 0.99) | (scores.score.abs() < 1e-6)).all()


@pytest.mark.parametrize("mode", ["Q", "K", "V"])
def test_composition(truth, mode):
    found = pairs(composition_scores(truth.model, mode))
    assert found == truth.expected[f"{mode.lower()}_composition"]


BEHAVIOURS = {
    "previous_token": "previous_token_heads",
    "induction": "induction_heads",
    "first_token": "first_token_heads",
    "same_token": "current_token_heads",
    "duplicate_token": "duplicate_token_heads",
}


@pytest.mark.parametrize("make", [known.previous_token, known.induction, known.name_mover])
def test_heads_by_behaviour(make):
    truth = make(device="cpu")
    scores = head_scores(truth.model, repeated_tokens(truth.model).tokens)
    found = {name: set() for name in BEHAVIOURS}
    for head in found_heads(scores):
        found[head.behaviour].add(head.label)
    keys = {behaviour: key for behaviour, key in BEHAVIOURS.items() if key in truth.expected}
    assert keys
    for behaviour, key in keys.items():
        assert found[behaviour] == truth.expected[key], behaviour
