"""Which entries a place means: hooks, axes, and positions of padded rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from interp import HookedTransformer, InputError
from interp.interventions import Patch, Place, Reference, Scale, Zero, hooks_for
from tests.interp.interventions.loop import recorded
from tests.interp.kinds import given_to, some_tokens, with_padding


@pytest.mark.parametrize(
    ("name", "place", "expected"),
    [
        ("gpt2", Place("z"), ["blocks.0.attn.hook_z", "blocks.1.attn.hook_z"]),
        ("gpt2", Place("mlp.hook_post", layers=-1), ["blocks.1.mlp.hook_post"]),
        ("gpt2", Place("hook_embed"), ["hook_embed"]),
        ("gpt2", Place("blocks.*.hook_*_out", layers=0),
         ["blocks.0.hook_attn_out", "blocks.0.hook_mlp_out"]),
        ("t5", Place("z"), ["decoder.blocks.0.attn.hook_z"]),
        ("t5", Place("encoder.attn.hook_z", layers=-1), ["encoder.blocks.1.attn.hook_z"]),
        ("t5", Place("encoder.*.hook_z", layers=1), ["encoder.blocks.1.attn.hook_z"]),
        ("t5", Place("cross_attn.hook_pattern", sources=0),
         ["decoder.blocks.0.cross_attn.hook_pattern"]),
        ("t5", Place("decoder.blocks.0.hook_resid_mid"), ["decoder.blocks.0.hook_resid_mid"]),
    ],
)  # fmt: skip
def test_hooks(
    kind: Callable[[str], HookedTransformer], name: str, place: Place, expected: list[str]
) -> None:
    assert sorted(place.hooks(kind(name))) == sorted(expected)


@pytest.mark.parametrize(
    ("place", "rule"),
    [
        (Place("zz"), "'zz'"),
        (Place("blocks.*.nothing"), "no hook matches the glob"),
        (Place("z", layers=2), "layers must lie in -2 … 1. Received 2"),
        (Place("blocks.*.attn.hook_z", layers=5), "layers must lie in -2 … 1"),
        (Place("hook_em*", layers=0), "In these layers it means none"),
        (Place("z", heads=4), "heads of blocks.0.attn.hook_z must lie in -4 … 3. Received 4"),
        (Place("resid_pre", heads=0), "heads cannot be chosen at blocks.0.hook_resid_pre"),
        (Place("z", sources=0), "sources cannot be chosen"),
        (Place("pattern", dims=0), "dims cannot be chosen"),
        (Place("hook_tokens"), "hook_tokens holds token ids"),
    ],
)
def test_places_that_are_not_there(
    kind: Callable[[str], HookedTransformer], place: Place, rule: str
) -> None:
    with pytest.raises(InputError, match=rule):
        hooks_for(kind("gpt2"), Patch(place, Reference(some_tokens())))


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Place(""), "hook must be a name"),
        (lambda: Place("z", heads="all"), "heads must be one or several whole numbers"),
        (lambda: Place("z", heads=[]), "heads must be one or several"),
        (lambda: Place("z", heads=[True]), "heads must be one or several"),
        (lambda: Place("z", positions=1.5), "positions must be one or several"),
    ],
)
def test_places_that_are_none(make: Callable[[], Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        make()


def test_whole_numbers_of_any_library() -> None:
    for two in (2, np.int64(2), np.array(2), torch.tensor(2), [np.int32(2)], [torch.tensor(2)]):
        place = Place("z", heads=two)  # type: ignore[arg-type]
        assert place.heads == (2,) and type(place.heads[0]) is int
        assert Place.from_json(place.to_json()) == place
    for not_whole in (np.bool_(True), np.float64(2.0), torch.tensor(2.0), torch.tensor([True])):
        with pytest.raises(InputError, match="heads must be one or several"):
            Place("z", heads=not_whole)  # type: ignore[arg-type]


def test_key_value_heads_are_those_of_the_hook(kind: Callable[[str], HookedTransformer]) -> None:
    model = kind("llama")
    assert Place("v", heads=1).hooks(model)
    with pytest.raises(InputError, match=r"must lie in -2 … 1. Received 2"):
        Place("v", heads=2).hooks(model)
    assert Place("z", heads=3).hooks(model)


@pytest.mark.parametrize(
    ("place", "rule"),
    [
        (Place("z", positions=5), "positions of blocks.0.attn.hook_z must lie in -5 … 4"),
        (Place("pattern", sources=-6), "sources of blocks.0.attn.hook_pattern must lie in -5"),
        (Place("mlp_out", dims=24), "dims of blocks.0.hook_mlp_out must lie in -24 … 23"),
    ],
)
def test_entries_beyond_the_run(
    kind: Callable[[str], HookedTransformer], place: Place, rule: str
) -> None:
    model = kind("gpt2")
    with pytest.raises(InputError, match=rule), torch.no_grad():
        model.run_with_hooks(some_tokens(), fwd_hooks=hooks_for(model, Scale(place, 2.0)))
    assert not any(p.is_watched for p in model.hook_points())


@pytest.mark.parametrize("left", [False, True])
def test_positions_count_real_tokens_and_padding_is_left_alone(
    kind: Callable[[str], HookedTransformer], left: bool
) -> None:
    model = kind("gpt2")
    given = with_padding(given_to(model), [0, 1, 2], left)
    hooks = hooks_for(model, Zero(Place("resid_mid", layers=0, positions=[0, -1])), **given)
    before = recorded(model, "blocks.0.hook_resid_mid", **given)
    with model.hooks(fwd_hooks=hooks):
        after = recorded(model, "blocks.0.hook_resid_mid", **given)
    for row, n_pad in enumerate([0, 1, 2]):
        n = 5 - n_pad
        zeroed = {p + (n_pad if left else 0) for p in (0, n - 1)}
        for pos in range(5):
            expected = torch.zeros(24) if pos in zeroed else before[row, pos]
            assert torch.equal(after[row, pos], expected.to(after)), (row, pos)


def test_hooks_bound_to_a_padded_input_refuse_another(
    kind: Callable[[str], HookedTransformer],
) -> None:
    model = kind("gpt2")
    given = with_padding(given_to(model), [0, 1, 2], left=True)
    hooks = hooks_for(model, Zero("z"), **given)
    with pytest.raises(InputError, match=r"bound to an input of .3, 5. tokens"):
        model.run_with_hooks(some_tokens(2, 5), fwd_hooks=hooks)
    with pytest.raises(InputError, match=r"position.* must lie in -3 … 2. Received 3"):
        model.run_with_hooks(
            **given, fwd_hooks=hooks_for(model, Zero(Place("z", positions=3)), **given)
        )
