"""How a model adds modulo p: what its logits over the whole addition table are made of.

Nanda et al. (2023), Progress measures for grokking via mechanistic interpretability. A model that
has found the rule writes a number's place on a few circles, one for each key frequency k with
w = 2πk/p, and its logits are close to a sum of cos(w(a + b - c)) over these. Two losses tell how
far it has come: the restricted one, of the logits with nothing but those waves, and the excluded
one, of the logits without them.

Everything here takes logits `[a, b, answer]` of all pairs, so that it also fits a model that is not
of the zoo.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import require
from interp.fourier import power_by_frequencies, power_by_frequency, to_waves

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Logits = Float[Tensor, "a b answer"]


def why_not_addition(model: HookedTransformer) -> str | None:
    """Why a model cannot be one that reads `a b =` and answers modulo p; None if it can.

    Such a model has p numbers and one token that asks for the answer in its vocabulary, in this
    order, reads three tokens, gives a logit to every number, and has an odd p of at least 5.
    """
    cfg = model.cfg
    if cfg.architecture != "decoder" or cfg.head != "lm":
        return "it does not answer at the last position of one sequence (a decoder with logits)"
    if not cfg.n_layers:
        return "it has no layers"
    if cfg.n_ctx != 3:
        return f"it reads {cfg.n_ctx} tokens, not the three of `a b =`"
    p = cfg.d_vocab - 1
    if cfg.d_vocab_out not in (p, p + 1):
        return f"its {cfg.d_vocab_out} answers are not the {p} numbers of its vocabulary"
    if p < 5 or p % 2 == 0:
        return f"its modulus must be odd and at least 5 ({p})"
    return None


def modulus_of(model: HookedTransformer) -> int:
    """The p of a model that adds modulo p.

    Raises:
        InputError: if it cannot be one; see `why_not_addition`.
    """
    reason = why_not_addition(model)
    require(reason is None, f"the model must read `a b =` and answer modulo p: {reason}")
    return model.cfg.d_vocab - 1


@dataclass(frozen=True)
class Table:
    """What a model makes of all pairs, in fp64.

    Attributes:
        logits: `[a, b, answer]` at the last position, of the numbers alone.
        neurons: `[a, b, neuron]`, what the first layer's neurons give there; None without an MLP,
            or with experts instead of one.
        pattern: `[a, b, head, key_pos]`, where the first layer's heads look from there.
    """

    logits: Logits
    neurons: Float[Tensor, "a b neuron"] | None
    pattern: Float[Tensor, "a b head key_pos"]

    @property
    def p(self) -> int:
        """The modulus."""
        return self.logits.shape[-1]


@torch.no_grad()
def addition_table(model: HookedTransformer, batch: int = 4096) -> Table:
    """Run a model on every pair.

    Args:
        model: One that reads `a b =`.
        batch: Pairs run at a time.

    Raises:
        InputError: if it cannot add modulo p; see `why_not_addition`.
    """
    p = modulus_of(model)
    has_neurons = not model.cfg.attn_only and not model.cfg.num_experts
    names = ["blocks.0.attn.hook_pattern", *["blocks.0.mlp.hook_post"] * has_neurons]
    kept: dict[str, list[Tensor]] = {"logits": [], **{name: [] for name in names}}
    for part in _rows(model, p).split(batch):
        logits, cache = model.run_with_cache(part, names_filter=names)
        kept["logits"].append(logits[:, -1, :p].double())
        kept[names[0]].append(cache[names[0]][:, :, -1].double())
        if has_neurons:
            kept[names[1]].append(cache[names[1]][:, -1].double())
    whole = {
        name: rearrange(torch.cat(parts), "(a b) ... -> a b ...", a=p)
        for name, parts in kept.items()
    }
    return Table(whole["logits"], whole[names[1]] if has_neurons else None, whole[names[0]])


@torch.no_grad()
def addition_logits(model: HookedTransformer, batch: int = 4096) -> Logits:
    """The logits of `addition_table` alone, in fp64, with nothing of the run recorded.

    Raises:
        InputError: if the model cannot add modulo p; see `why_not_addition`.
    """
    p = modulus_of(model)
    found = [model(part)[:, -1, :p].double() for part in _rows(model, p).split(batch)]
    return rearrange(torch.cat(found), "(a b) answer -> a b answer", a=p)


def _rows(model: HookedTransformer, p: int) -> Int[Tensor, "pair pos"]:
    """`a b =` of every pair, a by a."""
    numbers = torch.arange(p, device=model.W_E.device)
    return torch.cartesian_prod(numbers, numbers, torch.tensor([p], device=numbers.device))


def right_answers(p: int, device: torch.device | str = "cpu") -> Int[Tensor, "a b"]:
    """(a + b) mod p."""
    numbers = torch.arange(p, device=device)
    return (numbers[:, None] + numbers) % p


def answer_loss(logits: Logits, pairs: Bool[Tensor, "a b"] | None = None) -> float:
    """Mean cross-entropy of the right answers in nats, over all pairs or those marked.

    Raises:
        InputError: if no pair is marked.
    """
    return _mean_of(_losses(logits), pairs)


def _losses(logits: Logits) -> Float[Tensor, "a b"]:
    right = right_answers(_checked(logits), logits.device)
    return F.cross_entropy(logits.flatten(0, 1), right.flatten(), reduction="none").view_as(right)


def _mean_of(losses: Float[Tensor, "a b"], pairs: Bool[Tensor, "a b"] | None) -> float:
    if pairs is None:
        return losses.mean().item()
    require(bool(pairs.any()), "pairs must mark at least one pair. None is")
    return losses[pairs.to(losses.device)].mean().item()


def sum_waves(logits: Logits, frequencies: Collection[int]) -> Logits:
    """The part of the logits made of cos(w(a + b)) and sin(w(a + b)) at these frequencies.

    The orthogonal projection of every answer's logit, as a function of a and b, on those two waves
    of each frequency; how much of each an answer has is free.

    Raises:
        InputError: for a frequency that is not in 1 … p // 2, or is named twice.
    """
    p = _checked(logits)
    chosen = _checked_frequencies(frequencies, p)
    number = torch.arange(p, device=logits.device)
    angle = (torch.tensor(chosen, dtype=torch.long, device=logits.device)[:, None] * number % p).to(
        logits
    )
    angle = angle * (2 * math.pi / p)
    waves = torch.cat([angle.cos(), angle.sin()]) * (2 / p) ** 0.5  # orthonormal on the sums
    # Waves of the sum are constant where the sum is, so the mean over pairs of equal sum is enough.
    return (waves.T @ (waves @ _by_sum(logits)))[right_answers(p, logits.device)]


def _by_sum(logits: Logits) -> Float[Tensor, "sum answer"]:
    """The mean over the pairs of each sum modulo p."""
    p = logits.shape[0]
    total = right_answers(p, logits.device).flatten()
    return logits.new_zeros(p, p).index_add_(0, total, logits.flatten(0, 1)) / p


def restricted_logits(logits: Logits, frequencies: Collection[int]) -> Logits:
    """The logits with nothing but these waves of a + b, and each answer's mean over all pairs.

    Nanda et al. (2023), section 5: all terms of the logits' transform over a and b are set to zero
    save the constant one and those of cos(w(a + b)) and sin(w(a + b)) at the key frequencies.
    """
    return logits.mean((0, 1)) + sum_waves(logits, frequencies)


def excluded_logits(logits: Logits, frequencies: Collection[int]) -> Logits:
    """The logits without these waves of a + b, everything else kept."""
    return logits - sum_waves(logits, frequencies)


def power_of_sum(logits: Logits) -> Float[Tensor, "frequency"]:
    """Squares of the waves of a + b at frequencies 1 … p // 2, from the products of waves.

    cos(w(a + b)) = cos wa cos wb - sin wa sin wb and sin(w(a + b)) = sin wa cos wb + cos wa sin wb,
    so that of an orthonormal basis each takes two products with weights ±1/√2.
    """
    waves = to_waves(logits, (0, 1))
    cos, sin = slice(1, None, 2), slice(2, None, 2)
    cos_cos, sin_sin, sin_cos, cos_sin = (
        waves[first, second].diagonal(dim1=0, dim2=1)  # [answer, frequency]
        for first, second in ((cos, cos), (sin, sin), (sin, cos), (cos, sin))
    )
    return ((cos_cos - sin_sin).square() + (sin_cos + cos_sin).square()).sum(0) / 2


@dataclass(frozen=True)
class Explained:
    """How much of the logits' variance certain waves explain, 0 … 1.

    Variance is the mean square of the logits about their mean over all pairs and answers.

    Attributes:
        sum_waves: By cos(w(a + b)) and sin(w(a + b)), free for each answer: what restricted logits
            keep beside the mean.
        rule: By cos(w(a + b - c)) and sin(w(a + b - c)) alone, one number each per frequency: the
            rule itself, which also fixes how answers differ. The stricter number, and the nearer to
            Nanda et al. (2023), section 4, who fit the cosines alone to the logits.
    """

    sum_waves: float
    rule: float


def explained_variance(logits: Logits, frequencies: Collection[int]) -> Explained:
    """How much of the logits' variance these frequencies explain.

    Raises:
        InputError: for a frequency that is not in 1 … p // 2, or is named twice, or logits that do
            not vary.
    """
    p = _checked(logits)
    chosen = _checked_frequencies(frequencies, p)
    waves = sum_waves(logits, frequencies).square().sum() / _variance(logits)
    shares = rule_shares(logits)[torch.tensor(chosen, dtype=torch.long, device=logits.device) - 1]
    return Explained(float(waves), float(shares.sum()))


def rule_shares(logits: Logits) -> Float[Tensor, "frequency"]:
    """For frequencies 1 … p // 2: the share of variance that waves of a + b - c explain.

    Raises:
        InputError: for logits that do not vary.
    """
    p = _checked(logits)
    variance = _variance(logits)
    number = torch.arange(p, device=logits.device)
    # The mean over all (a, b, c) of equal a + b - c: a function of one number, with these waves.
    by_distance = _by_sum(logits)[(number[:, None] + number) % p, number].mean(1)
    return power_by_frequency(by_distance)[1:] * p**2 / variance


def _variance(logits: Logits) -> Tensor:
    variance = (logits - logits.mean()).square().sum()
    require(bool(variance > 0), "logits must vary. These are all the same")
    return variance


def key_frequencies(logits: Logits, min_share: float = 0.02) -> list[int]:
    """The frequencies whose waves of a + b - c each explain this share of the logits' variance.

    The largest first. A model that does not add has none: in its logits no such wave stands out.

    Raises:
        InputError: if `min_share` is not in (0, 1], or for logits that do not vary.
    """
    require(0 < min_share <= 1, f"min_share must lie in (0, 1]. Received {min_share}")
    shares = rule_shares(logits)
    order = shares.argsort(descending=True).tolist()
    return [k + 1 for k in order if shares[k] >= min_share]


@dataclass(frozen=True)
class NeuronFrequencies:
    """Which frequency each neuron works at.

    Attributes:
        frequency: `[neuron]`, the frequency that explains most of its variance over all pairs; 0
            for a neuron that gives the same to all pairs.
        explained: `[neuron]`, that share, 0 … 1; NaN for such a neuron.
        variance: `[neuron]`, over all pairs.
    """

    frequency: Int[Tensor, "neuron"]
    explained: Float[Tensor, "neuron"]
    variance: Float[Tensor, "neuron"]


def neuron_frequencies(neurons: Float[Tensor, "a b neuron"]) -> NeuronFrequencies:
    """Which single frequency explains most of each neuron.

    What a frequency explains is the sum of squares of its terms among the products of waves in a
    and in b: its own waves in a, in b, and in both, eight in all (Nanda et al. 2023, section 4: one
    frequency's polynomials of degree two), over the neuron's sum of squares about its mean.

    Raises:
        InputError: if the first two axes do not have the same length of at least 3.
    """
    require(
        neurons.ndim == 3 and neurons.shape[0] == neurons.shape[1] >= 3,
        f"neurons must be [a, b, neuron] over all pairs. Received {tuple(neurons.shape)}",
    )
    power = power_by_frequencies(neurons, (0, 1))  # [neuron, frequency of a, frequency of b]
    own = power[:, 1:, 0] + power[:, 0, 1:] + power.diagonal(dim1=1, dim2=2)[:, 1:]
    level = power[:, 0, 0]
    variance = power.flatten(1).sum(1) - level
    # What is left by rounding of a constant counts as nothing.
    alive = variance > 1e-20 * (variance + level).clamp(min=1e-300)
    best, place = own.max(1)
    share = torch.where(alive, best / variance.where(alive, torch.ones_like(variance)), torch.nan)
    n_pairs = neurons.shape[0] ** 2
    return NeuronFrequencies(torch.where(alive, place + 1, 0), share, variance / n_pairs)


def embedding_power(model: HookedTransformer) -> Float[Tensor, "frequency"]:
    """Squares of W_E's waves over the numbers, by frequency 0 … p // 2, summed over d_model, fp64.

    Raises:
        InputError: if the model cannot add modulo p.
    """
    p = modulus_of(model)
    weights: Any = model.W_E
    return power_by_frequency(weights.detach()[:p].double(), 0).sum(0)


@dataclass(frozen=True)
class Progress:
    """The progress measures of one model, in nats unless said otherwise.

    Attributes:
        loss: Over all pairs.
        train_loss, test_loss: Over the training pairs and the others; None if they are not known.
        restricted_loss: Over all pairs, of `restricted_logits`.
        excluded_loss: Over the training pairs (all, if they are not known), of `excluded_logits`:
            what is left of knowing these by heart. A guess costs ln p.
        excluded_loss_all: The same over all pairs.
        explained: Of the logits' variance.
    """

    loss: float
    train_loss: float | None
    test_loss: float | None
    restricted_loss: float
    excluded_loss: float
    excluded_loss_all: float
    explained: Explained


def progress_measures(
    logits: Logits, frequencies: Sequence[int], train_pairs: Bool[Tensor, "a b"] | None = None
) -> Progress:
    """Restricted and excluded loss at these frequencies, beside the plain losses.

    Args:
        logits: Over the whole table.
        frequencies: The key frequencies; along a training run, those of the trained model.
        train_pairs: Which pairs the model was trained on.

    Raises:
        InputError: for logits or frequencies that break a rule.
    """
    full, without = _losses(logits), _losses(excluded_logits(logits, frequencies))
    return Progress(
        loss=_mean_of(full, None),
        train_loss=None if train_pairs is None else _mean_of(full, train_pairs),
        test_loss=None if train_pairs is None else _mean_of(full, ~train_pairs),
        restricted_loss=answer_loss(restricted_logits(logits, frequencies)),
        excluded_loss=_mean_of(without, train_pairs),
        excluded_loss_all=_mean_of(without, None),
        explained=explained_variance(logits, frequencies),
    )


def _checked(logits: Tensor) -> int:
    require(
        logits.ndim == 3 and len(set(logits.shape)) == 1 and logits.shape[0] % 2 == 1,
        f"logits must be [a, b, answer], an odd p each. Received {tuple(logits.shape)}",
    )
    return logits.shape[0]


def _checked_frequencies(frequencies: Collection[int], p: int) -> list[int]:
    chosen = list(frequencies)
    require(
        all(isinstance(k, int) and 1 <= k <= p // 2 for k in chosen)
        and len(set(chosen)) == len(chosen),
        f"frequencies must lie in 1 … {p // 2}, each once. Received {chosen}",
    )
    return chosen
