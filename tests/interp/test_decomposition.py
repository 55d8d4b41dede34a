"""Parts of the residual stream sum to it, and parts of a logit to the logit less its constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import HookedTransformer
from tests.covering import examples

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]


@st.composite
def _fields(draw: st.DrawFn) -> dict[str, Any]:
    attn_only = draw(st.booleans())
    n_kv = draw(st.integers(1, 2))
    return {
        "n_layers": draw(st.integers(0, 3)),
        "d_model": draw(st.integers(3, 10)),
        "n_heads": n_kv * draw(st.integers(1, 2)),
        "n_key_value_heads": n_kv,
        "d_head": 2 * draw(st.integers(1, 3)),
        "d_mlp": None if attn_only else draw(st.integers(1, 7)),
        "act_fn": None if attn_only else draw(st.sampled_from(["gelu", "silu", "solu_ln"])),
        "attn_only": attn_only,
        "parallel_attn_mlp": not attn_only and draw(st.booleans()),
        "normalization_type": draw(st.sampled_from(["LN", "LNPre", "RMS", "RMSPre", None])),
        "positional_embedding_type": draw(st.sampled_from(["standard", "rotary", "none"])),
        "tie_word_embeddings": draw(st.booleans()),
    }


@st.composite
def _runs(draw: st.DrawFn) -> dict[str, Any]:
    """A model's fields, its tokens, and which layer, positions and batch form to look at."""
    n_pos = draw(st.integers(1, 5))
    fields = draw(_fields())
    return {
        "fields": fields,
        "n_pos": n_pos,
        "n_batch": draw(st.integers(1, 3)),
        "layer": draw(st.integers(0, fields["n_layers"])),
        "positions": draw(
            st.sampled_from([None, 0, -1, (0, 1), (None, None, 2), [n_pos - 1, 0], slice(0, 1)])
        ),
        "apply_ln": draw(st.booleans()),
        "with_batch": draw(st.booleans()),
        "padded": draw(st.booleans()),
    }


class _Seen:
    """A run and, from hooks alone, what decompositions of it must give."""

    def __init__(self, make_model: Make, run: dict[str, Any]) -> None:
        self.model = make_model(dtype="float64", **run["fields"])
        self.apply_ln, self.layer, self.positions = run["apply_ln"], run["layer"], run["positions"]
        n_batch = run["n_batch"] if run["with_batch"] else 1
        tokens = torch.arange(n_batch * run["n_pos"]).reshape(n_batch, -1) % 31
        mask = torch.ones_like(tokens)
        if run["padded"]:
            mask[0, : run["n_pos"] - 1] = 0
        with torch.no_grad():
            self.logits, self.cache = self.model.run_with_cache(
                tokens, remove_batch_dim=not run["with_batch"], attention_mask=mask
            )
        if not run["with_batch"]:
            self.logits = self.logits[0]

    def stream(self, layer: int, mlp_input: bool = False) -> Tensor:
        """What block `layer`, its MLP or the final norm reads."""
        n_layers = self.model.cfg.n_layers
        if mlp_input:
            return self.cache[f"blocks.{layer}.hook_resid_mid"]
        if layer < n_layers:
            return self.cache[f"blocks.{layer}.hook_resid_pre"]
        if n_layers:
            return self.cache[f"blocks.{n_layers - 1}.hook_resid_post"]
        embed = self.cache["hook_embed"]
        return embed + self.cache["hook_pos_embed"] if "hook_pos_embed" in self.cache else embed

    def expected(self, layer: int, mlp_input: bool = False) -> Tensor:
        """The stream, or the norm's output less its bias, at the positions asked for."""
        x = self.stream(layer, mlp_input)
        kind = self.model.cfg.normalization_type
        if self.apply_ln and kind is not None:
            name = f"blocks.{layer}.ln{1 + mlp_input}"
            name = "ln_final" if layer == self.model.cfg.n_layers else name
            weights = self.model.state_dict()
            x = self.cache[f"{name}.hook_normalized"]
            x = x if kind.endswith("Pre") else x * weights[f"{name}.w"]
        return self.at_positions(x)

    def at_positions(self, x: Tensor, axis: int = -2) -> Tensor:
        """Part of a tensor, as plain indexing gives it."""
        positions = self.positions
        if positions is None:
            return x
        index = slice(*positions) if isinstance(positions, tuple) else positions
        return x[(..., index) + (slice(None),) * (-1 - axis)]

    @property
    def kwargs(self) -> dict[str, Any]:
        return {
            "apply_ln": self.apply_ln,
            "pos_slice": self.positions,
            "return_labels": True,
        }


@settings(max_examples=examples(120), deadline=None, derandomize=True)
@given(run=_runs())
def test_parts_sum_to_the_stream(
    make_model: Make, assert_close: Check, run: dict[str, Any]
) -> None:
    seen = _Seen(make_model, run)
    cache, layer, cfg = seen.cache, seen.layer, seen.model.cfg
    whole = seen.expected(layer)

    parts, labels = cache.decompose_resid(layer, **seen.kwargs)
    embeds = ["embed", "pos_embed"] if "hook_pos_embed" in cache else ["embed"]
    writers = ["attn_out"] if cfg.attn_only else ["attn_out", "mlp_out"]
    written = [f"{i}_{w}" for i in range(layer) for w in writers]
    assert labels == embeds + written
    assert_close(parts.sum(0), whole, "decompose_resid")
    assert parts.shape == (len(labels), *whole.shape)

    parts, labels = cache.stack_head_results(layer, incl_remainder=True, **seen.kwargs)
    heads = [f"L{i}H{h}" for i in range(layer) for h in range(cfg.n_heads)]
    assert labels == [*heads, "remainder"]
    assert_close(parts.sum(0), whole, "stack_head_results")
    alone, labels = cache.stack_head_results(layer, **seen.kwargs)
    assert labels == heads
    assert_close(alone, parts[:-1], "stack_head_results")

    neurons = []
    if not cfg.attn_only:
        parts, labels = cache.stack_neuron_results(layer, incl_remainder=True, **seen.kwargs)
        neurons = [f"L{i}N{n}" for i in range(layer) for n in range(cfg.width_mlp)]
        assert labels == [*neurons, "remainder"]
        assert_close(parts.sum(0), whole, "stack_neuron_results")

    for expand in (True, False):
        parts, labels = cache.get_full_resid_decomposition(
            layer, expand_neurons=expand, **seen.kwargs
        )
        mlps = [] if cfg.attn_only else [f"{i}_mlp_out" for i in range(layer)]
        assert labels == [*heads, *(neurons if expand else mlps), *embeds, "bias"]
        assert parts.shape == (len(labels), *whole.shape)
        assert_close(parts.sum(0), whole, f"get_full_resid_decomposition {expand}")


@settings(max_examples=examples(40), deadline=None, derandomize=True)
@given(run=_runs())
def test_parts_sum_to_what_an_mlp_reads(
    make_model: Make, assert_close: Check, run: dict[str, Any]
) -> None:
    run["fields"] |= {"attn_only": False, "parallel_attn_mlp": False, "d_mlp": 5}
    run["fields"]["act_fn"] = run["fields"]["act_fn"] or "gelu"
    run["fields"]["n_layers"] = max(1, run["fields"]["n_layers"])
    run["layer"] = min(run["layer"], run["fields"]["n_layers"] - 1)
    seen = _Seen(make_model, run)
    cache, layer = seen.cache, seen.layer
    whole = seen.expected(layer, mlp_input=True)
    parts, labels = cache.decompose_resid(layer, mlp_input=True, **seen.kwargs)
    assert labels[-1] == f"{layer}_attn_out"
    assert_close(parts.sum(0), whole, "decompose_resid")
    for expand in (True, False):
        parts, labels = cache.get_full_resid_decomposition(
            layer, mlp_input=True, expand_neurons=expand, **seen.kwargs
        )
        assert_close(parts.sum(0), whole, "get_full_resid_decomposition")
        assert len(labels) == len(parts)
        assert f"L{layer}H0" in labels
        assert f"L{layer}N0" not in labels
    stack, labels = cache.accumulated_resid(layer, mlp_input=True, **seen.kwargs)
    assert labels[-2:] == [f"{layer}_pre", f"{layer}_mid"]
    assert_close(stack[-1], whole, "accumulated_resid")


@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(run=_runs(), incl_mid=st.booleans())
def test_accumulated_resid_is_the_stream_as_it_grows(
    make_model: Make, assert_close: Check, run: dict[str, Any], incl_mid: bool
) -> None:
    seen = _Seen(make_model, run)
    cache, layer, cfg = seen.cache, seen.layer, seen.model.cfg
    stack, labels = cache.accumulated_resid(layer, incl_mid=incl_mid, **seen.kwargs)
    places: list[tuple[int, bool]] = []
    for i in range(layer + 1):
        places.append((i, False))
        if incl_mid and i < layer and not (cfg.attn_only or cfg.parallel_attn_mlp):
            places.append((i, True))
    expected_labels = [
        "final_post" if i == cfg.n_layers else f"{i}_mid" if mid else f"{i}_pre"
        for i, mid in places
    ]
    assert labels == expected_labels
    assert_close(stack[-1], seen.expected(layer), "last")
    if not seen.apply_ln:
        for entry, place in zip(stack, places, strict=True):
            assert_close(entry, seen.at_positions(seen.stream(*place)), str(place))
    elif cfg.normalization_type is not None:
        # All are divided by the scale found at `layer`.
        name = "ln_final" if layer == cfg.n_layers else f"blocks.{layer}.ln1"
        scale = seen.at_positions(cache[f"{name}.hook_scale"])
        for entry, place in zip(stack, places, strict=True):
            x = seen.at_positions(seen.stream(*place))
            if cfg.normalization_type.startswith("LN"):
                x = x - x.mean(-1, keepdim=True)
            weight = seen.model.state_dict().get(f"{name}.w", torch.ones(()))
            assert_close(entry, x / scale * weight, str(place))


@settings(max_examples=examples(80), deadline=None, derandomize=True)
@given(run=_runs(), choice=st.integers(0, 4), seed=st.integers(0, 9))
def test_logit_attributions_sum_to_the_logit(
    make_model: Make, assert_close: Check, run: dict[str, Any], choice: int, seed: int
) -> None:
    seen = _Seen(make_model, run)
    model, cache = seen.model, seen.cache
    generator = torch.Generator().manual_seed(seed)
    axes = seen.at_positions(cache["hook_embed"][..., :1])[..., 0].shape  # of batch and position
    logits = seen.at_positions(seen.logits)
    full = torch.broadcast_to

    def draw(shape: tuple[int, ...]) -> Any:
        tokens = torch.randint(31, shape, generator=generator)
        return int(tokens) if choice == 0 else tokens

    keeps_pos = not isinstance(seen.positions, int)
    if choice in (0, 1) or not run["with_batch"]:
        shape: tuple[int, ...] = ()
    elif choice == 2 and keeps_pos:
        shape = (axes[0],)  # one per row
    else:
        shape = tuple(axes)  # one per position
    right, wrong = draw(shape), draw(shape)

    def per_position(tokens: Any) -> Tensor:
        tokens = torch.as_tensor(tokens)
        tokens = tokens[:, None] if len(shape) == 1 and len(axes) == 2 else tokens
        return full(tokens, axes)

    bias = model.b_U.detach()
    if model.cfg.normalization_type == "LN":
        bias = bias + model.ln_final.b.detach() @ model.W_U.detach()
    for wrong_or_none in (None, wrong):
        expected = (logits - bias).gather(-1, per_position(right)[..., None])[..., 0]
        if wrong_or_none is not None:
            taken = (logits - bias).gather(-1, per_position(wrong)[..., None])[..., 0]
            expected = expected - taken
        parts = cache.get_full_resid_decomposition(pos_slice=seen.positions)
        attributions = cache.logit_attrs(
            parts,
            right,
            wrong_or_none,
            pos_slice=seen.positions,
            has_batch_dim=run["with_batch"],
        )
        assert attributions.shape == (len(parts), *axes)
        assert_close(attributions.sum(0), expected, f"{right} {wrong_or_none}")
