"""What estimates find and miss on models whose mechanism is known, as their definitions say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from interp import patching
from interp.attribution.atp_star import atp_star
from interp.attribution.attribution_patching import Estimate, estimate_several
from interp.attribution.edges import EdgeScores, edge_attribution
from interp.zoo import known
from interp.zoo.known import KnownModel

TRUTHS: dict[str, Callable[[], KnownModel]] = {
    "previous_token": known.previous_token,
    "induction": known.induction,
    "saturated induction": lambda: known.induction(saturated=True),
    "name_mover": known.name_mover,
    "bracket_counter": known.bracket_counter,
    "cancellation": known.cancellation,
}


@pytest.fixture(scope="module", params=TRUTHS)
def truth(request: pytest.FixtureRequest) -> KnownModel:
    return TRUTHS[request.param]()


def kinds(truth: KnownModel) -> list[str]:
    return ["z"] if truth.model.cfg.attn_only else ["z", "mlp_out"]


def of_nodes(found: Estimate, part: str) -> dict[str, Tensor]:
    """Label → the change summed over positions, `[batch]`; of sizes the sum of sizes."""
    change = found.change.sum(1)  # layer, pos, head, batch
    if part == "mlp_out":
        return {f"L{i}MLP": change[i] for i in range(len(change))}
    suffix = "" if part == "z" else f".{part}"
    return {
        f"L{i}H{h}{suffix}": change[i, h] for i in range(change.shape[0])
        for h in range(change.shape[1])
    }  # fmt: skip


def source_of(truth: KnownModel, tokens: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return dict(truth.model.run_with_cache(tokens)[1].items())


@pytest.mark.parametrize("noise", [False, True])
def test_attribution_patching(truth: KnownModel, noise: bool) -> None:
    base, source = truth.corrupted, truth.clean
    if noise:
        base, source = source, base
    found = estimate_several(
        truth.model, base, source_of(truth, source), kinds(truth), truth.metric
    )
    changes = {k: v for part, one in found.items() for k, v in of_nodes(one, part).items()}
    name = "attribution_patching_noise" if noise else "attribution_patching"
    assert truth.found(changes) == truth.expected[name]


def test_atp_star(truth: KnownModel) -> None:
    source = source_of(truth, truth.clean)
    changes = {}
    for part in [*kinds(truth), "q", "k", "v"]:
        found = atp_star(
            truth.model, truth.corrupted, source, part, truth.metric,
            grad_drop=truth.model.cfg.n_layers > 1,
        )  # fmt: skip
        changes |= of_nodes(found, part)
    assert truth.found(changes) == truth.expected["atp_star"]


def of_edges(scores: EdgeScores) -> dict[str, float]:
    return dict(scores.ranked())


def test_edge_attribution(truth: KnownModel) -> None:
    scores = edge_attribution(truth.model, truth.clean, truth.corrupted, truth.metric)
    assert truth.found(of_edges(scores)) == truth.expected["eap"]


def test_edges_by_integrated_gradients(truth: KnownModel) -> None:
    scores = edge_attribution(
        truth.model, truth.clean, truth.corrupted, truth.metric, "eap-ig", steps=50
    )
    assert truth.found(of_edges(scores)) == truth.expected["eap_ig"]


def test_values_are_measured(truth: KnownModel) -> None:
    scores = edge_attribution(truth.model, truth.clean, truth.corrupted, truth.metric)
    torch.testing.assert_close(scores.source, truth.clean_value.to(scores.source))
    torch.testing.assert_close(scores.base, truth.corrupted_value.to(scores.base))
    swept = patching.sweep(truth.model, truth.corrupted, 0.0, "z", truth.metric)
    torch.testing.assert_close(scores.base, swept.base)
