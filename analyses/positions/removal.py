"""What is lost without the subspace that tells positions, beside random ones, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.positions.moves import numbers
from interp.errors import InputError
from interp.position_effects.effects import intervention_effects
from interp.position_effects.rows import Rows
from interp.position_effects.subspace_removal import (
    Spread,
    position_waves,
    random_subspace,
    rank_of_equal_share,
    spreads,
)
from interp.probes import Bootstrap, Split, fit_ridge, split_by_group

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

NOTHING = "nothing"
PROBE, MEANS = "probe", "position means"
RANDOM, AS_MUCH = "random, equal rank", "random, equal variance"
ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0)
_SAMPLES = 4096  # that probes are fitted on, at most
ROUNDING = 1e-12  # of the largest spread, in fp64
_FEW = Bootstrap(n=100)


@dataclass(frozen=True)
class Removed:
    """One subspace of one site.

    Attributes:
        which: How it was found.
        rank: How many dimensions of position were asked for.
        basis: Orthonormal rows.
        draw: Which of several random ones.
    """

    which: str
    rank: int
    basis: Float[Tensor, "rank d"]
    draw: int = 0


def stream_hooks(model: HookedTransformer) -> list[str]:
    """What each layer reads, and what the last one gives."""
    n = model.cfg.n_layers
    return [f"blocks.{i}.hook_resid_pre" for i in range(n)] + [f"blocks.{n - 1}.hook_resid_post"]


def sorted_ranks(
    model: HookedTransformer, rows: Rows, ranks: Sequence[int]
) -> tuple[list[int], list[tuple[str, str]]]:
    """Ranks that subspaces of position can have, and removals that cannot be made with the reason.

    Raises:
        InputError: where no rank is left.
    """
    length, dim = rows.length - int(rows.begins_with_bos), model.cfg.d_model
    fitting = [rank for rank in ranks if rank < min(length, dim)]
    reason = f"a rank must be below {length} positions and {dim} dimensions"
    if not fitting:
        raise InputError(f"{reason}. Received ranks {list(ranks)}.")
    return fitting, [(f"removal, rank {rank}", reason) for rank in ranks if rank not in fitting]


def subspace_tables(
    model: HookedTransformer, rows: Rows, ranks: Sequence[int], draws: int, seed: int
) -> tuple[dict[str, pd.DataFrame], dict[str, Spread]]:
    """Effects of removals at each site, what a probe then finds, and how activations are spread.

    `remaining` has rows of what a probe for position finds with nothing removed too. BOS is left
    out: subspaces are fitted on what follows it, and removed there.
    """
    first = int(rows.begins_with_bos)
    hooks = stream_hooks(model)
    spread = spreads(model, rows.tokens, hooks, first=first)
    length = rows.length - first
    sample = rows.tokens[: max(5, _SAMPLES // length)]
    groups = torch.arange(len(sample)).repeat_interleave(length)
    split = split_by_group(groups, seed=seed)
    places = torch.arange(length, dtype=torch.float64).repeat(len(sample))
    waves = position_waves(length, max(ranks)).repeat(len(sample), 1)
    table: list[dict[str, Any]] = []
    remaining: list[dict[str, Any]] = []
    for order, hook in enumerate(hooks):
        of = spread[hook]
        _, cache = model.run_with_cache(
            sample, attention_mask=torch.ones_like(sample), names_filter=hook, return_type=None
        )
        features = cache[hook][:, first:].flatten(0, 1)
        probe = fit_ridge({hook: features}, waves, split, ALPHAS, bootstrap=_FEW)[hook]
        found = _subspaces(of, probe.weight, ranks, draws, seed)
        cases = {str(i): of.removal(each.basis) for i, each in enumerate(found)}
        effects = intervention_effects(model, rows, cases, heads=False)
        made = [
            {
                "layer": order,
                "site": _site(hook),
                "rank": each.rank,
                "which": each.which,
                "dims": len(each.basis),
                "draw": each.draw,
                "variance": of.share(each.basis),
                **numbers(effects[str(i)]),
            }
            for i, each in enumerate(found)
        ]
        table += _over_draws(made)
        left = _remaining(of, features, found, places, split)
        remaining += [{"layer": order, "site": _site(hook), **row} for row in left]
    tables = {"subspace": pd.DataFrame(table), "remaining": pd.DataFrame(remaining)}
    return tables, spread


def _site(hook: str) -> str:
    _, layer, name = hook.split(".")
    return f"L{layer} {name.removeprefix('hook_')}"


def _subspaces(
    of: Spread, weight: Tensor, ranks: Sequence[int], draws: int, seed: int
) -> list[Removed]:
    """Those of each rank; none of the means where they have fewer dimensions."""
    dim = len(of.mean)
    found = []
    for rank in ranks:
        # The slowest waves come first, so subspaces of higher rank hold those of lower.
        found.append(Removed(PROBE, rank, torch.linalg.qr(weight[:, :rank].double()).Q.T))
        random = [random_subspace(dim, rank, 1000 * seed + i) for i in range(draws)]
        found += [Removed(RANDOM, rank, basis, i) for i, basis in enumerate(random)]
        means = of.position_directions[:rank]
        if len(means) < rank:
            continue
        found.append(Removed(MEANS, rank, means))
        as_many = rank_of_equal_share(of.share(means), dim)
        found += [
            Removed(AS_MUCH, rank, random_subspace(dim, as_many, 1000 * seed + 500 + i), i)
            for i in range(draws)
        ]
    return found


def _remaining(
    of: Spread, features: Tensor, found: Sequence[Removed], places: Tensor, split: Split
) -> list[dict[str, Any]]:
    """How well a new probe reads position with all there, and once each subspace is gone.

    R², and how often the nearest whole number is the position; of random subspaces, of the first.
    What is found with all there comes again for each rank.
    """
    wide = features.double() - of.mean.to(features.device)
    firsts = [each for each in found if each.draw == 0]
    without = {NOTHING: wide}
    for i, each in enumerate(firsts):
        basis = each.basis.to(wide)
        left = wide - wide @ basis.T @ basis
        # A probe sees features in units of their own spread: of what is only rounding it would see
        # that this depends on what was taken out.
        without[str(i)] = torch.where(left.std(0) > ROUNDING * wide.std(0).max(), left, 0.0)
    fits = fit_ridge(without, places, split, ALPHAS, bootstrap=_FEW)
    shown = [(each.rank, each.which, str(i)) for i, each in enumerate(firsts)]
    shown += [(rank, NOTHING, NOTHING) for rank in dict.fromkeys(each.rank for each in firsts)]
    return [
        {
            "rank": rank,
            "which": which,
            "position_r2": fits[name]["r2"].value,
            "position_accuracy": fits[name]["accuracy"].value,
        }
        for rank, which, name in shown
    ]


def _over_draws(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Random subspaces as mean and standard deviation over draws; `error` says which it is."""
    found = []
    frame = pd.DataFrame(made)
    for _, group in frame.groupby(["rank", "which"], sort=False):
        row: dict[str, Any] = {str(k): v for k, v in group.iloc[0].items()}
        measures = [name for name in ("kl", "loss_change", "accuracy_change") if name in group]
        for name in measures:
            several = len(group) > 1
            row[f"{name}_error"] = float(group[name].std()) if several else row[f"{name}_stderr"]
            row[name] = float(group[name].mean())
            del row[f"{name}_stderr"]
        row["variance"] = float(group["variance"].mean())
        row["draws"] = len(group)
        row["error"] = "sd over draws" if len(group) > 1 else "standard error over sequences"
        for name in ("draw", "loss", "accuracy"):
            row.pop(name, None)
        found.append(row)
    return found
