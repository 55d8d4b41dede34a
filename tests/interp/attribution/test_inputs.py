from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from interp import HookedTransformer, InputError
from interp.attribution.inputs import (
    RULES,
    completeness_by_steps,
    input_gradients,
    integrated_gradients,
    quadrature,
)
from interp.patching.metrics import KLDivergence, Logit, LogitDiff, LogProb, Loss, Metric
from interp.zoo import known
from tests.interp.kinds import KINDS, given_to, some_tokens, with_padding

MakeModel = Callable[..., HookedTransformer]
AssertClose = Callable[..., None]
METRIC = LogitDiff(1, 0)


def _value(
    model: HookedTransformer, given: dict[str, Tensor], hook: str, embeds: Tensor, metric: Metric
) -> Tensor:
    """The metric in a run with these embeddings."""
    with torch.no_grad():
        logits = model.run_with_hooks(**given, fwd_hooks=[(hook, lambda x, hook: embeds)])
        tokens = given.get("decoder_input", given["input"])
        mask = given.get("decoder_attention_mask" if "decoder_input" in given else "attention_mask")
        mask = None if logits.ndim == 2 else mask
        return metric.prepared(tokens, mask).per_prompt(logits, mask)


def _hook(model: HookedTransformer, of: str) -> str:
    if model.cfg.architecture != "encoder-decoder":
        return "hook_embed"
    return "encoder.hook_embed" if of == "input" else "decoder.hook_embed"


@pytest.mark.parametrize(
    ("name", "padded"),
    [
        ("gpt2", True), ("llama", False), ("gemma2", True), ("bloom", False), ("dynamic", True),
        ("bert", True), ("classifier", False), ("marian", True), ("translator", False),
    ],
)  # fmt: skip
def test_gradients_are_slopes(
    name: str, padded: bool, make_model: MakeModel, assert_close: AssertClose
) -> None:
    """Along a random direction, against a central difference."""
    model = make_model(dtype="float64", **KINDS[name])
    given = given_to(model)
    if padded:
        given = with_padding(given, [2, 0, 1], left=True)
    both = model.cfg.architecture == "encoder-decoder"
    for of in ("input", "decoder_input") if both else ("input",):
        found = input_gradients(model, metric=METRIC, of=of, **given)
        hook, step = _hook(model, of), 1e-6
        generator = torch.Generator().manual_seed(0)
        change = torch.randn(found.embeddings.shape, generator=generator, dtype=torch.float64)
        ends = [
            _value(model, given, hook, found.embeddings + s * step * change, METRIC)
            for s in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / (2 * step)
        assert_close((found.gradients * change).sum((1, 2)), slope, tolerance=1e-6)
        assert_close(found.value, _value(model, given, hook, found.embeddings, METRIC))
        assert_close(found.times_input, (found.gradients * found.embeddings).sum(-1))
        assert_close(found.norm, found.gradients.square().sum(-1).sqrt())


@pytest.mark.parametrize("name", ["gpt2", "gpt-oss", "bloom", "bert", "classifier", "t5"])
def test_completeness(name: str, make_model: MakeModel, assert_close: AssertClose) -> None:
    """The stated error is what is missing, and goes to 0; both ends are the runs that they name."""
    fields = KINDS[name]
    if fields.get("num_experts"):
        # Every expert for every token: to choose some makes jumps, which no gradient sees.
        fields = {**fields, "experts_per_token": fields["num_experts"]}
    model = make_model(dtype="float64", **fields)
    given = given_to(model)
    both = model.cfg.architecture == "encoder-decoder"
    for of in ("input", "decoder_input") if both else ("input",):
        found = integrated_gradients(model, metric=METRIC, baseline=2, steps=8, of=of, **given)
        hook = _hook(model, of)
        start = model.embed(torch.full_like(given[of], 2)).detach()
        base = _value(model, given, hook, start, METRIC)
        assert_close(found.baseline_value, base)
        assert_close(found.value, _value(model, given, hook, found.embeddings, METRIC))
        missing = found.attributions.sum(-1) - (found.value - found.baseline_value)
        assert_close(found.error, missing)
        assert_close(found.vectors.sum(-1), found.attributions)
        errors = completeness_by_steps(
            model, metric=METRIC, baseline=2, steps=(4, 8, 64), of=of, **given
        ).abs()
        assert_close(errors[1], found.error.abs())
        assert errors[2].max() < 0.02 * (found.value - base).abs().max().clamp(min=1.0)
        # Kinks (relu, top-k experts) slow it down; a smooth model errs by 1/steps².
        assert errors[2].max() < errors[0].max() or errors[0].max() < 1e-9


def test_error_falls_as_the_square_of_the_steps(make_model: MakeModel) -> None:
    model = make_model(dtype="float64")
    given = given_to(model)
    errors = {
        rule: completeness_by_steps(
            model, metric=METRIC, baseline="mean", steps=(33, 65), rule=rule, **given
        ).abs().mean(1)
        for rule in RULES
    }  # fmt: skip
    for rule in ("midpoint", "trapezoid"):
        assert 3.5 < errors[rule][0] / errors[rule][1] < 4.5
    for rule in ("left", "right"):
        assert 1.8 < errors[rule][0] / errors[rule][1] < 2.2
    assert errors["gauss"].max() < 1e-8


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [2, 3, 8])
def test_quadrature(rule: str, steps: int) -> None:
    """∫ t^k over 0 … 1 is 1/(k + 1): exact up to the degree that each rule is of."""
    times, weights = quadrature(steps, rule)
    assert times.dtype == torch.float64 and len(times) == steps
    degree = {"gauss": 2 * steps - 1, "midpoint": 1, "trapezoid": 1}.get(rule, 0)
    for k in range(degree + 1):
        assert abs(float(weights @ times**k) - 1 / (k + 1)) < 1e-12
    assert abs(float(weights @ times ** (degree + 1)) - 1 / (degree + 2)) > 1e-12
    assert times.min() >= 0 and times.max() <= 1


def test_known_attributions(assert_close: AssertClose) -> None:
    """The previous-token copier is linear: closed form, one step enough, from any baseline.

    A source adds strength × its weight in the pattern × (is it the right token − is it the wrong).
    """
    truth = known.previous_token()
    found = integrated_gradients(truth.model, truth.clean, truth.metric, steps=1)
    weight = truth.patterns["L0H0", truth.position].double()
    is_right = (truth.clean == truth.right[:, None]).double()
    is_wrong = (truth.clean == truth.wrong[:, None]).double()
    assert_close(found.attributions, 4.0 * weight * (is_right - is_wrong))
    assert_close(found.error, torch.zeros_like(found.error))
    assert_close(found.value, truth.clean_value)
    again = input_gradients(truth.model, truth.clean, truth.metric)
    assert_close(again.times_input, found.attributions)
    other = integrated_gradients(truth.model, truth.clean, truth.metric, truth.corrupted, steps=1)
    assert_close(other.baseline_value, truth.corrupted_value)
    differs = truth.clean != truth.corrupted
    assert (other.attributions[~differs] == 0).all()
    assert_close(other.attributions.sum(-1), truth.clean_value - truth.corrupted_value)


def test_known_saturation(assert_close: AssertClose) -> None:
    """One-hot attention: first order sees what moves through values alone, a path all of it.

    A third of the rows each differ in what the induction head's query, keys and values are made of.
    Each turns the logit difference round, from -strength to strength.
    """
    truth = known.induction(saturated=True)
    clean, corrupted = truth.clean, truth.corrupted
    found = integrated_gradients(truth.model, clean, truth.metric, corrupted, steps=128)
    first = input_gradients(truth.model, clean, truth.metric)
    step = (first.gradients * (found.embeddings - found.baseline_embeddings)).sum(-1)
    whole = torch.full((len(clean),), 8.0, dtype=torch.float64)
    assert_close(truth.clean_value - truth.corrupted_value, whole)
    assert_close(found.attributions.sum(-1), whole)
    differs = clean != corrupted
    assert (found.attributions[~differs] == 0).all()
    of_values = (clean == truth.right[:, None]) & (corrupted == truth.wrong[:, None])
    by_values = of_values.any(1)
    assert 0 < by_values.sum() < len(clean)
    assert_close(step, 8.0 * of_values.double())
    assert_close(found.attributions[by_values], step[by_values])


@pytest.mark.parametrize(
    "metric",
    [
        Logit(torch.tensor([1, 2, 3])),
        LogProb(4, pos=2),
        LogitDiff(torch.tensor([1, 2, 3]), 7, pos=torch.tensor([1, 0, 2])),
        Loss(),
        KLDivergence(torch.randn(3, 31, generator=torch.Generator().manual_seed(1)), pos=-2),
        lambda logits: logits[:, 1].logsumexp(-1),
    ],
)
def test_metrics_and_pieces(metric: Any, make_model: MakeModel, assert_close: AssertClose) -> None:
    """However many rows run at once, and in whatever mode, a row gives what it gives alone."""
    model = make_model(dtype="float64")
    given = with_padding(given_to(model), [0, 2, 1], left=False)
    whole = integrated_gradients(model, metric=metric, steps=5, **given)
    with torch.inference_mode():
        for rows in (1, 4, 9):
            part = integrated_gradients(model, metric=metric, steps=5, max_rows=rows, **given)
            assert_close(part.attributions, whole.attributions)
            assert_close(part.error, whole.error)
    padding = given["attention_mask"] == 0
    assert (whole.attributions[padding] == 0).all()
    assert torch.equal(whole.baseline_embeddings[padding], whole.embeddings[padding])
    if metric.__class__ is Logit:
        alone = integrated_gradients(model, given["input"][1:2, :3], Logit(2), steps=5)
        assert_close(whole.attributions[1:2, :3], alone.attributions)


def test_hooks_that_act_by_row(make_model: MakeModel, assert_close: AssertClose) -> None:
    """Every point of the path is edited as the prompts are."""
    model, tokens = make_model(dtype="float64"), some_tokens()
    drawn = torch.randn(50, 5, 24, generator=torch.Generator().manual_seed(0)).double()
    edit = ("blocks.0.hook_mlp_out", lambda x, hook: drawn[: len(x)])
    with model.hooks([edit]):
        found = integrated_gradients(model, tokens, METRIC, steps=64)
        errors = completeness_by_steps(model, tokens, METRIC, steps=(4, 64))
        with torch.no_grad():
            zeros = ("hook_embed", lambda x, hook: x * 0)
            base = METRIC.per_prompt(model.run_with_hooks(tokens, fwd_hooks=[zeros]))
            assert_close(found.value, METRIC.per_prompt(model(tokens)))
    assert_close(found.baseline_value, base)
    assert_close(errors[1], found.error)
    assert found.error.abs().max() < 0.01 < errors[0].abs().max()


def test_nothing_is_left_behind(make_model: MakeModel) -> None:
    model = make_model()
    with torch.no_grad():
        integrated_gradients(model, some_tokens(), METRIC, steps=2)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not model.watched_hooks()[0]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert integrated_gradients(model, some_tokens(), METRIC, steps=2).attributions.abs().max() > 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_path_ends_at_the_prompt(dtype: str, make_model: MakeModel) -> None:
    """To the bit: almost there, experts may already be others, and low precision be far off."""
    model, tokens = make_model(dtype=dtype, **KINDS["gpt-oss"]), some_tokens()
    seen = []
    with model.hooks([("blocks.0.hook_resid_pre", lambda x, hook: seen.append(x.detach()))]):
        found = integrated_gradients(model, tokens, METRIC, "mean", steps=1, rule="right")
    ends = torch.cat(seen[1:])  # the first run reads the embeddings, the others have points put in
    for point, expected in zip(ends.split(3), (found.embeddings,) * 2, strict=False):
        assert torch.equal(point, expected)
    assert torch.equal(ends[-3:], found.baseline_embeddings)
    with torch.no_grad():
        value = METRIC.per_prompt(model(tokens))
    assert (found.value - value).abs().max() <= 1e-5 * value.abs().max().clamp(min=1.0)


def test_baselines(make_model: MakeModel, assert_close: AssertClose) -> None:
    model = make_model(dtype="float64", **KINDS["gemma2"])  # scales its embeddings
    tokens = some_tokens()
    W_E = model.W_E.detach() * 4.9
    drawn = torch.randn(3, 5, 24, dtype=torch.float64)
    other = some_tokens(seed=5)
    for baseline, expected in (
        ("zeros", torch.zeros(3, 5, 24, dtype=torch.float64)),
        ("mean", W_E.mean(0).expand(3, 5, -1)),
        (7, W_E[7].expand(3, 5, -1)),
        (other, W_E[other]),
        (other[0], W_E[other[0]].expand(3, -1, -1)),
        (drawn, drawn),
        (drawn[0, 0], drawn[0, 0].expand(3, 5, -1)),
    ):
        found = integrated_gradients(model, tokens, METRIC, baseline, steps=1)
        assert_close(found.baseline_embeddings, expected)
        assert_close(
            found.baseline_value, _value(model, {"input": tokens}, "hook_embed", expected, METRIC)
        )
    assert_close(found.embeddings, W_E[tokens])


def test_bad_input(make_model: MakeModel) -> None:
    model, tokens = make_model(), some_tokens()
    for rule, arguments in {
        "baseline must be one of": {"baseline": "ones"},
        "baseline must be 'zeros'": {"baseline": [1, 2]},
        "tokens of a baseline must be one": {"baseline": torch.tensor([1, 2])},
        "must be whole numbers": {"baseline": torch.ones(5, dtype=torch.bool)},
        "metric must be a Metric": {"metric": 3},
        "vectors of a baseline": {"baseline": torch.zeros(23)},
        "tokens must lie in 0 … 30": {"baseline": 31},
        "rule must be one of": {"rule": "simpson"},
        "steps must be a whole number of at least 2": {"rule": "trapezoid", "steps": 1},
        "needs an encoder-decoder": {"of": "decoder_input"},
        "max_rows": {"max_rows": 0},
    }.items():
        with pytest.raises(InputError, match=rule):
            integrated_gradients(model, tokens, **{"metric": METRIC, **arguments})
    with pytest.raises(InputError, match="for each prompt"):
        integrated_gradients(model, tokens, lambda logits: logits.sum())
    with pytest.raises(InputError, match="for each prompt"):
        input_gradients(model, tokens, lambda logits: logits.sum())
    with pytest.raises(InputError, match="steps must hold"):
        completeness_by_steps(model, tokens, METRIC, steps=())
