"""How well estimates of patching agree with patching: python -m benchmarks.estimates [FOLDER …].

Of every model of the zoo that fits, on its default pairs of prompts, and of checkpoints (of tiny
stories) in the folders given: Spearman's rank correlation of estimated with exact changes of the
logit difference, with signs and of magnitudes, how much of the tenth with the largest changes is
found, and the scale of the estimates. Clean activations are put into the corrupted run; in fp64, so
that small changes are no rounding. What is printed is a table in Markdown.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor

from analyses.inputs.pairs import PairParams, Pairs, resolve_pairs
from interp import load_model, patching, zoo
from interp.attribution import agreement, atp_star, edge_attribution, estimate
from interp.attribution.comparison import Agreement
from interp.circuits import patch_edges, source_of

ZOO = ("zoo:induction", "zoo:modular-addition", "zoo:brackets")
# The answers are the two top predictions, which differ within each pair.
STORIES = (
    ("Lily was a little girl. One day,", "Tim was a little boy. One day,"),
    (
        "Mom and Lily went to the park. Lily saw a big dog. Lily said to the",
        "Mom and Lily went to the park. Lily saw a big cat. Lily said to the",
    ),
    (
        "Sara had a red ball. Tom had a blue car. Sara liked the",
        "Sara had a red car. Tom had a blue ball. Sara liked the",
    ),
)
EDGES: dict[str, dict[str, Any]] = {
    "EAP": {},
    "EAP-IG, 5 steps": {"method": "eap-ig"},
    "EAP-IG, 5 steps, right points": {"method": "eap-ig", "rule": "right"},
    "EAP-IG, 20 steps": {"method": "eap-ig", "steps": 20},
}
INTRO = """# Estimates beside exact patching

Made by `make estimates`. For every model of the zoo that fits, on its default pairs of prompts, and
for stories260K (a Llama of 5 layers, trained on TinyStories) on three natural pairs: how well
first-order estimates agree with exact patching of the same places, clean activations into the
corrupted run, in fp64. ρ is Spearman's rank correlation; *top tenth* the share of the tenth of
places with the largest exact changes that the estimate's own top tenth holds; *scale* the slope of
estimates over exact changes, 1 where sizes are right. Blank: nothing to compare (no exact change,
or an estimate without sign).

What it says: rankings mostly hold, sizes often do not (EAP on `zoo:brackets` is a thousand times
too small). EAP-IG puts the sizes right on these zoo models, not on stories260K; it ranks better
than EAP only against the mean of both directions, which is what its line between the two prompts
stands for, and there on zoo:induction and stories260K alone. The QK fix ranks queries and keys at
least as well everywhere. GradDrop guards against cancellation and costs ranking where nothing
cancels.
"""
ROUNDING = 1e-10  # of logits in fp64: changes up to this are none
NODES = ("z", "mlp_out", "q", "k", "v")


@dataclass(frozen=True)
class Row:
    """One method on one model, over all its sets of prompts."""

    model: str
    places: str
    method: str
    found: list[Agreement]

    def cells(self) -> str:
        """As a row of the table; of several sets of prompts the mean."""
        sizes, n = self.found, len(self.found)
        places = " + ".join(str(a.n) for a in sizes)
        names = ("signed", "magnitude", "leading", "scale")
        means = [sum(getattr(a, k) for a in sizes) / n for k in names]
        shown = " | ".join("" if x != x else f"{x:.3f}" for x in means)
        return f"| {self.model} | {self.places} ({places}) | {self.method} | {shown} |"


def rows_of(name: str, model: Any, several: list[Pairs]) -> Iterator[Row]:
    """Every method on one model."""
    exact = [_exact_edges(model, pairs) for pairs in several]
    both = [
        (one - _exact_edges(model, pairs, "noise")) / 2
        for one, pairs in zip(exact, several, strict=True)
    ]
    estimated = {
        method: [_edges(model, pairs, options) for pairs in several]
        for method, options in EDGES.items()
    }
    # What lies on the line between the prompts belongs to neither: it is beside the mean, too.
    for places, true in (("edges", exact), ("edges, mean of both directions", both)):
        for method, found in estimated.items():
            pairs_of = zip(found, true, strict=True)
            yield Row(name, places, method, [agreement(a, b, floor=ROUNDING) for a, b in pairs_of])
    for part in NODES:
        if part == "mlp_out" and model.cfg.attn_only:
            continue
        by_method: dict[str, list[Agreement]] = {}
        for pairs in several:
            for method, one in _nodes(model, pairs, part):
                by_method.setdefault(method, []).append(one)
        yield from (Row(name, part, method, found) for method, found in by_method.items())


def _exact_edges(model: Any, pairs: Pairs, direction: str = "denoise") -> Tensor:
    base, source = (pairs.corrupted, pairs.clean)[:: 1 if direction == "denoise" else -1]
    result = patch_edges(model, base, source_of(model, source), pairs.metric)
    return torch.tensor(list(result.scores().values()), dtype=torch.float64)


def _edges(model: Any, pairs: Pairs, options: dict[str, Any]) -> Tensor:
    scores = edge_attribution(model, pairs.clean, pairs.corrupted, pairs.metric, **options)
    return scores.scores[scores.graph.exists.to(scores.scores.device)].cpu()


def _nodes(model: Any, pairs: Pairs, part: str) -> Iterator[tuple[str, Agreement]]:
    tokens, metric = pairs.corrupted, pairs.metric
    with torch.no_grad():
        names = patching.sites(model, part).hooks
        _, source = model.run_with_cache(pairs.clean, names_filter=list(names))
        swept = patching.sweep(model, tokens, source, part, metric)
    change = swept.values - swept.base

    def beside(found: Any) -> Agreement:
        # Sizes are means over prompts of sizes, which do not cancel.
        true = (change if found.signed else change.abs()).mean(-1)
        return agreement(found.mean(), true, found.signed, ROUNDING)

    yield "AtP", beside(estimate(model, tokens, source, part, metric))
    if part in ("q", "k"):
        fixed = atp_star(model, tokens, source, part, metric, grad_drop=False)
        yield "AtP, QK fix", beside(fixed)
    if model.cfg.n_layers > 1:
        yield "AtP*", beside(atp_star(model, tokens, source, part, metric))


def _models(folders: list[str]) -> Iterator[tuple[str, Any, list[Pairs]]]:
    for name in ZOO:
        model = zoo.load(name, dtype=torch.float64)
        params = PairParams(**zoo.defaults(name, "attribution-patching"))
        yield name, model, [resolve_pairs(model, params)]
    for folder in folders:
        model = load_model(folder, dtype=torch.float64)
        made = [PairParams.model_validate({"clean": a, "corrupted": b}) for a, b in STORIES]
        yield os.path.basename(folder.rstrip("/")), model, [resolve_pairs(model, p) for p in made]


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimates", description=__doc__)
    parser.add_argument("folders", nargs="*", help="checkpoints of models of tiny stories")
    folders = parser.parse_args().folders
    print(INTRO)
    print("| model | places | estimate | ρ, signed | ρ of magnitudes | top tenth | scale |")
    print("|---|---|---|---|---|---|---|")
    for name, model, several in _models(folders):
        for row in rows_of(name, model, several):
            print(row.cells(), flush=True)


if __name__ == "__main__":
    main()
