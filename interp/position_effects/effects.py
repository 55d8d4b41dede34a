"""What interventions do to a model's predictions, and to where each head looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.behaviour.in_context import Estimate, estimate
from interp.errors import require, require_whole
from interp.interventions import (
    FreezeNorms,
    FreezePatterns,
    Interventions,
    Patch,
    SwapSubspace,
    applied,
)
from interp.interventions.apply import Given
from interp.position_effects.length import PositionScores, mean_of_scored
from interp.position_effects.rows import Rows, mask_of_rows
from interp.precision import wide

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_NUMBERS_AT_ONCE = 1 << 24  # of logits, and of patterns


@dataclass(frozen=True)
class HeadLooks:
    """Where heads look, a mean over the destinations of each row.

    Of a causal model the first destination, which sees itself alone, does not count. Distances and
    offsets are those at which tokens stand, wherever an intervention has them treated.

    Attributes:
        distance: Σ_j p_ij |i - j| / Σ_j p_ij, in tokens.
        previous: p on the token before (the first destination, which has none, does not count).
    """

    distance: Float[Tensor, "batch layer head"]
    previous: Float[Tensor, "batch layer head"]


@dataclass(frozen=True)
class HeadEffects:
    """How an intervention changes where heads look.

    Attributes:
        clean, edited: Without and with it.
        total_variation: ½ Σ_j |p_ij - p'_ij|, between 0 and 1, a mean over destinations as there.
    """

    clean: HeadLooks
    edited: HeadLooks
    total_variation: Float[Tensor, "batch layer head"]


@dataclass(frozen=True)
class Effect:
    """How an intervention changes a model's predictions, and its heads.

    Attributes:
        kl: D(clean ‖ edited) of what is said at each position, in nats, fp64; of a classifier, of
            its one answer, `[batch, 1]`.
        clean, edited: Losses and right answers without and with it; None where nothing is to be
            predicted.
        heads: None where they were not asked for.
    """

    kl: Float[Tensor, "batch pos"]
    clean: PositionScores | None
    edited: PositionScores | None
    heads: HeadEffects | None = None

    @cached_property
    def mean_kl(self) -> Estimate:
        """Mean over positions, with its standard error over sequences."""
        return estimate(self.kl.mean(1).cpu())

    @property
    def loss_change(self) -> Estimate:
        """Edited less clean mean loss in nats, paired by sequence; positive: worse.

        Every sequence that is scored counts as many times as it has predictions.

        Raises:
            InputError: where nothing is to be predicted.
        """
        clean, edited = self._scores()
        return mean_of_scored(edited.losses - clean.losses, clean.scored)

    @property
    def accuracy_change(self) -> Estimate:
        """Edited less clean share of right answers, in the same way; negative: worse."""
        clean, edited = self._scores()
        return mean_of_scored(edited.right.double() - clean.right.double(), clean.scored)

    def _scores(self) -> tuple[PositionScores, PositionScores]:
        require(
            self.clean is not None and self.edited is not None,
            "losses need rows in which something is to be predicted. In these nothing is",
        )
        assert self.clean is not None and self.edited is not None
        return self.clean, self.edited


@torch.no_grad()
def intervention_effects(
    model: HookedTransformer,
    rows: Rows,
    cases: Mapping[str, Given],
    heads: bool = True,
    batch_size: int | None = None,
) -> dict[str, Effect]:
    """The effect of each of several interventions (or sets of them) on the same rows.

    The clean run is made once for all of them; of the others logits and patterns are reduced where
    they arise, so that those of two runs are never held for more than a batch.

    Args:
        model: A decoder or an encoder, with the hooks that are on it.
        rows: As `position_rows` makes them.
        cases: By name. They are made in each batch anew.
        heads: Whether to compare attention patterns, which takes longer: no fused attention.
        batch_size: Rows that are run at once. None: as many as have 2^24 logits, and as many
            numbers in their patterns; at least one.

    Raises:
        InputError: for an encoder–decoder, no cases, a model without heads where these are asked
            for, a reference with a row for each row where these take more than one batch, and as
            `hooks_for`.
    """
    cfg = model.cfg
    require(
        cfg.architecture != "encoder-decoder",
        "effects are of one stack that reads one sequence. This is an encoder-decoder",
    )
    require(bool(cases), "cases must hold at least one. Received none")
    require(
        not heads or cfg.n_layers > 0, "heads=True needs a model with heads. This one has no layers"
    )
    if batch_size is None:
        of_patterns = cfg.n_layers * cfg.n_heads * rows.length**2 if heads else 1
        of_logits = rows.length * cfg.d_vocab_out
        batch_size = max(1, _NUMBERS_AT_ONCE // max(of_patterns, of_logits))
    require_whole("batch_size", batch_size, 1)
    made = {name: Interventions(case) for name, case in cases.items()}  # type: ignore[arg-type]
    if rows.n > batch_size:
        for case in made.values():
            _one_prompt_each(model, case, f"{rows.n} rows in batches of {batch_size}")
    parts: dict[str, list[_Part]] = {name: [] for name in ("", *made)}
    for start in range(0, rows.n, batch_size):
        batch = _Batch(model, rows, slice(start, start + batch_size), heads)
        parts[""].append(batch.clean)
        for name, case in made.items():
            with applied(model, case):
                parts[name].append(batch.edited())
    clean = _joined(parts.pop(""))
    found = {}
    for name, of_case in parts.items():
        edited = _joined(of_case)
        assert edited.kl is not None
        scores = [_scores(part, rows) for part in (clean, edited)]
        looks = None
        if edited.looks is not None and clean.looks is not None and edited.variation is not None:
            looks = HeadEffects(clean.looks, edited.looks, edited.variation)
        found[name] = Effect(edited.kl, scores[0], scores[1], looks)
    return found


def _one_prompt_each(model: HookedTransformer, case: Interventions, rows: str) -> None:
    """Refuse references whose rows are put into those of a run one by one."""
    for item in case:
        if not isinstance(item, Patch | SwapSubspace | FreezePatterns | FreezeNorms):
            continue
        for reference, _ in item.needs(model):
            if reference is None:
                continue
            recorded = (reference.activations or {}).values()
            n = max([len(reference.rows), *(len(of) for of in recorded)])
            require(
                n == 1,
                f"a reference with a row for each row needs all of them in one batch. {rows} were "
                f"to meet one of {n}",
            )


@dataclass(frozen=True)
class _Part:
    """What is kept of one run of some rows."""

    losses: Tensor | None
    right: Tensor | None
    looks: HeadLooks | None
    kl: Tensor | None = None
    variation: Tensor | None = None


class _Batch:
    """Some rows: their clean run, and what others are held against."""

    def __init__(self, model: HookedTransformer, rows: Rows, part: slice, heads: bool) -> None:
        self.model, self.heads = model, heads
        self.tokens, self.scored = rows.tokens[part], rows.scored[part]
        self.targets = None if rows.targets is None else rows.targets[part]
        self.mask = mask_of_rows(model, self.tokens)
        self.patterns: list[Tensor] = []
        self.log_probs, self.clean = self._run(lambda layer, x: self.patterns.append(x))

    def edited(self) -> _Part:
        """A run with what is on the model now."""
        variation: list[Tensor] = []

        def compare(layer: int, pattern: Tensor) -> None:
            away = (pattern - self.patterns[layer]).abs().sum(-1) / 2
            variation.append(_over_destinations(away, self._first))

        log_probs, part = self._run(compare)
        # exp(-inf)·(-inf + inf) would be NaN where a clean probability is 0.
        ratio = torch.where(self.log_probs == -torch.inf, 0.0, self.log_probs - log_probs)
        kl = (self.log_probs.exp() * ratio).sum(-1)
        stacked = torch.stack(variation, 1) if self.heads else None
        return _Part(part.losses, part.right, part.looks, kl, stacked)

    @property
    def _first(self) -> int:
        """The first destination that counts."""
        return int(self.model.main_stack.causal and self.tokens.shape[1] > 1)

    def _run(self, see: Callable[[int, Tensor], Any]) -> tuple[Tensor, _Part]:
        """Log-probabilities `[batch, pos, …]` in fp64, and what is kept of the run."""
        distances: list[Tensor] = []
        previous: list[Tensor] = []

        def look(x: Tensor, hook: Any) -> None:
            pattern = wide(x)
            distance, before = _looks(pattern)
            distances.append(_over_destinations(distance, self._first))
            previous.append(before)
            see(hook.layer(), pattern)

        n_layers = self.model.cfg.n_layers
        hooks = [(f"blocks.{layer}.attn.hook_pattern", look) for layer in range(n_layers)]
        with self.model.hooks(fwd_hooks=hooks if self.heads else []):
            logits = self.model(self.tokens, attention_mask=self.mask)
        log_probs = logits.double().log_softmax(-1)
        if log_probs.ndim == 2:
            log_probs = log_probs[:, None]
        looks = None
        if self.heads:
            looks = HeadLooks(torch.stack(distances, 1), torch.stack(previous, 1))
        if self.targets is None:
            return log_probs, _Part(None, None, looks)
        losses = -log_probs.gather(-1, self.targets[..., None])[..., 0]
        right = log_probs.argmax(-1) == self.targets
        return log_probs, _Part(
            losses.masked_fill(~self.scored, torch.nan), right & self.scored, looks
        )


def _looks(
    pattern: Float[Tensor, "batch head pos key_pos"],
) -> tuple[Float[Tensor, "batch head pos"], Float[Tensor, "batch head"]]:
    """Mean distance of every destination, and mean mass on the token before."""
    n = pattern.shape[-1]
    places = torch.arange(n, device=pattern.device, dtype=pattern.dtype)
    total = pattern.sum(-1)
    moment = (pattern * (places[:, None] - places).abs()).sum(-1)
    distance = torch.where(total > 0, moment / total, 0.0)
    before = pattern.diagonal(-1, -2, -1)
    return distance, before.mean(-1) if n > 1 else torch.zeros_like(total[..., 0])


def _over_destinations(x: Float[Tensor, "batch head pos"], first: int) -> Tensor:
    return x[..., first:].mean(-1)


def _joined(parts: list[_Part]) -> _Part:
    def cat(of: Callable[[_Part], Tensor | None]) -> Tensor | None:
        found = [x for x in map(of, parts) if x is not None]
        return torch.cat(found) if found else None

    looks = None
    distance = cat(lambda p: None if p.looks is None else p.looks.distance)
    previous = cat(lambda p: None if p.looks is None else p.looks.previous)
    if distance is not None and previous is not None:
        looks = HeadLooks(distance, previous)
    return _Part(
        cat(lambda p: p.losses), cat(lambda p: p.right), looks, cat(lambda p: p.kl),
        cat(lambda p: p.variation),
    )  # fmt: skip


def _scores(part: _Part, rows: Rows) -> PositionScores | None:
    if part.losses is None or part.right is None:
        return None
    return PositionScores(part.losses, part.right, rows.scored)
