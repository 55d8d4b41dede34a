"""Computation in superposition: absolute values of more features than there are neurons for."""

from __future__ import annotations

import torch
from pydantic import Field

from analyses.base import Analysis
from analyses.registry import register
from analyses.results.result import AnalysisResult, Check
from analyses.superposition.absolute_tables import figures, tables_of
from analyses.superposition.fractions import FromDensest
from analyses.superposition.neurons import NeuronToys, slope_check
from analyses.superposition.training import (
    BatchSize,
    Steps,
    TrainedToys,
    WeightDecay,
    device_of,
    loss_check,
    train_toys,
)
from interp.progress import stage
from interp.toys import ReconstructionLoss, SparseFeatures, ToyModel, geometric_importance


class AbsoluteParams(TrainedToys):
    """Which toys are trained, and what counts as the asymmetric motif."""

    steps: Steps = 4000
    batch_size: BatchSize = 512
    lr: float = Field(
        3e-3,
        gt=0,
        description="AdamW's highest learning rate, reached after a quarter of the steps; it falls "
        "to 0.",
    )
    weight_decay: WeightDecay = 0.0
    init_scale: float = Field(
        0.1,
        gt=0,
        le=10,
        description="Times Xavier's initial weights. At large ones the biases of sparse features "
        "fall at once, and outputs die before they have learnt anything.",
    )
    importance: float = Field(
        0.8, gt=0, le=1, description="Of each feature, times that of the one before it."
    )
    few_features: int = Field(3, ge=1, le=100, description="Features of the small toys.")
    few_neurons: int = Field(6, ge=1, le=200, description="Neurons of the small toys.")
    few_densities: FromDensest = Field(
        [1.0, 0.5, 0.2, 0.1, 0.05], min_length=1, description="Of the small toys."
    )
    few_seeds: int = Field(8, ge=1, le=10_000, description="Small toys of each density.")
    n_features: int = Field(100, ge=2, le=1000, description="Features of the large toys.")
    n_neurons: int = Field(40, ge=1, le=1000, description="Neurons of the large toys.")
    densities: FromDensest = Field(
        [1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01],
        min_length=2,
        description="Of the large toys.",
    )
    n_seeds: int = Field(1, ge=1, le=1000, description="Large toys of each density.")
    ratio: float = Field(
        2.0,
        gt=1,
        le=100,
        description="How many times the one input weight is the other in an asymmetric pair, and "
        "the other output weight the one.",
    )


@register
class SuperpositionAbs(Analysis[AbsoluteParams]):
    """Neurons that compute the absolute values of features, and how features come to share them.

    Elhage et al. 2022, Toy Models of Superposition, “Computation in Superposition”: features in
    -1 … 1, x' = ReLU(W_out ReLU(W x) + b) trained to be |x|. Without superposition a feature takes
    two neurons, as |x| = ReLU(x) + ReLU(-x): n = 3, m = 6. With n = 100, m = 40 and importance
    0.8^i features share neurons the more the sparser they are. In the asymmetric motif two features
    share a neuron with large input and small output weight for the one and the reverse for the
    other, so that interference goes one way only, where another neuron inhibits it.

    Densities, seeds, training and what counts as serving, sharing and inhibiting are not the
    paper's: initial weights, warm-up and learning rate were chosen after runs in which outputs of
    sparse features died (see the caveat). `findings` has words for what the paper's pictures of
    weights show, of which it quotes no numbers, beside counts.

    The default trains 40 small toys and 7 large ones for 4,000 steps of 512 examples: about 50
    seconds of one CPU core.
    """

    name = "superposition-abs"
    question = (
        "How do toys compute the absolute values of more features than they have neurons for?"
    )
    needs_model = False
    lengthy = True
    caveat = (
        "One large toy a density by default: another seed has other neurons and other counts of "
        "the motif. What sparse toys become hangs on how they begin: with Xavier's weights in full "
        "and no warm-up their loss ends ten times as high or more, important features have no "
        "neurons and outputs are dead; that is the training's doing, not superposition. Toys of "
        "density 1 gain nothing by it, and leave neurons idle. Neurons "
        "count as serving a feature from a quarter of its output on, so that a neuron that does a "
        "little for very many is idle in these counts; with that in mind read monosemanticity "
        "beside them. It is taken over features that come back, for the weights of others may be "
        "those of the start. Motifs are found by weights, with a ratio that is a choice; that an "
        "inhibiting neuron is there does not say that it is there because of the motif: trained "
        "toys inhibit nearly all interference, which is counted beside. Feature "
        "sizes do not matter, as there is no hidden bias, but only one feature at a time is looked "
        "at."
    )

    def quick(self, params: AbsoluteParams) -> AbsoluteParams:
        """Few toys, trained faster; the large ones small."""
        smaller = {
            "steps": 500,
            "batch_size": 128,
            "lr": 0.03,
            "few_densities": [0.5],
            "few_seeds": 4,
            "n_features": 30,
            "n_neurons": 12,
            "importance": 0.8,
            "densities": [0.5, 0.1, 0.03],
        }
        return params.model_copy(update=smaller)

    def run(self, model: None, params: AbsoluteParams) -> AnalysisResult:
        """Train the small toys in one stack, the large ones in another."""
        with stage(0, 2, "small toys"):
            few, checks = _train(
                params,
                params.few_features,
                params.few_neurons,
                params.few_densities,
                params.few_seeds,
            )
        with stage(1, 2, "large toys"):
            many, more = _train(
                params, params.n_features, params.n_neurons, params.densities, params.n_seeds
            )
        tables = tables_of(few, many, params.ratio)
        return self.result(
            model,
            params,
            tables=tables,
            figures=figures(tables, params.n_neurons),
            checks=[*checks, *more],
        )


def _train(
    params: AbsoluteParams, n_features: int, n_neurons: int, densities: list[float], n_seeds: int
) -> tuple[NeuronToys, list[Check]]:
    device = device_of(params)
    density = torch.tensor(densities).repeat_interleave(n_seeds)
    seeds = torch.arange(n_seeds).repeat(len(densities)) + params.seed
    count = len(density)
    models = ToyModel(
        count,
        n_features,
        n_neurons,
        hidden="relu",
        tied=False,
        init_scale=params.init_scale,
        seeds=seeds,
        device=device,
    )
    data = SparseFeatures.of(
        count,
        n_features,
        density[:, None],
        values="signed",
        target="absolute",
        seeds=seeds,
        device=device,
    )
    importance = geometric_importance(n_features, params.importance, device=device)
    loss = ReconstructionLoss.of(count, n_features, importance, device=device)
    # Slow at first: a bias that overshoots a small mean target switches its output off for good.
    train_toys(models, data, loss, params, decay="cosine", warmup_steps=params.steps // 4)
    toys = NeuronToys.of(models, data, loss, densities, n_seeds)
    name = f"{n_features} features"
    check = loss_check(models, data, loss)
    return toys, [
        Check(f"{check.name} ({name})", check.value, check.tolerance, check.note),
        slope_check(models, toys, name),
    ]
