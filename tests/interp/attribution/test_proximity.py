from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.attribution.proximity import (
    StreamImportance,
    misfit,
    neuron_importance,
    proximity_hooks,
    stream_importance,
)
from tests.interp.kinds import everything, given_to, with_padding

Kind = Callable[[str], HookedTransformer]
AssertClose = Callable[..., None]

# Norms in front (LN, RMS, none), behind the sums and of what is added; attention beside the MLP and
# without one; grouped queries, sinks, experts, both ways.
NAMES = [
    "gpt2", "llama", "no-norm", "attn-only", "multi-query", "gptj", "stablelm2", "gpt-oss",
    "mixtral-post", "bert", "gemma2", "olmo2", "bloom", "classifier",
]  # fmt: skip


def _behind(model: Any, cache: Any, names: list[str], part: Tensor, at: tuple[int, int]) -> Tensor:
    """One part `[d_model]` behind these norms, biases left out."""
    for name in names:
        norm = model.get_submodule(name)
        if not hasattr(norm, "hook_scale"):
            continue
        if norm.centres:
            part = part - part.mean()
        part = part / cache[f"{name}.hook_scale"][at]
        part = part if norm.w is None else part * norm.w
    return part


def _bias_of(model: Any, names: list[str]) -> Any:
    biases = [getattr(model.get_submodule(name), "b", None) for name in names]
    return sum(b for b in biases if b is not None)


def _plainly(model: Any, cache: Any, layer: int, at: tuple[int, int]) -> list[dict[Any, Tensor]]:
    """The parts of each stream of one layer at one place, vectors by name; `sum` is the stream."""
    cfg, block, (row, pos) = model.cfg, model.blocks[layer], at
    name = f"blocks.{layer}"
    added = [f"{name}.ln1_post"] if cfg.norm_placement in ("sandwich", "output") else []
    post = cfg.norm_placement == "post"
    of_attention, of_mlp = ([f"{name}.ln1"], [f"{name}.ln2"]) if post else ([], [])
    both = cfg.parallel_attn_mlp and not cfg.attn_only
    pattern, v = cache["pattern", layer], cache["v", layer]
    first: dict[Any, Tensor] = {
        "residual": _behind(model, cache, of_attention, cache["resid_pre", layer][at], at)
    }
    for head in range(cfg.n_heads):
        of_head = v[row, :, head * v.shape[2] // cfg.n_heads]
        for source in range(pattern.shape[-1]):
            read = pattern[row, head, pos, source] * of_head[source]
            written = read @ block.attn.W_O[head]
            first[head, source] = _behind(model, cache, added + of_attention, written, at)
    first["bias"] = _behind(model, cache, added + of_attention, block.attn.b_O, at)
    first["bias"] = first["bias"] + _behind(
        model, cache, of_attention, _bias_of(model, added) + torch.zeros_like(first["bias"]), at
    )
    first["bias"] = first["bias"] + _bias_of(model, of_attention)
    if cfg.attn_only or both:
        first["sum"] = cache["resid_post", layer][at]
        if both:
            first["mlp"] = cache["mlp_out", layer][at]
        return [first]
    first["sum"] = cache["resid_mid", layer][at]
    second = {
        "residual": _behind(model, cache, of_mlp, cache["resid_mid", layer][at], at),
        "mlp": _behind(model, cache, of_mlp, cache["mlp_out", layer][at], at),
        "sum": cache["resid_post", layer][at],
    }
    second["bias"] = _bias_of(model, of_mlp) + torch.zeros_like(second["sum"])
    return [first, second]


def _shares(parts: dict[Any, Tensor]) -> dict[Any, float]:
    """Equations 2 and 3 of Ferrando & Voita 2024."""
    y = parts["sum"]
    assert float((sum(z for key, z in parts.items() if key != "sum") - y).abs().max()) < 1e-9
    near = {
        key: max(0.0, float(y.abs().sum() - (y - z).abs().sum()))
        for key, z in parts.items()
        if key != "sum"
    }
    return {key: value / sum(near.values()) for key, value in near.items()}


def _watched(model: HookedTransformer, **given: Tensor) -> Any:
    with torch.no_grad():
        return model.run_with_cache(**given, names_filter=proximity_hooks(model))[1]


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_every_share_restated_part_by_part(
    name: str, kind: Kind, assert_close: AssertClose
) -> None:
    model = kind(name)
    given = with_padding(given_to(model, 2, 4), [0, 1], left=False)
    found = stream_importance(_watched(model, **given))
    _, cache = model.run_with_cache(**given, names_filter=everything)
    streams = iter(found)
    for layer in range(model.cfg.n_layers):
        n_streams = len(_plainly(model, cache, layer, (0, 0)))
        for number in range(n_streams):
            stream = next(streams)
            after = f"{layer}_{'post' if number == n_streams - 1 else 'mid'}"
            assert (stream.label, stream.layer) == (after, layer)
            for row, n_real in ((0, 4), (1, 3)):
                for pos in range(n_real):
                    shares = _shares(_plainly(model, cache, layer, (row, pos))[number])
                    expected = {
                        key: torch.tensor(value, dtype=torch.float64)
                        for key, value in shares.items()
                    }
                    here: dict[Any, Tensor] = {
                        "residual": stream.residual[row, pos],
                        "bias": stream.bias[row, pos],
                    }
                    if stream.mlp is not None:
                        here["mlp"] = stream.mlp[row, pos]
                    if stream.heads is not None:
                        for head, of_head in enumerate(stream.heads[row, :, pos]):
                            here |= {(head, source): x for source, x in enumerate(of_head)}
                    assert here.keys() == expected.keys()
                    for key in expected:
                        assert_close(here[key], expected[key], f"{stream.label} {pos} {key}")
            assert float(stream.edit.max()) < 1e-10
            assert float(stream.left.max()) < 1e-10
            assert_close(stream.total()[0], torch.ones(4, dtype=torch.float64))
    assert not list(streams)


def _same(found: list[StreamImportance], expected: list[StreamImportance]) -> None:
    assert [each.label for each in found] == [each.label for each in expected]
    for a, b in zip(found, expected, strict=True):
        for name in ("residual", "heads", "mlp", "bias", "edit", "left"):
            x, y = getattr(a, name), getattr(b, name)
            assert (x is None) == (y is None)
            if x is not None:
                torch.testing.assert_close(x, y, rtol=0, atol=1e-12)


def test_neither_memory_nor_the_choice_of_layers_changes_a_number(kind: Kind) -> None:
    for name in ("gemma2", "bidirectional-tied"):  # windows; and nothing masked
        cache = _watched(kind(name), **given_to(kind(name), 3, 7))
        whole = stream_importance(cache)
        for max_bytes in (1, 5000, 40_000):
            _same(stream_importance(cache, max_bytes=max_bytes), whole)
        last = [each for each in whole if each.layer == 1]
        _same(stream_importance(cache, layers=[1]), last)


def test_a_row_is_what_it_is_alone(kind: Kind) -> None:
    model = kind("gpt2")
    tokens = given_to(model)["input"]
    together = stream_importance(_watched(model, input=tokens))
    for row in range(3):
        alone = stream_importance(_watched(model, input=tokens[row : row + 1]))
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a.residual[row], b.residual[0], rtol=0, atol=1e-12)
            if a.heads is not None and b.heads is not None:
                torch.testing.assert_close(a.heads[row], b.heads[0], rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "gptj", "solu-ln", "gemma2", "bert"])
def test_neurons_share_what_their_mlp_has(name: str, kind: Kind, assert_close: AssertClose) -> None:
    model = kind(name)
    given = given_to(model, 2, 3)
    _, cache = model.run_with_cache(**given, names_filter=everything)
    cfg = model.cfg
    for stream in stream_importance(cache):
        if stream.mlp is None:
            continue
        found = neuron_importance(cache, stream, max_bytes=3000)
        assert_close(found.sum(-1), stream.mlp)
        block = f"blocks.{stream.layer}"
        norms = {"sandwich": ["ln2_post"], "output": ["ln2_post"], "post": ["ln2"]}
        names = [f"{block}.{norm}" for norm in norms.get(cfg.norm_placement, [])]
        post = cache["post", stream.layer]
        y = cache["resid_post", stream.layer]
        for at in ((0, 0), (1, 2)):
            near = torch.zeros(cfg.width_mlp, dtype=torch.float64)
            for i, row in enumerate(model.blocks[stream.layer].mlp.W_out):
                z = _behind(model, cache, names, post[at][i] * row, at)
                near[i] = (y[at].abs().sum() - (y[at] - z).abs().sum()).clamp(min=0)
            assert float(near.sum()) > 0
            assert_close(found[at], near / near.sum() * stream.mlp[at])


def test_parts_that_all_lead_away_have_nothing(kind: Kind) -> None:
    """A stream of zeros is near to none of its parts."""
    model = kind("no-norm")
    with model.hooks(fwd_hooks=[("blocks.1.hook_resid_pre", lambda x, hook: x * 0.0)]):
        cache = _watched(model, **given_to(model))
    below = stream_importance(cache)[1]
    assert (below.label, float(below.total().abs().max())) == ("0_post", 0.0)


def test_what_is_asked_for_must_be_there(kind: Kind) -> None:
    translator, model = kind("t5"), kind("gpt2")
    assert misfit(model) is None
    assert "two sequences" in str(misfit(translator))
    given = given_to(translator)
    _, cache = translator.run_with_cache(**given)
    with pytest.raises(InputError, match="does not fit this model: it reads two sequences"):
        stream_importance(cache)
    cache = _watched(model, **given_to(model))
    with pytest.raises(InputError, match=r"layers must lie in 0 … 1. Received \[2\]"):
        stream_importance(cache, layers=[0, 2])
    with pytest.raises(InputError, match="max_bytes must be a whole number"):
        stream_importance(cache, max_bytes=0)
    mid, post, *_ = stream_importance(cache)
    with pytest.raises(InputError, match="0_mid has none"):
        neuron_importance(cache, mid)
    with pytest.raises(KeyError, match="hook_post"):
        neuron_importance(cache, post)
    experts = kind("gpt-oss")
    cache = _watched(experts, **given_to(experts))
    with pytest.raises(InputError, match="mixture of experts"):
        neuron_importance(cache, stream_importance(cache)[1])
    names = proximity_hooks(model)
    tokens = given_to(model)["input"]
    _, one = model.run_with_cache(tokens[:1], names_filter=names, remove_batch_dim=True)
    with pytest.raises(InputError, match="needs a cache with its batch axis"):
        stream_importance(one)
    _, some = model.run_with_cache(tokens, names_filter=names, pos_slice=slice(2))
    with pytest.raises(InputError, match="records of all positions"):
        stream_importance(some)
