"""Interventions as hooks: order, contexts, batches and padding, JSON, sweeps, gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp import HookedTransformer, InputError
from interp.interventions import (
    FreezeNorms,
    FreezePatterns,
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
    Steer,
    SwapPositions,
    SwapSubspace,
    Zero,
    ZeroPositions,
    applied,
    hooks_for,
)
from interp.patching import LogitDiff, sweep
from interp.run.recording import CacheRecorder
from tests.covering import examples
from tests.interp.interventions.loop import alone
from tests.interp.kinds import KINDS, given_to, some_tokens, with_padding


def _reference(model: HookedTransformer, n_rows: int, seed: int) -> Reference:
    found = given_to(model, n_rows, 5, seed)
    return Reference(found["input"], found.get("decoder_input"), found.get("token_type_ids"))


def some_of_each(model: HookedTransformer, seed: int) -> dict[str, Any]:
    """An intervention of every kind that fits a model; those whose rows depend on their number
    (`Resample`, and references with a row for each) with one row."""
    cfg = model.cfg
    many, one = _reference(model, 4, seed + 1), _reference(model, 1, seed + 2)
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(cfg.d_model, generator=generator, dtype=torch.float64)
    basis = torch.randn(2, cfg.d_model, generator=generator, dtype=torch.float64)
    stream = "resid_pre"
    z, first = Place("z", layers=-1, heads=-1, positions=[0, -1]), Place("z", layers=0, heads=0)
    found: dict[str, Any] = {
        "zero": Zero(z),
        "scale": Scale(Place("v", layers=0, heads=0), -2.0),
        "mean": Mean(first, many),
        "pooled": Mean(Place("attn_out", layers=-1), many, pooled=True),
        "patch": Patch(first, one),
        "resample": Resample(z, one, seed),
        "noise": Noise(Place(stream, layers=0), 0.5, seed=seed),
        "relative": Noise(first, 0.5, relative_to=many, seed=seed),
        "steer": Steer(Place(stream, layers=-1, positions=-1), direction, 0.7, relative=True),
        "swap": SwapSubspace(Place(stream, layers=0, positions=[0]), basis, one),
        "removed": RemoveSubspace(Place(stream, layers=-1, positions=0), basis, direction),
        "patterns": FreezePatterns(layers=-1),
        "head": KnockOutHead("L0H1", positions=-1, by="mean", reference=many),
        "links": KnockOutAttention(sources=0, destinations=-1, heads=[0, 1]),
        "entries": KnockOutAttention(sources=-1, layers=0, renormalise=False),
    }
    if cfg.attention_dir == "causal":  # where it is not, patterns of longer texts are refused
        found["patterns-of"] = FreezePatterns(layers=0, heads=[0], reference=one)
    if cfg.architecture == "encoder-decoder":
        found["cross"] = Mean(Place("cross_attn.hook_k", layers=0, heads=1), many)
        found["encoder"] = Zero(Place("encoder.attn.hook_z", layers=0, positions=-1))
    elif cfg.positional_embedding_type != "none":
        found["moved"] = SwapPositions(0, -1)
        found["nowhere"] = ZeroPositions(positions=[0, 1])
    if not cfg.attn_only:
        found["neurons"] = Zero(Place("mlp_out", layers=0, dims=[0, -1], positions=1))
    if cfg.normalization_type is not None:
        found["norms"] = FreezeNorms(layers=-1)
    if cfg.norm_placement == "pre" and not cfg.post_embedding_ln and "cross" not in found:
        found["edge"] = KnockOutEdge("L0H1->L1H2.q", by="mean", reference=many)
        found["to-logits"] = KnockOutEdge("embed->logits")
    return found


def run(model: HookedTransformer, items: Any, given: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad(), applied(model, items, **given):
        return model(**given)


@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_row_gives_what_it_gives_alone(
    kind: Callable[[str], HookedTransformer], assert_close: Any, data: st.DataObject
) -> None:
    """Several interventions of every kind, on every kind of model, padded on either side."""
    model = kind(data.draw(st.sampled_from(sorted(KINDS)), label="kind"))
    seed = data.draw(st.integers(0, 3), label="seed")
    made = some_of_each(model, seed)
    names = data.draw(st.lists(st.sampled_from(sorted(made)), min_size=1, max_size=4), label="what")
    items = Interventions([made[name] for name in names])
    left = data.draw(st.booleans(), label="left")
    given_ = with_padding(given_to(model, 3, 5, seed), [0, 1, 2], left)
    found = run(model, items, given_)
    assert torch.equal(run(model, Interventions.from_json(items.to_json()), given_), found)
    for row in range(3):
        single = run(model, items, alone(given_, row))[0]
        kept = found[row]
        if not model.cfg.classifies:
            mask = given_.get("decoder_attention_mask", given_["attention_mask"])
            kept = kept[mask[row].bool()]
        assert_close(kept, single, f"row {row}: {items.describe()}")
    assert not any(p.is_watched for p in model.hook_points())


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5", "bert", "no-norm"])
def test_without_padding_no_input_is_needed(
    kind: Callable[[str], HookedTransformer], name: str, assert_close: Any
) -> None:
    model = kind(name)
    given_ = given_to(model)
    with torch.no_grad():
        base = model(**given_)
    for label, item in some_of_each(model, 0).items():
        bound = run(model, item, given_)
        if label not in ("patterns", "norms"):
            with torch.no_grad():
                found = model.run_with_hooks(**given_, fwd_hooks=hooks_for(model, item))
            assert_close(found, bound, label)
            assert float((found - base).abs().max()) > 1e-9, label  # it does something


def test_interventions_on_one_hook_are_made_in_order(
    kind: Callable[[str], HookedTransformer], assert_close: Any
) -> None:
    model, tokens = kind("gpt2"), some_tokens()
    place, direction = Place("resid_pre", layers=1), torch.linspace(-1, 3, 24).double()
    double, step = Scale(place, 2.0), Steer(place, direction)
    hook = "blocks.1.hook_resid_pre"
    for items, edit in (
        ([double, step], lambda x, hook: 2 * x + direction),
        ([step, double], lambda x, hook: 2 * (x + direction)),
        ([Zero(place), step], lambda x, hook: direction.expand_as(x)),
        ([step, Zero(place)], lambda x, hook: torch.zeros_like(x)),
    ):
        expected = model.run_with_hooks(tokens, fwd_hooks=[(hook, edit)])
        assert_close(run(model, items, {"input": tokens}), expected)
    expected = run(model, Interventions([double]) + step, {"input": tokens})
    with torch.no_grad(), applied(model, double), applied(model, step):
        assert_close(model(tokens), expected)


def test_contexts_undo_themselves(kind: Callable[[str], HookedTransformer]) -> None:
    model, tokens, seen = kind("gpt2"), some_tokens(), []
    with torch.no_grad():
        base = model(tokens)
        with model.hooks(fwd_hooks=[("hook_embed", lambda x, hook: seen.append(1))]):
            with pytest.raises(ZeroDivisionError), applied(model, Zero("z")):
                assert not torch.equal(model(tokens), base)
                raise ZeroDivisionError
            assert torch.equal(model(tokens), base) and len(seen) == 2
        assert torch.equal(model(tokens), base)
    assert not any(p.is_watched for p in model.hook_points())


def test_a_reference_is_no_part_of_a_recording(kind: Callable[[str], HookedTransformer]) -> None:
    """A recorder on the model keeps what it has seen of the user's own run."""
    model, tokens, recorder = kind("gpt2"), some_tokens(), CacheRecorder()
    with model._recording(["hook_embed"], recorder):
        model(tokens)
        expected = recorder.cache["hook_embed"].clone()
        hooks_for(model, Mean(Place("z", layers=1), _reference(model, 4, 7)))
    assert torch.equal(recorder.cache["hook_embed"], expected)


def test_a_reference_is_run_once_and_only_for_what_is_needed(
    kind: Callable[[str], HookedTransformer], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, reference = kind("gpt2"), Reference(some_tokens())
    asked: list[list[str]] = []
    plain = HookedTransformer.record

    def record(self: HookedTransformer, *args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["names_filter"])
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(HookedTransformer, "record", record)
    items = [
        Zero("z"),
        Mean(Place("z", layers=0, heads=0), reference),
        Patch(Place("mlp_out", layers=0), Reference(some_tokens())),  # an equal one
        KnockOutHead("L0H2", by="resample", reference=reference),
    ]
    hooks = hooks_for(model, items)
    assert asked == [["blocks.0.attn.hook_z", "blocks.0.hook_mlp_out"]]
    model.run_with_hooks(some_tokens(), fwd_hooks=hooks)
    model.run_with_cache(some_tokens(), names_filter="hook_embed")
    assert len(asked) == 2  # the recording just above


def test_references_are_of_the_model_as_it_is(
    kind: Callable[[str], HookedTransformer], assert_close: Any
) -> None:
    model, tokens = kind("gpt2"), some_tokens()
    first, patch = Zero("hook_pos_embed"), Patch(Place("z", layers=1), Reference(tokens))
    with torch.no_grad(), applied(model, first):
        expected = model(tokens)
        with applied(model, patch):
            assert_close(model(tokens), expected)


def test_under_a_sweep(kind: Callable[[str], HookedTransformer], assert_close: Any) -> None:
    model, tokens = kind("gpt2"), some_tokens()
    metric, item = LogitDiff(3, 4), Mean(Place("mlp_out", layers=0), Reference(some_tokens(seed=1)))
    with applied(model, item):
        found = sweep(model, tokens, 0.0, "z", metric)
    for layer in range(2):
        for position in range(5):
            for head in range(4):
                place = Place("z", layers=layer, positions=position, heads=head)
                expected = metric.per_prompt(run(model, [item, Zero(place)], {"input": tokens}))
                assert_close(found.values[layer, position, head], expected)


def test_gradients_pass(kind: Callable[[str], HookedTransformer]) -> None:
    """Where an activation is replaced, nothing before it has a gradient through it."""
    model, tokens = kind("no-norm"), some_tokens()
    items = [Zero(Place("attn_out")), Mean(Place("mlp_out", positions=1), Reference(tokens))]
    embedded: list[torch.Tensor] = []

    def keep(x: torch.Tensor, hook: Any) -> torch.Tensor:
        embedded.append(x.detach().requires_grad_())
        return embedded[-1]

    with model.hooks(fwd_hooks=[("hook_embed", keep), *hooks_for(model, items)]):
        logits = model(tokens)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), embedded)
    # With every MLP replaced at position 1 too, only the direct path is left.
    assert torch.allclose(gradient[:, 1], model.W_U.sum(1).detach().expand(3, -1))
    assert gradient[:, 0].abs().max() == 0.0


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda m: hooks_for(m, ["z"]), "items must be interventions"),
        (lambda m: hooks_for(m, None), "items must be interventions. Received None"),
        (lambda m: hooks_for(m, "z"), "items must be interventions. Received 'z'"),
        (lambda m: hooks_for(m, Zero("z"), attention_mask=torch.ones(1, 3)), "belongs to an input"),
        (lambda m: hooks_for(m, Zero("z"), some_tokens(), decoder_input=some_tokens()), "decoder"),
        (lambda m: hooks_for(m, Zero(3)), "a place must be a Place"),
    ],
)
def test_refusals(
    kind: Callable[[str], HookedTransformer], call: Callable[[Any], Any], rule: str
) -> None:
    with pytest.raises(InputError, match=rule):
        call(kind("gpt2"))
