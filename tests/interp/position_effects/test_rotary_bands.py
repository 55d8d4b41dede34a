"""Scores by rotary frequency."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.position_effects import band_dimensions, band_frequencies, rotary_bands
from tests.interp.definitions import frequency
from tests.interp.kinds import KINDS, some_tokens

Kind = Callable[[str], HookedTransformer]
Make = Callable[..., HookedTransformer]

ROTARY = [
    name
    for name, fields in KINDS.items()
    if fields.get("positional_embedding_type") == "rotary"
    and fields.get("architecture") != "encoder-decoder"
]


@pytest.mark.parametrize("name", ROTARY)
def test_bands_sum_to_the_scores(kind: Kind, assert_close: Any, name: str) -> None:
    model = kind(name)
    tokens = some_tokens(4, 7)
    found = rotary_bands(model, tokens, batch_size=3)
    assert found.error < 1e-13
    assert found.n_sequences == 4
    assert_close(found.share.sum(-1), torch.ones(found.share.shape[:-1]).double())
    dim, d_head = model.cfg.rotary_dim, model.cfg.d_head
    assert dim is not None
    n_bands = dim // 2 + (dim < d_head)
    assert found.share.shape == (2, model.cfg.n_heads, n_bands)
    assert sorted(torch.cat(band_dimensions(model)).tolist()) == list(range(d_head))
    for layer in range(2):
        local = bool(model.blocks[layer].local)
        expected = [frequency(model.cfg, i, 7, local) for i in range(dim // 2)]
        expected += [0.0] * (dim < d_head)
        assert band_frequencies(model, layer, 7).tolist() == pytest.approx(expected, rel=1e-9)
        assert found.frequencies[layer].tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["neox", "gptj", "llama", "gemma2", "stablelm2", "gpt-oss"])
def test_each_band_is_its_formula(kind: Kind, name: str) -> None:
    """Spread, size and share from complex numbers, query by query."""
    model = kind(name)
    cfg = model.cfg
    tokens = some_tokens(3, 6)
    found = rotary_bands(model, tokens)
    _, cache = model.run_with_cache(tokens, names_filter=lambda n: "rot_" in n or "scores" in n)
    for layer in range(2):
        q, k = cache["rot_q", layer], cache["rot_k", layer]
        k = k.repeat_interleave(cfg.n_heads // k.shape[2], 2)
        visible = cache["attn_scores", layer][0, 0].isfinite()
        half = cfg.rotary_dim // 2
        for head in range(0, cfg.n_heads, 2):
            bands = []
            for i in range(half):
                a, b = (2 * i, 2 * i + 1) if cfg.rotary_adjacent_pairs else (i, i + half)
                planes = [torch.complex(x[:, :, head, a], x[:, :, head, b]) for x in (q, k)]
                product = planes[0][:, :, None] * planes[1][:, None].conj()
                bands.append(product.real / cfg.attn_scale)
            if cfg.rotary_dim < cfg.d_head:
                rest = (x[:, :, head, cfg.rotary_dim :] for x in (q, k))
                bands.append(torch.einsum("bqe,bke->bqk", *rest) / cfg.attn_scale)
            total = torch.stack(bands).sum(0)
            for i, band in enumerate(bands):
                own, with_all, whole, size, n = 0.0, 0.0, 0.0, 0.0, 0
                for row in range(3):
                    for query in range(1, 6):
                        at = row, query, visible[query]
                        x, y = band[at], total[at]
                        own += float(x.var(correction=0))
                        whole += float(y.var(correction=0))
                        with_all += float(((x - x.mean()) * (y - y.mean())).mean())
                        size += float(x.abs().mean())
                        n += 1
                place = layer, head, i
                assert float(found.spread[place]) == pytest.approx((own / n) ** 0.5, rel=1e-8)
                assert float(found.share[place]) == pytest.approx(with_all / whole, abs=1e-9)
                assert float(found.mean_abs[place]) == pytest.approx(size / n, rel=1e-8)


@pytest.mark.parametrize("name", ["neox", "gemma2"])
def test_offset_r2_is_least_squares(kind: Kind, name: str) -> None:
    """Of every text, query and key, with a constant for each query, queries counting alike."""
    model = kind(name)
    cfg, n, n_texts = model.cfg, 5, 2
    tokens = some_tokens(n_texts, n)
    found = rotary_bands(model, tokens).offset_r2
    _, cache = model.run_with_cache(tokens, names_filter=lambda x: "rot_" in x or "scores" in x)
    for layer in range(2):
        q, k = cache["rot_q", layer], cache["rot_k", layer]
        k = k.repeat_interleave(cfg.n_heads // k.shape[2], 2)
        visible = cache["attn_scores", layer][0, 0].isfinite()
        for band, dims in enumerate(band_dimensions(model)):
            x = torch.einsum("bqhe,bkhe->bhqk", q[..., dims], k[..., dims])[:, 1]
            rows, values = [], []
            for text in range(n_texts):
                for query, key in visible.nonzero().tolist():
                    row = torch.zeros(n_texts * n + n, dtype=torch.float64)
                    row[text * n + query] = row[n_texts * n + query - key] = 1
                    root = float(visible[query].sum()) ** 0.5
                    rows.append(row / root)
                    values.append(x[text, query, key] / root)
            design, y = torch.stack(rows), torch.stack(values)[:, None]
            left = []
            for columns in (design[:, : n_texts * n], design):
                fit = torch.linalg.lstsq(columns, y, driver="gelsd").solution
                left.append(float((columns @ fit - y).pow(2).sum()))
            expected = 1 - left[1] / left[0]
            assert float(found[layer, 1, band]) == pytest.approx(expected, abs=1e-9), (layer, band)


@pytest.mark.parametrize("name", ROTARY)
def test_curves_are_the_scores_of_the_mean_query_and_key(
    kind: Kind, assert_close: Any, name: str
) -> None:
    model = kind(name)
    n = 7
    found = rotary_bands(model, some_tokens(4, n))
    curves = found.curves(torch.arange(n)).sum(2)
    for layer in range(2):
        # A run in which every query is the mean query, and every key the mean key.
        means: dict[str, Tensor] = {}

        def turn_back(x: Tensor, hook: Any, means: dict[str, Tensor] = means) -> Tensor:
            # Unturned, averaged, turned again; turning is linear, so it may be undone by solving.
            rotation = _rotation(model, hook.name, n)
            basis = torch.eye(x.shape[-1], dtype=x.dtype).expand(1, n, -1, -1)
            matrix = rotation(basis)[0]  # [pos, dim, turned dim]
            plain = torch.linalg.solve(matrix.mT[None, :, None], x[..., None])[..., 0]
            mean = plain.mean((0, 1)).expand(1, n, -1, -1)
            return rotation(mean).expand_as(x)

        names = [f"blocks.{layer}.attn.hook_rot_{which}" for which in "qk"]
        with model.hooks(fwd_hooks=[(hook, turn_back) for hook in names]):
            _, cache = model.run_with_cache(some_tokens(4, n), names_filter=lambda x: "scores" in x)
        scores = cache["attn_scores", layer][0]
        cap = model.cfg.attn_scores_soft_cap
        if cap > 0:
            scores = cap * torch.atanh(scores.clamp(-cap, cap) / cap)
        for query in range(n):
            for key in range(query + 1):
                if bool(scores[0, query, key].isfinite()):
                    expected = scores[:, query, key]
                    assert_close(curves[layer, :, query - key], expected, f"{layer} {query} {key}")


def test_layers_with_a_base_of_their_own_are_not_multiplied(make_model: Make) -> None:
    """YaRN makes scores larger, but not those of local layers with their own base."""
    fields = {
        **KINDS["gemma3"],
        "rotary_scaling": {"kind": "yarn", "factor": 4.0, "original_n_ctx": 3},
    }
    model = make_model(**{**fields, "dtype": "float64"})
    tokens = torch.full((2, 5), 7)
    with model.hooks(fwd_hooks=[("hook_embed", lambda x, hook: torch.ones_like(x))]):
        found = rotary_bands(model, tokens)
        _, cache = model.run_with_cache(tokens, names_filter=lambda x: "scores" in x)
    assert [bool(block.local) for block in model.blocks] == [True, False]
    curve = found.curves(torch.arange(2)).sum(2)
    for layer in range(2):  # one token throughout, so each query and key is the mean one
        scores = cache["attn_scores", layer][0]
        assert (scores[:, 1, 1] - curve[layer, :, 0]).abs().max() < 1e-10, layer
        assert (scores[:, 1, 0] - curve[layer, :, 1]).abs().max() < 1e-10, layer


def _rotation(model: HookedTransformer, hook: str, n: int) -> Any:
    layer = int(hook.split(".")[1])
    positions = torch.arange(n)[None]
    return model.pos_embed.rotation(positions, n, torch.float64, bool(model.blocks[layer].local))


def test_with_one_content_offset_explains_everything(make_model: Make) -> None:
    """Rotary scores depend on the offset alone where content is the same everywhere."""
    model = make_model(dtype="float64", positional_embedding_type="rotary", rotary_dim=4)
    tokens = torch.full((3, 9), 5)
    found = rotary_bands(model, tokens)
    assert (found.offset_r2[0, :, :2] - 1).abs().max() < 1e-9
    assert bool((found.spread[0, :, 2] < 1e-12).all())  # what does not turn is the same for all
    curve = found.curves(torch.arange(9)).sum(2)
    _, cache = model.run_with_cache(tokens, names_filter="blocks.0.attn.hook_attn_scores")
    for offset in range(9):
        diagonal = cache["attn_scores", 0][0].diagonal(-offset, 1, 2)
        assert (diagonal - curve[0, :, offset, None]).abs().max() < 1e-12


def test_wavelengths(make_model: Make) -> None:
    model = make_model(positional_embedding_type="rotary", rotary_dim=4, rotary_base=100.0)
    found = rotary_bands(model, some_tokens(2, 5))
    expected = [2 * math.pi, 20 * math.pi, math.inf]
    assert found.wavelengths[0].tolist() == pytest.approx(expected)


def test_refusals(kind: Kind) -> None:
    with pytest.raises(InputError, match=r"rotary bands need rotary positions.*'standard'"):
        rotary_bands(kind("gpt2"), some_tokens())
    with pytest.raises(InputError, match=r"layer must lie in 0 … 1. Received 7"):
        rotary_bands(kind("llama"), some_tokens(), [7])
    with pytest.raises(InputError, match="two tokens or more"):
        rotary_bands(kind("llama"), some_tokens(2, 1))
