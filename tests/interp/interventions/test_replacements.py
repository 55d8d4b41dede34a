"""Replacements against plain loops, and what weight processing does to ablations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer, InputError
from interp.interventions import (
    Mean,
    Noise,
    Patch,
    Place,
    Reference,
    Resample,
    Scale,
    Zero,
    hooks_for,
)
from tests.interp.interventions.loop import edited, over, recorded
from tests.interp.kinds import some_tokens

Z = "blocks.0.attn.hook_z"
LENGTHS = (5, 6, 7, 5)
ROWS = [some_tokens(1, n, seed=n + 10 * i)[0].tolist() for i, n in enumerate(LENGTHS)]
REFERENCE = Reference(ROWS)


@pytest.fixture
def model(kind: Callable[[str], HookedTransformer]) -> HookedTransformer:
    return kind("gpt2")


@pytest.fixture
def z_of_rows(model: HookedTransformer) -> list[torch.Tensor]:
    """z of each reference prompt, each run alone."""
    return [recorded(model, Z, input=torch.tensor([row]))[0] for row in ROWS]


def run(model: HookedTransformer, items: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=hooks_for(model, items))


PLACE = Place("z", layers=0, heads=[1, -1], positions=[0, -2])
HEADS, POSITIONS = (1, 3), (0, 3)


def test_zero_and_scale(model: HookedTransformer, assert_close: Any) -> None:
    tokens = some_tokens()
    expected = edited(
        model, {"input": tokens}, **{Z: lambda x: over(x, HEADS, POSITIONS, lambda *_: 0.0)}
    )
    assert_close(run(model, Zero(PLACE), tokens), expected)
    assert_close(run(model, Scale(PLACE, 0.0), tokens), expected)
    twice = edited(
        model,
        {"input": tokens},
        **{Z: lambda x: over(x, HEADS, POSITIONS, lambda r, p, h: x[r, p, h] * -1.5)},
    )
    assert_close(run(model, Scale(PLACE, -1.5), tokens), twice)


def test_zero_of_whole_hooks_and_neurons(model: HookedTransformer, assert_close: Any) -> None:
    tokens = some_tokens()
    expected = edited(
        model,
        {"input": tokens},
        blocks__0__hook_mlp_out=torch.zeros_like,
        blocks__1__hook_mlp_out=torch.zeros_like,
    )
    assert_close(run(model, Zero("mlp_out"), tokens), expected)
    assert_close(run(model, Zero("*.hook_mlp_out"), tokens), expected)

    def neuron(x: torch.Tensor) -> torch.Tensor:
        x[:, 2, 19] = 0.0
        return x

    expected = edited(model, {"input": tokens}, blocks__1__mlp__hook_post=neuron)
    found = run(model, Zero(Place("post", layers=-1, positions=2, dims=-1)), tokens)
    assert_close(found, expected)


@pytest.mark.parametrize("pooled", [False, True])
def test_mean_is_that_of_real_tokens(
    model: HookedTransformer, z_of_rows: list[torch.Tensor], pooled: bool, assert_close: Any
) -> None:
    tokens = some_tokens(2, 7)

    def mean(row: int, pos: int, head: int) -> torch.Tensor:
        found = [z[p, head] for z in z_of_rows for p in range(len(z)) if pooled or p == pos]
        return sum(found) / len(found)  # type: ignore[return-value]

    expected = edited(model, {"input": tokens}, **{Z: lambda x: over(x, HEADS, None, mean)})
    items = Mean(Place("z", layers=0, heads=HEADS), REFERENCE, pooled)
    assert_close(run(model, items, tokens), expected)
    # The same from activations, of one prompt.
    once = Reference(activations={Z: z_of_rows[2][None]})
    expected = edited(
        model,
        {"input": tokens},
        **{Z: lambda x: over(x, HEADS, None, lambda r, p, h: (
            z_of_rows[2][:, h].mean(0) if pooled else z_of_rows[2][p, h]))},
    )  # fmt: skip
    assert_close(run(model, Mean(items.place, once, pooled), tokens), expected)


def test_a_mean_of_patterns(model: HookedTransformer, assert_close: Any) -> None:
    tokens, hook = some_tokens(2, 5), "blocks.1.attn.hook_pattern"
    patterns = [recorded(model, hook, input=torch.tensor([row]))[0, :, :5, :5] for row in ROWS]
    mean = sum(patterns) / len(patterns)  # type: ignore[operator]
    expected = edited(model, {"input": tokens}, **{hook: lambda x: mean.expand_as(x)})
    assert_close(run(model, Mean(Place("pattern", layers=1), REFERENCE), tokens), expected)


def test_patch_and_resample(
    model: HookedTransformer, z_of_rows: list[torch.Tensor], assert_close: Any
) -> None:
    tokens, place = some_tokens(4, 5), Place("z", layers=0, heads=HEADS, positions=POSITIONS)
    expected = edited(
        model,
        {"input": tokens},
        **{Z: lambda x: over(x, HEADS, POSITIONS, lambda r, p, h: z_of_rows[r][p, h])},
    )
    assert_close(run(model, Patch(place, REFERENCE), tokens), expected)
    for seed in range(3):
        x = torch.zeros(4, 5, 4, 6, dtype=torch.float64)
        ((_, fn),) = hooks_for(model, Resample(place, REFERENCE, seed))
        filled = fn(x, hook=model.hook_dict[Z])
        sent = [
            next(j for j, z in enumerate(z_of_rows) if torch.allclose(z[0, 1], filled[i, 0, 1]))
            for i in range(4)
        ]
        # One cycle through all prompts: none gets its own.
        at, seen = 0, set()
        for _ in range(4):
            at = sent[at]
            seen.add(at)
        assert seen == {0, 1, 2, 3} and all(i != j for i, j in enumerate(sent))
        expected = edited(
            model,
            {"input": tokens},
            **{Z: lambda x, sent=sent: over(
                x, HEADS, POSITIONS, lambda r, p, h: z_of_rows[sent[r]][p, h])},
        )  # fmt: skip
        assert_close(run(model, Resample(place, REFERENCE, seed), tokens), expected)


def test_noise(model: HookedTransformer, assert_close: Any) -> None:
    x = torch.zeros(2, 7, 24, dtype=torch.float64)

    def noise_on(x: torch.Tensor, *args: Any, **fields: Any) -> torch.Tensor:
        ((name, fn),) = hooks_for(model, Noise(*args, **fields))
        return fn(x, hook=model.hook_dict[name])

    found = noise_on(x, "hook_embed", 0.5, seed=3)
    assert torch.equal(found[0], found[1])  # in every row
    assert torch.equal(noise_on(x[:1, :4], "hook_embed", 0.5, seed=3)[0], found[0, :4])
    assert not torch.equal(noise_on(x, "hook_embed", 0.5, seed=4), found)
    assert not torch.equal(noise_on(x, "hook_pos_embed", 0.5, seed=3), found)
    wide = noise_on(torch.zeros(1, 400, 24), "hook_embed", 0.5)
    assert abs(float(wide.std()) - 0.5) < 0.02 and abs(float(wide.mean())) < 0.02

    # In units of the activations' own deviation, head by head.
    place = Place("z", layers=0)
    z = torch.cat([recorded(model, Z, input=torch.tensor([row]))[0] for row in ROWS])
    unit = torch.stack([z[:, h].flatten().std(correction=0) for h in range(4)])
    zeros = torch.zeros(2, 5, 4, 6, dtype=torch.float64)
    absolute = noise_on(zeros, place, 1.0)
    relative = noise_on(zeros, place, 2.0, relative_to=REFERENCE)
    assert_close(relative, absolute * 2.0 * unit[:, None])
    given = recorded(model, Z, input=some_tokens())
    unit = given.transpose(0, 2).flatten(1).std(1, correction=0)
    relative = noise_on(zeros, place, 2.0, relative_to=Reference(activations={Z: given}))
    assert_close(relative, absolute * 2.0 * unit[:, None])


@pytest.mark.parametrize("name", ["gpt2", "neox", "grouped-standard", "unscaled", "multi-query"])
def test_folding_norms_changes_no_ablation(
    kind: Callable[[str], HookedTransformer], name: str, assert_close: Any
) -> None:
    raw = kind(name)
    none = {"center_writing_weights": False, "center_unembed": False, "fold_value_biases": False}
    folded = raw.process_weights(fold_ln=True, **none)
    assert "fold_ln" in folded.cfg.weight_processing
    tokens = some_tokens()
    places = [Place("z", layers=0, heads=1), Place("attn_out", layers=1)]
    places += [] if raw.cfg.attn_only else [Place("mlp_out", layers=0)]
    for place in places:
        for item in (Zero(place), Mean(place, REFERENCE), Mean(place, REFERENCE, pooled=True)):
            assert_close(run(folded, item, tokens), run(raw, item, tokens), item.describe())


@pytest.mark.parametrize("name", ["gpt2", "neox", "bidirectional-tied", "grouped-standard"])
def test_folding_value_biases_changes_zero_ablation_of_heads_alone(
    kind: Callable[[str], HookedTransformer], name: str, assert_close: Any
) -> None:
    raw = kind(name)
    none = {"center_writing_weights": False, "center_unembed": False, "fold_ln": False}
    folded = raw.process_weights(fold_value_biases=True, **none)
    assert "fold_value_biases" in folded.cfg.weight_processing
    tokens, head = some_tokens(), Place("z", layers=0, heads=1)
    changed = run(folded, Zero(head), tokens) - run(raw, Zero(head), tokens)
    assert float(changed.abs().max()) > 1e-2
    for item in (
        Mean(head, REFERENCE),
        Mean(head, REFERENCE, pooled=True),
        Patch(head, Reference(some_tokens(seed=1))),
        Resample(head, Reference(some_tokens(seed=1))),
        Zero(Place("attn_out", layers=0)),  # what all heads write, b_O included
    ):
        assert_close(run(folded, item, tokens), run(raw, item, tokens), item.describe())


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Zero("attn_scores"), "'zero' has no meaning at hook_attn_scores"),
        (lambda: Zero("ln1.hook_scale"), "'zero' has no meaning at hook_scale"),
        (lambda: Scale("attn_scores", 2.0), "no meaning"),
        (lambda: Noise("pattern", 1.0), "no meaning at hook_pattern"),
        (lambda: Mean("attn_scores", REFERENCE), "no meaning"),
        (lambda: Mean("pattern", REFERENCE, pooled=True), "cannot be pooled"),
        (lambda: Scale("z", float("nan")), "factor must be a finite number"),
        (lambda: Noise("z", 0.0), "std must be a number and positive"),
        (lambda: Noise("z", 1.0, seed=-1), "seed must be a whole number"),
        (lambda: Mean("z", REFERENCE, pooled=1), "pooled must be True or False"),  # type: ignore[arg-type]
        (lambda: Mean("z", "k T 4"), "reference must be a Reference"),  # type: ignore[arg-type]
        (lambda: Mean("z", Reference(activations={"x": torch.ones(1, 2)})), "must hold blocks.0"),
    ],
)  # fmt: skip
def test_refusals(model: HookedTransformer, make: Callable[[], Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        hooks_for(model, make())


def test_references_that_do_not_fit_the_run(model: HookedTransformer) -> None:
    short, two = Reference([[1, 2, 3]]), Reference(some_tokens(2, 5))
    for item, rule in (
        (Mean("z", short), "as long as the run: 5 tokens.*has 3"),
        (Patch("z", short), "as long as the run"),
        (Patch("z", two), "one for each of the run .3.. It has 2"),
        (Resample("z", REFERENCE), None),
        (Mean("z", short, pooled=True), None),
    ):
        if rule is None:
            run(model, item, some_tokens())
            continue
        with pytest.raises(InputError, match=rule):
            run(model, item, some_tokens())
    with pytest.raises(InputError, match=r"as long as the run: 6 tokens.*has 5"):
        run(model, Resample("z", REFERENCE), some_tokens(4, 6))  # its shortest prompt has 5
