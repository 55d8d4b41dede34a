"""How a metric depends on the token embeddings: gradients, and gradients along a path.

What is varied is `hook_embed`, the tokens' vectors; positions and segments stay. Integrated
gradients add up to the metric's difference between the prompt and a baseline (completeness), except
for the error of summing where an integral stands, which is always given beside them.

Source: Simonyan et al. 2014, §3 (gradients); Shrikumar et al. 2017 (gradient × input); Sundararajan
et al. 2017, Axiomatic Attribution for Deep Networks, §3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.attribution.gradients import run_with_gradients
from interp.errors import InputError, require, require_one_of, require_whole
from interp.patching.metrics import Metric
from interp.precision import wide
from interp.run.as_tensors import repeated, run_tensors

if TYPE_CHECKING:
    from interp.patching.read_out import LogitsFunction
    from interp.transformer import HookedTransformer

Rule = Literal["midpoint", "trapezoid", "left", "right", "gauss"]
RULES: tuple[Rule, ...] = ("midpoint", "trapezoid", "left", "right", "gauss")
Of = Literal["input", "decoder_input"]
Baseline = (
    Literal["zeros", "mean"]
    | int
    | Int[Tensor, "*batch pos"]
    | Float[Tensor, "*batch_and_pos d_model"]
)
Embeddings = Float[Tensor, "batch pos d_model"]
Steps = Float[Tensor, "step"]


@contextmanager
def _out_of_inference_mode() -> Iterator[None]:
    """Tensors made in inference mode may not enter a graph; these may."""
    with torch.inference_mode(False), torch.no_grad():
        yield


@dataclass(frozen=True)
class InputGradients:
    """A metric and its gradient at the token embeddings.

    Attributes:
        value: The metric of each prompt, `[batch]`.
        embeddings: What the tokens put into the residual stream.
        gradients: ∂ metric / ∂ embeddings.
    """

    value: Float[Tensor, "batch"]
    embeddings: Embeddings
    gradients: Embeddings

    @property
    def norm(self) -> Float[Tensor, "batch pos"]:
        """The gradient's length at each token: in units of the metric per unit of embedding."""
        return wide(self.gradients).norm(dim=-1)

    @property
    def times_input(self) -> Float[Tensor, "batch pos"]:
        """Gradient · embedding: first-order effect of taking a token's vector to zero."""
        return (wide(self.gradients) * wide(self.embeddings)).sum(-1)


@dataclass(frozen=True)
class IntegratedGradients:
    """Integrated gradients of a metric over token embeddings.

    Attributes:
        attributions: Of each token, in units of the metric, `[batch, pos]`.
        vectors: The same along each direction of the embedding, `[batch, pos, d_model]`.
        value, baseline_value: The metric of the prompt and of the baseline, `[batch]`.
        error: The sum of the attributions less (value − baseline_value), `[batch]`: what summing
            some steps in place of the integral leaves.
        embeddings, baseline_embeddings: Where the path ends and begins.
        steps, rule: How the integral was taken.
    """

    attributions: Float[Tensor, "batch pos"]
    vectors: Embeddings
    value: Float[Tensor, "batch"]
    baseline_value: Float[Tensor, "batch"]
    error: Float[Tensor, "batch"]
    embeddings: Embeddings
    baseline_embeddings: Embeddings
    steps: int
    rule: Rule


@_out_of_inference_mode()
def input_gradients(
    model: HookedTransformer,
    input: Any,
    metric: Metric | LogitsFunction,
    of: Of = "input",
    **given: Any,
) -> InputGradients:
    """The metric's gradient at every token's embedding.

    It works without gradients being on, needs no weights that require them, and leaves no `.grad`.

    Args:
        model: Any model.
        input: Text, texts or tokens, as `forward` takes them.
        metric: A `Metric`, or a function of full logits that gives a number per prompt.
        of: Of an encoder–decoder: whose tokens.
        **given: `attention_mask`, `decoder_input`, … of `forward`.

    Raises:
        InputError: for a metric that gives no number per prompt, and as `forward`.
    """
    prompts = run_tensors(model, input, **given)
    hook = _embed_hook(model, of)
    found = run_with_gradients(model, hooks=[hook], metric=metric, **_arguments(prompts))
    _check_per_prompt(found.value, prompts)
    return InputGradients(found.value, found.activations[hook], found.gradients[hook])


@_out_of_inference_mode()
def integrated_gradients(
    model: HookedTransformer,
    input: Any,
    metric: Metric | LogitsFunction,
    baseline: Baseline = "zeros",
    steps: int = 32,
    rule: Rule = "midpoint",
    of: Of = "input",
    max_rows: int = 64,
    **given: Any,
) -> IntegratedGradients:
    """(x − x₀) · ∫₀¹ ∂f/∂x (x₀ + t (x − x₀)) dt, for the embedding x of each token.

    All tokens move together, from the baseline x₀ in a straight line; padding stays where it is.
    From `zeros`, where nothing else is added to the embeddings (rotary positions) and a norm reads
    them, nearly all of the change happens in the first thousandth of the path, since a norm undoes
    any scale: steps then miss it and the error is large. Other baselines do not have that. In a
    mixture of experts the metric jumps wherever another expert is chosen; no gradient sees that, so
    some of the error stays however many the steps.

    Args:
        model: Any model.
        input: Text, texts or tokens, as `forward` takes them.
        metric: f: a `Metric`, or a function of full logits that gives a number per prompt.
        baseline: `zeros`; `mean`: the mean of all tokens' embeddings; an int: that token's
            everywhere (such as BOS or the pad token); other prompts' tokens, `[pos]` or
            `[batch, pos]`; or vectors, `[d_model]` or `[batch, pos, d_model]`.
        steps: Points at which the gradient is taken.
        rule: Which points, and their weights: `midpoint` and `trapezoid` err by O(1/steps²) where
            the metric is smooth, `left` and `right` by O(1/steps); `gauss` is Gauss–Legendre.
        of: Of an encoder–decoder: whose tokens. The other's are held.
        max_rows: How many rows run at once: steps × prompts are cut into such pieces, of one step
            of all prompts at the least. With hooks on the model each step runs by itself.
        **given: `attention_mask`, `decoder_input`, … of `forward`.

    Raises:
        InputError: for a baseline that fits neither form, a number of steps that the rule cannot
            take, a metric that gives no number per prompt, and as `forward`.
    """
    require_whole("max_rows", max_rows, 1)
    times, weights = quadrature(steps, rule)
    path = _Path(model, run_tensors(model, input, **given), metric, of, baseline)
    averaged = torch.zeros_like(path.difference)
    at_once = path.at_once(max_rows)
    for some, share in zip(times.split(at_once), weights.split(at_once), strict=True):
        gradients = wide(path.gradients(some)[1])
        averaged += torch.einsum("s,sbpd->bpd", share.to(gradients), gradients)
    value, baseline_value = path.ends(max_rows)
    vectors = averaged * path.difference
    attributions = vectors.sum(-1)
    error = attributions.sum(-1) - (value - baseline_value)
    return IntegratedGradients(
        attributions=attributions,
        vectors=vectors,
        value=value,
        baseline_value=baseline_value,
        error=error,
        embeddings=path.embeddings,
        baseline_embeddings=path.start,
        steps=steps,
        rule=rule,
    )


@_out_of_inference_mode()
def completeness_by_steps(
    model: HookedTransformer,
    input: Any,
    metric: Metric | LogitsFunction,
    baseline: Baseline = "zeros",
    steps: Sequence[int] = (1, 2, 4, 8, 16, 32),
    rule: Rule = "midpoint",
    of: Of = "input",
    max_rows: int = 64,
    **given: Any,
) -> Float[Tensor, "steps batch"]:
    """The error of completeness that `integrated_gradients` would have with so many steps.

    Arguments as there; `steps` holds several numbers.
    """
    require_whole("max_rows", max_rows, 1)
    require(len(steps) > 0, "steps must hold a number. Received none")
    rules = [quadrature(n, rule) for n in steps]
    path = _Path(model, run_tensors(model, input, **given), metric, of, baseline)
    # Points that several of them share are run once; the slope along the path is all that counts.
    points = sorted({t for times, _ in rules for t in times.tolist()})
    at_once = path.at_once(max_rows)
    slopes: dict[float, Tensor] = {}
    for start in range(0, len(points), at_once):
        some = points[start : start + at_once]
        gradients = wide(path.gradients(torch.tensor(some, dtype=torch.float64))[1])
        along = (gradients * path.difference).sum((-2, -1))
        slopes |= dict(zip(some, along, strict=True))
    value, baseline_value = path.ends(max_rows)
    found = []
    for times, weights in rules:
        parts = torch.stack([slopes[t] for t in times.tolist()])
        found.append(weights.to(parts) @ parts - (value - baseline_value))
    return torch.stack(found)


def quadrature(steps: int, rule: Rule) -> tuple[Steps, Steps]:
    """Points in 0 … 1 and their weights, which sum to 1, in fp64.

    Raises:
        InputError: for another rule, or fewer steps than it needs (`trapezoid`: 2, others: 1).
    """
    require_one_of("rule", rule, RULES)
    require_whole("steps", steps, 2 if rule == "trapezoid" else 1)
    if rule == "gauss":
        points, sizes = np.polynomial.legendre.leggauss(steps)
        return torch.from_numpy((points + 1) / 2), torch.from_numpy(sizes / 2)
    if rule == "trapezoid":
        weights = torch.full((steps,), 1.0 / (steps - 1), dtype=torch.float64)
        weights[[0, -1]] /= 2
        return torch.linspace(0.0, 1.0, steps, dtype=torch.float64), weights
    offset = {"left": 0.0, "midpoint": 0.5, "right": 1.0}[rule]
    times = (torch.arange(steps, dtype=torch.float64) + offset) / steps
    return times, torch.full((steps,), 1.0 / steps, dtype=torch.float64)


class _Path:
    """A straight line from a baseline's embeddings to those of the prompts.

    Attributes:
        embeddings, start: Of the prompts and of the baseline, `[batch, pos, d_model]`.
        difference: Prompt less baseline, in at least fp32; 0 at padding.
    """

    def __init__(
        self,
        model: HookedTransformer,
        prompts: dict[str, Tensor],
        metric: Metric | LogitsFunction,
        of: Of,
        baseline: Baseline,
    ) -> None:
        if not (isinstance(metric, Metric) or callable(metric)):
            raise InputError(
                f"metric must be a Metric or a function of logits. Received {metric!r}."
            )
        self.model, self.prompts, self.metric = model, prompts, metric
        self.hook = _embed_hook(model, of)
        self.batch = prompts["input"].shape[0]
        # What the hook gives, edits of hooks that are on the model included.
        embeds = self._run(prompts, ()).activations[self.hook]
        self.start = _baseline(model, embeds, prompts[of], baseline)
        real = prompts[of.replace("input", "attention_mask")].bool()[..., None].to(embeds.device)
        self.start = torch.where(real, self.start, embeds)
        self.embeddings, self.difference = embeds, wide(embeds) - wide(self.start)

    def gradients(
        self, times: Steps
    ) -> tuple[Float[Tensor, "step batch"], Float[Tensor, "step batch pos d_model"]]:
        """The metric and its gradient at these points of the path."""
        n = len(times)
        at = times.to(self.difference).view(-1, 1, 1, 1)
        # Exact at both ends: in low precision, or where experts are chosen, almost is not enough.
        points = torch.lerp(wide(self.start), wide(self.embeddings), at)
        points = points.to(self.start.dtype).flatten(0, 1)
        put = (self.hook, lambda x, hook: points)
        found = self._run(repeated(self.prompts, n), (put,), n)
        return found.value.unflatten(0, (n, -1)), found.gradients[self.hook].unflatten(0, (n, -1))

    def at_once(self, max_rows: int) -> int:
        """How many points of the path run at once.

        Hooks that were put on the model may act by row, and know of the prompts alone.
        """
        edited = self.model.watched_hooks()[1]
        return 1 if edited else max(max_rows // self.batch, 1)

    def ends(self, max_rows: int) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
        """The metric of the prompts, and of the baseline."""
        ends = torch.tensor([1.0, 0.0], dtype=torch.float64)
        if self.at_once(max_rows) > 1:
            value, baseline_value = self.gradients(ends)[0]
        else:
            value, baseline_value = (self.gradients(end)[0][0] for end in ends.split(1))
        return value, baseline_value

    def _run(self, prompts: dict[str, Tensor], fwd_hooks: Any, n: int = 1) -> Any:
        mask = self._mask()

        def of_each(logits: Tensor) -> Tensor:
            """The metric of every prompt, at every point: as it is of the prompts alone."""
            values = []
            for one in logits.unflatten(0, (n, -1)).unbind():
                if isinstance(self.metric, Metric):
                    metric = self.metric.prepared(self._tokens(), mask)
                    values.append(metric.per_prompt(one, mask))
                else:
                    values.append(self.metric(one))
                _check_per_prompt(values[-1], self.prompts)
            return torch.cat(values)

        return run_with_gradients(
            self.model,
            hooks=[self.hook],
            metric=of_each,
            fwd_hooks=fwd_hooks,
            **_arguments(prompts),
        )

    def _tokens(self) -> Int[Tensor, "batch pos"]:
        return self.prompts.get("decoder_input", self.prompts["input"])

    def _mask(self) -> Int[Tensor, "batch pos"]:
        name = "attention_mask"
        return self.prompts.get(f"decoder_{name}", self.prompts[name])


def _arguments(prompts: dict[str, Tensor]) -> dict[str, Any]:
    """As `run_with_gradients` names them."""
    return {"tokens" if name == "input" else name: x for name, x in prompts.items()}


def _embed_hook(model: HookedTransformer, of: Of) -> str:
    require_one_of("of", of, ("input", "decoder_input"))
    if model.cfg.architecture == "encoder-decoder":
        return "encoder.hook_embed" if of == "input" else "decoder.hook_embed"
    require(of == "input", "of='decoder_input' needs an encoder-decoder. This is not one")
    return "hook_embed"


def _baseline(
    model: HookedTransformer, embeds: Embeddings, tokens: Tensor, baseline: Baseline
) -> Embeddings:
    """The embeddings that the path begins with."""
    with torch.no_grad():
        if isinstance(baseline, str):
            require_one_of("baseline", baseline, ("zeros", "mean"))
            if baseline == "zeros":
                return torch.zeros_like(embeds)
            mean = wide(model.W_E.detach()).mean(0) * model.cfg.embed_scale
            return mean.to(embeds).expand_as(embeds).clone()
        if isinstance(baseline, bool) or not isinstance(baseline, int | Tensor):
            raise InputError(
                "baseline must be 'zeros', 'mean', a token, tokens or vectors. "
                f"Received {baseline!r}."
            )
        given = torch.as_tensor(baseline, device=embeds.device)
        d_model = embeds.shape[-1]
        if given.is_floating_point():
            fits = given.shape in ((d_model,), embeds.shape)
            rule = f"vectors of a baseline must be [{d_model}] or {list(embeds.shape)}"
            require(fits, f"{rule}. Received {list(given.shape)}")
            return given.to(embeds.dtype).expand_as(embeds).clone()
        require(
            given.dtype != torch.bool, "tokens of a baseline must be whole numbers, not booleans"
        )
        fits = given.shape in ((), tokens.shape[1:], tokens.shape)
        rule = f"tokens of a baseline must be one, {list(tokens.shape[1:])} or {list(tokens.shape)}"
        require(fits, f"{rule}. Received {list(given.shape)}")
        low, high = (int(x) for x in given.aminmax())
        top = model.cfg.d_vocab - 1
        require(low >= 0 and high <= top, f"tokens must lie in 0 … {top}. Received {low} … {high}")
        return model.embed(given.expand_as(tokens)).detach()


def _check_per_prompt(value: object, prompts: dict[str, Tensor]) -> None:
    batch = prompts["input"].shape[0]
    shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    require(
        shape == (batch,),
        f"the metric must give a number for each prompt, [{batch}], so that prompts stay apart. "
        f"Received {shape}",
    )
