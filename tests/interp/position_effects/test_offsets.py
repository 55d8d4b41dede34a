"""What offset and position explain of patterns, and how far heads look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.behaviour import offset_scores
from interp.position_effects import (
    attention_distances,
    explained_by_position,
    mean_patterns,
    offset_curves,
)
from interp.zoo import known
from tests.interp.kinds import some_tokens

Kind = Callable[[str], HookedTransformer]
Make = Callable[..., HookedTransformer]


def _least_squares(patterns: list[Tensor], visible: Tensor, by: str) -> float:
    """R² of a fit to every entry of every text, with a constant for each query of each text."""
    rows, values = [], []
    n = visible.shape[0]
    for text, pattern in enumerate(patterns):
        for query, key in visible.nonzero().tolist():
            row = torch.zeros(len(patterns) * n + 3 * n, dtype=torch.float64)
            row[text * n + query] = 1
            if by in ("offset", "both"):
                row[len(patterns) * n + query - key + n] = 1
            if by in ("key", "both"):
                row[len(patterns) * n + 2 * n + key] = 1
            rows.append(row)
            values.append(pattern[query, key])
    design, y = torch.stack(rows), torch.stack(values)

    def residual(x: Tensor) -> float:
        fit = torch.linalg.lstsq(x, y[:, None], driver="gelsd").solution
        return float(((x @ fit)[:, 0] - y).pow(2).sum())

    return 1 - residual(design) / residual(design[:, : len(patterns) * n])


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bert-folded-mlm", "gpt-oss"])
def test_explained_is_least_squares(kind: Kind, name: str) -> None:
    model = kind(name)
    tokens = some_tokens(3, 6)
    patterns = mean_patterns(model, tokens)
    found = explained_by_position(patterns)
    _, cache = model.run_with_cache(tokens, names_filter="blocks.*.attn.hook_pattern")
    for layer in range(2):
        for head in range(0, model.cfg.n_heads, 3):
            each = list(cache["pattern", layer][:, head])
            for by in ("offset", "key", "both"):
                expected = _least_squares(each, patterns.visible[layer], by)
                value = float(getattr(found, by)[layer, head])
                assert value == pytest.approx(expected, abs=1e-9), (layer, head, by)
            centred = cache["pattern", layer][:, head].clone()
            centred -= centred.sum(-1, keepdim=True) / patterns.visible[layer].sum(-1)[:, None]
            centred *= patterns.visible[layer]
            whole = float(centred.mean(0).pow(2).sum() / centred.pow(2).sum() * 3)
            assert float(found.position[layer, head]) == pytest.approx(whole, abs=1e-10)
    for low, high in (("offset", "both"), ("key", "both"), ("both", "position")):
        assert bool((getattr(found, low) <= getattr(found, high) + 1e-12).all())


@contextmanager
def _written(model: HookedTransformer, pattern: Tensor) -> Iterator[None]:
    """Heads of the first layer look as this says, `[head, pos, key_pos]`."""

    def write(old: Tensor, hook: Any) -> Tensor:
        return pattern.to(old.dtype).expand_as(old)

    with model.hooks(fwd_hooks=[("blocks.0.attn.hook_pattern", write)]):
        yield


def test_heads_whose_rule_is_known(make_model: Make) -> None:
    n = 8
    model = make_model(n_layers=1)
    places = torch.arange(n)
    two_back = torch.zeros(n, n)
    two_back[places, (places - 2).clamp(min=0)] = 1
    sink = torch.zeros(n, n)
    sink[:, 0] = 1
    even = torch.ones(n, n).tril()
    even = even / even.sum(-1, keepdim=True)
    previous = torch.zeros(n, n)
    previous[places, (places - 1).clamp(min=0)] = 1
    with _written(model, torch.stack([previous, two_back, sink, even])):
        patterns = mean_patterns(model, some_tokens(4, n))
    found = explained_by_position(patterns)
    assert found.offset[0, 0] == pytest.approx(1.0, abs=1e-9)
    assert found.key[0, 2] == pytest.approx(1.0, abs=1e-9)
    # The second query cannot look two back: one of seven queries does otherwise.
    assert 0.7 < float(found.offset[0, 1]) < 1 - 1e-3
    assert float(found.both[0, 1]) > float(found.offset[0, 1])
    assert bool((found.position[0, :3] - 1).abs().max() < 1e-12)
    for of in (found.offset, found.key, found.both, found.position):
        assert bool(of[0, 3].isnan())
    distances = attention_distances(patterns)
    assert distances.mean()[0, 0] == pytest.approx(1.0)
    assert distances.mean()[0, 2] == pytest.approx(4.0)  # of 1 … 7
    assert distances.mean()[0, 3] == pytest.approx(2.0)  # half of it
    assert distances.even_mean()[0] == pytest.approx(2.0)
    assert distances.quantile(0.5)[0].tolist() == [1, 2, 4, 2]
    assert distances.quantile(0.25)[0].tolist() == [1, 2, 2, 1]  # (1/2 + … + 1/8) / 7 < 1/4
    assert patterns.first_mass()[0].tolist() == pytest.approx(
        [1 / 7, 2 / 7, 1.0, sum(1 / (t + 1) for t in range(1, 8)) / 7], rel=1e-6
    )
    beyond = attention_distances(patterns, skip_first=True)
    # Queries 2 … 7; two back is the first token for the first of these.
    assert beyond.mean()[0, :2].tolist() == pytest.approx([1.0, 2.0])
    assert bool(beyond.mean()[0, 2].isnan())
    offsets, curves = offset_curves(patterns)
    assert offsets.tolist() == list(range(7))
    assert curves[0, 0].tolist() == [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    everywhere = offset_curves(patterns, skip_first=False)[1]
    assert everywhere[0, 2].tolist() == pytest.approx([1 / (8 - k) for k in range(8)])


def test_previous_token_by_construction() -> None:
    truth = known.previous_token(sharpness=60.0)
    patterns = mean_patterns(truth.model, truth.clean)
    found = explained_by_position(patterns)
    assert float(found.offset[0, 0]) == pytest.approx(1.0, abs=1e-9)
    assert bool(found.offset[0, 1].isnan())  # the idle head attends evenly
    assert float(attention_distances(patterns).mean()[0, 0]) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bert-folded-mlm"])
def test_curves_are_offset_scores(kind: Kind, assert_close: Any, name: str) -> None:
    model = kind(name)
    tokens = some_tokens(4, 7)
    offsets, curves = offset_curves(mean_patterns(model, tokens))
    scores = offset_scores(model, tokens, offsets.tolist())
    expected = torch.stack([scores.by_offset[k].score for k in offsets.tolist()], -1)
    assert_close(curves, expected)


def test_distances_of_a_model_that_looks_ahead(kind: Kind, assert_close: Any) -> None:
    model = kind("bert-folded-mlm")
    tokens = some_tokens(4, 6)
    patterns = mean_patterns(model, tokens)
    found = attention_distances(patterns)
    expected = torch.zeros(2, model.cfg.n_heads, 6, dtype=torch.float64)
    for query in range(1, 6):
        for key in range(6):
            expected[:, :, abs(query - key)] += patterns.mean[:, :, query, key] / 5
    assert_close(found.mass, expected)
    assert_close(found.mass.sum(-1), torch.ones(2, model.cfg.n_heads).double())


def test_refusals(kind: Kind) -> None:
    two = mean_patterns(kind("gpt2"), some_tokens(2, 2))
    with pytest.raises(InputError, match=r"texts must be longer. They have 2"):
        attention_distances(two, skip_first=True)
    with pytest.raises(InputError, match=r"texts must be longer. They have 2"):
        offset_curves(two)
    with pytest.raises(InputError, match="q must lie between 0 and 1"):
        attention_distances(two).quantile(1.0)
