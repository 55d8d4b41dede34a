"""Waves in the curve that positions make: power by period, helices, pairs of components.

A trend is no wave: over n positions a slope looks like a little of every period, most of the
longest. So a straight line is taken out first, and its power said apart. What bends without coming
back (periods beyond the positions there are) is still counted with the longest periods.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require, require_number, require_whole
from interp.fourier import to_waves, wave_frequencies
from interp.position_effects.curve import Curve
from interp.position_effects.held_out import FOLDS, scattered


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The positional power by frequency, without noise.

    Attributes:
        frequency: `[frequency]`: 1, 2, … n // 2 turns over the n positions.
        period: `[frequency]`, in positions: n / frequency.
        power: `[frequency]`, mean square over positions, summed over d.
        trend: That of the straight line taken out first; 0 where none was.
        total: The positional power: `trend` and all of `power` sum to it (Parseval).
    """

    frequency: Int[Tensor, "frequency"]
    period: Float[Tensor, "frequency"]
    power: Float[Tensor, "frequency"]
    trend: float
    total: float


def position_spectrum(curve: Curve, detrend: bool = True) -> Spectrum:
    """The discrete Fourier transform over positions.

    No window is laid over the positions, so that nothing is lost or counted twice; a wave that does
    not turn a whole number of times is spread over the frequencies around it (`periodogram` asks
    for any period).

    Args:
        curve: The means.
        detrend: Take out the straight line that fits each entry best first.
    """
    n = curve.n_positions
    basis = _orthonormal(_trend(curve.positions, detrend))
    waves = curve.squares(lambda x: to_waves(x - basis @ (basis.T @ x), -2)) / n
    power = waves.new_zeros(n // 2 + 1).index_add_(0, wave_frequencies(n, waves.device), waves)
    trend = float(curve.squares(lambda x: basis[:, 1:].T @ x).sum()) / n
    frequency = torch.arange(1, n // 2 + 1, device=waves.device)
    return Spectrum(frequency, n / frequency.double(), power[1:], trend, curve.power)


def periodogram(
    curve: Curve, periods: Sequence[float] | Float[Tensor, "period"], linear: bool = True
) -> Float[Tensor, "period"]:
    """The share of the positional power that a sine and cosine of each period explain alone.

    It is what they explain beyond a constant and a straight line, by least squares (Lomb 1976,
    Scargle 1982), without noise. Shares of different periods overlap, and do not sum to 1.

    Args:
        curve: The means.
        periods: In positions; 2 is the shortest that positions can show. A wave is seen at periods
            within about half a turn over all positions of its own (`even_periods`).
        linear: False: beyond a constant alone.

    Raises:
        InputError: for periods below 2 or none, and fewer than five positions.
    """
    chosen = _checked_periods(periods)
    require(curve.n_positions > 4, f"positions must be five or more. There are {curve.n_positions}")
    gram = curve.gram()
    columns = _trend(curve.positions, linear)
    return _gains(gram, curve.positions, columns, chosen) / gram.trace()


def even_periods(n_positions: int, per_turn: int = 8) -> list[float]:
    """Periods from 2 to the number of positions, equally far apart in turns, shortest first.

    A wave between two of them is half of 1 / per_turn of a turn from the nearer one at most, which
    then still explains about 1 - (π / (2 per_turn))² / 3 of it: 0.99 for 8, 0.95 for 4.

    Raises:
        InputError: for fewer than four positions, or per_turn below 1.
    """
    require_whole("n_positions", n_positions, 4)
    require_whole("per_turn", per_turn, 1)
    steps = range(n_positions * per_turn // 2, per_turn - 1, -1)
    return [max(n_positions * per_turn / step, 2.0) for step in steps]


def find_periods(
    curve: Curve, n: int, candidates: Sequence[float] | None = None, linear: bool = True
) -> list[float]:
    """The periods whose waves explain most, one after another (orthogonal matching pursuit).

    Each is the one that adds most to a straight line and the waves found before, of those that turn
    at least once more or once less over the positions: closer ones cannot be told apart.

    Args:
        curve: The means.
        n: How many periods.
        candidates: To choose from. None: `even_periods`.
        linear: Whether a straight line comes first.

    Raises:
        InputError: for more waves than the positions or the candidates can tell apart, and as
            `periodogram`.
    """
    require_whole("n", n, 1)
    _check_room(curve, n)
    left = _checked_periods(even_periods(curve.n_positions) if candidates is None else candidates)
    gram = curve.gram()
    columns = _trend(curve.positions, linear)
    found: list[float] = []
    for _ in range(n):
        require(
            bool(left), f"candidates must hold {n} periods a turn apart. They hold {len(found)}"
        )
        best = left[int(_gains(gram, curve.positions, columns, left).argmax())]
        found.append(best)
        turns = curve.n_positions / best
        left = [p for p in left if abs(curve.n_positions / p - turns) >= 1]
        columns = torch.cat([columns, _waves(curve.positions, [best])], 1)
    return found


@dataclass(frozen=True, eq=False)
class Helix:
    """A straight line and circles: x(t) ≈ c + slope·t + Σ a_j cos(2πt/P_j) + b_j sin(2πt/P_j).

    With a line it is the helix of Kantamneni and Tegmark (2025).

    Attributes:
        periods: P_j, in positions.
        constant, slope: `[d]`; the slope is per position, 0 without a linear term.
        cosine, sine: `[period, d]`: a and b.
        r2: Share of the positional power that the fit explains, without noise.
        r2_held_out: The same of positions that the fit had not seen (a fifth, here and there, in
            turn); below zero where the fit is worse than the mean. `r2` has it that many waves fit
            any curve.
        circularity: `[period]`: 1 - |z·z| / |z|² with z = a - ib: 1 where sine and cosine are
            orthogonal and equally long (a circle), 0 where they lie on a line.
    """

    periods: tuple[float, ...]
    constant: Float[Tensor, "d"]
    slope: Float[Tensor, "d"]
    cosine: Float[Tensor, "period d"]
    sine: Float[Tensor, "period d"]
    r2: float
    r2_held_out: float
    circularity: Float[Tensor, "period"]


def fit_helix(curve: Curve, periods: Sequence[float], linear: bool = True) -> Helix:
    """Least squares fit of a helix with these periods.

    Raises:
        InputError: for periods below 2, none, or more than the positions can tell apart.
    """
    chosen = _checked_periods(periods)
    _check_room(curve, len(chosen))
    trend = _trend(curve.positions, linear)
    design = torch.cat([trend, _waves(curve.positions, chosen)], 1)
    solve = torch.linalg.pinv(design)
    fitted = solve @ curve.mean
    n = curve.n_positions
    predict = torch.zeros(n, n, dtype=design.dtype, device=design.device)
    fold = scattered(n, design.device)
    for i in range(FOLDS):
        out = fold == i
        predict[out] = predict[out].masked_scatter(
            (~out).expand(int(out.sum()), -1), design[out] @ torch.linalg.pinv(design[~out])
        )
    total = n * curve.power
    missed = float(curve.squares(lambda x: x - design @ (solve @ x)).sum())
    missed_out = float(curve.squares(lambda x: x - predict @ x).sum())
    cosine, sine = fitted[trend.shape[1] :].chunk(2)
    slope = fitted[1] / _scale(n) if linear else torch.zeros_like(fitted[0])
    constant = fitted[0] - slope * (curve.first + (n - 1) / 2)
    lengths = cosine.square().sum(-1) + sine.square().sum(-1)
    doubled = torch.complex(
        cosine.square().sum(-1) - sine.square().sum(-1), -2 * (cosine * sine).sum(-1)
    )
    return Helix(
        tuple(chosen),
        constant,
        slope,
        cosine,
        sine,
        1 - missed / total,
        1 - missed_out / total,
        1 - doubled.abs() / lengths,
    )


@dataclass(frozen=True)
class Circle:
    """Two components that together go round.

    Attributes:
        components: Their numbers.
        period: Of the turn, in positions.
        roundness: Share of the power of a + ib (each of equal size) that is one turning wave: 1 for
            a sine and cosine of one frequency, at most about 1/2 for components of different ones
            or in step.
    """

    components: tuple[int, int]
    period: float
    roundness: float


def component_circles(
    scores: Float[Tensor, "pos component"], n_components: int = 6
) -> list[Circle]:
    """How far each two of the first components are the sine and cosine of one frequency.

    Only frequencies that turn at least once over all positions are looked at, in steps of a
    sixteenth of a turn.

    Args:
        scores: The curve on its components, such as `PositionPCA.scores`.
        n_components: How many of them.

    Returns:
        Every pair, the roundest first.

    Raises:
        InputError: for fewer than two components, and a constant one.
    """
    require_whole("n_components", n_components, 2)
    require(scores.shape[1] > 1, f"components must be two or more. There are {scores.shape[1]}")
    n = scores.shape[0]
    each = scores[:, :n_components].double()
    each = each - each.mean(0)
    sizes = each.norm(dim=0)
    require(bool((sizes > 0).all()), "components must vary with position. Some are constant")
    each = each / sizes
    found = []
    for a, b in itertools.combinations(range(each.shape[1]), 2):
        z = torch.complex(each[:, a], each[:, b])
        power = torch.fft.fft(z, _FINER * n).abs().square() / (n * z.abs().square().sum())
        power[:_FINER] = power[1 - _FINER :] = 0
        at = int(power.argmax())
        turns = min(at, _FINER * n - at) / _FINER
        found.append(Circle((a, b), n / turns, float(power[at])))
    return sorted(found, key=lambda circle: -circle.roundness)


_FINER = 16
_AT_ONCE = 512  # periods, so that memory stays small


def _scale(n: int) -> float:
    return max((n - 1) / 2, 1.0)


def _trend(positions: Int[Tensor, "pos"], linear: bool) -> Float[Tensor, "pos column"]:
    """A constant and, where wanted, a line from -1 to 1."""
    t = positions.double()
    constant, line = torch.ones_like(t), (t - t.mean()) / _scale(len(t))
    return torch.stack([constant, line] if linear else [constant], -1)


def _waves(positions: Int[Tensor, "pos"], periods: Sequence[float]) -> Float[Tensor, "pos wave"]:
    """Cosines of all periods, then sines."""
    turns = torch.tensor(periods, dtype=torch.float64, device=positions.device)
    angles = 2 * math.pi * positions.double()[:, None] / turns
    return torch.cat([angles.cos(), angles.sin()], -1)


def _orthonormal(columns: Float[Tensor, "pos column"]) -> Float[Tensor, "pos rank"]:
    """A basis of what the columns span; those that add nothing (sin πt) are left out."""
    basis, sizes, _ = torch.linalg.svd(columns, full_matrices=False)
    return basis[:, sizes > 1e-9 * len(columns) ** 0.5]


def _gains(
    gram: Float[Tensor, "pos pos"],
    positions: Int[Tensor, "pos"],
    columns: Float[Tensor, "pos column"],
    periods: Sequence[float],
) -> Float[Tensor, "period"]:
    """Squares of the curve along each period's waves, as far as columns do not span them."""
    basis = _orthonormal(columns)
    found = []
    for start in range(0, len(periods), _AT_ONCE):
        waves = _waves(positions, periods[start : start + _AT_ONCE])
        cosine, sine = (waves - basis @ (basis.T @ waves)).chunk(2, -1)
        pairs = torch.stack([cosine.T, sine.T], -1)  # [period, pos, 2]
        added, sizes, _ = torch.linalg.svd(pairs, full_matrices=False)
        added = added * (sizes > 1e-9 * len(positions) ** 0.5)[:, None]
        flat = added.movedim(1, 0).flatten(1)  # one product of matrices, not one for each period
        found.append((flat * (gram @ flat)).sum(0).unflatten(0, (-1, 2)).sum(-1))
    return torch.cat(found)


def _checked_periods(periods: Sequence[float] | Tensor) -> list[float]:
    chosen = [float(period) for period in periods]
    require(bool(chosen), "periods must name at least one. Received none")
    for period in chosen:
        require_number("a period", period)
        require(period >= 2, f"a period must be two positions or more. Received {period!r}")
    return chosen


def _check_room(curve: Curve, n_periods: int) -> None:
    """The fit without a fifth of the positions must still have as many positions as unknowns."""
    n = curve.n_positions
    kept = n - math.ceil(n / FOLDS)
    require(
        kept >= 2 + 2 * n_periods,
        f"{n_periods} periods need {2 + 2 * n_periods} positions when a fifth is held out. "
        f"There are {kept} of {n}",
    )
