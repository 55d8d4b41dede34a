"""What breaks when tokens are told other positions, or when position is taken out of the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from pydantic import Field, field_validator, model_validator

from analyses.base import Analysis
from analyses.inputs.prompts import token_texts
from analyses.positions.move_figures import figures_of
from analyses.positions.moves import (
    Move,
    by_position_table,
    effects_table,
    heads_table,
    moves_by_layer,
    moves_of,
    reason_against,
    shown_by_position,
)
from analyses.positions.removal import sorted_ranks, subspace_tables
from analyses.positions.rows import RowsParams, resolve_rows
from analyses.registry import register
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import AnalysisResult, Check
from interp.errors import require
from interp.interventions import ShiftPositions, SwapPositions, applied
from interp.position_effects.effects import Effect, intervention_effects
from interp.position_effects.length import trained_length_of
from interp.position_effects.rows import Rows
from interp.position_effects.subspace_removal import Spread

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

SHORTEST = 8  # tokens of a row
SHOWN = 8  # input rows kept with the result
LEADING = 24  # heads in figures


class PositionInterventionsParams(RowsParams):
    """What is read, how far tokens are moved, and what is taken out of the stream."""

    shifts: list[int] = Field(
        [1, 2, 4, 8],
        min_length=1,
        description="By how many positions tokens are shifted; negative: towards the start.",
    )
    removal: bool = Field(
        True, description="Take subspaces that tell positions out of the residual stream too."
    )
    ranks: list[int] = Field(
        [1, 2, 4, 8], min_length=1, description="Of these subspaces: how many dimensions."
    )
    draws: int = Field(
        4, ge=2, le=64, description="How many random subspaces of each kind are taken out."
    )

    @field_validator("shifts", "ranks", mode="before")
    @classmethod
    def _one_number_is_a_list_of_one(cls, given: Any) -> Any:
        return [given] if isinstance(given, int) else given

    @model_validator(mode="after")
    def _within_reason(self) -> PositionInterventionsParams:
        if self.removal and self.sequences < 5:
            raise ValueError(
                f"sequences must be at least 5, for probes to be fitted, got {self.sequences}"
            )
        if min(self.ranks) < 1 or len(set(self.ranks)) < len(self.ranks):
            raise ValueError(f"ranks must be at least 1, each once, got {self.ranks}")
        if 0 in self.shifts or len(set(self.shifts)) < len(self.shifts):
            raise ValueError(f"shifts must be other than 0, each once, got {self.shifts}")
        return self


@register
class PositionInterventions(Analysis[PositionInterventionsParams]):
    """Tokens treated as if they stood elsewhere, and residual streams without position.

    Sources: Elazar et al. 2021, Amnesic Probing (removal beside random directions of equal
    number); Sinha et al. 2022, The Curious Case of Absolute Position Embeddings (shifted
    positions).
    """

    name = "position-interventions"
    question = "What breaks when tokens are told other positions, or when position is taken out?"
    caveat = (
        "Moved positions are combinations that the model never read: gaps and repeats of "
        "positions, positions beyond those of training, no position at all. Its reaction to these "
        "counts as an effect, whatever it would have used the position for. Who sees whom is left "
        "as it is, so what a causal mask alone tells of order stays. Moves of one token change "
        "little of a mean over all positions: see by-position. KL is from the clean prediction, "
        "which may itself be wrong, and counts every position: of a task's rows also those where "
        "nothing can be predicted and training asked for nothing. Loss and accuracy count what is"
        " scored. Errors are over these sequences; shuffles are of one permutation. A subspace "
        "that a probe reads need not be the one that the model reads, nor all of it: see "
        "remaining, what a new probe still finds (of random subspaces the first; position means "
        "are of the rows that it is tested on too, which can put it below 0). Subspaces of "
        "position hold content too. Compare column variance: position means mostly hold more than"
        " random subspaces of equal rank, hence the random ones of equal variance; what a probe "
        "reads often holds less, so that a random one may well do more. Where there is no "
        "position to be found, position means are sampling noise, or tokens that a task puts at "
        "fixed places (the digit that count begins with)."
    )

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """Models with layers, in one stack, that read a few tokens."""
        cfg = model.cfg
        if cfg.architecture == "encoder-decoder":
            return "positions are moved in a single stack, and it is an encoder-decoder"
        if not cfg.n_layers:
            return "it has no layers"
        if cfg.n_ctx < SHORTEST:
            return f"it reads {cfg.n_ctx} tokens, too few to move them about"
        return None

    def quick(self, params: PositionInterventionsParams) -> PositionInterventionsParams:
        """Fewer rows, shifts, ranks and draws."""
        few = {"sequences": 16, "shifts": [1, 4], "ranks": [1, 4], "draws": 2}
        return params.model_copy(update=few)

    def run(self, model: HookedTransformer, params: PositionInterventionsParams) -> AnalysisResult:
        """Move tokens, in all layers and in each; then take subspaces out."""
        with torch.no_grad():
            rows = _rows(model, params)
            moves, left_out = _sorted(model, rows, params)
            tables: dict[str, pd.DataFrame] = {}
            effects: dict[str, Effect] = {}
            if moves:
                effects = intervention_effects(model, rows, {m.name: m.item for m in moves})
                tables["effects"] = effects_table(moves, effects)
                tables["heads"] = heads_table(moves, effects)
                tables["leading-heads"] = _leading(tables["heads"])
                drawn = shown_by_position(moves)
                if drawn and not model.cfg.classifies:
                    tables["by-position"] = by_position_table(drawn, effects)
            in_layers = moves_by_layer(model, params.seed)
            if in_layers:
                cases = {m.name: m.item for m in in_layers}
                of_layers = intervention_effects(model, rows, cases, heads=False)
                tables["by-layer"] = effects_table(in_layers, of_layers)
            spread: dict[str, Spread] = {}
            if params.removal:
                ranks, too_large = sorted_ranks(model, rows, params.ranks)
                left_out += too_large
                of_subspaces, spread = subspace_tables(
                    model, rows, ranks, params.draws, params.seed
                )
                tables.update(of_subspaces)
            if left_out:
                tables["left-out"] = pd.DataFrame(left_out, columns=["move", "reason"])
            checks = _checks(model, rows, moves, effects, spread)
        shown = rows.tokens[:SHOWN].tolist()
        return self.result(
            model,
            params,
            tables=tables,
            figures=figures_of(model, rows, tables),
            checks=checks,
            tokens=shown,
            str_tokens=[token_texts(model, row) for row in shown],
        )


def _rows(model: HookedTransformer, params: PositionInterventionsParams) -> Rows:
    """Rows whose shifted positions are trained ones, where nobody asked for a length.

    So for every encoding, though only tables end there: a shift past the trained length would ask
    two questions at once, and models beside each other are to read the same rows.

    Raises:
        InputError: for rows too short to move tokens in, and as `resolve_rows`.
    """
    rows = resolve_rows(model, params)
    require(
        rows.length >= SHORTEST,
        f"rows must have at least {SHORTEST} tokens, to move them about. Received {rows.length}",
    )
    room = trained_length_of(model) - max(0, *params.shifts)
    if params.length is not None or rows.length <= room or room < rows.length // 2:
        return rows
    return resolve_rows(model, params.model_copy(update={"length": room}))


def _sorted(
    model: HookedTransformer, rows: Rows, params: PositionInterventionsParams
) -> tuple[list[Move], list[tuple[str, str]]]:
    """The moves that can be made, and those that cannot with the reason."""
    found = moves_of(model, rows.length, params.shifts, params.seed)
    if not found:
        reason = "this model has no positional encoding: there is nothing to move"
        return [], [("all moves of positions", reason)]
    left_out = []
    fit = []
    for move in found:
        reason_or_none = reason_against(model, move, rows.length)
        if reason_or_none is None:
            fit.append(move)
        else:
            left_out.append((move.name, reason_or_none))
    return fit, left_out


def _leading(heads: pd.DataFrame) -> pd.DataFrame:
    """All moves of the heads whose patterns change most by any of them."""
    most = heads.groupby("label")["total_variation"].max().nlargest(LEADING).index
    return heads[heads["label"].isin(most)].reset_index(drop=True)


def _checks(
    model: HookedTransformer,
    rows: Rows,
    moves: Sequence[Move],
    effects: Mapping[str, Effect],
    spread: Mapping[str, Spread],
) -> list[Check]:
    tolerance = TOLERANCES[model.cfg.dtype]
    few = rows.tokens[:SHOWN]
    mask = torch.ones_like(few)

    def logits(items: Any = ()) -> torch.Tensor:
        with applied(model, items):
            found: torch.Tensor = model(few, attention_mask=mask)
        return found

    clean = logits()
    checks = []
    if moves:
        nothing = [ShiftPositions(0), SwapPositions(0, -1), SwapPositions(-1, 0)]
        checks.append(
            Check(
                name="moving-by-nothing-changes-nothing",
                value=scaled_error(logits(nothing), clean),
                tolerance=tolerance,
                note="all logits with tokens shifted by 0, and two swapped and swapped back, "
                f"against those without; {SCALED}",
            )
        )
        checks += _shift_checks(model, few, mask, logits, clean, tolerance)
        checks.append(_patterns_check(model, few, mask, moves[-1], effects, tolerance))
    if spread:
        hook, of = list(spread.items())[-1]
        whole = torch.eye(len(of.mean), dtype=torch.float64)
        mean = of.mean.to(device=few.device, dtype=model.cfg.dtype)

        def put_in(x: torch.Tensor, hook: Any) -> torch.Tensor:
            x[:, of.first :] = mean
            return x

        plain = model.run_with_hooks(few, attention_mask=mask, fwd_hooks=[(hook, put_in)])
        checks.append(
            Check(
                name="removing-everything-leaves-the-mean",
                value=scaled_error(logits(of.removal(whole)), plain),
                tolerance=tolerance,
                note=f"all logits with the whole space removed at {hook}, against those with the "
                f"mean vector put in by hand; {SCALED}",
            )
        )
        checks.append(_spread_check(model, rows, spread, tolerance))
    return checks or [_no_change_check(clean, logits, tolerance)]


def _no_change_check(clean: torch.Tensor, logits: Any, tolerance: float) -> Check:
    return Check(
        name="runs-repeat",
        value=scaled_error(logits(), clean),
        tolerance=tolerance,
        note=f"all logits of two runs of the same rows; {SCALED}",
    )


def _shift_checks(
    model: HookedTransformer,
    few: torch.Tensor,
    mask: torch.Tensor,
    logits: Any,
    clean: torch.Tensor,
    tolerance: float,
) -> list[Check]:
    """Relative encodings do not see a shift of all; vectors are those of the new positions.

    The latter where nothing else is done to them: what other hooks have added stays.
    """
    if model.main_stack.pos_embed.rotates or model.main_stack.pos_embed.biases_scores:
        return [
            Check(
                name="a-shift-of-all-changes-nothing",
                value=scaled_error(logits(ShiftPositions(3)), clean),
                tolerance=tolerance,
                note="all logits with every token shifted by 3, as this encoding tells distances "
                f"alone; {SCALED}",
            )
        ]
    hook, n = "hook_pos_embed", few.shape[1]
    if model.hook_dict[hook].fwd_hooks:
        return []

    def vectors() -> torch.Tensor:
        _, cache = model.run_with_cache(
            few, attention_mask=mask, names_filter=hook, return_type=None
        )
        return cache[hook]

    half = n // 2
    with applied(model, ShiftPositions(half, positions=range(n - half))):
        moved = vectors()
    return [
        Check(
            name="shifted-tokens-get-the-vectors-of-their-new-positions",
            value=scaled_error(moved[:, : n - half], vectors()[:, half:]),
            tolerance=0.0,
            note=f"hook_pos_embed of the first {n - half} tokens shifted by {half}, against that "
            f"of the last {n - half} as they are; {SCALED}",
        )
    ]


def _patterns_check(
    model: HookedTransformer,
    few: torch.Tensor,
    mask: torch.Tensor,
    move: Move,
    effects: Mapping[str, Effect],
    tolerance: float,
) -> Check:
    """Total variation, spelled out."""

    def patterns() -> torch.Tensor:
        _, cache = model.run_with_cache(
            few, attention_mask=mask, names_filter="*.hook_pattern", return_type=None
        )
        names = [f"blocks.{i}.attn.hook_pattern" for i in range(model.cfg.n_layers)]
        return torch.stack([cache[name] for name in names], 1)

    before = patterns()
    with applied(model, move.item):
        after = patterns()
    first = int(model.main_stack.causal)
    # The larger share of mass is what both have, and the rest of one's is what the other has not.
    common = torch.minimum(before, after).sum(-1)
    whole = (before.sum(-1) + after.sum(-1)) / 2
    expected = (whole - common)[..., first:].mean(-1)
    of = effects[move.name].heads
    assert of is not None
    return Check(
        name="total-variation-two-ways",
        value=scaled_error(of.total_variation[: len(few)], expected),
        tolerance=tolerance,
        note=f"half the summed differences of patterns ({move.name}) against mass less what both "
        f"patterns share; {SCALED}",
    )


def _spread_check(
    model: HookedTransformer, rows: Rows, spread: Mapping[str, Spread], tolerance: float
) -> Check:
    """Variance, from the activations themselves."""
    hook, of = next(iter(spread.items()))
    _, cache = model.run_with_cache(
        rows.tokens,
        attention_mask=torch.ones_like(rows.tokens),
        names_filter=hook,
        return_type=None,
    )
    x = cache[hook][:, of.first :].double().flatten(0, 1)
    expected = (x - x.mean(0)).square().mean(0)
    return Check(
        name="variances-are-those-of-the-activations",
        value=scaled_error(of.covariance.diagonal(), expected),
        tolerance=max(tolerance, 1e-10),
        note=f"variance of each dimension at {hook}, accumulated, against all at once; {SCALED}",
    )
