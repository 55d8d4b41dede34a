"""Statistics of the parts of scores against plain loops over queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, HookedTransformerConfig, InputError
from interp.position_effects import position_means, score_part_statistics, score_parts
from interp.zoo import known
from tests.interp.kinds import some_tokens

Kind = Callable[[str], HookedTransformer]
STREAMS = "blocks.*.hook_resid_pre"


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bloom", "classifier", "shortformer"])
def test_equal_loops_over_queries(kind: Kind, assert_close: Any, name: str) -> None:
    model = kind(name)
    tokens = some_tokens(5, 7)
    means = position_means(model, tokens, STREAMS)
    found = score_part_statistics(model, tokens, means, batch_size=2)
    whole = score_part_statistics(model, tokens, means)
    for field in ("share", "spread", "mean_abs", "pattern_change", "total_spread"):
        assert_close(getattr(found, field), getattr(whole, field), field)
    assert found.error < 1e-13
    assert found.n_sequences == 5
    assert found.layers == (0, 1)
    for layer in range(2):
        parts = score_parts(model, tokens, means, layer)
        totals, pattern = parts.total(), parts.pattern()
        off = {part: pattern - parts.pattern([part]) for part in parts.names}
        assert found.names == parts.names
        for head in range(model.cfg.n_heads):
            variance, changes = [], {name: [] for name in parts.names}
            each: dict[str, list[tuple[float, float, float]]] = {name: [] for name in parts.names}
            for row in range(5):
                for query in range(7):
                    keys = parts.visible[query].nonzero()[:, 0]
                    if len(keys) < 2:
                        continue
                    total = totals[row, head, query, keys]
                    variance.append(float(total.var(correction=0)))
                    for part in parts.names:
                        x = parts[part][row, head, query, keys]
                        covariance = ((x - x.mean()) * (total - total.mean())).mean()
                        own = float(x.var(correction=0))
                        each[part].append((float(covariance), own, float(x.abs().mean())))
                        changes[part].append(float(off[part][row, head, query].abs().sum()) / 2)
            n = len(variance)
            assert float(found.total_spread[layer, head]) == pytest.approx(
                (sum(variance) / n) ** 0.5, rel=1e-9
            )
            for i, part in enumerate(parts.names):
                at = layer, head, i
                sums = [sum(column) for column in zip(*each[part], strict=True)]
                assert float(found.share[at]) == pytest.approx(
                    sums[0] / sum(variance), rel=1e-8, abs=1e-10
                )
                assert float(found.spread[at]) == pytest.approx(
                    (sums[1] / n) ** 0.5, rel=1e-8, abs=1e-10
                )
                assert float(found.mean_abs[at]) == pytest.approx(sums[2] / n, rel=1e-9, abs=1e-12)
                assert float(found.pattern_change[at]) == pytest.approx(
                    sum(changes[part]) / n, rel=1e-8, abs=1e-12
                )
    assert_close(found.share.sum(-1), torch.ones_like(found.total_spread))


def test_a_head_of_position_alone() -> None:
    truth = known.previous_token()
    means = position_means(truth.model, truth.reference, STREAMS)
    found = score_part_statistics(truth.model, truth.clean, means)
    at = found.names.index("position-position")
    assert float(found.share[0, 0, at]) == pytest.approx(1.0, abs=1e-10)
    # Without it L0H0 attends evenly: all that it gives the previous token beyond that moves.
    weights = [torch.e**5 / (torch.e**5 + p) - 1 / (p + 1) for p in range(1, 8)]
    assert float(found.pattern_change[0, 0, at]) == pytest.approx(sum(weights) / 7, rel=1e-9)
    assert bool(found.share[0, 1].isnan().all())  # the idle head's scores are all alike
    assert float(found.total_spread[0, 1]) == 0


def test_a_head_of_content_alone(assert_close: Any) -> None:
    """Each token is as frequent at each position, and embeddings have no mean."""
    cfg = HookedTransformerConfig(
        n_layers=1, d_model=6, n_ctx=12, n_heads=2, d_head=3, d_vocab=9, attn_only=True,
        positional_embedding_type="none", normalization_type=None, device="cpu",
        dtype="float64", seed=1,
    )  # fmt: skip
    model = HookedTransformer(cfg)
    with torch.no_grad():
        model.W_E.sub_(model.W_E.mean(0))
    tokens = (torch.arange(9)[:, None] + 2 * torch.arange(5)) % 9
    means = position_means(model, tokens, STREAMS)
    found = score_part_statistics(model, tokens, means)
    expected = torch.zeros_like(found.share)
    expected[..., found.names.index("content-content")] = 1.0
    assert_close(found.share, expected)


def test_refusals(kind: Kind) -> None:
    model, tokens = kind("gpt2"), some_tokens(3, 7)
    means = position_means(model, tokens, STREAMS)
    with pytest.raises(InputError, match=r"two tokens or more. Received 1"):
        score_part_statistics(model, tokens[:, :1], means)
    with pytest.raises(InputError, match="a layer to look at"):
        score_part_statistics(model, tokens, means, [])
    with pytest.raises(InputError, match="batch_size"):
        score_part_statistics(model, tokens, means, batch_size=0)
