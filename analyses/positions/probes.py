"""What can be read of position at every site of a model: absolute, relative, and order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from analyses.base import Analysis
from analyses.inputs.prompts import token_texts
from analyses.positions.probe_dimensions import dimension_tables
from analyses.positions.probe_figures import probe_figures
from analyses.positions.probe_runs import SHUFFLED, ProbeRun, Settings, make_targets, run_probes
from analyses.positions.probe_tables import (
    by_layer_table,
    controls_table,
    heads_table,
    markers_table,
    probes_table,
    summary_table,
)
from analyses.positions.rows import RowsParams, resolve_rows
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from interp.position_effects.rows import Rows
from interp.probes import DEFAULT_ALPHAS, DEFAULT_CS, Bootstrap
from interp.probes.controls import random_twin, shuffled
from interp.probes.sites import HEADS, WHOLE, Site, sites_of
from interp.probes.targets import TargetName, Targets, ordinary_tokens

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

SHORTEST = 12  # tokens that a model must be able to read: a mark, and offsets from it
SHOWN = 8  # input rows kept with the result


class PositionProbesParams(RowsParams):
    """What is read, where, what is asked, and how probes are fitted."""

    sites: list[str] = Field(
        [*WHOLE, *HEADS],
        min_length=1,
        description="Where: kinds (embed, pos_embed, resid_pre, attn_out, resid_mid, mlp_out, "
        "resid_post; of each head q, k, v, rot_q, rot_k, z), hook names or globs.",
    )
    targets: list[Literal["position", "offset", "order"]] | None = Field(
        None,
        min_length=1,
        description="What is asked: a token's position, its offset from a marker token that is "
        "put into the row, which of two marker tokens came first; by default all, of a vocabulary "
        "without a token beside two markers the position alone.",
    )
    probes: list[Literal["ridge", "logistic", "mlp"]] = Field(
        ["ridge"],
        min_length=1,
        description="Ridge regression (of the order: logistic regression), logistic regression "
        "with a class for every position or offset, an MLP with one hidden layer.",
    )
    alphas: list[float] = Field(
        list(DEFAULT_ALPHAS), min_length=1, description="Penalties of ridge regression to choose "
        "from, by validation.",
    )  # fmt: skip
    cs: list[float] = Field(
        list(DEFAULT_CS),
        min_length=1,
        description="Inverse penalties of logistic regression to choose from.",
    )
    controls: bool = Field(
        True,
        description="Fit shuffled, control-task and relabelled targets too, and the best guess "
        "from the token alone.",
    )
    random_models: int = Field(
        1, ge=0, le=10, description="How many models of the same shape with random weights to "
        "probe beside this one.",
    )  # fmt: skip
    dimensions: bool = Field(
        True, description="Probe with few features and few directions too, along the stream."
    )
    markers: list[int] = Field(
        [],
        description="The two marker tokens, by id; by default the two tokens that are rarest in "
        "the rows.",
    )
    repeats: int = Field(
        4,
        ge=2,
        le=64,
        multiple_of=2,
        description="How many marked rows are made of each row, for offset and order.",
    )
    bootstrap: int = Field(
        1000, ge=100, le=100_000, description="Resamples of the test sequences, for intervals."
    )

    @field_validator("sites", "targets", "probes", mode="before")
    @classmethod
    def _one_name_is_a_list_of_one(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given

    @model_validator(mode="after")
    def _splits_in_three(self) -> PositionProbesParams:
        if self.sequences < 5:
            raise ValueError(
                "sequences must be at least 5, to be split into training, validation and test, "
                f"got {self.sequences}"
            )
        return self


@register
class PositionProbes(Analysis[PositionProbesParams]):
    """Linear probes (or small MLPs) for position at every site, beside what they must beat.

    Sources: Hewitt & Liang 2019, Designing and Interpreting Probes with Control Tasks (selectivity,
    §2); Haviv et al. 2022, Transformer Language Models without Positional Encodings Still Learn
    Positional Information; Belinkov 2022, Probing Classifiers, for what probes do not show.
    """

    name = "position-probes"
    question = "Where in the model can a token's position be read, and how much of that is learned?"
    caveat = (
        "A probe shows that position can be read at a site, not that the model reads it there. "
        "Much of it is there without training: read every figure beside that of random weights, "
        "since a causal mask alone gives an untrained model R² around 0.6. R² and accuracy say "
        "different things: R² 0.8 may come with an exact position in one token of twenty. Where "
        "position is a vector of its own, relabelled positions are read as well as true ones, for "
        "there is a direction for each; and a regression, which looks for one line along which "
        "positions lie in order, may miss what a class for every position reads exactly (the "
        "directions of the table `dimensions`). Of many sites some leave a 95 % interval by "
        "chance, and the best of many is above what it would be alone. Marker tokens that a model "
        "never saw in training may be easier, or harder, to find than others. Places where all "
        "rows hold the same token (BOS) are counted but not sampled."
    )

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """Models with one stack that read more than a few tokens."""
        cfg = model.cfg
        if cfg.architecture == "encoder-decoder":
            return "it has two stacks, and probes read one"
        if cfg.n_ctx < SHORTEST:
            return f"it reads {cfg.n_ctx} tokens, too few for offsets to differ"
        return None

    def quick(self, params: PositionProbesParams) -> PositionProbesParams:
        """Fewer rows and resamples."""
        return params.model_copy(update={"sequences": 40, "repeats": 2, "bootstrap": 200})

    def run(self, model: HookedTransformer, params: PositionProbesParams) -> AnalysisResult:
        """Probe the model and random ones of its shape for every target."""
        rows = resolve_rows(model, params)
        sites = sites_of(model, params.sites)
        names = params.targets or _askable(model)
        asked = make_targets(model, rows, names, params.markers, params.repeats, params.seed)
        twins = [random_twin(model, seed) for seed in _seeds(model, params)]
        settings = Settings(
            probes=params.probes,
            alphas=params.alphas,
            cs=params.cs,
            bootstrap=Bootstrap(params.bootstrap, seed=params.seed),
            seed=params.seed,
            controls=params.controls,
        )
        runs = [
            run for targets in asked for run in run_probes(model, twins, sites, targets, settings)
        ]
        tables: dict[str, pd.DataFrame] = {
            "best": summary_table(runs, sites),
            "probes": probes_table(runs, sites),
            "asked": markers_table(runs, _texts(model, asked)),
            "by-layer": by_layer_table(runs, sites),
        }
        if any(site.head is not None for site in sites):
            tables["heads"] = heads_table(runs, sites)
        if params.dimensions:
            tables |= dimension_tables(runs, sites, settings)
        tables["controls"] = controls_table(runs, sites)
        return self.result(
            model,
            params,
            tables=tables,
            figures=probe_figures(tables),
            checks=_checks(model, rows, sites, runs, params),
            tokens=rows.tokens[:SHOWN].tolist(),
            str_tokens=[token_texts(model, row) for row in rows.tokens[:SHOWN]],
        )


def _askable(model: HookedTransformer) -> list[TargetName]:
    enough = len(ordinary_tokens(model)) > 2
    return ["position", "offset", "order"] if enough else ["position"]


def _seeds(model: HookedTransformer, params: PositionProbesParams) -> list[int]:
    """Of the random models: other than the seed of the weights that the model began with."""
    candidates = range(params.seed + 1, params.seed + params.random_models + 2)
    return [seed for seed in candidates if seed != model.cfg.seed][: params.random_models]


def _texts(model: HookedTransformer, asked: Sequence[Targets]) -> dict[int, str]:
    markers = list(dict.fromkeys(token for targets in asked for token in targets.markers))
    return dict(zip(markers, token_texts(model, markers), strict=True))


# --- checks --------------------------------------------------------------------------------------


def _checks(
    model: HookedTransformer,
    rows: Rows,
    sites: Sequence[Site],
    runs: Sequence[ProbeRun],
    params: PositionProbesParams,
) -> list[Check]:
    checks = [
        Check(
            name="no-sequence-in-two-parts",
            value=max(_shared_sequences(run) for run in runs),
            tolerance=0,
            note="sequences with samples in two of training, validation and test",
        ),
        Check(
            name="features-are-the-caches",
            value=_features_error(model, sites, runs[0]),
            tolerance=TOLERANCES[model.cfg.dtype],
            note=f"features of the last row against those of run_with_cache on it alone; {SCALED}",
        ),
        Check(
            name="designs-are-balanced",
            value=max(_imbalance(run.targets) for run in runs),
            tolerance=1,
            note="of offsets at one place (of orders in all): how many more samples (rows) the "
            "most frequent has than the least",
        ),
    ]
    linear = [run for run in runs if run.probe != "mlp"]
    if linear:
        checks.append(
            Check(
                name="scores-two-ways",
                value=max(max(_scores_errors(run)) for run in linear),
                tolerance=1e-8,
                note="R² and accuracy of the table against those of each linear probe's "
                "predictions, at every site; largest |difference|",
            )
        )
    trained = [run for run in runs if run.probe == "mlp"]
    if trained:
        checks.append(
            Check(
                name="mlp-scores-two-ways",
                value=max(_scores_errors(run)[0] for run in trained),
                tolerance=1e-4,
                note="R² of the table against that of each MLP's predictions, which are made in "
                "fp32, at every site; largest |difference|",
            )
        )
    ridge = [run for run in runs if run.probe == "ridge"]
    if ridge:
        checks.append(
            Check(
                name="normal-equations",
                value=max(_normal_error(run) for run in ridge),
                tolerance=1e-8,
                note="(XᵀX + αI) w = Xᵀy at every site, X and y of the training samples, centred "
                "and scaled: largest |difference| over largest |Xᵀy|",
            )
        )
    if params.controls:
        checks.append(
            Check(
                name="shuffles-keep-the-targets",
                value=max(_changed(run, params.seed) for run in runs),
                tolerance=0,
                note=f"targets of each part whose number differs after they were {SHUFFLED}",
            )
        )
    return checks


def _shared_sequences(run: ProbeRun) -> float:
    split = run.split
    parts = [set(split.groups[x].tolist()) for x in (split.train, split.validation, split.test)]
    return float(sum(len(a & b) for i, a in enumerate(parts) for b in parts[:i]))


def _features_error(model: HookedTransformer, sites: Sequence[Site], run: ProbeRun) -> float:
    targets = run.targets
    row = targets.tokens[-1]
    names = list(dict.fromkeys(site.hook for site in sites))
    with torch.no_grad():
        _, cache = model.run_with_cache(row[None], names_filter=names, return_type=None)
    n = int(targets.sampled[-1].sum())
    errors = [0.0]
    for site in sites if n else ():
        expected = cache[site.hook][0, targets.sampled[-1]]
        expected = expected if site.head is None else expected[:, site.head]
        errors.append(scaled_error(run.features.of[site.label][-n:], expected))
    return max(errors)


def _scores_errors(run: ProbeRun) -> tuple[float, float]:
    """Of R² and accuracy, against what predictions give, one site at a time."""
    test = run.split.test
    y = run.targets.values[test].double()
    of_r2, of_accuracy = [0.0], [0.0]
    for label, fit in run.own.items():
        x = run.features.of[label][test]
        if fit.probe.classes is None:
            number = fit.probe.predict(x).double()
            right = number.round() == y
        else:
            number = fit.probe.log_probs(x).double().exp() @ fit.probe.classes.double()
            right = fit.probe.predict(x) == y
        r2 = 1 - (y - number).square().sum() / (y - y.mean()).square().sum()
        of_r2.append(abs(float(r2) - fit["r2"].value))
        of_accuracy.append(abs(float(right.double().mean()) - fit["accuracy"].value))
    return max(of_r2), max(of_accuracy)


def _normal_error(run: ProbeRun) -> float:
    train = run.split.train
    y = run.targets.values[train].double()
    y = y - y.mean()
    worst = [0.0]
    for label, fit in run.own.items():
        x = (run.features.of[label][train].double() - fit.mean) / fit.scale
        w = fit.weight[:, 0] * torch.where(fit.scale.isinf(), 0.0, fit.scale)
        cross = x.T @ y
        left = x.T @ (x @ w) + fit.chosen * w
        largest = cross.abs().max().clamp(min=1.0)
        worst.append(float((left - cross).abs().max() / largest))
    return max(worst)


def _imbalance(targets: Targets) -> float:
    if targets.name == "position":
        return 0.0
    if targets.name == "order":
        of_row = targets.values[_first_of_each(targets.rows)]
        ones = int(of_row.sum())
        return float(abs(len(of_row) - 2 * ones))
    width = int(targets.classes.max() - targets.classes.min()) + 1
    cell = targets.places * width + targets.values - targets.classes.min()
    counts = torch.bincount(cell, minlength=(int(targets.places.max()) + 1) * width)
    asked = torch.zeros_like(counts, dtype=torch.bool)
    places = targets.places.unique()
    offsets = targets.classes - targets.classes.min()
    asked[(places[:, None] * width + offsets).flatten()] = True
    return float(counts[asked].max() - counts[asked].min())


def _first_of_each(rows: Tensor) -> Tensor:
    """The first sample of each row; samples go row by row."""
    return torch.cat([rows.new_zeros(1), (rows[1:] != rows[:-1]).nonzero()[:, 0] + 1])


def _changed(run: ProbeRun, seed: int) -> float:
    before, after = run.targets.values, shuffled(run.targets, seed)
    if run.targets.name == "position":  # permuted within rows, so each part keeps its own
        parts = [run.split.train, run.split.validation, run.split.test]
    else:
        parts = [torch.arange(len(before), device=before.device)]
    return float(sum(int((before[x].sort().values != after[x].sort().values).sum()) for x in parts))
