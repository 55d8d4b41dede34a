"""What ablations are asked for: components, what stands in their place, what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from analyses.inputs.pairs import PairParams, Pairs, Texts, resolve_pairs
from analyses.inputs.targets import resolve_token
from interp.errors import InputError, require
from interp.interventions import (
    Intervention,
    Mean,
    Noise,
    Place,
    Reference,
    Resample,
    Zero,
    applied,
    hooks_for,
)
from interp.patching import KLDivergence, LogProb, Loss, Metric, sites, sweep
from interp.zoo.tasks import task_of

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Kind = Literal["head", "mlp", "layer"]


class AblationsParams(PairParams):
    """The prompts, what is taken out, and what stands in its place."""

    ablation: Literal["zero", "mean", "resample", "noise"] = Field(
        "mean",
        description="What stands in the place of an activation: zero; its mean over the reference "
        "prompts; another reference prompt's; or itself with Gaussian noise.",
    )
    reference: Literal["corrupted", "clean", "random"] = Field(
        "corrupted",
        description="The reference prompts: the corrupted ones, the clean ones, or random tokens "
        "(the first token kept, if several prompts share it or it is BOS). Random where no prompts "
        "are corrupted.",
    )
    reference_prompts: Texts = Field(
        [], description="Reference prompts of your own, of as many tokens as the clean ones."
    )
    pooled: bool = Field(
        False, description="Take one mean over all positions instead of one for each."
    )
    noise: float = Field(
        1.0, gt=0, description="Of noise: its size, in standard deviations of the activations."
    )
    where: Literal["all", "position"] = Field(
        "all", description="Ablate at all positions, or only at the one where logits are read."
    )
    components: list[Kind] = Field(
        ["head", "mlp", "layer"],
        description="What is taken out: heads, MLPs, whole layers (attention and MLP together).",
        min_length=1,
    )
    sets: Texts = Field(
        [],
        description="Components to take out together, such as L0H1+L1H0+L1MLP; by default every "
        "pair of the leading heads and MLPs.",
    )
    leading: int = Field(
        4, ge=2, le=12, description="How many leading components to pair and to split by position."
    )
    steps: int = Field(
        6, ge=1, le=32, description="How many components to take out one after another."
    )
    candidates: int = Field(
        12, ge=2, le=64, description="How many leading components each greedy step chooses from."
    )
    draws: int = Field(
        4, ge=1, le=64, description="Of resample and noise: how many draws to take the mean over."
    )
    n_random: int = Field(64, ge=2, le=4096, description="How many random reference prompts.")
    seed: int = Field(0, ge=0, description="Of random prompts and draws.")

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        if self.pooled and self.ablation != "mean":
            raise ValueError(f"pooled belongs to ablation='mean', got ablation={self.ablation!r}")
        if self.reference_prompts and self.ablation == "zero":
            raise ValueError("zero ablation has no use for reference_prompts")
        return self


@dataclass(frozen=True)
class Component:
    """A head, an MLP or a layer."""

    label: str
    kind: Kind
    layer: int
    head: int | None
    hooks: tuple[str, ...]


@dataclass
class Setup:
    """The prompts, what stands in the place of activations, and what is measured.

    Attributes:
        positions: Which are ablated; None: all.
        recorded: The reference's activations.
        n_reference: How many prompts it has.
        metrics: Name → metric; `logit_diff` first.
        base: Name → its value without ablation, `[prompt]`.
        facts: Columns that every row has: ablation, reference, positions.
    """

    model: HookedTransformer
    params: AblationsParams
    pairs: Pairs
    positions: tuple[int, ...] | None
    recorded: Reference
    n_reference: int
    metrics: dict[str, Metric]
    facts: dict[str, str]
    base: dict[str, Float[Tensor, "prompt"]] = field(default_factory=dict)

    @property
    def draws(self) -> int:
        """How many runs each ablation takes."""
        return draws_of(self.params, self.n_reference)

    def items(self, components: Sequence[Component], draw: int) -> list[Intervention]:
        """The interventions that take these out."""
        found: list[Intervention] = []
        for component in components:
            for hook in component.hooks:
                place = Place(hook, heads=component.head, positions=self.positions)
                found.append(self.item(place, self.params.seed + draw))
        return found

    def item(self, place: Place, seed: int) -> Intervention:
        """The ablation asked for, of one place."""
        kind = self.params.ablation
        if kind == "zero":
            return Zero(place)
        if kind == "mean":
            return Mean(place, self.recorded, self.params.pooled)
        if kind == "resample":
            return Resample(place, self.recorded, seed)
        return Noise(place, self.params.noise, self.recorded, seed)

    def measured(
        self, logits: Float[Tensor, "prompt *pos d_vocab"]
    ) -> dict[str, Float[Tensor, "prompt"]]:
        """Every metric of full logits, as it is reported."""
        return {
            name: _reported(name, metric.per_prompt(logits))
            for name, metric in self.metrics.items()
        }

    def without(self, components: Sequence[Component]) -> dict[str, Float[Tensor, "prompt"]]:
        """Every metric of whole runs without these, the mean over draws."""
        found: list[dict[str, Tensor]] = []
        for draw in range(self.draws):
            with applied(self.model, self.items(components, draw)):
                found.append(self.measured(self.model(self.pairs.clean)))
        return {name: torch.stack([f[name] for f in found]).mean(0) for name in self.metrics}

    def mean_without(self, components: Sequence[Component]) -> dict[str, float]:
        """The same, the mean over prompts."""
        return {name: float(value.mean()) for name, value in self.without(components).items()}


def draws_of(params: AblationsParams, n_reference: int) -> int:
    """How many draws differ: one where nothing is drawn, or one prompt is all there is."""
    several = params.ablation == "noise" or (params.ablation == "resample" and n_reference > 1)
    return params.draws if several else 1


def make_setup(model: HookedTransformer, params: AblationsParams) -> Setup:
    """What is asked, resolved for one model, and the run that nothing is ablated in.

    Raises:
        InputError: for prompts that do not fit the model or one another.
    """
    pairs, has_corrupted = _pairs(model, params)
    tokens, words = _reference(model, params, pairs, has_corrupted)
    if params.ablation == "resample" or (params.ablation == "mean" and not params.pooled):
        clean = pairs.clean.tolist()
        require(
            tokens[0] not in clean or any(row != tokens[0] for row in tokens),
            "reference prompts must hold another than the clean prompt, which would be replaced by "
            f"itself. Received {len(tokens)} {words}",
        )
    hooks = [hook for c in components_of(model, ["head", "mlp", "layer"]) for hook in c.hooks]
    reference = Reference(tokens)
    recorded = reference.record(model, list(dict.fromkeys(hooks)))
    positions = None if params.where == "all" else (pairs.position,)
    logits = model(pairs.clean)
    at = pairs.metric.pos
    metrics: dict[str, Metric] = {
        "logit_diff": pairs.metric,
        "probability": LogProb(pairs.right, at),
        "kl": KLDivergence(logits, at),
    }
    cfg = model.cfg
    task = task_of(model)  # some say something else at every token than the next one
    predicts = cfg.architecture == "decoder" and not cfg.classifies
    predicts = predicts and (task is None or task.next_tokens)
    if predicts and pairs.n_pos > 1 and int(pairs.clean.max()) < cfg.d_vocab_out:
        metrics["loss"] = Loss(pairs.clean)
    n, draws = len(tokens), draws_of(params, len(tokens))
    drawn = f"{draws} draw{'s' if draws > 1 else ''}"
    what = {
        "zero": "zero",
        "mean": "mean, pooled over positions" if params.pooled else "mean at each position",
        "resample": f"resample, {drawn}",
        "noise": f"noise of {params.noise:g} standard deviations, {drawn}",
    }[params.ablation]
    words = words.replace("prompts", "prompt") if n == 1 else words
    facts = {
        "ablation": what,
        "reference": "none" if params.ablation == "zero" else f"{n} {words}",
        "positions": "all" if positions is None else str(pairs.position),
    }
    held = Reference(activations=recorded.activations)
    setup = Setup(model, params, pairs, positions, held, n, metrics, facts)
    setup.base = setup.measured(logits)
    return setup


def _pairs(model: HookedTransformer, params: AblationsParams) -> tuple[Pairs, bool]:
    """The prompts, and whether corrupted ones were given: they are not needed."""
    if params.corrupted or params.corrupted_tokens:
        return resolve_pairs(model, params), True
    same: dict[str, Any] = {
        "corrupted": params.clean,
        "corrupted_tokens": params.clean_tokens,
    }
    if not params.wrong:
        # The runner-up takes the part of the corrupted prompt's answer.
        any_two = {"right": ["#0"], "wrong": ["#1"]}
        probe = resolve_pairs(model, params.model_copy(update={**same, **any_two}))
        logits = model(probe.clean)
        here = logits if logits.ndim == 2 else logits[:, probe.position]
        first, second = here.topk(2, dim=-1).indices.T
        right = first
        if params.right:
            ids = [resolve_token(model, token) for token in params.right]
            require(
                len(ids) in (1, len(first)),
                f"right must be one answer, or one for each of {len(first)} prompts. "
                f"Received {len(ids)}",
            )
            right = torch.tensor(ids, device=first.device).expand(len(first))
        wrong = torch.where(first == right, second, first)
        same |= {"right": right.tolist(), "wrong": wrong.tolist()}
    return resolve_pairs(model, params.model_copy(update=same)), False


def _reference(
    model: HookedTransformer, params: AblationsParams, pairs: Pairs, has_corrupted: bool
) -> tuple[list[list[int]], str]:
    """Rows of tokens, and what they are."""
    if params.reference_prompts:
        rows = [
            model.tokenize(text, params.prepend_bos)[0][0].tolist()
            for text in params.reference_prompts
        ]
        lengths = {len(row) for row in rows}
        require(
            lengths == {pairs.n_pos} or (params.pooled and len(lengths) == 1),
            f"reference_prompts must have as many tokens as the clean prompts ({pairs.n_pos}). "
            f"Received {sorted(lengths)}",
        )
        return rows, "given prompts"
    if params.reference == "clean":
        return pairs.clean.tolist(), "clean prompts"
    if params.reference == "corrupted" and has_corrupted:
        return pairs.corrupted.tolist(), "corrupted prompts"
    generator = torch.Generator().manual_seed(params.seed)
    shape = (params.n_random, pairs.n_pos)
    tokens = torch.randint(model.cfg.d_vocab, shape, generator=generator)
    first = set(pairs.clean[:, 0].tolist())
    bos = None if model.tokenizer is None else model.tokenizer.bos_token_id
    if len(first) == 1 and (pairs.n_pairs > 1 or bos in first):
        tokens[:, 0] = first.pop()
    return tokens.tolist(), "prompts of random tokens"


def components_of(model: HookedTransformer, kinds: Sequence[Kind]) -> list[Component]:
    """Every component of these kinds, in the model's order.

    Raises:
        InputError: where the model has none of them.
    """
    cfg, found = model.cfg, []
    for layer in range(cfg.n_layers):
        z, out = f"blocks.{layer}.attn.hook_z", f"blocks.{layer}.hook_attn_out"
        mlp = f"blocks.{layer}.hook_mlp_out"
        if "head" in kinds:
            found += [
                Component(f"L{layer}H{head}", "head", layer, head, (z,))
                for head in range(cfg.n_heads)
            ]
        if "mlp" in kinds and not cfg.attn_only:
            found.append(Component(f"L{layer}MLP", "mlp", layer, None, (mlp,)))
        if "layer" in kinds:
            both = (out,) if cfg.attn_only else (out, mlp)
            found.append(Component(f"L{layer}", "layer", layer, None, both))
    if not found:
        raise InputError(f"components must be something the model has. Received {list(kinds)}.")
    return found


def _reported(name: str, values: Tensor) -> Tensor:
    return values.double().exp() if name == "probability" else values.double()


def replaced(
    setup: Setup, hooks: Sequence[str], draw: int
) -> dict[str, Float[Tensor, "prompt ..."]]:
    """What stands at these hooks in the place of the clean run's activations."""
    model = setup.model
    _, clean = model.run_with_cache(setup.pairs.clean, names_filter=list(hooks))
    items = [setup.item(Place(hook, positions=setup.positions), setup.params.seed + draw)
             for hook in hooks]  # fmt: skip
    return {
        hook: fn(clean[hook].clone(), hook=model.hook_dict[hook])
        for hook, fn in hooks_for(model, items)
    }


def swept_values(
    setup: Setup, kind: str, every: Sequence[Component]
) -> list[dict[str, Float[Tensor, "prompt"]]]:
    """Each component of a kind: every metric, the mean over draws, `[prompt]`."""
    chosen = [c for c in every if c.kind == kind]
    if not chosen:
        return []
    name = "z" if kind == "head" else "mlp_out"
    places = sites(setup.model, name, positions="all")
    found: dict[str, list[Tensor]] = {name: [] for name in setup.metrics}
    for draw in range(setup.draws):
        source = replaced(setup, places.hooks, draw)
        for name, metric in setup.metrics.items():
            swept = sweep(setup.model, setup.pairs.clean, source, places, metric)
            found[name].append(_reported(name, swept.values.flatten(0, -2)))
    means = {name: torch.stack(values).mean(0) for name, values in found.items()}
    return [{name: values[i] for name, values in means.items()} for i in range(len(chosen))]
