"""Circuits found by keeping the edges that score highest, or by cutting those that do nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.circuits.circuit import score_of
from interp.circuits.edge_run import EdgeRun, most_worlds
from interp.circuits.faithfulness import Judgement, judge_in
from interp.circuits.graph import Graph
from interp.circuits.references import EdgeReference
from interp.errors import require, require_number, require_whole
from interp.patching.metrics import Metric
from interp.patching.read_out import LogitsFunction

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Scores = Mapping[str, float] | Float[Tensor, "sender receiver"]
Mask = Bool[Tensor, "sender receiver"]


def ranked(graph: Graph, scores: Scores, absolute: bool = True) -> list[str]:
    """Edges from the highest score to the lowest; of equal ones the graph's order decides.

    Args:
        graph: The model's graph.
        scores: By label, or `[sender, receiver]`.
        absolute: By magnitude; otherwise with their sign.

    Raises:
        InputError: for an edge that is not in the graph, and a score that is not finite.
    """
    found = score_of(graph, scores)
    return sorted(found, key=lambda edge: -abs(found[edge]) if absolute else -found[edge])


def top_edges(
    graph: Graph, scores: Scores, n: int, absolute: bool = True, prune: bool = True
) -> Mask:
    """The n edges of the highest score; with `prune` without those that then dangle.

    Raises:
        InputError: for a negative number, and as `ranked`.
    """
    require_whole("n", n, 0)
    mask = graph.mask(ranked(graph, scores, absolute)[:n])
    return without_dangling(graph, mask) if prune else mask


def threshold(
    graph: Graph, scores: Scores, tau: float, absolute: bool = True, prune: bool = True
) -> Mask:
    """The edges whose score (with `absolute`, its magnitude) is at least tau, which is above 0.

    Raises:
        InputError: for a tau that is not positive, and as `ranked`.
    """
    require_number("tau", tau)
    found = score_of(graph, scores)
    kept = [e for e, score in found.items() if (abs(score) if absolute else score) >= tau]
    mask = graph.mask(kept)
    return without_dangling(graph, mask) if prune else mask


def without_dangling(graph: Graph, mask: Mask) -> Mask:
    """A circuit without edges that lie on no path from an embedding to the logits within it.

    What a part writes that reads nothing live is what it writes with all its edges ablated: with a
    resample ablation that is the reference itself, and leaving it out changes nothing. With a mean
    it may.

    Raises:
        InputError: for a mask of another shape, or with edges that are not there.
    """
    mask = graph.checked(mask).clone()
    feeding = [
        [graph.receiver_index(r) for r in graph.receivers_of(label)] for label in graph.senders
    ]
    # What reaches the logits, from the end; then what is reached from the embeddings.
    useful = torch.zeros(mask.shape[1], dtype=torch.bool)
    useful[-1] = True
    for s in reversed(range(len(feeding))):
        mask[s] &= useful
        if bool(mask[s].any()):
            useful[feeding[s]] = True
    for s, reads in enumerate(feeding):
        if reads and not bool(mask[:, reads].any()):
            mask[s] = False
    return mask


def greedy(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    reference: EdgeReference,
    metric: Metric | LogitsFunction,
    tau: float,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
    prune: bool = True,
    max_bytes: int | None = None,
) -> Mask:
    """ACDC: cut every edge whose loss is not noticed (Conmy et al. 2023, Algorithm 1).

    From the logits back to the embeddings, and for each reader from the last sender to the first,
    an edge is cut for good if without it the distance from the whole model grows by less than tau.
    The distance is the mean over prompts of |metric − metric of the whole model|: with
    `KLDivergence(logits of the whole model)` that divergence, as in the paper.

    What is found depends on this order. Runs with several edges cut share a batch, on the guess
    that all will be; the result is that of one run after the other.

    Args:
        model: A single stack with norms in front of what reads.
        tokens: The prompts that show the behaviour.
        reference: What edges carry that are cut.
        metric: A `Metric`, or a function of full logits that gives a number or one per prompt.
        tau: In the metric's units. The larger, the smaller the circuit.
        attention_mask: As for `forward`.
        token_type_ids: As for `forward`.
        prune: Leave out what dangles in the end.
        max_bytes: As for `EdgeRun`.

    Raises:
        InputError: for a tau that is not positive, and as `EdgeRun`.
    """
    require_number("tau", tau)
    run = EdgeRun(model, tokens, reference, attention_mask, token_type_ids, max_bytes=max_bytes)
    graph = run.graph
    whole = run.values(graph.exists[None], metric)[0]

    def distances(live: Bool[Tensor, "world sender receiver"]) -> list[float]:
        gaps = (run.values(live, metric) - whole).abs()
        return (gaps.mean(-1) if gaps.ndim == 2 else gaps).tolist()

    current, distance = graph.exists.clone(), 0.0
    left = _back_to_front(graph)
    guess = 8
    while left:
        tried = left[: min(guess, most_worlds(graph))]
        live = current.repeat(len(tried), 1, 1)
        for world, (sender, receiver) in enumerate(tried):
            live[world:, sender, receiver] = False
        cut = 0
        for found in distances(live):
            if not found - distance < tau:
                break
            distance, cut = found, cut + 1
        for sender, receiver in tried[:cut]:
            current[sender, receiver] = False
        # The edge that was noticed stays; the guesses behind it were made without it.
        left = left[cut + int(cut < len(tried)) :]
        guess = guess * 2 if cut == len(tried) else max(cut * 2, 4)
    return without_dangling(graph, current) if prune else current


def _back_to_front(graph: Graph) -> list[tuple[int, int]]:
    senders, receivers = graph.exists.shape
    return [
        (s, r)
        for r in reversed(range(receivers))
        for s in reversed(range(senders))
        if bool(graph.exists[s, r])
    ]


def smallest(
    run: EdgeRun,
    scores: Scores,
    metric: Metric | LogitsFunction,
    faithfulness: float = 0.9,
    absolute: bool = True,
    prune: bool = True,
) -> tuple[Mask, Judgement]:
    """The first few edges of a ranking that reach a faithfulness.

    Circuits of 1, 2, 4, … edges are run, and between the first that reaches it and the one before
    it is bisected. Faithfulness need not grow with every edge, so that fewer might do: what is
    found reaches it, and one edge less does not.

    Args:
        run: Of the prompts, with what edges carry that are not live.
        scores: Of the edges.
        metric: What faithfulness is of.
        faithfulness: To be reached, above 0.
        absolute: Rank by magnitude.
        prune: Leave out what dangles.

    Returns:
        The circuit, and the judgement on it.

    Raises:
        InputError: for a faithfulness that is not positive, where all edges that have a score do
            not reach it, and as `judge`.
    """
    require_number("faithfulness", faithfulness)
    graph = run.graph
    order = ranked(graph, scores, absolute)

    def first(n: int) -> Mask:
        mask = graph.mask(order[:n])
        return without_dangling(graph, mask) if prune else mask

    def judged(n: int) -> Judgement:
        return judge_in(run, [first(n)], metric)

    sizes = [2**i for i in range(len(order).bit_length()) if 2**i < len(order)] + [len(order)]
    low, high = 0, len(order)
    for high in sizes:
        best = judged(high)
        if float(best.faithfulness[0]) >= faithfulness:
            break
        low = high
    require(
        low < high,
        f"no circuit of the edges that have a score is faithful to {faithfulness}. All of them are "
        f"to {float(best.faithfulness[0]):.3g}",
    )
    while high - low > 1:
        middle = (low + high) // 2
        found = judged(middle)
        if float(found.faithfulness[0]) >= faithfulness:
            high, best = middle, found
        else:
            low = middle
    return first(high), best
