"""Parts of the residual stream sum to it, and parts of a logit to the logit less its constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp import ActivationCache, HookedTransformer, InputError
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
        "act_fn": draw(st.sampled_from(["gelu", "silu", "solu_ln"])),
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


# --- by example ----------------------------------------------------------------------------------


TOKENS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3], [0, 0, 7, 8, 2]])


@pytest.fixture(scope="module")
def model(make_model: Make) -> HookedTransformer:
    return make_model(dtype="float64")


@pytest.fixture
def cache(model: HookedTransformer) -> ActivationCache:
    with torch.no_grad():
        return model.run_with_cache(TOKENS)[1]


def test_rows_of_logit_attributions(
    model: HookedTransformer, cache: ActivationCache, assert_close: Check
) -> None:
    stack = cache.decompose_resid()
    whole = cache.logit_attrs(stack, torch.tensor([1, 2, 3]))
    for rows in ((0, 2), [2, 0], slice(1, None)):
        index = slice(*rows) if isinstance(rows, tuple) else rows
        tokens = torch.tensor([1, 2, 3])[index]
        assert_close(cache.logit_attrs(stack, tokens, batch_slice=rows), whole[:, index])
    assert_close(cache.logit_attrs(stack, 2, batch_slice=1), whole[:, 1])
    assert_close(cache.logit_attrs(stack[:, 1], 2, batch_slice=1, has_batch_dim=False), whole[:, 1])


def test_tokens_of_both_kinds_must_match(cache: ActivationCache) -> None:
    with pytest.raises(InputError, match="same shape"):
        cache.logit_attrs(cache.decompose_resid(), torch.tensor([1, 2, 3]), 4)


def test_several_tokens_need_as_many_rows(cache: ActivationCache) -> None:
    """`[pos]` is not `[batch]`: five positions for three rows must not pass for either."""
    with pytest.raises((InputError, RuntimeError)):
        cache.logit_attrs(cache.decompose_resid(), torch.tensor([1, 2, 3, 4, 5]))


@pytest.mark.parametrize("mode", ["all", "attn", "mlp"])
@pytest.mark.parametrize("incl_embeds", [True, False])
def test_modes(cache: ActivationCache, mode: Any, incl_embeds: bool, assert_close: Check) -> None:
    stack, labels = cache.decompose_resid(mode=mode, incl_embeds=incl_embeds, return_labels=True)
    wanted = (["embed", "pos_embed"] if incl_embeds else []) + [
        f"{i}_{w}_out" for i in range(2) for w in ("attn", "mlp") if mode in ("all", w)
    ]
    assert labels == wanted
    for part, label in zip(stack, labels, strict=True):
        name = f"hook_{label}" if "embed" in label else f"blocks.{label[0]}.hook_{label[2:]}"
        assert_close(part, cache[name].expand_as(part), label)


def test_layers_by_default_and_by_minus_one(cache: ActivationCache) -> None:
    for method in (
        cache.decompose_resid,
        cache.accumulated_resid,
        cache.get_full_resid_decomposition,
        cache.stack_head_results,
        cache.stack_neuron_results,
    ):
        assert torch.equal(method(None), method(2))  # type: ignore[operator]
        assert torch.equal(method(-1), method(2))  # type: ignore[operator]
        assert torch.equal(method(), method(2))  # type: ignore[operator]
        for bad in (3, -2):
            with pytest.raises(InputError, match="layer must lie in 0 … 2"):
                method(bad)  # type: ignore[operator]


def test_empty_stacks_have_the_right_shape(cache: ActivationCache) -> None:
    for stack in (
        cache.stack_head_results(0),
        cache.stack_neuron_results(0),
        cache.decompose_resid(0, incl_embeds=False),
    ):
        assert isinstance(stack, Tensor)
        assert stack.shape == (0, 3, 5, 24)
    stack = cache.stack_head_results(0, pos_slice=1, apply_ln=True)
    assert isinstance(stack, Tensor)
    assert stack.shape == (0, 3, 24)


def test_what_cannot_be_decomposed(make_model: Make, cache: ActivationCache) -> None:
    with pytest.raises(InputError, match="mode"):
        cache.decompose_resid(mode="neurons")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="resid_mid"):
        cache.decompose_resid(2, mlp_input=True)
    for fields in ({"attn_only": True}, {"parallel_attn_mlp": True}):
        _, other = make_model(**fields).run_with_cache(TOKENS)
        for method in (
            other.decompose_resid,
            other.accumulated_resid,
            other.get_full_resid_decomposition,
        ):
            with pytest.raises(InputError, match="resid_mid"):
                method(1, mlp_input=True)
    _, other = make_model(attn_only=True).run_with_cache(TOKENS)
    with pytest.raises(InputError, match="no neurons"):
        other.stack_neuron_results()
    with pytest.raises(KeyError, match="names_filter"):
        ActivationCache({}, cache.model).decompose_resid()


@pytest.mark.parametrize(
    ("neurons", "index"),
    [(3, [3]), ((2, 5), [2, 3, 4]), ([7, 0], [7, 0]), (None, list(range(20)))],
)
def test_neurons(
    model: HookedTransformer,
    cache: ActivationCache,
    neurons: Any,
    index: list[int],
    assert_close: Check,
) -> None:
    W_out = model.W_out[1].detach()
    expected = torch.einsum("bpn,nd->bpnd", cache["post", 1][..., index], W_out[index])
    assert_close(cache.get_neuron_results(1, neurons), expected)
    assert_close(cache.get_neuron_results(1, neurons, pos_slice=2), expected[:, 2])
    stack, labels = cache.stack_neuron_results(neuron_slice=neurons, return_labels=True)
    assert labels == [f"L{i}N{n}" for i in range(2) for n in index]
    assert_close(stack[len(index) :], expected.permute(2, 0, 1, 3))
    rest = cache.stack_neuron_results(neuron_slice=neurons, incl_remainder=True)
    assert isinstance(rest, Tensor)
    assert_close(rest.sum(0), cache["resid_post", 1])


def test_heads_from_results_or_from_z(
    model: HookedTransformer, cache: ActivationCache, assert_close: Check
) -> None:
    with torch.no_grad():
        _, with_results = model.run_with_cache(TOKENS, names_filter=["*hook_result", "hook_embed"])
    for positions in (None, 1, (0, 2)):
        one = cache.stack_head_results(pos_slice=positions)
        other = with_results.stack_head_results(pos_slice=positions)
        assert_close(one, other)
    assert_close(one[5], with_results["result", 1][:, :2, 1])  # type: ignore[index]


def test_apply_ln_to_stack_freezes_the_scale(
    model: HookedTransformer, cache: ActivationCache, assert_close: Check
) -> None:
    stack = torch.randn(4, 3, 5, 24, dtype=torch.float64)
    found = cache.apply_ln_to_stack(stack, 1)
    centred = stack - stack.mean(-1, keepdim=True)
    expected = centred / cache["scale", 1, "ln1"] * model.blocks[1].ln1.w.detach()
    assert_close(found, expected)
    assert_close(
        cache.apply_ln_to_stack(stack[:, :, 2], 1, pos_slice=2, batch_slice=(0, 2)),
        expected[:, :2, 2],
    )
    assert_close(
        cache.apply_ln_to_stack(stack[:, 1], 1, batch_slice=1, has_batch_dim=False), expected[:, 1]
    )
    assert_close(cache.apply_ln_to_stack(stack, 1, batch_slice=1), expected[:, 1])


@pytest.mark.parametrize("flag", ["use_split_qkv_input", "use_attn_in"])
def test_scales_recorded_head_by_head_are_not_misread(make_model: Make, flag: str) -> None:
    model = make_model(dtype="float64", **{flag: True})
    _, cache = model.run_with_cache(TOKENS, return_type="loss", incl_bwd=True)
    for positions in (None, 0):
        with pytest.raises(InputError, match="head by head"):
            cache.decompose_resid(1, apply_ln=True, pos_slice=positions)
    stack = cache.decompose_resid(apply_ln=True)  # ln_final has no heads
    assert isinstance(stack, Tensor)


def test_decompositions_of_one_position_run(model: HookedTransformer, assert_close: Check) -> None:
    """A cache recorded with pos_slice decomposes what it holds."""
    with torch.no_grad():
        _, whole = model.run_with_cache(TOKENS)
        _, last = model.run_with_cache(TOKENS, pos_slice=(-1, None))
        _, only = model.run_with_cache(TOKENS, pos_slice=-1)
    expected = whole.get_full_resid_decomposition(apply_ln=True, pos_slice=(-1, None))
    assert_close(last.get_full_resid_decomposition(apply_ln=True), expected)
    assert_close(only.get_full_resid_decomposition(apply_ln=True), expected)
    assert_close(only.stack_activation("resid_pre", 1)[0], whole["resid_pre", 0][:, -1:])
