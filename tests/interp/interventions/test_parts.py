"""JSON of interventions: an exact round trip, and refusals that name the fault."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import InputError
from interp.interventions import (
    FreezeNorms,
    FreezePatterns,
    FreezePositions,
    Intervention,
    Interventions,
    KnockOutAttention,
    KnockOutEdge,
    KnockOutHead,
    Mean,
    Noise,
    Patch,
    Place,
    Reference,
    RemoveSubspace,
    Resample,
    Scale,
    ShiftPositions,
    ShufflePositions,
    Steer,
    SwapPositions,
    SwapSubspace,
    Zero,
    ZeroPositions,
)

REFERENCE = Reference([[1, 2, 3], [4, 5, 6]])
ACTIVATIONS = Reference(activations={"blocks.0.attn.hook_z": torch.randn(2, 3, 4, 6).bfloat16()})
EVERY_KIND = [
    Zero("z"),
    Zero(Place("blocks.*.attn.hook_z", layers=[0, -1], heads=1, positions=range(2))),
    Scale(Place("mlp_out", layers=0, dims=[3]), 0.1),
    Mean(Place("z", heads=(0, 2)), REFERENCE, pooled=True),
    Mean("z", ACTIVATIONS),
    Patch(Place("pattern", sources=[0]), REFERENCE),
    Resample("resid_pre", REFERENCE, seed=7),
    Noise("hook_embed", 3.0, relative_to=REFERENCE, seed=2),
    Noise("hook_embed", 1e-3),
    Steer(Place("resid_post", layers=1), torch.randn(24, dtype=torch.float64), -0.5, relative=True),
    SwapSubspace("resid_post", torch.randn(2, 24), REFERENCE),
    FreezePatterns(layers=[0], heads=[1]),
    FreezeNorms(norms=["ln1", "ln_final"], reference=REFERENCE),
    KnockOutHead("L0H3", positions=-1),
    KnockOutHead("L0H3", by="mean", reference=REFERENCE, pooled=True),
    KnockOutEdge("L0H1->L1H0.k", by="resample", reference=REFERENCE, seed=3),
    KnockOutAttention(sources=[0], destinations=-1, heads=1, renormalise=False),
    ShiftPositions(-2, positions=[1, -1], layers=0, as_key=False),
    ShufflePositions(seed=3),
    FreezePositions(4, positions=range(3)),
    SwapPositions([0, 2], [1, -1], as_query=False),
    ZeroPositions(positions=0, layers=[0, -1]),
    RemoveSubspace("resid_post", torch.randn(2, 24)),
    RemoveSubspace(Place("z", heads=1), torch.eye(6)[:1], mean=torch.randn(6)),
]  # fmt: skip


@pytest.mark.parametrize("item", EVERY_KIND, ids=lambda item: item.kind)
def test_json_gives_the_same_again(item: Intervention) -> None:
    text = item.to_json()
    again = type(item).from_json(text)
    assert again == item and again.to_json() == text and hash(again) == hash(item)
    assert Intervention.from_json(text) == item
    assert again.describe() == item.describe() and "\n" not in item.describe()
    assert again != Zero("v")


def test_every_public_kind_is_tried() -> None:
    import interp.interventions as module

    kinds = {
        name
        for name in module.__all__
        if isinstance(getattr(module, name), type)
        and issubclass(getattr(module, name), Intervention)
    }
    assert kinds - {"Intervention"} == {type(item).__name__ for item in EVERY_KIND}


def test_a_list_of_interventions() -> None:
    several = Interventions(EVERY_KIND)
    again = Interventions.from_json(several.to_json(indent=1))
    assert again == several and list(again) == EVERY_KIND and len(again) == len(EVERY_KIND)
    assert (Interventions(EVERY_KIND[:2]) + Interventions(EVERY_KIND[2:])) == several
    assert several.describe().count("\n") == len(EVERY_KIND) - 1


@settings(max_examples=30, deadline=None)
@given(
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_tensors_keep_every_bit(dtype: torch.dtype, shape: list[int], seed: int) -> None:
    drawn = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    drawn[0] = float("nan")  # what a record may hold
    drawn[1].view(-1)[0] = -0.0
    again = Reference.from_json(Reference(activations={"x": drawn}).to_json()).activations
    assert again is not None and again["x"].dtype == dtype
    assert torch.equal(again["x"].view(torch.uint8), drawn.view(torch.uint8))


def test_tensors_are_copies() -> None:
    """What is frozen stays as it was given, though the weights it came from are edited."""
    given = torch.arange(6.0).view(2, 3)
    made = [
        Steer("z", given[1]),
        SwapSubspace("z", given, [[1]]),
        Patch("z", Reference(activations={"x": given})),
    ]
    texts = [item.to_json() for item in made]
    given += 1
    assert [item.to_json() for item in made] == texts
    assert Steer("z", [0.1, 0.2]).direction.dtype == torch.float64


def test_hashes_do_not_write_tensors_out() -> None:
    given = {"x": torch.randn(2, 3), "y": torch.randn(1, 2)}
    one, same = Reference(activations=given), Reference(activations=dict(reversed(given.items())))
    assert one == Reference(activations=given) and hash(one) == hash(same)
    others = [{**given, "x": given["x"] + 1}, {**given, "x": given["x"].view(3, 2)}]
    assert all(hash(Reference(activations=other)) != hash(one) for other in others)


def _changed(**fields: object) -> str:
    return json.dumps({**json.loads(Zero("z").to_json()), **fields})


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{", "must be JSON"),
        ("[]", "is an object"),
        ("{}", "version.*Received None"),
        (_changed(version=2), "must be 1. Received 2"),
        (_changed(version=True), "must be 1"),
        (_changed(kind="nothing"), "unknown kind of intervention 'nothing'"),
        (_changed(kind=None), "must say its kind"),
        (_changed(size=3), "unknown field of 'zero' 'size'"),
        ('{"version": 1, "kind": "zero"}', "'zero' is not complete"),
        (_changed(place=3), "a place must be a Place"),
        (_changed(place={"hook": "z"}), "must say its kind"),
        (_changed(place={"kind": "place", "hook": "z", "heads": "1"}), "heads must be"),
        (_changed(kind="place", place=None), "unknown field of 'place'"),
    ],
)
def test_json_that_is_refused(text: str, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        Intervention.from_json(text)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("dtype", "float33", "dtype"),
        ("dtype", "nn", "dtype"),
        ("shape", [-1], "shape"),
        ("shape", [5], "has 20 bytes. Received 4"),
        ("base64", "ä", "base64"),
        ("more", 1, "dtype, shape and base64"),
    ],
)
def test_tensors_that_are_refused(field: str, value: object, rule: str) -> None:
    found = json.loads(Steer("resid_pre", torch.ones(1)).to_json())
    found["direction"]["tensor"][field] = value
    with pytest.raises(InputError, match=rule):
        Intervention.from_json(json.dumps(found))


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="must be JSON"):
        Intervention.from_json(None)  # type: ignore[arg-type]


def test_json_of_another_class_is_refused() -> None:
    with pytest.raises(InputError, match=r"must hold a Scale. It holds a Zero"):
        Scale.from_json(Zero("z").to_json())
