from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.weight_circuits.directions import (
    Directions,
    block_directions,
    stacks_of,
    token_directions,
    unembedding_directions,
    weight_directions,
)
from tests.interp.kinds import KINDS

Make = Callable[..., HookedTransformer]
Check = Callable[..., None]


def _behind(norm: Any, x: Tensor) -> Tensor:
    """A row behind a norm whose scale is one and whose bias is zero."""
    if not hasattr(norm, "hook_scale"):
        return x
    x = x - x.mean() if norm.centres else x
    return x if norm.w is None else x * norm.w


def _read_in_front(norm: Any, column: Tensor) -> Tensor:
    """What a unit of each dimension in front of the norm adds to what the column reads behind."""
    return _units_behind(norm, len(column), column.dtype) @ column


@lru_cache(maxsize=2)  # the columns of one matrix come one after the other
def _units_behind(norm: Any, n: int, dtype: torch.dtype) -> Tensor:
    return torch.stack([_behind(norm, row) for row in torch.eye(n, dtype=dtype)])


def _in_stream(model: HookedTransformer, x: Tensor) -> Tensor:
    cfg = model.cfg
    seen_centred = cfg.norm_placement in ("pre", "sandwich") and cfg.final_norm and cfg.norm_centres
    return x - x.mean() if seen_centred else x


def _expected(model: HookedTransformer) -> Iterator[tuple[str, int | None, list[Tensor]]]:
    """Label, layer and directions, one by one; a head's as its dense circuit W_V W_O."""
    cfg = model.cfg
    tokens = [row * cfg.embed_scale for row in model.W_E]
    if cfg.post_embedding_ln:
        tokens = [_behind(model.main_stack.ln_embed, row) for row in tokens]
    yield "W_E", None, [_in_stream(model, row) for row in tokens]
    last = {"lm": getattr(model.main_stack, "ln_final", None)}.get(cfg.head)
    if cfg.head == "mlm":
        last = model.mlm_head.ln
    yield "W_U", None, [_read_in_front(last, c * cfg.logit_scale) for c in model.W_U.T]
    both = cfg.architecture == "encoder-decoder"
    stacks = [("encoder ", model.encoder), ("decoder ", model.decoder)] if both else [("", model)]
    for prefix, stack in stacks:
        for layer, block in enumerate(stack.blocks):

            def written(name: str, row: Tensor, block: Any = block) -> Tensor:
                if cfg.norm_placement in ("sandwich", "output"):
                    row = _behind(getattr(block, f"{name}_post"), row)
                if cfg.norm_placement == "post":
                    row = _behind(getattr(block, name), row)
                return _in_stream(model, row)

            reads = cfg.norm_placement in ("pre", "sandwich")
            attentions = [("OV", block.attn, "ln1", block.ln1 if reads else None)]
            if block.crosses:
                final = model.encoder.ln_final if cfg.final_norm else None
                attentions.append(("cross OV", block.cross_attn, "ln2", final))
            for label, attn, name, front in attentions:
                circuits = []
                for W_V, W_O in zip(attn.W_V, attn.W_O, strict=True):
                    V = torch.stack([_read_in_front(front, column) for column in W_V.T], 1)
                    circuits.append(V @ torch.stack([written(name, row) for row in W_O]))
                yield prefix + label, layer, circuits
            if cfg.attn_only:
                continue
            norm, mlp = block.mlp_norm, block.mlp
            front = getattr(block, norm) if reads else None
            gated = cfg.gated_mlp or cfg.num_experts is not None
            for kind in ["W_gate", "W_in"] if gated else ["W_in"]:
                weight = getattr(mlp, kind)
                columns = weight.mT.reshape(-1, cfg.d_model)
                yield prefix + kind, layer, [_read_in_front(front, c) for c in columns]
            W_out = mlp.W_out.reshape(-1, cfg.d_model)
            if cfg.act_fn == "solu_ln":
                W_out = torch.stack([_read_in_front(mlp.ln, c) for c in W_out.T], 1)
            yield prefix + "W_out", layer, [written(norm, row) for row in W_out]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_kind(kind: str, make_model: Make, assert_close: Check) -> None:
    """Each direction by itself, through norms that divide by one."""
    model = make_model(**{**KINDS[kind], "dtype": "float64"})
    found = list(weight_directions(model))
    for each, (label, layer, expected) in zip(found, _expected(model), strict=True):
        assert (each.label, each.layer) == (label, layer)
        what = f"{label} {layer}"
        assert not each.vectors.requires_grad
        if each.of_heads:
            assert each.per_group is not None
            frames = each.vectors.view(len(expected), each.per_group, -1)
            for frame, circuit in zip(frames, expected, strict=True):
                assert_close(frame.T @ frame, circuit.T @ circuit, what)
                values = torch.linalg.svdvals(circuit)[: each.per_group]
                assert_close(frame @ frame.T, values.square().diag(), what)
        else:
            assert_close(each.vectors, torch.stack(expected), what)
        if each.centred:
            assert_close(each.vectors.mean(1), torch.zeros(len(each)).double(), what)
            assert each.width == model.cfg.d_model - 1
        assert torch.linalg.matrix_rank(each.vectors) <= each.largest_rank
        assert each.reads == (each.kind in ("W_U", "W_in", "W_gate"))


@pytest.mark.parametrize("kind", ["gpt2", "llama", "solu-ln", "parallel-grouped-bare", "t5"])
def test_as_with_norms_folded(kind: str, make_model: Make, assert_close: Check) -> None:
    model = make_model(**{**KINDS[kind], "dtype": "float64"})
    folded = model.process_weights(center_unembed=False, fold_value_biases=False)
    for raw, bare in zip(
        weight_directions(model), weight_directions(folded, fold_norms=False), strict=True
    ):
        assert raw.label == bare.label
        if not raw.of_heads:  # of which only the sum over a head is one thing
            assert_close(raw.vectors, bare.vectors, raw.label)
        assert_close(raw.vectors.T @ raw.vectors, bare.vectors.T @ bare.vectors, raw.label)
        assert not bare.centred


def test_bare_weights(make_model: Make) -> None:
    model = make_model()
    found = {(each.kind, each.layer): each for each in weight_directions(model, fold_norms=False)}
    assert torch.equal(found["W_E", None].vectors, model.W_E)
    assert torch.equal(found["W_U", None].vectors, model.W_U.T)
    assert torch.equal(found["W_in", 1].vectors, model.W_in[1].T)
    assert torch.equal(found["W_out", 1].vectors, model.W_out[1])
    assert not any(each.centred for each in found.values())


@torch.no_grad()
def test_a_head_has_no_basis_of_its_own(make_model: Make, assert_close: Check) -> None:
    """W_V W_O stays as it is when both are turned against each other; so do the directions."""
    model = make_model(dtype="float64")
    (before, *_) = block_directions(model, 1)
    attn = model.blocks[1].attn
    turn = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    attn.W_V.copy_(attn.W_V @ turn)
    attn.W_O.copy_(torch.linalg.inv(turn) @ attn.W_O)
    (after, *_) = block_directions(model, 1)
    sign = (before.vectors * after.vectors).sum(-1, keepdim=True).sign()
    assert_close(after.vectors * sign, before.vectors)


def test_names(make_model: Make) -> None:
    neurons = next(d for d in block_directions(make_model(), 1) if d.kind == "W_out")
    assert neurons.name(7) == "L1N7"
    heads = next(block_directions(make_model(), 1))
    assert heads.name(13) == "L1H2.1"
    experts = make_model(**KINDS["gpt-oss"])
    *_, written = block_directions(experts, 0)
    assert (written.name(45), len(written)) == ("L0E2N5", 80)
    assert token_directions(experts).name(3) == "3"


def test_some_tokens(make_model: Make) -> None:
    every = token_directions(make_model())
    kept = torch.ones(31, dtype=torch.bool)
    kept[[0, 5, 30]] = False
    some = every.only(kept)
    assert torch.equal(some.vectors, every.vectors[kept])
    assert (some.name(0), some.name(4), some.label) == ("1", "6", "W_E distinct")
    assert some.places_of(torch.tensor([0, 1, 6, 30, 4])).tolist() == [0, 4, 3]
    assert every.places_of(torch.tensor([0, 30, 31])).tolist() == [0, 30]
    again = some.only(torch.arange(28) > 20)
    assert again.name(0) == some.name(21)
    less = some.without_mean()
    assert (less.label, less.form) == ("W_E distinct less mean", "distinct less mean")
    assert less.vectors.mean(0).abs().max() < 1e-6
    assert (every.largest_rank, every.without_mean().largest_rank) == (23, 23)
    few = Directions("W_E", torch.eye(3, 5)).without_mean()
    assert few.largest_rank == 2


def test_norm_one() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    found = Directions("W_E", vectors).of_norm_one().vectors
    assert torch.equal(found, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@torch.no_grad()
def test_heads_that_write_to_fewer_dimensions(
    make_model: Make, assert_close: Check, dtype: str
) -> None:
    """Of rank one, two or none: as many directions, and zeros, so that norms of one are safe."""
    model = make_model(dtype=dtype)
    attn = model.blocks[0].attn
    attn.W_V[1] = attn.W_V[1, :, :1] * attn.W_V[0, 0]
    attn.W_O[2] = attn.W_O[2, :, :2] @ attn.W_O[0, :2]
    attn.W_O[3] = 0.0
    (heads, *_) = block_directions(model, 0)
    frames = heads.of_norm_one().vectors.view(4, 6, -1)
    ranks = torch.tensor([6, 1, 2, 0])[:, None] > torch.arange(6)
    assert_close(frames @ frames.mT, torch.diag_embed(ranks.to(frames)))


@torch.no_grad()
def test_weights_of_heads_that_are_not_finite(make_model: Make) -> None:
    for number in (torch.nan, torch.inf):
        model = make_model()
        model.blocks[1].attn.W_V[1, 2, 3] = number
        with pytest.raises(InputError, match=r"heads must be finite numbers.*in layer 1"):
            list(weight_directions(model))


def test_bad_input(make_model: Make) -> None:
    model = make_model()
    with pytest.raises(InputError, match=r"layer must lie in 0 … 1. Received 2"):
        list(block_directions(model, 2))
    with pytest.raises(InputError, match="no stack 'encoder'"):
        list(block_directions(model, 0, "encoder"))
    with pytest.raises(InputError, match="some tokens are to be left"):
        unembedding_directions(model).only(torch.zeros(31, dtype=torch.bool))
    (heads, *_) = block_directions(model, 0)
    with pytest.raises(InputError, match="some tokens are to be left"):
        heads.only(torch.ones(24, dtype=torch.bool))
    assert [name for name, _ in stacks_of(make_model(**KINDS["t5"]))] == ["encoder", "decoder"]


def test_half_precision_is_read_as_fp32(make_model: Make) -> None:
    for each in weight_directions(make_model(dtype="bfloat16")):
        assert each.vectors.dtype == torch.float32
