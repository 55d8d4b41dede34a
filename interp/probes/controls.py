"""What a probe must beat: targets and models that should not be decodable, and what they say.

- `shuffled`: the same targets in another order. What remains is chance.
- `control_task`: a random target for every token of the vocabulary (Hewitt & Liang 2019, §2).
- `relabelled`: the same classes with their values permuted.
- `random_twin`: the model's architecture with fresh weights.
- `TokenBaseline`: the best guess from the token alone.

Every one is fitted as the probe itself is: same samples, same split, its own regularisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import require, require_number, require_whole
from interp.probes.targets import Targets

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

SMOOTHING = (0.0, 0.1, 1.0, 10.0, 100.0)
"""Samples' worth of the overall mean that the token baseline may add to each token's."""


def shuffled(targets: Targets, seed: int = 0) -> Int[Tensor, "sample"]:
    """The targets in an order that has nothing to do with what the model reads.

    Positions are permuted within each row: every row keeps its positions, none its order. Offsets
    and orders are permuted across rows, each place by itself (a row's own offsets say where its
    mark is; an order is the same throughout its row, and stays so). Both keep the frequency of each
    target at each place of the text, or in each row.

    Args:
        targets: The targets.
        seed: Of the permutation, which is the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    if targets.name == "order":
        rows = targets.rows.cpu()
        n_rows = len(targets.tokens)
        of_row = torch.zeros(n_rows, dtype=torch.long)
        of_row[rows] = targets.values.cpu()
        other = of_row[torch.randperm(n_rows, generator=generator)]
        return other[rows].to(targets.values.device)
    within = targets.rows if targets.name == "position" else targets.places
    return _permuted_within(targets.values, within, generator)


def _permuted_within(
    values: Tensor, groups: Tensor, generator: torch.Generator
) -> Int[Tensor, "sample"]:
    """Values permuted among the samples of each group."""
    n = len(values)
    order = groups.cpu().argsort(stable=True)
    # Random keys, sorted, then sorted by group: the groups in order, each in random order.
    drawn = torch.randperm(n, generator=generator)
    mixed = drawn[groups.cpu()[drawn].argsort(stable=True)]
    source = torch.empty(n, dtype=torch.long)
    source[order] = mixed
    return values[source.to(values.device)]


def control_task(
    targets: Targets, seed: int = 0, train: Int[Tensor, "train"] | None = None
) -> Int[Tensor, "sample"]:
    """A random target for each token of the vocabulary, drawn as frequent as the targets are.

    After Hewitt & Liang 2019, Designing and Interpreting Probes with Control Tasks, §2: the output
    is a function of the word type alone (structure), drawn independently for every type
    (randomness), so that only a probe that memorises types does well. The types here are tokens,
    as there; not positions, whose random outputs a representation with a dimension for every
    position would let any linear probe read off (`relabelled` is that). A probe's selectivity (§2)
    is what it reaches on its task less what it reaches here: low where the probe could have learned
    anything, high where the representation makes this task easy.

    Args:
        targets: The targets.
        seed: Of the draws.
        train: The training samples, if the targets are to be classes: tokens that these lack then
            draw from the values of those that they have, so that there is no class to be told that
            was not there to be learned.
    """
    generator = torch.Generator().manual_seed(seed)
    values = targets.values.cpu()
    types, tokens = targets.sample_tokens.cpu().unique(return_inverse=True)
    drawn = values[torch.randint(len(values), (len(types),), generator=generator)]
    if train is not None:
        known = torch.zeros_like(drawn, dtype=torch.bool)
        known[tokens[train.cpu()]] = True
        learned = drawn[tokens[train.cpu()]]  # as frequent as among the training samples
        again = torch.randint(len(learned), (len(types),), generator=generator)
        drawn = torch.where(known, drawn, learned[again])
    return drawn[tokens].to(targets.values.device)


def relabelled(targets: Targets, seed: int = 0) -> Int[Tensor, "sample"]:
    """The targets with their values permuted: each position has the number of a random other one.

    Where a probe does as well on these, the representation tells positions apart, but does not lay
    them out in order; one with a direction for every position is as easily read either way. Where
    it does worse, the order itself is there. Of two classes a permutation is the same task.

    Args:
        targets: The targets.
        seed: Of the permutation.
    """
    generator = torch.Generator().manual_seed(seed)
    classes = targets.classes
    permuted = classes[torch.randperm(len(classes), generator=generator).to(classes.device)]
    return permuted[targets.class_ids]


def random_twin(model: HookedTransformer, seed: int = 1) -> HookedTransformer:
    """A model of the same architecture with fresh weights, on the same device.

    Weights are drawn as those of any new model (`cfg.initializer_range`), which need not be how
    this one began. It has the tokenizer, and no hooks.

    Args:
        model: The model.
        seed: Of the weights; not the model's own `cfg.seed`, which may be the weights it began as.

    Raises:
        InputError: for a seed that is not a whole number, or is the model's own.
    """
    from interp.transformer import HookedTransformer

    require_whole("seed", seed, 0)
    require(
        seed != model.cfg.seed,
        f"seed must be another than the model's own, cfg.seed. Received {seed}",
    )
    cfg = model.cfg.replace(seed=seed, init_weights=True, tokenizer_name=None)
    return HookedTransformer(cfg, model.tokenizer).eval()


@dataclass(frozen=True)
class TokenBaseline:
    """The best guess from a sample's own token.

    Attributes:
        numbers: `[sample]`: the mean target of the token's training samples, drawn towards the
            overall mean by `smoothing` samples.
        classes: `[sample]`: the most frequent target of the token's training samples (of a token
            without any: of all).
        smoothing: Chosen for the least squared error on the validation samples.
    """

    numbers: Float[Tensor, "sample"]
    classes: Int[Tensor, "sample"]
    smoothing: float


def token_baseline(
    targets: Targets,
    train: Int[Tensor, "row"] | Bool[Tensor, "sample"],
    validation: Int[Tensor, "row"] | Bool[Tensor, "sample"],
    smoothing: Sequence[float] = SMOOTHING,
) -> TokenBaseline:
    """What the token alone says of the target, learned from the training samples.

    For numbers it is ridge regression on one-hot tokens about the training mean, solved token by
    token: (n · mean of the token + s · overall mean) / (n + s).

    Args:
        targets: The targets.
        train, validation: Indices or a mask of the samples.
        smoothing: What s is chosen from.

    Raises:
        InputError: for no training or validation samples, or smoothing that is negative.
    """
    for value in smoothing:
        require_number("smoothing", value, zero=True)
    require(bool(smoothing), "smoothing must have at least one value. Received none")
    types, tokens = targets.sample_tokens.unique(return_inverse=True)
    values = targets.values.double()
    known, asked = tokens[train], tokens[validation]
    require(len(known) > 0, "there must be training samples. Received none")
    require(len(asked) > 0, "there must be validation samples. Received none")
    n_types = len(types)
    overall = values[train].mean()
    n = torch.bincount(known, minlength=n_types).double()
    total = torch.zeros_like(n).index_add_(0, known, values[train] - overall)
    guesses = torch.stack([_smoothed(total, n, s) for s in smoothing]) + overall
    errors = (guesses[:, asked] - values[validation]).square().mean(1)
    best = int(errors.argmin())
    classes, ids = targets.classes, targets.class_ids
    counts = torch.zeros(n_types, len(classes), device=tokens.device, dtype=torch.float64)
    counts.index_put_((known, ids[train]), torch.ones_like(values[train]), accumulate=True)
    frequent = torch.where(n > 0, counts.argmax(1), counts.sum(0).argmax())
    return TokenBaseline(guesses[best][tokens], classes[frequent[tokens]], float(smoothing[best]))


def _smoothed(total: Tensor, n: Tensor, s: float) -> Float[Tensor, "token"]:
    """How far each token's mean lies above the overall one; 0 for a token never seen."""
    return torch.where(n > 0, total / (n + s).clamp(min=1e-300), 0.0)


@dataclass(frozen=True)
class Chance:
    """The accuracy of guesses that have nothing to do with the target.

    Attributes:
        accuracy: Expected.
        low, high: Between which the accuracy of that many guesses lies with the given probability.
    """

    accuracy: float
    low: float
    high: float


def chance_accuracy(accuracy: float, n: int, level: float = 0.95) -> Chance:
    """Chance with the interval that n independent guesses fall into.

    The interval is the binomial distribution's, from its (1 - level) / 2 quantile to its
    (1 + level) / 2 quantile. Of many sites 1 - level are expected outside it by chance; but where
    nothing can be read all guess the same constant, and leave it together.

    Args:
        accuracy: Of a guess: with k equally frequent classes 1 / k.
        n: How many guesses are independent. Within a row targets that were permuted are nearly so;
            samples that share one target are one guess.
        level: The probability.

    Raises:
        InputError: for an accuracy or level outside 0 … 1, or no guesses.
    """
    require(0 <= accuracy <= 1, f"accuracy must lie in 0 … 1. Received {accuracy!r}")
    require(0 < level < 1, f"level must lie between 0 and 1. Received {level!r}")
    require_whole("n", n, 1)
    hits = torch.arange(n + 1, dtype=torch.float64)
    total = torch.tensor(float(n), dtype=torch.float64)
    log_ways = torch.lgamma(total + 1) - torch.lgamma(hits + 1) - torch.lgamma(total - hits + 1)
    p = torch.tensor(accuracy, dtype=torch.float64)
    log_p = log_ways + torch.xlogy(hits, p) + torch.xlogy(total - hits, 1 - p)
    below = log_p.exp().cumsum(0)
    tail = (1 - level) / 2
    low, high = (int((below < q).sum()) for q in (tail, 1 - tail))
    return Chance(accuracy, low / n, min(high, n) / n)


def most_frequent(values: Int[Tensor, "sample"]) -> float:
    """The share of the most frequent target: what the best constant guess gets right."""
    return float(values.unique(return_counts=True)[1].max() / len(values))
