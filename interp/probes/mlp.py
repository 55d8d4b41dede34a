"""Small multilayer perceptrons at many sites at once: what a linear probe cannot read.

One hidden layer of rectified units, trained by Adam (Kingma & Ba 2015) on mini-batches. The sites
of one size are trained side by side by batched products, as ensembles are: each has weights, an
optimiser's state and an end of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from interp.errors import InputError, require_number, require_one_of, require_whole
from interp.probes.fit import MLPProbe, ProbeFit, log_probs_of
from interp.probes.given import (
    MAX_BYTES,
    SCALINGS,
    Chunk,
    Features,
    check_features,
    chunks,
    numbers,
    scales,
    variances,
    whole_classes,
)
from interp.probes.scores import (
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    class_scores,
    of_class,
    regression_scores,
)
from interp.probes.splits import Split

_BETAS, _EPS = (0.9, 0.999), 1e-8  # of Adam, as its authors have them


@dataclass(frozen=True)
class MLPTraining:
    """How MLP probes are trained.

    Attributes:
        hidden: Units of the hidden layer.
        lr: Adam's step size, for standardised features and targets.
        batch_size: Samples a step.
        max_epochs: Passes over the training samples.
        patience: How many epochs without a lower validation loss end a site's training.
        seed: Of initial weights and of the order of samples; both are the same for all sites of one
            size.

    Raises:
        InputError: for numbers that are not positive (the seed may be 0).
    """

    hidden: int = 64
    lr: float = 3e-3
    batch_size: int = 256
    max_epochs: int = 60
    patience: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden", "batch_size", "max_epochs", "patience"):
            require_whole(name, getattr(self, name), 1)
        require_whole("seed", self.seed, 0)
        require_number("lr", self.lr)


DEFAULT_TRAINING = MLPTraining()


def fit_mlp(
    features: Features,
    targets: Shaped[Tensor, "sample *output"],
    split: Split,
    *,
    classify: bool = False,
    training: MLPTraining = DEFAULT_TRAINING,
    scaling: str = "feature",
    numeric: bool = True,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    dtype: torch.dtype = torch.float32,
    max_bytes: int = MAX_BYTES,
) -> dict[str, ProbeFit]:
    """Fit a small MLP to the same targets at every site.

    The loss on training samples is the mean squared error of standardised targets, or of classes
    the cross-entropy. After every epoch it is measured on the validation samples; the weights of
    the epoch with the least are kept (early stopping, which is all the regularisation there is),
    and scored on the test samples. Training has no part in chance but the seed's; in fp32, another
    number of sites in the batch may change the rounding, and so the weights a little.

    Args:
        features: By site; sizes and dtypes may differ between sites.
        targets: Numbers `[sample]` or `[sample, output]`, or class ids `[sample]`.
        split: Which samples are for what.
        classify: Whether targets are class ids. The classes are those of the training samples.
        training: How.
        scaling: What features are divided by, as for `fit_ridge`.
        numeric: Of classes: whether ids are numbers of something, such as positions.
        bootstrap: How intervals of scores are made.
        dtype: Of weights and their training.
        max_bytes: How much memory the sites that are trained at once may take.

    Returns:
        By site, in the order given; `chosen` is the best epoch, from 1 on, `validation` the loss
        after each epoch.

    Raises:
        InputError: for features or targets that do not fit the split or are not finite (naming the
            site), or a training that diverged.
    """
    require_one_of("scaling", scaling, SCALINGS)
    check_features(features, split)
    device = next(iter(features.values())).device
    if classify:
        labels, classes = whole_classes(targets, split, device)
        given = _Given(labels, classes, False, training, scaling, numeric, bootstrap)
    else:
        y = numbers(targets, split, device)
        given = _Given(y, None, targets.ndim == 1, training, scaling, numeric, bootstrap)
    found: dict[str, ProbeFit] = {}
    per_sample = training.hidden + given.n_outputs
    for chunk in chunks(
        features, split, dtype, max_bytes, square=0, per_sample=per_sample, per_dim=per_sample * 6
    ):
        for fit in _fit_chunk(chunk, given):
            found[fit.site] = fit
    return {site: found[site] for site in features}


@dataclass(frozen=True)
class _Given:
    y: Tensor
    classes: Tensor | None
    one_target: bool
    training: MLPTraining
    scaling: str
    numeric: bool
    bootstrap: Bootstrap

    @property
    def n_outputs(self) -> int:
        return self.y.shape[1] if self.classes is None else self.classes.numel()


Weights = list[Tensor]  # w_in [site, dim, hidden], b_in, w_out [site, hidden, output], b_out


@torch.no_grad()
def _fit_chunk(chunk: Chunk, given: _Given) -> list[ProbeFit]:
    split, device, classes = chunk.split, given.y.device, given.classes
    rows = [split.rows(part, device) for part in ("train", "validation", "test")]
    y_train, y_validation, y_test = (given.y[r] for r in rows)
    x, mean = chunk.centred()
    scale = scales(variances(x), mean, given.scaling, chunk.resolution()).to(x.dtype)
    x /= scale[:, None]
    if classes is None:
        y_mean, y_scale = y_train.mean(0), y_train.std(0, correction=0)
        y_scale = torch.where(y_scale > 0, y_scale, 1.0)
        y_train = ((y_train - y_mean) / y_scale).to(x.dtype)
        y_validation = ((y_validation - y_mean) / y_scale).to(x.dtype)
    validation = (chunk.part("validation") - mean[:, None]).div_(scale[:, None])
    weights, best, history = _train(x, y_train, validation, y_validation, given, chunk.sites)
    del x, validation
    x = (chunk.part("test") - mean[:, None]).div_(scale[:, None])
    outputs = _forward(x, weights)
    groups = split.groups.to(device)[rows[2]]
    if classes is None:
        w_in, b_in, w_out, b_out = weights
        unit, origin = y_scale.to(x.dtype), y_mean.to(x.dtype)
        weights = [w_in, b_in, w_out * unit, b_out * unit + origin]
        scores = regression_scores(
            outputs.double() * y_scale + y_mean, y_test, groups, given.bootstrap
        )
    else:
        log_probs = log_probs_of(outputs.double())
        scores = class_scores(
            log_probs, y_test, classes, groups, given.bootstrap, numeric=given.numeric
        )
    chosen = best.tolist()
    return [
        ProbeFit(
            site,
            _probe(mean[i], scale[i], [w[i] for w in weights], given),
            float(chosen[i]),
            {float(epoch + 1): loss for epoch, loss in enumerate(history[i])},
            scores[i],
            mean[i].double(),
            scale[i].double(),
        )
        for i, site in enumerate(chunk.sites)
    ]


def _probe(mean: Tensor, scale: Tensor, weights: Weights, given: _Given) -> MLPProbe:
    w_in, b_in, w_out, b_out = (w.clone() for w in weights)
    return MLPProbe(
        mean.clone(), scale.clone(), w_in, b_in, w_out, b_out, given.classes, given.one_target
    )


def _initial(n_sites: int, dim: int, given: _Given, like: Tensor) -> Weights:
    """He's initialisation into the hidden layer; every site begins with the same weights."""
    hidden, n_outputs = given.training.hidden, given.n_outputs
    generator = torch.Generator().manual_seed(given.training.seed)
    w_in = torch.randn(dim, hidden, generator=generator, dtype=torch.float64) * (2 / dim) ** 0.5
    w_out = torch.randn(hidden, n_outputs, generator=generator, dtype=torch.float64) / hidden**0.5
    drawn = (w_in, torch.zeros(hidden), w_out, torch.zeros(n_outputs))
    return [w.to(like).expand(n_sites, *w.shape).clone() for w in drawn]


def _forward(x: Float[Tensor, "site sample dim"], weights: Weights) -> Tensor:
    w_in, b_in, w_out, b_out = weights
    return torch.baddbmm(b_out[:, None], torch.baddbmm(b_in[:, None], x, w_in).relu_(), w_out)


def _train(
    x: Float[Tensor, "site sample dim"],
    y: Tensor,
    validation: Float[Tensor, "site sample dim"],
    y_validation: Tensor,
    given: _Given,
    sites: tuple[str, ...],
) -> tuple[Weights, Tensor, list[list[float]]]:
    """The best weights of each site, their epochs from 1 on, and validation losses by epoch."""
    training, n = given.training, x.shape[1]
    weights = _initial(x.shape[0], x.shape[2], given, x)
    first = [torch.zeros_like(w) for w in weights]
    second = [torch.zeros_like(w) for w in weights]
    generator = torch.Generator().manual_seed(training.seed + 1)
    alive = torch.arange(x.shape[0], device=x.device)
    best_weights = [w.clone() for w in weights]
    best = torch.full((x.shape[0],), torch.inf, dtype=torch.float64, device=x.device)
    best_epoch = torch.zeros_like(best, dtype=torch.long)
    history: list[list[float]] = [[] for _ in sites]
    step = 0
    for epoch in range(1, training.max_epochs + 1):
        order = torch.randperm(n, generator=generator).to(x.device)
        for rows in order.split(training.batch_size):
            step += 1
            gradients = _gradients(x[:, rows], y[rows], weights, given)
            for w, g, m, v in zip(weights, gradients, first, second, strict=True):
                _adam(w, g, m, v, step, training.lr)
        losses = _loss(_forward(validation, weights), y_validation, given)
        values = losses.tolist()
        for site, value in zip(alive.tolist(), values, strict=True):
            if not math.isfinite(value):
                raise InputError(
                    f"the training of an MLP at {sites[site]!r} diverged: take a smaller lr "
                    f"than {training.lr:g}."
                )
            history[site].append(value)
        better = losses < best[alive]
        at = alive[better]
        best[at], best_epoch[at] = losses[better], epoch
        for kept, w in zip(best_weights, weights, strict=True):
            kept[at] = w[better]
        goes_on = epoch - best_epoch[alive] < training.patience
        if not bool(goes_on.all()):  # the others are left behind
            alive, x, validation = alive[goes_on], x[goes_on], validation[goes_on]
            weights, first, second = (
                [w[goes_on] for w in some] for some in (weights, first, second)
            )
            if alive.numel() == 0:
                break
    return best_weights, best_epoch, history


def _loss(outputs: Float[Tensor, "site sample output"], y: Tensor, given: _Given) -> Tensor:
    """Of each site, in fp64."""
    if given.classes is None:
        return (outputs - y).double().square().mean((1, 2))
    return -of_class(outputs.double().log_softmax(-1), y).mean(1)


def _gradients(
    x: Float[Tensor, "site sample dim"], y: Tensor, weights: Weights, given: _Given
) -> Weights:
    """Of the loss of a mini-batch, each site's with respect to its own weights."""
    w_in, b_in, w_out, b_out = weights
    hidden = torch.baddbmm(b_in[:, None], x, w_in).relu_()
    outputs = torch.baddbmm(b_out[:, None], hidden, w_out)
    if given.classes is None:
        back = (outputs - y) * (2 / y.numel())
    else:
        wanted = torch.nn.functional.one_hot(y, given.n_outputs).to(outputs.dtype)
        back = (outputs.softmax(-1) - wanted) / y.numel()
    inner = (back @ w_out.mT) * (hidden > 0)
    return [x.mT @ inner, inner.sum(1), hidden.mT @ back, back.sum(1)]


def _adam(w: Tensor, g: Tensor, m: Tensor, v: Tensor, step: int, lr: float) -> None:
    """One step, in place."""
    b1, b2 = _BETAS
    m.lerp_(g, 1 - b1)
    v.mul_(b2).addcmul_(g, g, value=1 - b2)
    root = (v / (1 - b2**step)).sqrt_().add_(_EPS)
    w.addcdiv_(m, root, value=-lr / (1 - b1**step))
