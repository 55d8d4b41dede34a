"""Parts called by hand give what the same parts gave in a run of the whole model."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from interp import HookedTransformer
from interp.errors import InputError
from tests.covering import EXHAUSTIVE
from tests.interp.kinds import KINDS, everything, given_to

# Between them every positional encoding, norm placement, kind of MLP and of attention.
SOME = [
    "gpt2", "solu-ln", "grouped-standard", "no-norm", "gemma3", "full-ungrouped", "gpt-oss",
    "shortformer", "bloom", "bert", "classifier", "t5", "marian", "heads-only-translator",
]  # fmt: skip
CASES = list(KINDS) if EXHAUSTIVE else SOME
HOOKED = list(KINDS) if EXHAUSTIVE else SOME[1::2]

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]


def _runs(
    make_model: MakeModel, kind: str
) -> tuple[HookedTransformer, dict[str, Tensor], dict[str, Any]]:
    model = make_model(dtype="float64", **KINDS[kind])
    given = given_to(model)
    _, cache = model.run_with_cache(**given, names_filter=everything, return_cache_object=False)
    return model, cache, given


def _prefixes(model: HookedTransformer) -> list[str]:
    return ["encoder.", "decoder."] if model.cfg.architecture == "encoder-decoder" else [""]


def _behind(block: Any, norm: str, written: Tensor) -> Tensor:
    return getattr(block, f"{norm}_post")(written) if block.adds_normalised else written


def _before(block: Any, norm: str, stream: Tensor) -> Tensor:
    return getattr(block, norm)(stream) if block.reads_normalised else stream


@pytest.mark.parametrize("kind", CASES)
def test_parts_give_what_a_run_records(
    kind: str, make_model: MakeModel, assert_close: AssertClose
) -> None:
    model, run, given = _runs(make_model, kind)
    for prefix in _prefixes(model):
        stack = model.get_submodule(prefix.rstrip("."))
        tokens = given["decoder_input" if prefix == "decoder." else "input"]
        assert_close(model.embed(tokens), run[f"{prefix}hook_embed"])
        assert_positions(stack, tokens, run.get(f"{prefix}hook_pos_embed"), assert_close)
        for layer, block in enumerate(stack.blocks):
            here = f"{prefix}blocks.{layer}."
            stream = run[f"{here}hook_resid_pre"]
            heads_read = _before(block, "ln1", stream)
            q_read = heads_read
            if stack.pos_embed.adds_to_queries_and_keys:
                q_read = q_read + stack.pos_embed(tokens)
            written = block.attn(q_read, q_read, heads_read)
            assert_close(_behind(block, "ln1", written), run[f"{here}hook_attn_out"])
            if block.crosses:
                encoded = model.encode(given["input"]).residual
                read = _before(block, "ln2", run[f"{here}hook_cross_attn_in"])
                written = _behind(block, "ln2", block.cross_attn(read, encoded, encoded))
                assert_close(written, run[f"{here}hook_cross_attn_out"])
                with pytest.raises(InputError, match="decoder_input"):
                    block(stream)
            else:
                assert_close(block(stream), run[f"{here}hook_resid_post"])
            if not model.cfg.attn_only:
                read = _before(block, block.mlp_norm, run[f"{here}hook_mlp_in"])
                written = _behind(block, block.mlp_norm, block.mlp(read))
                assert_close(written, run[f"{here}hook_mlp_out"])
    last = model.main_stack.ln_final(run[f"{_prefixes(model)[-1]}blocks.{layer}.hook_resid_post"])
    if model.cfg.head == "mlm":
        last = model.mlm_head(last)
    elif model.cfg.classifies:
        last = model.pooler(last)
    assert_close(model.unembed(last), run["unembed.hook_out"])


def assert_positions(
    stack: Any, tokens: Tensor, recorded: Tensor | None, assert_close: AssertClose
) -> None:
    if recorded is not None:
        assert_close(stack.pos_embed(tokens), recorded)
        return
    with pytest.raises(InputError, match="Here they act inside attention"):
        stack.pos_embed(tokens)


@pytest.mark.parametrize("kind", HOOKED)
def test_hooks_on_a_block_see_and_change_what_they_do_in_a_run(
    kind: str, make_model: MakeModel, assert_close: AssertClose
) -> None:
    model, run, given = _runs(make_model, kind)
    prefix = _prefixes(model)[0]
    here = f"{prefix}blocks.0."
    names = [name for name in model.hook_dict if name.startswith(here)]
    seen: dict[str, Tensor] = {}

    def see(x: Tensor, hook: Any) -> None:
        seen[hook.name] = x.detach().clone()

    def edit(x: Tensor, hook: Any) -> Tensor:
        return x + 0.25 * torch.arange(x.shape[-1], dtype=x.dtype).cos()

    block = model.get_submodule(here.rstrip("."))
    stream = run[f"{here}hook_resid_pre"]
    with model.hooks([(name, see) for name in names]):
        block(stream)
    by_hand, seen = seen, {}
    with model.hooks([(name, see) for name in names]):
        model(**given)
    assert by_hand.keys() == seen.keys()
    for name, value in seen.items():
        assert_close(by_hand[name], value)
    # Editing hooks make other plans than those that only look; each kind of them once.
    for inside in ("attn.hook_pattern", "hook_attn_in", "hook_q_input", "mlp.hook_post"):
        name = here + inside
        if name in model.hook_dict:
            with model.hooks([(name, edit)]):
                _, edited = model.run_with_cache(**given, names_filter=f"{here}hook_resid_post")
                assert_close(block(stream), edited[f"{here}hook_resid_post"])


def test_an_mlp_reads_single_vectors_too(make_model: MakeModel) -> None:
    x = torch.randn(2, 5, 24)
    for kind in ("gpt2", "solu-ln", "gemma2"):
        mlp = make_model(**KINDS[kind]).blocks[0].mlp
        assert torch.allclose(mlp(x[0, 1]), mlp(x)[0, 1], atol=1e-6)
        assert torch.allclose(mlp(x[None]), mlp(x)[None], atol=1e-6)


def test_norms_by_hand_fire_their_hooks_and_let_them_edit(make_model: MakeModel) -> None:
    model = make_model()
    x = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0))
    scales: list[Tensor] = []
    with model.hooks([("ln_final.hook_scale", lambda scale, hook: scales.append(scale))]):
        model.ln_final(x)
    (scale,) = scales
    expected = ((x - x.mean(-1, keepdim=True)).pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(scale, expected, atol=1e-6)
    with model.hooks([("ln_final.hook_normalized", lambda y, hook: y * 0)]):
        assert torch.equal(model.ln_final(x), model.ln_final.b.expand_as(x))


def test_a_run_does_not_record_what_its_hooks_call(make_model: MakeModel) -> None:
    model = make_model()
    tokens = torch.arange(10).view(2, 5)
    _, alone = model.run_with_cache(tokens, names_filter=everything)

    def call(x: Tensor, hook: Any) -> None:
        block = model.blocks[0]
        for result in (block(x), block.mlp(x), block.attn(x, x, x), block.ln1(x)):
            assert result.shape == x.shape

    with model.hooks([("blocks.1.hook_resid_post", call)]):
        _, cache = model.run_with_cache(tokens, names_filter=everything)
    assert cache.keys() == alone.keys()
    assert all(torch.equal(cache[name], alone[name]) for name in alone)


def test_gradients_and_copies(make_model: MakeModel) -> None:
    model = make_model(**KINDS["gemma2"])
    x = torch.randn(2, 5, 24, requires_grad=True)
    model.blocks[0](x).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    with torch.no_grad():
        after = model.blocks[0](x)
        assert torch.equal(copy.deepcopy(model).blocks[0](x), after)
        assert torch.equal(pickle.loads(pickle.dumps(model)).blocks[0](x), after)
        double = model.double().blocks[0](x.double())
        assert torch.allclose(double.float(), after, atol=1e-5)


def test_a_copied_part_follows_the_positions_of_its_own_model(make_model: MakeModel) -> None:
    model = make_model(**KINDS["t5"])
    twin = copy.deepcopy(model)
    x = torch.randn(2, 5, 24)
    with torch.no_grad():
        before = model.encoder.blocks[0](x)
        twin.encoder.pos_embed.W_rel.add_(torch.randn(8, 4))
        assert torch.equal(model.encoder.blocks[0](x), before)
        assert not torch.allclose(twin.encoder.blocks[0](x), before)


def test_what_parts_cannot_read_is_refused(make_model: MakeModel) -> None:
    model = make_model(n_token_types=2)
    block, x = model.blocks[0], torch.randn(2, 5, 24)
    for part in (block, block.mlp, block.ln1, model.unembed, model.ln_final):
        for amiss in (x[..., :-1], x.long(), x.numpy(), [1.0]):
            with pytest.raises(InputError, match="Received"):
                part(amiss)
    for amiss in (x[0], x[..., :-1], np.zeros((2, 5, 24))):
        with pytest.raises(InputError, match="Received"):
            block.attn(amiss, amiss, amiss)
        with pytest.raises(InputError, match="Received"):
            block(amiss)
    with pytest.raises(InputError, match="same positions"):
        block.attn(x, x[:, :3], x[:, :3])
    for embed, n in ((model.embed, 31), (model.token_type_embed, 2)):
        for tokens in (torch.tensor([[n]]), torch.tensor([[-1]]), torch.ones(1, 2), [[1]]):
            with pytest.raises(InputError, match="Received"):
                embed(tokens)
    with pytest.raises(InputError, match="neither"):
        model.token_type_embed(None)
    for tokens in (torch.tensor([1, 2]), [[1]]):
        with pytest.raises(InputError, match="Received"):
            model.pos_embed(tokens)
    too_long = torch.zeros(1, model.cfg.n_ctx + 1, 24)
    with pytest.raises(InputError, match="n_ctx"):
        block(too_long)
    with pytest.raises(InputError, match="n_ctx"):
        model.pos_embed(too_long[..., 0].long())
    both = make_model(architecture="encoder-decoder")
    for stack in (both.encoder, both.decoder):
        with pytest.raises(InputError, match="encode"):
            stack(torch.tensor([[1, 2]]))
