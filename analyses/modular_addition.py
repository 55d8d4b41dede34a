"""How a model adds modulo p: its key frequencies, and how far it has come from knowing by heart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from analyses.base import Analysis, Parameters
from analyses.inputs.evenly import evenly
from analyses.registry import register
from analyses.results.checks import SCALED, scaled_error
from analyses.results.result import AnalysisResult, Check
from interp import zoo
from interp.charts.spec import Chart
from interp.fourier import from_waves, power_by_frequencies, to_waves
from interp.modular_addition import (
    Progress,
    Table,
    addition_logits,
    addition_table,
    embedding_power,
    key_frequencies,
    neuron_frequencies,
    power_of_sum,
    progress_measures,
    right_answers,
    rule_shares,
    sum_waves,
    why_not_addition,
)

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

EXACT = 1e-10  # all of it is fp64 arithmetic on the logits
CLUSTERED = 0.85  # of a neuron's variance, in Nanda et al. 2023


class ModularAdditionParams(Parameters):
    """What counts as a key frequency, and how much of the training is looked at."""

    min_share: float = Field(
        0.02,
        gt=0,
        le=1,
        description="A frequency is a key frequency if its waves of a + b - c explain this share "
        "of the logits' variance.",
    )
    over_training: bool = Field(
        True, description="Measure the snapshots of a zoo model's training too, where it has any."
    )
    snapshots: int = Field(
        20, ge=1, le=100, description="How many of them at most, evenly chosen, the last included."
    )


@dataclass(frozen=True)
class Training:
    """What is known of a model's training.

    Attributes:
        train_pairs: `[a, b]`, the pairs it was trained on.
        history: `step`, `loss`, `test_loss`, …
        measured: The progress measures and own key frequencies at each snapshot.
    """

    train_pairs: Bool[Tensor, "a b"]
    history: pd.DataFrame
    measured: dict[int, tuple[Progress, list[int]]]


@register
class ModularAddition(Analysis[ModularAdditionParams]):
    """Fourier analysis of logits, neurons and embeddings over the whole addition table.

    Source: Nanda et al. 2023, Progress measures for grokking via mechanistic interpretability.
    """

    name = "modular-addition"
    question = "On which Fourier frequencies does this model add modulo p, and since when?"
    caveat = (
        "Key frequencies are chosen from the very logits that they then explain, by the share "
        "min_share. Along training they are those of the model given here: a wave counts before "
        "the model has settled on it. That waves of a + b explain the logits does not say that "
        "their shape over the answers is the rule's, cos(w(a + b - c)); its share is given apart "
        "and is smaller. A restricted loss below the full one means that what was left out hurt. "
        "Losses are means, so that a few pairs may make up most of a small one."
    )

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """Models that read `a b =`: p numbers and one more token."""
        return why_not_addition(model)

    def quick(self, params: ModularAdditionParams) -> ModularAdditionParams:
        """Few snapshots."""
        return params.model_copy(update={"snapshots": 4})

    def run(self, model: HookedTransformer, params: ModularAdditionParams) -> AnalysisResult:
        """Run all pairs, take their logits apart, and look back along the training."""
        made = addition_table(model)
        keys = key_frequencies(made.logits, params.min_share)
        training = _training(model, params, keys, made.p)
        pairs = None if training is None else training.train_pairs.to(made.logits.device)
        progress = progress_measures(made.logits, keys, pairs)
        tables = {
            "summary": _summary(made, keys, progress),
            "frequencies": _frequencies(model, made, keys),
            "logit-power": _logit_power(made.logits),
            "heads": _heads(made),
        }
        if made.neurons is not None:
            tables["neuron-clusters"], tables["neurons"] = _neurons(made.neurons, keys)
        if training is not None and training.measured:
            tables["losses"] = _losses(training)
            tables["snapshots"] = _snapshots(training)
        return self.result(
            model,
            params,
            tables=tables,
            figures=_figures(tables, keys, made.p),
            checks=_checks(made.logits, keys),
        )


def _training(
    model: HookedTransformer, params: ModularAdditionParams, keys: Sequence[int], p: int
) -> Training | None:
    """The training of a zoo model whose split into training pairs and others is known."""
    from interp.zoo.recipes import modular_addition as recipe

    name = str(model.cfg.model_name)
    if name != recipe.NAME or p != recipe.MODULUS:
        return None
    entry = zoo.entries()[name]
    rows, _ = recipe.split(entry.training["seed"], entry.training["fraction"])
    pairs = torch.zeros(p, p, dtype=torch.bool)
    pairs[rows[:, 0], rows[:, 1]] = True
    measured = {}
    steps = evenly(zoo.checkpoints(name), params.snapshots) if params.over_training else []
    for step in steps:
        then = zoo.load(name, model.W_E.device, model.W_E.dtype, checkpoint=step)
        logits = addition_logits(then)
        found = key_frequencies(logits, params.min_share)
        measured[step] = progress_measures(logits, keys, pairs.to(logits.device)), found
    return Training(pairs, entry.history(), measured)


def _summary(made: Table, keys: Sequence[int], progress: Progress) -> pd.DataFrame:
    p = made.p
    right = right_answers(p, made.logits.device)
    accuracy = (made.logits.argmax(-1) == right).double().mean().item()
    known = progress.train_loss is not None
    on = "training pairs" if known else "all pairs (the training pairs are not known)"
    names = ", ".join(map(str, keys)) or "none"
    rows: list[tuple[str, float | None, str]] = [
        ("modulus", p, "numbers 0 … p - 1"),
        ("key frequencies", len(keys), f"largest share first: {names}"),
        ("variance explained by key waves of a + b", progress.explained.sum_waves,
         "cos(w(a + b)) and sin(w(a + b)), free for each answer; share of the logits' variance"),
        ("variance explained by the rule", progress.explained.rule,
         "cos(w(a + b - c)) and sin(w(a + b - c)) alone; share of the logits' variance"),
        ("accuracy", accuracy, "all pairs"),
        ("full loss", progress.loss, "nats, all pairs"),
        ("train loss", progress.train_loss, "nats, training pairs"),
        ("test loss", progress.test_loss, "nats, the other pairs"),
        ("restricted loss", progress.restricted_loss,
         "nats, all pairs: only key waves of a + b, and each answer's mean, kept"),
        ("excluded loss", progress.excluded_loss,
         f"nats, {on}: key waves of a + b taken out, all else kept"),
        ("excluded loss on all pairs", progress.excluded_loss_all, "nats"),
        ("chance", math.log(p), "nats, the loss of a guess: ln p"),
    ]  # fmt: skip
    kept = [row for row in rows if row[1] is not None]
    table = pd.DataFrame(kept, columns=["quantity", "value", "note"])
    return table.astype({"value": float})


def _frequencies(model: HookedTransformer, made: Table, keys: Sequence[int]) -> pd.DataFrame:
    embedded = embedding_power(model)[1:].cpu()
    centred = made.logits - made.logits.mean()
    total = centred.square().sum()
    frequencies = range(1, made.p // 2 + 1)
    waves = power_of_sum(made.logits).cpu() / total.cpu()
    neurons = torch.zeros(len(frequencies), dtype=torch.long)
    if made.neurons is not None:
        at = neuron_frequencies(made.neurons).frequency.cpu()
        neurons = torch.bincount(at, minlength=made.p // 2 + 1)[1:]
    return pd.DataFrame(
        {
            "frequency": frequencies,
            "rule": rule_shares(made.logits).cpu().numpy(),
            "sum_waves": waves.numpy(),
            "embedding": (embedded / embedded.sum()).numpy(),
            "neurons": neurons.numpy(),
            "kind": ["key" if k in keys else "other" for k in frequencies],
        }
    ).sort_values("sum_waves", ascending=False, kind="stable", ignore_index=True)


def _logit_power(logits: Float[Tensor, "a b answer"]) -> pd.DataFrame:
    """Shares of the logits' variance over pairs by frequency in a and in b, answers summed."""
    power = power_by_frequencies(logits, (0, 1)).sum(0)
    power[0, 0] = 0  # each answer's mean over pairs
    shares = (power / power.sum()).cpu()
    n = len(shares)
    table = pd.DataFrame(
        {
            "frequency_a": [i for i in range(n) for _ in range(n)],
            "frequency_b": list(range(n)) * n,
            "share": shares.flatten().numpy(),
        }
    )
    return table.sort_values("share", ascending=False, kind="stable", ignore_index=True)


def _heads(made: Table) -> pd.DataFrame:
    """How periodic the first layer's attention from `=` to the first number is."""
    found = neuron_frequencies(made.pattern[..., 0])
    mean = made.pattern.mean((0, 1)).cpu()
    return pd.DataFrame(
        {
            "head": [f"L0H{i}" for i in range(len(found.frequency))],
            "frequency": found.frequency.cpu().numpy(),
            "explained": found.explained.cpu().numpy(),
            "to_a": mean[:, 0].numpy(),
            "to_b": mean[:, 1].numpy(),
            "to_equals": mean[:, 2].numpy(),
        }
    )


def _neurons(
    neurons: Float[Tensor, "a b neuron"], keys: Sequence[int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    found = neuron_frequencies(neurons)
    table = pd.DataFrame(
        {
            "neuron": range(len(found.frequency)),
            "frequency": found.frequency.cpu().numpy(),
            "explained": found.explained.cpu().numpy(),
            "variance": found.variance.cpu().numpy(),
        }
    )
    alive = table[table["frequency"] > 0]
    clusters = alive.groupby("frequency").agg(
        neurons=("neuron", "size"),
        mean_explained=("explained", "mean"),
        clustered=("explained", lambda shares: int((shares >= CLUSTERED).sum())),
    )
    clusters = clusters.reset_index()
    kinds = ["key" if k in keys else "other" for k in clusters["frequency"]]
    return clusters.assign(kind=kinds), table


def _losses(training: Training) -> pd.DataFrame:
    """Losses by step, a row each; those on the training run's own log are marked as such."""
    parts = []
    for column, name in (("loss", "train"), ("test_loss", "test")):
        history = training.history[["step", column]].rename(columns={column: "loss"})
        parts.append(history.assign(measure=name, source="training log"))
    for name in ("restricted", "excluded"):
        losses = [getattr(of, f"{name}_loss") for of, _ in training.measured.values()]
        steps = list(training.measured)
        frame = pd.DataFrame({"step": steps, "loss": losses})
        parts.append(frame.assign(measure=name, source="snapshots"))
    return pd.concat(parts, ignore_index=True)[["step", "measure", "loss", "source"]]


def _snapshots(training: Training) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "step": step,
                "loss": of.loss,
                "train_loss": of.train_loss,
                "test_loss": of.test_loss,
                "restricted_loss": of.restricted_loss,
                "excluded_loss": of.excluded_loss,
                "explained_by_key_waves": of.explained.sum_waves,
                "explained_by_rule": of.explained.rule,
                "own_key_frequencies": ", ".join(map(str, own)) or "none",
            }
            for step, (of, own) in training.measured.items()
        ]
    )


def _figures(tables: dict[str, pd.DataFrame], keys: Sequence[int], p: int) -> dict[str, Chart]:
    listed = ", ".join(map(str, sorted(keys))) or "none"
    charts: dict[str, Any] = {
        "logits-by-frequency": Chart(
            kind="bars",
            table="frequencies",
            x="frequency",
            value="sum_waves",
            value_label="share of the logits' variance",
            color="kind",
            title=f"Waves of a + b in the logits (key frequencies: {listed})",
            alt=f"How much of the logits' variance cos(w(a + b)) and sin(w(a + b)) explain at each "
            f"frequency; the key frequencies are {listed}.",
        ),
        "embedding-by-frequency": Chart(
            kind="bars",
            table="frequencies",
            x="frequency",
            value="embedding",
            value_label="share of W_E's squares (without constants)",
            color="kind",
            title="Waves in the embedding of the numbers",
            alt="How the squares of the number embeddings divide over Fourier frequencies.",
        ),
        "logit-power": Chart(
            kind="heatmap",
            table="logit-power",
            x="frequency_a",
            y="frequency_b",
            value="share",
            x_label="frequency in a",
            y_label="frequency in b",
            value_label="share of the logits' variance over pairs",
            title="Products of waves in the logits",
            alt="The logits' power by frequency in a and in b: that of a model which adds lies on "
            "the diagonal, at few frequencies.",
        ),
    }
    if len(tables.get("neuron-clusters", ())):
        charts["neuron-clusters"] = Chart(
            kind="bars",
            table="neuron-clusters",
            x="frequency",
            value="neurons",
            title="Neurons by the frequency that explains most of each",
            alt="How many neurons have each frequency as the one that explains most of them.",
        )
    if "losses" in tables:
        charts["losses"] = Chart(
            kind="line",
            table="losses",
            x="step",
            y="loss",
            y_label="loss (nats)",
            color="measure",
            log_y=bool((tables["losses"]["loss"] > 0).all()),
            title=f"Progress over training (a guess costs ln {p} = {math.log(p):.2f})",
            alt="Train and test loss along the training run, and restricted and excluded loss at "
            "its snapshots.",
        )
    return charts


def _checks(logits: Float[Tensor, "a b answer"], keys: Sequence[int]) -> list[Check]:
    p = logits.shape[-1]
    total = logits.square().sum()
    back = from_waves(to_waves(logits, (0, 1)), (0, 1))
    chosen = list(keys) or [1]
    one_way = power_of_sum(logits)[torch.tensor(chosen, device=logits.device) - 1].sum()
    other_way = sum_waves(logits, chosen).square().sum()
    answers = right_answers(p, logits.device)
    by_sum = logits.new_zeros(p, p).index_add_(0, answers.flatten(), logits.flatten(0, 1)) / p
    all_waves = logits.mean((0, 1)) + sum_waves(logits, range(1, p // 2 + 1))
    return [
        Check(
            name="parseval",
            value=abs(float(power_by_frequencies(logits, (0, 1)).sum() / total) - 1),
            tolerance=EXACT,
            note="sum of squares of the logits' waves over that of the logits, less 1",
        ),
        Check(
            name="waves-and-back",
            value=scaled_error(back, logits),
            tolerance=EXACT,
            note=f"the logits written in waves of a and b and back; {SCALED}",
        ),
        Check(
            name="waves-of-the-sum-two-ways",
            value=float((one_way - other_way).abs() / total),
            tolerance=EXACT,
            note="squares of the waves of a + b from products of waves in a and b, against those "
            "of the projection that the losses use, over the logits' squares",
        ),
        Check(
            name="all-frequencies-keep-the-sum",
            value=scaled_error(all_waves, by_sum[answers]),
            tolerance=EXACT,
            note="logits restricted to every frequency, against their mean over pairs of equal "
            f"sum; {SCALED}",
        ),
    ]
