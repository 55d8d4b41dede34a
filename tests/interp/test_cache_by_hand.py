"""A cache that is made of tensors, not by a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from interp import ActivationCache, HookedTransformer, InputError
from interp.display.activations import activations_html
from tests.interp.kinds import KINDS


def test_its_tensors_have_a_batch_axis(make_model: Callable[..., HookedTransformer]) -> None:
    embed = torch.arange(24.0).view(2, 3, 4)
    cache = ActivationCache({"hook_embed": embed}, make_model())
    assert cache.has_batch_dim
    assert torch.equal(cache.apply_slice_to_batch_dim(1)["embed"], embed[1])


def test_layers_from_the_end_are_those_of_their_own_stack(
    make_model: Callable[..., HookedTransformer],
) -> None:
    model = make_model(**KINDS["t5"])
    assert (model.cfg.n_encoder_layers, model.cfg.n_layers) == (2, 1)
    cache = ActivationCache({}, model)
    assert cache.full_name(("encoder.z", -1)) == "encoder.blocks.1.attn.hook_z"
    assert cache.full_name(("encoder.z", -2)) == "encoder.blocks.0.attn.hook_z"
    assert cache.full_name(("z", -1)) == "decoder.blocks.0.attn.hook_z"


def test_an_empty_one_says_so(make_model: Callable[..., HookedTransformer]) -> None:
    assert repr(ActivationCache({}, make_model())) == "ActivationCache: 0 tensors, 0 B on nowhere"


def test_what_has_no_batch_axis_still_has_none_elsewhere(
    make_model: Callable[..., HookedTransformer],
) -> None:
    cache = ActivationCache({"hook_embed": torch.ones(2, 3)}, make_model(), has_batch_dim=False)
    assert not cache.to(dtype=torch.float64).has_batch_dim


def test_numbers_stay_floating_point(make_model: Callable[..., HookedTransformer]) -> None:
    cache = ActivationCache({"hook_embed": torch.ones(1, 2, 3)}, make_model())
    with pytest.raises(InputError, match=r"floating-point.*int32"):
        cache.to(dtype=torch.int32)


def test_a_line_for_each_tensor(make_model: Callable[..., HookedTransformer]) -> None:
    tensors = {"hook_embed": torch.ones(1, 2, 3), "hook_pos_embed": torch.ones(2, 3).double()}
    head, *lines = repr(ActivationCache(tensors, make_model())).splitlines()
    largest = "(largest: hook_pos_embed: 48 B; hook_embed: 24 B)"
    assert head == f"ActivationCache: 2 tensors, 72 B on cpu {largest}"
    assert lines == ["  hook_embed: (1, 2, 3) float32", "  hook_pos_embed: (2, 3) float64"]


def test_the_stack_stands_before_the_name(make_model: Callable[..., HookedTransformer]) -> None:
    cache = ActivationCache({}, make_model(**KINDS["t5"]))
    assert cache.full_name("encoder.blocks.7.attn.hook_z") == "encoder.blocks.7.attn.hook_z"
    with pytest.raises(InputError, match=r"'encoder\.z'.*'decoder'"):
        cache.full_name(("encoder.z", 0, "decoder"))


def test_in_a_notebook_it_is_a_table_of_its_tensors(
    make_model: Callable[..., HookedTransformer],
) -> None:
    cache = ActivationCache({"hook_embed": torch.ones(1, 2, 3)}, make_model())
    assert cache._repr_html_() == activations_html(cache.cache_dict)
