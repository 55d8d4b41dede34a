"""Probes at all sites in one call, beside scikit-learn site by site: python -m benchmarks.probes.

The features are those of a GPT-2-shaped model with random weights: 12 layers of 12 heads, d_model
768 (two layers of 256 dims with --quick), on random tokens. Both sides are given them ready, in
fp32, with the same split by sequence, standardisation, regularisations and scores; intervals are
computed by interp alone. scikit-learn's loop is timed on every n-th site of each size, and
its time multiplied. Sides take turns; times are medians of CPU seconds of one thread. What is
printed is Markdown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]
from torch import Tensor

from benchmarks.machine import describe
from interp import HookedTransformer, HookedTransformerConfig
from interp.probes import ProbeFit, Split, fit_logistic, fit_ridge, log_grid, split_by_group
from interp.probes.ridge import gram_matrix

WIDE = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
HEADS = ("q", "k", "z")
POSITIONS = 64
TOLERANCE = 1e-7  # of gradients, in scikit-learn; interp has its own, 1e-8

Features = dict[str, Tensor]
Numbers = np.ndarray[Any, Any]
Loop = Callable[[Features, Tensor, Split], dict[str, Numbers]]


def features_of_model(sequences: int, *, quick: bool) -> Features:
    """Features of every site, `[sample, dim]`, samples being sequences × positions."""
    layers, width, heads = (2, 256, 4) if quick else (12, 768, 12)
    cfg = HookedTransformerConfig(
        n_layers=layers,
        d_model=width,
        n_heads=heads,
        d_head=64,
        n_ctx=POSITIONS,
        d_vocab=1000,
        act_fn="gelu_new",
        positional_embedding_type="standard",
        device="cpu",
        seed=0,
    )
    model = HookedTransformer(cfg)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(cfg.d_vocab, (sequences, POSITIONS), generator=generator)
    names = ["hook_embed", "hook_pos_embed"]
    for layer in range(cfg.n_layers):
        names += [f"blocks.{layer}.hook_{kind}" for kind in WIDE]
        names += [f"blocks.{layer}.attn.hook_{kind}" for kind in HEADS]
    made: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for some in tokens.split(16):
            _, cache = model.run_with_cache(some, names_filter=names, return_type=None)
            for name in names:
                x = cache[name].expand(some.shape[0], *cache[name].shape[1:]).flatten(0, 1)
                for head, values in enumerate(x.unbind(1) if x.ndim == 3 else (x,)):
                    made.setdefault(f"{name}.{head}", []).append(values.clone())
    return {name: torch.cat(made.pop(name)) for name in list(made)}


def parts_of(x: Tensor, y: Numbers, split: Split, dtype: Any) -> Iterator[tuple[Any, Any]]:
    """Features, standardised by those of training, and targets of the three parts."""
    scaler = StandardScaler()
    for rows in (split.train, split.validation, split.test):
        some = x[rows].numpy().astype(dtype, copy=False)
        yield (scaler.fit_transform if rows is split.train else scaler.transform)(some), y[rows]


def ridge_loop(alphas: tuple[float, ...], dtype: Any, *, together: bool = False) -> Loop:
    """scikit-learn's Ridge at one site after another, an α at a time or all of them as targets."""

    def fit(features: Features, targets: Tensor, split: Split) -> dict[str, Numbers]:
        found, y = {}, targets.numpy().astype(dtype)
        for site, x in features.items():
            (a, y_a), (b, y_b), (c, y_c) = parts_of(x, y, split, dtype)
            if together:
                each = Ridge(alpha=np.array(alphas)).fit(a, np.repeat(y_a[:, None], len(alphas), 1))
                best = ((each.predict(b) - y_b[:, None]) ** 2).mean(0).argmin()
                guessed = each.predict(c)[:, best]
            else:
                fits = [Ridge(alpha=alpha).fit(a, y_a) for alpha in alphas]
                best = np.argmin([((f.predict(b) - y_b) ** 2).mean() for f in fits])
                guessed = fits[best].predict(c)
            _scores(guessed, y_c)
            found[site] = guessed
        return found

    return fit


def logistic_loop(Cs: tuple[float, ...]) -> Loop:
    """scikit-learn's LogisticRegression at one site after another, a C at a time, in fp64."""

    def fit(features: Features, targets: Tensor, split: Split) -> dict[str, Numbers]:
        found, y = {}, targets.numpy()
        for site, x in features.items():
            (a, y_a), (b, y_b), (c, y_c) = parts_of(x, y, split, np.float64)
            fits = [LogisticRegression(C=C, tol=TOLERANCE, max_iter=10**4).fit(a, y_a) for C in Cs]
            rows = np.arange(len(y_b))
            best = np.argmin([-f.predict_log_proba(b)[rows, y_b].mean() for f in fits])
            guessed = fits[best].predict_proba(c)[:, 1]
            _scores(guessed, y_c)
            found[site] = guessed
        return found

    return fit


def _scores(guessed: Numbers, y: Numbers) -> tuple[float, ...]:
    missed = guessed - y
    return np.abs(missed).mean(), 1 - (missed**2).mean() / y.var(), (guessed.round() == y).mean()


@dataclass(frozen=True)
class Row:
    """One side on the sites of one size."""

    task: str
    dim: int
    sites: int
    side: str
    seconds: float
    ratio: float
    difference: float

    def cells(self) -> str:
        """As a row of the table."""
        ratio = "" if self.side.startswith("interp") else f"{self.ratio:.1f}×"
        difference = "" if self.side.startswith("interp") else f"{self.difference:.0e}"
        return (
            f"| {self.task} | {self.sites} of {self.dim} dims | {self.side} | {self.seconds:.2f} | "
            f"{ratio} | {difference} |"
        )


def compare(
    task: str,
    features: Features,
    targets: Tensor,
    split: Split,
    ours: Callable[[Features], dict[str, ProbeFit]],
    loops: dict[str, Loop],
    stride: int,
    rounds: int,
) -> Iterator[Row]:
    """Time both sides in turns, and compare what they predict for the test samples."""
    for dim in sorted({x.shape[1] for x in features.values()}):
        sites = {site: x for site, x in features.items() if x.shape[1] == dim}
        some = {site: sites[site] for site in list(sites)[:: min(stride, len(sites))]}
        seconds: dict[str, list[float]] = {}
        fits: dict[str, ProbeFit] = {}
        theirs: dict[str, dict[str, Numbers]] = {}
        for _ in range(rounds):
            start = time.process_time()
            fits = ours(sites)
            seconds.setdefault("interp", []).append(time.process_time() - start)
            for side, loop in loops.items():
                start = time.process_time()
                theirs[side] = loop(some, targets, split)
                spent = (time.process_time() - start) * len(sites) / len(some)
                seconds.setdefault(side, []).append(spent)
        base = statistics.median(seconds["interp"])
        for side, times in seconds.items():
            apart = 0.0
            for site, guessed in theirs.get(side, {}).items():
                mine = _predicted(fits[site], sites[site][split.test])
                worst = np.abs(mine - guessed).max() / max(1.0, np.abs(guessed).max())
                apart = max(apart, float(worst))
            median = statistics.median(times)
            yield Row(task, dim, len(sites), side, median, median / base, apart)


def bound(sites: int, dim: int, n: int, n_alphas: int, seconds: float) -> str:
    """What of ridge's time is arithmetic that no implementation is spared: each timed alone."""
    x = torch.randn(1, n, dim, dtype=torch.float64)
    gram = gram_matrix(x)
    one = torch.eye(dim, dtype=torch.float64)
    spent = []
    for part in (
        lambda: gram_matrix(x),
        lambda: [torch.linalg.cholesky_ex(gram + one) for _ in range(n_alphas)],
    ):
        times = []
        for _ in range(3):
            start = time.process_time()
            part()
            times.append(time.process_time() - start)
        spent.append(statistics.median(times) * sites)
    return (
        f"{sites} of {dim} dims: XᵀX {spent[0]:.2f} s and {n_alphas} Cholesky factorisations of "
        f"each {spent[1]:.2f} s of {seconds:.2f} s"
    )


def _predicted(fit: ProbeFit, x: Tensor) -> Numbers:
    if fit.probe.classes is None:
        return fit.predict(x).numpy()
    return fit.probe.log_probs(x).exp()[:, 1].numpy()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.probes", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small model, a few seconds")
    parser.add_argument("--sequences", type=int, help=f"of {POSITIONS} tokens")
    parser.add_argument("--stride", type=int, help="time scikit-learn on every n-th site")
    parser.add_argument("--rounds", type=int, help="how many turns to take")
    given = parser.parse_args()
    sequences = given.sequences or (48 if given.quick else 192)
    stride = given.stride or (4 if given.quick else 31)
    rounds = given.rounds or 3
    torch.set_num_threads(1)
    features = features_of_model(sequences, quick=given.quick)
    position = torch.arange(POSITIONS).repeat(sequences)
    split = split_by_group(torch.arange(sequences).repeat_interleave(POSITIONS))
    alphas, Cs = log_grid(1e-2, 1e5, 8), log_grid(1e-4, 1.0, 5)
    about = describe("cpu")
    print("# Probes beside scikit-learn\n")
    print("; ".join(f"{k} {about[k]}" for k in ("date", "CPU", "threads", "versions")) + ".\n")
    print(
        f"{len(features)} sites, {split.n_samples} samples ({split.train.numel()} for training), "
        f"{len(alphas)} α, {len(Cs)} C; scikit-learn on every {stride}th site, time multiplied. "
        "*Difference*: the largest one of predictions for test samples, over max(1, the largest).\n"
    )
    print("| task | sites | side | CPU seconds | interp is faster by | difference |")
    print("|---|---|---|---|---|---|")
    loops = {
        "scikit-learn, each α, fp64": ridge_loop(alphas, np.float64),
        "scikit-learn, each α, fp32": ridge_loop(alphas, np.float32),
        "scikit-learn, all α at once, fp64": ridge_loop(alphas, np.float64, together=True),
    }
    ridge = lambda sites: fit_ridge(sites, position, split, alphas)
    bounds, total = [], dict.fromkeys(["interp", *loops], 0.0)
    for row in compare("ridge", features, position, split, ridge, loops, stride, rounds):
        print(row.cells(), flush=True)
        total[row.side] += row.seconds
        if row.side == "interp":
            n = split.train.numel()
            bounds.append(bound(row.sites, row.dim, n, len(alphas), row.seconds))
    for side, seconds in total.items():
        ratio = "" if side == "interp" else f"{seconds / total['interp']:.1f}×"
        print(f"| ridge | all {len(features)} | {side} | {seconds:.2f} | {ratio} |  |", flush=True)
    late = (position >= POSITIONS // 2).long()
    # Of the wide sites the residual stream alone: the whole should take minutes.
    fewer = {k: x for k, x in features.items() if x.shape[1] == 64 or "resid_post" in k}
    logistic = lambda sites: fit_logistic(sites, late, split, Cs)
    loop = {"scikit-learn, each C, fp64": logistic_loop(Cs)}
    for row in compare("two classes", fewer, late, split, logistic, loop, stride, 1):
        print(row.cells(), flush=True)
    print(
        "\nOf ridge's time the arithmetic that bounds it, timed alone: " + "; ".join(bounds) + "."
    )
    print("The rest is centring, predictions, scores and their intervals.")
    print(
        "\nOf two classes scikit-learn's L-BFGS ends early: beside its Newton method, which does "
        "not, the tests allow interp a difference of 1e-5."
    )


if __name__ == "__main__":
    main()
