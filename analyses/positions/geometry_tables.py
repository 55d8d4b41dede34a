"""The tables of `position-geometry`: one function for each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.position_effects.curve import Curve, Power, positional_power
from interp.position_effects.geometry import (
    PositionPCA,
    leading_directions,
    position_pca,
    position_similarity,
)
from interp.position_effects.identities import Identity
from interp.position_effects.shift import fit_shift, given_shift_r2
from interp.position_effects.spectrum import (
    Spectrum,
    component_circles,
    even_periods,
    find_periods,
    fit_helix,
    periodogram,
    position_spectrum,
)
from interp.position_effects.subspaces import overlap, principal_angles, random_overlap

N_ERRORS = 3.0  # standard errors above zero, for position to be more than noise
DRAWN_COMPONENTS = 3
CIRCLE_COMPONENTS = 6
CIRCLES_LISTED = 3
HELIX_PERIODS = 3


@dataclass(frozen=True, eq=False)
class Site:
    """A place and what is known of position there.

    Attributes:
        name: The hook, with the head's number where it has heads; `encoding` for the table.
        order: Its rank in the model's order.
        curve, power, pca, spectrum: Its measures.
        rotations: R_k by k, where the curve is a sinusoidal table.
        products: Σ cos(k ω) by k, likewise.
    """

    name: str
    order: int
    curve: Curve
    power: Power
    pca: PositionPCA
    spectrum: Spectrum
    rotations: Mapping[int, Float[Tensor, "d d"]]
    products: Float[Tensor, "offset"] | None = None

    @classmethod
    def of(
        cls,
        name: str,
        order: int,
        curve: Curve,
        rotations: Mapping[int, Float[Tensor, "d d"]] | None = None,
        products: Float[Tensor, "offset"] | None = None,
    ) -> Site:
        """The site of a curve."""
        return cls(
            name,
            order,
            curve,
            positional_power(curve),
            position_pca(curve),
            position_spectrum(curve),
            rotations or {},
            products,
        )

    @property
    def label(self) -> str:
        """`blocks.0.hook_resid_pre` → `L0 resid_pre`."""
        parts = self.name.replace("hook_", "").split(".")
        if parts[0] == "blocks":
            parts = [f"L{parts[1]}", *parts[2:]]
        return " ".join(parts)

    @property
    def knows_position(self) -> bool:
        """Whether there is more than noise."""
        power = self.power
        if not math.isfinite(power.share) or power.positional <= 0:
            return False
        # Constant at every position up to rounding: nothing to see.
        size = float(self.curve.mean.square().sum(-1).mean())
        return power.share > N_ERRORS * power.stderr and power.positional > 1e-10 * size


def variance_table(sites: Sequence[Site]) -> pd.DataFrame:
    """How much of each site's variance is position's, and over how many dimensions."""
    rows = []
    for site in sites:
        power, known = site.power, site.knows_position
        rows.append(
            {
                "site": site.name,
                "label": site.label,
                "order": site.order,
                "share": power.share,
                "stderr": power.stderr,
                "positional": power.positional,
                "content": power.content,
                "noise": power.noise,
                "verdict": "position" if known else "no more than noise",
                "effective_dimension": site.pca.effective_dimension if known else math.nan,
                "components_for_90": _or_nan(site.pca.needed(0.9)) if known else math.nan,
                "components_for_99": _or_nan(site.pca.needed(0.99)) if known else math.nan,
            }
        )
    return pd.DataFrame(rows)


def components_table(sites: Sequence[Site], n: int) -> pd.DataFrame:
    """The leading principal components of each site."""
    rows = []
    for site in sites:
        shares = site.pca.shares[:n].tolist()
        raw = site.pca.variance[:n].tolist()
        together = 0.0
        for i, (share, variance) in enumerate(zip(shares, raw, strict=True)):
            together += share
            rows.append((site.name, site.label, site.order, i + 1, share, together, variance))
    columns = ["site", "label", "order", "component", "share", "together", "variance_with_noise"]
    return pd.DataFrame(rows, columns=columns)


def trajectory_table(sites: Sequence[Site]) -> pd.DataFrame:
    """The first components' scores by position."""
    frames = [
        pd.DataFrame(
            {
                "site": site.name,
                "label": site.label,
                "order": site.order,
                "component": f"component {i + 1}",
                "position": site.curve.positions.cpu().numpy(),
                "score": scores.cpu().numpy(),
            }
        )
        for site in sites
        for i, scores in enumerate(site.pca.scores.T[:DRAWN_COMPONENTS])
    ]
    return pd.concat(frames, ignore_index=True)


def circles_table(sites: Sequence[Site]) -> pd.DataFrame:
    """The roundest pairs of components of each site."""
    rows = []
    for site in sites:
        held = site.pca.variance > 1e-12 * site.pca.variance.max()
        scores = site.pca.scores[:, held]
        if scores.shape[1] < 2:
            continue
        for circle in component_circles(scores, CIRCLE_COMPONENTS)[:CIRCLES_LISTED]:
            a, b = circle.components
            share = float(site.pca.shares[[a, b]].sum())
            pair = f"{a + 1} and {b + 1}"
            rows.append((site.name, site.label, pair, circle.period, circle.roundness, share))
    columns = ["site", "label", "components", "period", "roundness", "share"]
    return pd.DataFrame(rows, columns=columns)


def spectrum_table(sites: Sequence[Site]) -> pd.DataFrame:
    """The power of each site by frequency, as a share of all positional power but the line's."""
    frames = []
    for site in sites:
        found = site.spectrum
        frames.append(
            pd.DataFrame(
                {
                    "site": site.name,
                    "label": site.label,
                    "order": site.order,
                    "turns": found.frequency.cpu().numpy(),
                    "period": found.period.cpu().numpy(),
                    "share": (found.power / found.total).cpu().numpy(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def periodogram_table(sites: Sequence[Site], per_turn: int = 4) -> pd.DataFrame:
    """What a sine and cosine of each period explain by themselves, beyond a straight line."""
    frames = []
    for site in sites:
        periods = even_periods(site.curve.n_positions, per_turn)
        shares = periodogram(site.curve, periods).cpu().numpy()
        frames.append(
            pd.DataFrame(
                {"site": site.name, "label": site.label, "period": periods, "share": shares}
            )
        )
    return pd.concat(frames, ignore_index=True)


def helix_table(sites: Sequence[Site], seed: int) -> pd.DataFrame:
    """A straight line, and circles of the periods that explain most.

    `r2_shuffled` is what the same search finds in the same positions in another order: the periods
    are the best of many, and the more waves, the more of anything they fit.
    """
    rows = []
    for site in sites:
        periods = find_periods(site.curve, HELIX_PERIODS)
        helix = fit_helix(site.curve, periods)
        order = torch.randperm(
            site.curve.n_positions, generator=torch.Generator().manual_seed(seed)
        )
        mixed = site.curve.in_order(order)
        rows.append(
            {
                "site": site.name,
                "label": site.label,
                "line": site.spectrum.trend / site.spectrum.total,
                "periods": ", ".join(f"{period:.3g}" for period in periods),
                "circularity": ", ".join(f"{c:.2f}" for c in helix.circularity.tolist()),
                "r2": helix.r2,
                "r2_held_out": helix.r2_held_out,
                "r2_shuffled": fit_helix(mixed, find_periods(mixed, HELIX_PERIODS)).r2,
            }
        )
    return pd.DataFrame(rows)


def similarity_table(sites: Sequence[Site]) -> pd.DataFrame:
    """Products of positions by distance, with their spread; of a table also as it is."""
    frames = []
    for site in sites:
        kinds = (True, False) if site.name == "encoding" else (True,)
        for centred in kinds:
            found = position_similarity(site.curve, centred)
            n = len(found.offsets)
            expected = [math.nan] * n
            if not centred and site.products is not None:
                expected = site.products[:n].tolist()
            frames.append(
                pd.DataFrame(
                    {
                        "site": site.name,
                        "label": site.label if centred else f"{site.label}, as it is",
                        "order": site.order,
                        "centred": centred,
                        "offset": found.offsets.cpu().numpy(),
                        "dot": found.dot.cpu().numpy(),
                        "dot_spread": found.dot_spread.cpu().numpy(),
                        "correlation": found.correlation.cpu().numpy(),
                        "correlation_spread": found.correlation_spread.cpu().numpy(),
                        "cosine": found.cosine.cpu().numpy(),
                        "cosine_spread": found.cosine_spread.cpu().numpy(),
                        "explained_by_offset": found.by_offset,
                        "closed_form": expected,
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def shift_table(
    sites: Sequence[Site], offsets: Sequence[int], rank: int, seed: int
) -> pd.DataFrame:
    """How well one linear map moves all positions on, on positions it has not seen."""
    rows = []
    for site in sites:
        for offset in offsets:
            found = fit_shift(site.curve, offset, rank, seed=seed)
            stretches = found.stretches
            exact = math.nan
            if offset in site.rotations:
                exact = given_shift_r2(site.curve, offset, site.rotations[offset])
            raw = site.power.positional + site.power.noise
            rows.append(
                {
                    "site": site.name,
                    "label": site.label,
                    "order": site.order,
                    "offset": offset,
                    "rank": len(found.directions),
                    "r2": found.r2,
                    "r2_blocks": found.r2_blocks,
                    "r2_no_shift": found.r2_no_shift,
                    "r2_shuffled": found.r2_shuffled,
                    "r2_closed_form": exact,
                    "noise_share": max(site.power.noise, 0.0) / raw,
                    "smallest_stretch": float(stretches.min()),
                    "largest_stretch": float(stretches.max()),
                }
            )
    return pd.DataFrame(rows)


def shift_curves(shift: pd.DataFrame) -> pd.DataFrame:
    """The same with a row for each kind of map, for the figure; below -1 it shows -1."""
    kinds = {
        "r2": "fitted",
        "r2_blocks": "fitted, on blocks",
        "r2_no_shift": "no shift",
        "r2_shuffled": "shuffled",
        "r2_closed_form": "closed form",
    }
    keys = ["site", "label", "order", "offset"]
    frames = [
        shift[[*keys, column]].rename(columns={column: "held_out_r2"}).assign(map=kind)
        for column, kind in kinds.items()
    ]
    long = pd.concat(frames, ignore_index=True)
    long = long.assign(held_out_r2=long["held_out_r2"].clip(lower=-1))
    return long[long["held_out_r2"].notna()].reset_index(drop=True)


def angles_table(sites: Sequence[Site], rank: int, seed: int) -> pd.DataFrame:
    """Overlap of the leading components of every two sites of one width.

    Components are those of one half of the sequences at the one site and of the other half at the
    other, both ways round: of the same sequences, noise would be common to both sites. A site with
    itself says how well its components are known.
    """
    halves = [
        [leading_directions(half)[0][:rank] for half in site.curve.halves()] for site in sites
    ]
    rows = []
    for a, of_a in zip(sites, halves, strict=True):
        for b, of_b in zip(sites, halves, strict=True):
            d = a.curve.mean.shape[1]
            if b.curve.mean.shape[1] != d:
                continue
            both = [principal_angles(of_a[i], of_b[1 - i]) for i in range(2)]
            expected, highest = random_overlap(d, len(of_a[0]), len(of_b[0]), seed=seed)
            degrees = ((both[0] + both[1]) * (90 / math.pi)).tolist()
            rows.append(
                {
                    "site": a.name,
                    "label": a.label,
                    "order": a.order,
                    "other": b.name,
                    "other_label": b.label,
                    "other_order": b.order,
                    "overlap": sum(overlap(angles) for angles in both) / 2,
                    "smallest_angle": degrees[0],
                    "largest_angle": degrees[-1],
                    "random_overlap": expected,
                    "random_overlap_95": highest,
                }
            )
    return pd.DataFrame(rows)


def identities_table(identities: Sequence[Identity]) -> pd.DataFrame:
    """What must hold of the encoding, and how far it is from holding."""
    rows = [(i.name, i.dtype, i.error, i.tolerance, i.note) for i in identities]
    return pd.DataFrame(rows, columns=["identity", "dtype", "error", "tolerance", "note"])


def _or_nan(value: int | None) -> float:
    return math.nan if value is None else float(value)
