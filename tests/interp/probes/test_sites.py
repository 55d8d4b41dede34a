"""Sites and features against what `run_with_cache` gives, over every kind of model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.probes.sites import HEADS, KINDS, WHOLE, Site, features_of, sites_of
from tests.interp.kinds import KINDS as MODELS
from tests.interp.kinds import some_tokens

Make = Callable[..., HookedTransformer]
ONE_STACK = {k: v for k, v in MODELS.items() if v.get("architecture") != "encoder-decoder"}


def by_hand(
    model: HookedTransformer, tokens: Tensor, sites: tuple[Site, ...], kept: Tensor
) -> dict[str, Tensor]:
    """Row by row and token by token."""
    samples: dict[str, list[Tensor]] = {site.label: [] for site in sites}
    for row, keep in zip(tokens, kept, strict=True):
        _, cache = model.run_with_cache(row[None])
        for place in keep.nonzero()[:, 0]:
            for site in sites:
                x = cache[site.hook][0, place]
                samples[site.label].append(x if site.head is None else x[site.head])
    return {label: torch.stack(found) for label, found in samples.items()}


@pytest.mark.parametrize("kind", ONE_STACK)
def test_features_are_the_caches(
    kind: str, make_model: Make, assert_close: Callable[..., None]
) -> None:
    model = make_model(**ONE_STACK[kind], dtype=torch.float64)
    tokens = some_tokens(5, 6)
    kept = torch.rand(5, 6, generator=torch.Generator().manual_seed(1)) < 0.6
    sites = sites_of(model, KINDS)
    found = features_of(model, tokens, sites, batch_size=2, sampled=kept)
    assert list(found.of) == [site.label for site in sites]
    assert len(found.of) == len(sites), "labels are distinct"
    for label, expected in by_hand(model, tokens, sites, kept).items():
        assert_close(found.of[label], expected, label)


def test_the_sites_of_a_model(make_model: Make) -> None:
    model = make_model(n_layers=1)
    assert [site.label for site in sites_of(model)] == [
        "embed", "pos_embed", "L0 resid_pre", "L0H0 q", "L0H1 q", "L0H2 q", "L0H3 q",
        "L0H0 k", "L0H1 k", "L0H2 k", "L0H3 k", "L0H0 z", "L0H1 z", "L0H2 z", "L0H3 z",
        "L0 attn_out", "L0 resid_mid", "L0 mlp_out", "L0 resid_post",
    ]  # fmt: skip
    assert sites_of(model, "z")[2] == Site("L0H2 z", "blocks.0.attn.hook_z", "z", 0, 2)
    assert sites_of(model, "resid_post") == sites_of(model, ["blocks.*.hook_resid_post"])
    others = sites_of(model, ("ln_final.hook_normalized", "blocks.0.mlp.hook_post"))
    assert [s.label for s in others] == ["L0 mlp.hook_post", "ln_final.hook_normalized"]


def test_grouped_keys_have_their_own_heads(make_model: Make) -> None:
    grouped = make_model(n_key_value_heads=2, positional_embedding_type="rotary")
    assert len(sites_of(grouped, "k")) == len(sites_of(grouped, "rot_k")) == 2 * 2
    assert len(sites_of(grouped, "q")) == len(sites_of(grouped, "z")) == 2 * 4
    ungrouped = make_model(n_key_value_heads=2, ungroup_grouped_query_attention=True)
    assert len(sites_of(ungrouped, "k")) == 2 * 4
    assert not {site.kind for site in sites_of(grouped, KINDS)} & {"pos_embed"}


def test_names_that_mean_no_vectors_are_refused(make_model: Make) -> None:
    model = make_model(positional_embedding_type="none")
    for bad in ("blocks.0.attn.hook_pattern", "hook_tokens", "blocks.*.ln1.hook_scale"):
        with pytest.raises(InputError, match="must have a vector for every token"):
            sites_of(model, bad)
    with pytest.raises(InputError, match="no hook is called"):
        sites_of(model, "residual")
    with pytest.raises(InputError, match="leave at least one"):
        sites_of(model, "pos_embed")  # a kind that this model does not have
    translator = make_model(architecture="encoder-decoder", decoder_start_token_id=0)
    with pytest.raises(InputError, match="one stack"):
        sites_of(translator)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bloom", "bert", "dynamic"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_give_what_they_give_alone(
    kind: str, side: str, make_model: Make, assert_close: Callable[..., None]
) -> None:
    model = make_model(**ONE_STACK[kind], dtype=torch.float64)
    tokens, mask = some_tokens(3, 6), torch.ones(3, 6, dtype=torch.long)
    for row, n in enumerate((0, 2, 3)):
        mask[row, :n] = 0
    if side == "right":
        mask = mask.flip(1)
    sites = sites_of(model, (*WHOLE, *HEADS))
    found = features_of(model, tokens, sites, attention_mask=mask, batch_size=2)
    alone = [
        features_of(model, row[keep.bool()][None], sites).of
        for row, keep in zip(tokens, mask, strict=True)
    ]
    for site in sites:
        expected = torch.cat([of[site.label] for of in alone])
        assert_close(found.of[site.label], expected, site.label)
    with pytest.raises(InputError, match="padding cannot be sampled"):
        features_of(model, tokens, sites, attention_mask=mask, sampled=torch.ones_like(mask) > 0)


def test_names_for_one_tensor_share_memory(make_model: Make) -> None:
    model = make_model(positional_embedding_type="rotary")
    found = features_of(model, some_tokens(), sites_of(model))
    assert found.same == {"L0 resid_pre": "embed", "L1 resid_pre": "L0 resid_post"}
    assert found.of["L1 resid_pre"] is found.of["L0 resid_post"]
    assert set(found.distinct) | set(found.same) == set(found.of)
    learned = features_of(make_model(), some_tokens(), sites_of(make_model()))
    assert "L0 resid_pre" not in learned.same, "positions were added"


def test_hooks_act_and_are_gone(make_model: Make) -> None:
    model = make_model()
    sites, tokens = sites_of(model, ("resid_pre", "resid_post")), some_tokens()
    before = features_of(model, tokens, sites).of["L0 resid_post"].clone()

    def zero(x: Tensor, hook: Any) -> Tensor:
        return torch.zeros_like(x)

    edited = features_of(model, tokens, sites, fwd_hooks=[("blocks.1.hook_resid_pre", zero)])
    assert not edited.of["L1 resid_pre"].any()
    assert torch.equal(edited.of["L0 resid_post"], before), "the edit comes after it"
    assert edited.same == {}, "they are two tensors now"
    assert model.watched_hooks() == (set(), set())


def test_nothing_is_run_after_the_last_site(make_model: Make) -> None:
    model = make_model(n_layers=3)
    ran: list[str] = []
    for name in ("blocks.1", "blocks.2", "unembed"):
        module = model.get_submodule(name)
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    features_of(model, some_tokens(), sites_of(model, "blocks.1.hook_resid_pre"))
    assert ran == ["blocks.1"]  # which the hook is in


def test_more_than_the_limit_is_refused_before_it_is_kept(make_model: Make) -> None:
    model = make_model()
    tokens, sites = some_tokens(4, 5), sites_of(model, ("resid_post", "q"))
    n_bytes = 4 * 5 * (2 * 24 + 2 * 4 * 6) * 4
    features_of(model, tokens, sites, max_bytes=n_bytes)
    with pytest.raises(InputError, match="more than max_bytes"):
        features_of(model, tokens, sites, max_bytes=n_bytes - 1)
    features_of(model, tokens, sites, max_bytes=n_bytes // 2, dtype=torch.bfloat16)
    with pytest.raises(InputError, match="more than max_bytes"):
        features_of(model, tokens, sites, max_bytes=n_bytes, dtype=torch.float64)


def test_bad_input(make_model: Make) -> None:
    model = make_model()
    sites, tokens = sites_of(model, "resid_post"), some_tokens()
    for arguments, rule in [
        ({"sites": []}, "at least one site"),
        ({"tokens": tokens[0]}, "tokens must be"),
        ({"batch_size": 0}, "batch_size"),
        ({"sampled": torch.zeros_like(tokens, dtype=torch.bool)}, "at least one token"),
        ({"sampled": torch.ones(2, 2, dtype=torch.bool)}, "sampled must have the shape"),
        ({"dtype": torch.int64}, "dtype"),
    ]:
        with pytest.raises(InputError, match=rule):
            features_of(model, **{"tokens": tokens, "sites": sites, **arguments})
