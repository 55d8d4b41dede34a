"""How well a model predicts at each position, within and beyond the length it was trained at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.behaviour.in_context import Estimate
from interp.errors import InputError, require, require_number, require_one_of, require_whole
from interp.position_effects.rows import Rows, RowsKind, mask_of_rows, position_rows
from interp.precision import wide
from interp.rotary_scaling import RotaryScaling

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer
    from interp.zoo.tasks import Offsets

Variant = Literal["plain", "linear", "ntk", "dynamic", "yarn"]

TIMES = (1, 2, 4, 8)
"""Lengths that are tried, in lengths of the training."""

_LOGITS_AT_ONCE = 1 << 24  # numbers, 64 MiB of fp32


@dataclass(frozen=True)
class PositionScores:
    """Loss and accuracy of every scored prediction, and what follows for positions.

    Standard errors are over sequences, never over tokens: predictions of one sequence are not
    independent. They are NaN where a single sequence is scored, means where none is.

    Attributes:
        losses: `[batch, pos]`, in nats, fp64; NaN where nothing is scored.
        right: `[batch, pos]`: whether the target had the largest logit.
        scored: `[batch, pos]`.
    """

    losses: Float[Tensor, "batch pos"]
    right: Bool[Tensor, "batch pos"]
    scored: Bool[Tensor, "batch pos"]

    @cached_property
    def count(self) -> Int[Tensor, "pos"]:
        """How many sequences are scored at each position."""
        return self.scored.sum(0)

    @cached_property
    def loss(self) -> Float[Tensor, "pos"]:
        """Mean loss at each position, in nats."""
        return _mean(self.losses, self.scored)

    @cached_property
    def loss_stderr(self) -> Float[Tensor, "pos"]:
        """Its standard error."""
        return _stderr(self.losses, self.scored)

    @cached_property
    def accuracy(self) -> Float[Tensor, "pos"]:
        """Share of sequences predicted right at each position."""
        return _mean(self.right.double(), self.scored)

    @cached_property
    def accuracy_stderr(self) -> Float[Tensor, "pos"]:
        """Its standard error."""
        return _stderr(self.right.double(), self.scored)

    def mean_loss(self, positions: slice = slice(None)) -> Estimate:
        """Mean loss of all predictions at these positions, in nats.

        The standard error is as in `mean_of_scored`.
        """
        return mean_of_scored(self.losses[:, positions], self.scored[:, positions])

    def mean_accuracy(self, positions: slice = slice(None)) -> Estimate:
        """Share of predictions at these positions that are right; error as in `mean_loss`."""
        return mean_of_scored(self.right[:, positions].double(), self.scored[:, positions])


def _mean(values: Tensor, scored: Tensor) -> Float[Tensor, "pos"]:
    return torch.where(scored, values, 0.0).sum(0) / scored.sum(0)


def _stderr(values: Tensor, scored: Tensor) -> Float[Tensor, "pos"]:
    n = scored.sum(0)
    away = torch.where(scored, values - _mean(values, scored), 0.0)
    return (away.square().sum(0) / (n - 1).clamp(min=0) / n).sqrt()


def mean_of_scored(
    values: Float[Tensor, "batch pos"], scored: Bool[Tensor, "batch pos"]
) -> Estimate:
    """Mean of all values that are scored, whatever the others hold.

    The standard error is that of a ratio of sums over sequences, which need not have equally many
    scored: √(n/(n-1) · Σᵢ(sᵢ - m·cᵢ)²) / Σᵢcᵢ, with sᵢ the sum and cᵢ the number of sequence i's
    and m the mean (Cochran 1977, Sampling Techniques, §6.4).
    """
    values = torch.where(scored, values, 0.0)[scored.any(1)]
    counts = scored.sum(1)[scored.any(1)].double()
    n, total = len(counts), int(counts.sum())
    if not total:
        return Estimate(math.nan, math.nan, 0)
    sums = values.sum(1)
    mean = float(sums.sum()) / total
    if n < 2:
        return Estimate(mean, math.nan, n)
    away = float((sums - mean * counts).square().sum())
    return Estimate(mean, math.sqrt(n / (n - 1) * away) / total, n)


@torch.no_grad()
def by_position(
    model: HookedTransformer, rows: Rows, batch_size: int | None = None
) -> PositionScores:
    """Loss and accuracy at every scored position; logits are kept of one batch at a time.

    Args:
        model: Who reads the rows.
        rows: As `position_rows` makes them.
        batch_size: Rows that are run at once. None: as many as have 2^24 logits, at least one.

    Raises:
        InputError: for rows in which nothing is to be predicted, and as `forward`.
    """
    if rows.targets is None:
        raise InputError(
            f"rows must have targets. In these ({rows.kind}) nothing is to be predicted."
        )
    if batch_size is None:
        batch_size = max(1, _LOGITS_AT_ONCE // (rows.length * model.cfg.d_vocab_out))
    require_whole("batch_size", batch_size, 1)
    device = rows.tokens.device
    losses = torch.full(rows.tokens.shape, torch.nan, dtype=torch.float64, device=device)
    right = torch.zeros_like(rows.scored)
    for start in range(0, rows.n, batch_size):
        part = slice(start, start + batch_size)
        tokens = rows.tokens[part]
        logits = wide(model(tokens, attention_mask=mask_of_rows(model, tokens)))
        targets = rows.targets[part].to(logits.device)
        said = logits.gather(-1, targets[..., None])[..., 0]
        losses[part] = (logits.logsumexp(-1).double() - said.double()).to(losses.device)
        right[part] = (logits.argmax(-1) == targets).to(right.device)
    losses.masked_fill_(~rows.scored, torch.nan)
    return PositionScores(losses, right & rows.scored, rows.scored)


def with_rotary(
    model: HookedTransformer,
    scaling: RotaryScaling | None = None,
    base: float | None = None,
) -> HookedTransformer:
    """The same model with its rotary positions stretched in another way, or not at all.

    Weights are shared: the two have the very same parameters, and what is written into one's is in
    the other's. Hooks are not: the new one has none. The given model stays as it is.

    Args:
        model: With rotary positions.
        scaling: In place of the model's own. None: none.
        base: Of the rotary wavelengths. None: as it is.

    Raises:
        InputError: for a model without rotary positions, or a base that breaks their rules.
    """
    _require_rotary(model)
    device, cfg = model.W_E.device, model.cfg
    base = cfg.rotary_base if base is None else base
    require_number("base", base)
    # On no device, so that weights which are not to stay take no memory.
    changed = cfg.replace(
        rotary_scaling=scaling, rotary_base=base, device="meta", tokenizer_name=None
    )
    twin = type(model).uninitialised(changed, model.tokenizer)
    twin.cfg.device, twin.cfg.tokenizer_name = device, cfg.tokenizer_name
    modules = dict(model.named_modules())
    for name, module in twin.named_modules():
        of_model: Any = modules[name]
        for key in list(module._parameters):
            module._parameters[key] = of_model._parameters[key]
    return twin.train(model.training)


def rotary_variant(
    model: HookedTransformer, variant: Variant, length: int, trained_length: int
) -> HookedTransformer:
    """A rotary model made to read `length` tokens without training, weights shared.

    With s = length / trained_length (but at least 1), d the number of dimensions that turn and b
    the base of their wavelengths:

    - `plain`: the model itself.
    - `linear`: position t turns as t/s did (Chen et al. 2023, Position Interpolation).
    - `ntk`: the base becomes b·s^(d/(d-2)), so that the slowest pair turns s times slower and the
      fastest as before (NTK-aware interpolation, as in Peng et al. 2023, §3.1).
    - `dynamic`: the base becomes b·(s·n/trained_length - (s - 1))^(d/(d-2)) in a text of n tokens,
      once that is longer than the training's (Dynamic NTK with factor s, as in transformers). At
      n = `length` that is s² - s + 1 in place of `ntk`'s s. In the paper (Dynamic Scaling) the
      factor is n/trained_length alone, which for texts of `length` tokens is `ntk` itself.
    - `yarn`: fast pairs as before, slow ones s times slower, queries and keys multiplied by
      0.1 ln s + 1 (Peng et al. 2023, YaRN). Between 32 turns and 1 over the trained length the
      share that is kept falls off linearly in the pair's index, as in the authors' code and in
      transformers; in the paper (NTK-by-parts, §3.2) linearly in the turns. Where no pair turns
      32 times, in short texts, the code still keeps the fastest as it was, the paper does not.

    Raises:
        InputError: for a model without rotary positions or whose own are stretched already, another
            variant, or a length below 1.
    """
    require_one_of("variant", variant, get_args(Variant))
    require_whole("length", length, 1)
    require_whole("trained_length", trained_length, 1)
    if variant == "plain":
        return model
    _require_rotary(model)
    require(
        model.cfg.rotary_scaling is None,
        "variants are of rotary positions as trained. This model's are stretched already: "
        f"{model.cfg.rotary_scaling}",
    )
    factor = max(1.0, length / trained_length)
    if variant == "ntk":
        dim = model.cfg.rotary_dim
        assert dim is not None
        require(dim > 2, f"'ntk' needs a rotary_dim above 2. Received {dim}")
        return with_rotary(model, None, model.cfg.rotary_base * factor ** (dim / (dim - 2)))
    return with_rotary(
        model, RotaryScaling(kind=variant, factor=factor, original_n_ctx=trained_length)
    )


def variants_of(model: HookedTransformer) -> tuple[Variant, ...]:
    """The variants that a model can be read in: all of a rotary one's, else `plain` alone."""
    cfg = model.cfg
    if cfg.positional_embedding_type != "rotary" or cfg.rotary_scaling is not None:
        return ("plain",)
    if cfg.rotary_dim == 2:  # a single frequency, whose turn no change of base changes
        return ("plain", "linear", "yarn")
    return get_args(Variant)


def _require_rotary(model: HookedTransformer) -> None:
    kind = model.cfg.positional_embedding_type
    require(kind == "rotary", f"the model must have rotary positions. It has {kind!r}")


@dataclass(frozen=True)
class LengthScores:
    """One way of reading rows of one length.

    Attributes:
        variant: How positions were stretched.
        offsets: Of rows of a task: whether its distances went with the length. None: other rows.
        length: Tokens of a row.
        trained_length: Tokens of a row of the training.
        kind: What rows they were, in words (`Rows.kind`).
        scores: What came of it; None where the model refused.
        refusal: Its words, or None.
    """

    variant: Variant
    offsets: Offsets | None
    length: int
    trained_length: int
    kind: str
    scores: PositionScores | None
    refusal: str | None


def length_generalisation(
    model: HookedTransformer,
    lengths: Sequence[int] | None = None,
    n: int = 64,
    seed: int = 0,
    variants: Sequence[Variant] | None = None,
    *,
    trained_length: int | None = None,
    texts: Sequence[str] = (),
    kind: RowsKind = "auto",
    offsets: Sequence[Offsets] | None = None,
    prepend_bos: bool | None = None,
    batch_size: int | None = None,
) -> list[LengthScores]:
    """Loss and accuracy by position for rows of several lengths.

    Args:
        model: A causal language model.
        lengths: Of the rows, in tokens. None: 1, 2, 4 and 8 times `trained_length`.
        n: How many rows of each.
        seed: Of the rows.
        variants: Of rotary positions. None: all that the model can be read in.
        trained_length: None: of the model's task; without one, `cfg.n_ctx`.
        texts, kind, prepend_bos: For `position_rows`. `auto` is the texts, if there are any; else
            the task; else repeated random tokens, of which half can be predicted.
        offsets: Of rows of a task: which distances to try. None: all that the task has.
        batch_size: For `by_position`.

    Returns:
        One entry for each of `offsets`, variant and length, in this order. A length that the model
        has no positions for is an entry with its refusal.

    Raises:
        InputError: as `position_rows`, `rotary_variant` and `by_position`; for no or a repeated
            length, variant or kind of distance; for variants other than `plain` of a model with
            hooks, which they would not have.
    """
    from interp.zoo.tasks import task_of

    trained_length = trained_length_of(model, trained_length)
    kind = kind_to_predict(model, texts, kind)
    if lengths is None:
        lengths = [times * trained_length for times in TIMES]
    chosen = variants_of(model) if variants is None else tuple(variants)
    tried: tuple[Offsets | None, ...] = (None,) if offsets is None else tuple(offsets)
    for name, asked in (("lengths", lengths), ("variants", chosen), ("offsets", tried)):
        require(
            0 < len(set(asked)) == len(asked),
            f"{name} must name at least one, and none twice. Received {list(asked)}",
        )
    require(
        set(chosen) <= {"plain"} or not model.watched_hooks()[0],
        "a model with hooks is read as 'plain' alone: other variants would not have its hooks. "
        f"Received {list(chosen)}",
    )
    task = task_of(model)
    if offsets is None and kind == "task" and task is not None:
        tried = task.offsets
    readers: dict[tuple[Variant, int], HookedTransformer] = {
        (variant, length): rotary_variant(model, variant, length, trained_length)
        for variant in chosen
        for length in lengths
    }
    found: dict[tuple[Offsets | None, Variant, int], LengthScores] = {}
    for offset in tried:
        for length in lengths:
            refusal, rows = _refusal(model, length), None
            if refusal is None:
                rows = position_rows(model, n, length, seed, texts, kind, prepend_bos, offset)
            for variant in chosen:
                scores = None
                if rows is not None:
                    scores = by_position(readers[variant, length], rows, batch_size)
                found[offset, variant, length] = LengthScores(
                    variant=variant,
                    offsets=offset,
                    length=length,
                    trained_length=trained_length,
                    kind="" if rows is None else rows.kind,
                    scores=scores,
                    refusal=refusal,
                )
    return [found[o, v, length] for o in tried for v in chosen for length in lengths]


def trained_length_of(model: HookedTransformer, given: int | None = None) -> int:
    """Tokens of a row in training: as given, else of the model's task, else `cfg.n_ctx`.

    Raises:
        InputError: if a number below 1 is given.
    """
    from interp.zoo.tasks import task_of

    if given is not None:
        require_whole("trained_length", given, 1)
        return given
    task = task_of(model)
    return model.cfg.n_ctx if task is None else task.trained_length


def kind_to_predict(model: HookedTransformer, texts: Sequence[str], kind: RowsKind) -> RowsKind:
    """Which rows `auto` is, where something is to be predicted: text, else task, else repeated."""
    from interp.zoo.tasks import task_of

    if kind != "auto":
        return kind
    return "text" if texts else "repeated" if task_of(model) is None else "task"


def _refusal(model: HookedTransformer, length: int) -> str | None:
    """What a model says to a length that it has no positions for."""
    require_whole("length", length, 1)
    stack: Any = model.main_stack
    try:
        stack.pos_embed.check_length(length)
    except InputError as fault:
        return str(fault)
    return None
