"""Probes and their controls on one model: what `position-probes` puts into tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import InputError
from interp.position_effects.rows import Rows
from interp.probes import (
    Bootstrap,
    Estimate,
    MLPTraining,
    ProbeFit,
    Split,
    fit_logistic,
    fit_mlp,
    fit_ridges,
    regression_scores,
    split_by_group,
)
from interp.probes.controls import (
    Chance,
    chance_accuracy,
    control_task,
    most_frequent,
    relabelled,
    shuffled,
    token_baseline,
)
from interp.probes.sites import Features, Site, features_of
from interp.probes.targets import (
    TargetName,
    Targets,
    absolute_position,
    default_markers,
    relative_offset,
    token_order,
)

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

ProbeName = Literal["ridge", "logistic", "mlp"]
Fits = dict[str, ProbeFit]

MODEL = "this model"
TWIN = "random weights"
SHUFFLED, CONTROL, RELABELLED = "shuffled", "control task", "relabelled"
TOKEN = "token alone"
SCORES = ("r2", "accuracy", "mae")


@dataclass(frozen=True)
class Settings:
    """How probes are fitted.

    Attributes:
        probes: Which kinds.
        alphas: Penalties of ridge regression.
        cs: Inverse penalties of logistic regression.
        bootstrap: How intervals are made.
        seed: Of splits, shuffles and fits.
        controls: Whether controls are fitted.
    """

    probes: Sequence[ProbeName]
    alphas: Sequence[float]
    cs: Sequence[float]
    bootstrap: Bootstrap
    seed: int
    controls: bool


@dataclass(frozen=True)
class ProbeRun:
    """One kind of probe for one target, at all sites.

    Attributes:
        probe: The kind.
        targets: What was asked.
        split: Of the samples.
        features: Of the model.
        fits: Of every site, by what was fitted: the model itself, each control, each random twin.
        token: Scores of the best guess from the token alone; None without controls.
        chance: The accuracy of a guess.
    """

    probe: ProbeName
    targets: Targets
    split: Split
    features: Features
    fits: dict[str, Fits]
    token: dict[str, Estimate] | None
    chance: Chance

    @property
    def own(self) -> Fits:
        """The fits of the model itself."""
        return self.fits[MODEL]

    @property
    def twins(self) -> list[Fits]:
        """Those of each random twin."""
        return [fits for name, fits in self.fits.items() if name.startswith(TWIN)]


def make_targets(
    model: HookedTransformer,
    rows: Rows,
    names: Sequence[TargetName],
    markers: Sequence[int],
    repeats: int,
    seed: int,
) -> list[Targets]:
    """What is asked of a model that reads these rows.

    Raises:
        InputError: for markers that are not two tokens of the vocabulary, and as the targets do.
    """
    chosen = tuple(markers)
    if not chosen and set(names) - {"position"}:
        chosen = default_markers(model, rows.tokens, 2)
    n_vocab = model.cfg.d_vocab
    if chosen and not (len(set(chosen)) == 2 == len(chosen) and max(chosen) < n_vocab):
        raise InputError(
            f"markers must be two different tokens below {n_vocab}. Received {list(chosen)}."
        )
    causal = model.cfg.attention_dir == "causal"
    made: list[Targets] = []
    for name in dict.fromkeys(names):
        if name == "position":
            made.append(absolute_position(rows.tokens))
        elif name == "offset":
            made.append(relative_offset(rows.tokens, chosen[0], repeats, seed, causal))
        else:
            made.append(token_order(rows.tokens, (chosen[0], chosen[1]), repeats, seed))
    return made


def run_probes(
    model: HookedTransformer,
    twins: Sequence[HookedTransformer],
    sites: Sequence[Site],
    targets: Targets,
    settings: Settings,
) -> list[ProbeRun]:
    """Fit every kind of probe that suits a target, at all sites, and its controls."""
    read = [_features(each, sites, targets) for each in (model, *twins)]
    split = split_by_group(targets.groups, seed=settings.seed)
    token = _token_scores(targets, split, settings) if settings.controls else None
    test = split.test
    one_each = targets.name == "order"  # samples of a row share their answer
    n_guesses = len(targets.rows[test].unique()) if one_each else len(test)
    chance = chance_accuracy(most_frequent(targets.values), n_guesses)
    controls: dict[str, Int[Tensor, "sample"]] = {}
    if settings.controls:
        controls[SHUFFLED] = shuffled(targets, settings.seed)
        task = control_task(targets, settings.seed, split.train)
        if len(task[split.train].unique()) > 1:  # of very few tokens all may draw the same
            controls[CONTROL] = task
        if len(targets.classes) > 2:
            controls[RELABELLED] = relabelled(targets, settings.seed)
    runs = []
    for probe in _suited(settings.probes, targets.name):
        fit = _fitter(probe, split, settings, targets.name)
        fits = fit(read[0], {MODEL: targets.values, **controls})
        for i, features in enumerate(read[1:]):
            fits |= fit(features, {f"{TWIN} {i}": targets.values})
        runs.append(ProbeRun(probe, targets, split, read[0], fits, token, chance))
    return runs


def _features(model: HookedTransformer, sites: Sequence[Site], targets: Targets) -> Features:
    half = model.cfg.dtype.itemsize < 4
    return features_of(
        model,
        targets.tokens,
        sites,
        dtype=torch.float32 if half else None,
        sampled=targets.sampled,
    )


def _suited(probes: Sequence[ProbeName], target: TargetName) -> list[ProbeName]:
    """Ridge regression is for numbers: of the order, logistic regression takes its place."""
    if target != "order":
        return list(dict.fromkeys(probes))
    return list(dict.fromkeys("logistic" if probe == "ridge" else probe for probe in probes))


def _fitter(
    probe: ProbeName, split: Split, settings: Settings, target: TargetName
) -> Callable[[Features, Mapping[str, Tensor]], dict[str, Fits]]:
    def fit(features: Features, values: Mapping[str, Tensor]) -> dict[str, Fits]:
        once = _fit_once(probe, features.distinct, values, split, settings, target)
        return {
            name: {label: fits[features.same.get(label, label)] for label in features.of}
            for name, fits in once.items()
        }

    return fit


def _fit_once(
    probe: ProbeName,
    features: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    split: Split,
    settings: Settings,
    target: TargetName,
) -> dict[str, Fits]:
    bootstrap = settings.bootstrap
    numbers = {name: y.double() for name, y in values.items()}
    if probe == "ridge":
        return fit_ridges(features, numbers, split, settings.alphas, bootstrap=bootstrap)
    if probe == "logistic":
        return {
            name: fit_logistic(features, y, split, settings.cs, bootstrap=bootstrap)
            for name, y in values.items()
        }
    classify = target == "order"
    training = MLPTraining(seed=settings.seed)
    return {
        name: fit_mlp(features, y, split, classify=classify, training=training, bootstrap=bootstrap)
        for name, y in (values if classify else numbers).items()
    }


def _token_scores(targets: Targets, split: Split, settings: Settings) -> dict[str, Estimate]:
    """R² and MAE of the expected target given the token, accuracy of the most frequent one."""
    guess = token_baseline(targets, split.train, split.validation)
    of_test, groups = targets.values[split.test].double()[:, None], targets.groups[split.test]
    scores = []
    for found in (guess.numbers, guess.classes.double()):
        predicted = found[split.test][None, :, None]
        scores.append(regression_scores(predicted, of_test, groups, settings.bootstrap)[0])
    return {**scores[0], "accuracy": scores[1]["accuracy"]}
