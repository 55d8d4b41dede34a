"""What a model's weights say by themselves: which heads copy, what they compare, who reads whom."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import pandas as pd
import torch
from pydantic import Field

from analyses.base import Analysis, Parameters
from analyses.inputs.targets import resolve_input
from analyses.registry import register
from analyses.results.checks import TOLERANCES
from analyses.results.result import AnalysisResult, Check
from analyses.weights.tables import (
    Head,
    Texts,
    bigrams_table,
    composition_table,
    eigenvalues_table,
    heads_table,
    label,
    leading_compositions,
    matching_table,
    neurons_table,
    offsets_table,
    ov_table,
    parse,
    qk_table,
    rows_of,
    trigrams_table,
    virtual_table,
)
from interp.charts.spec import Chart
from interp.errors import InputError, require
from interp.weight_circuits import CopyingScores, chunked_norm, copying_scores, ov_circuit

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

LEADING = 15  # compositions and virtual heads in the tables and figures of the strongest
CHECKED = 4096  # rows of a circuit that are multiplied out for comparison


class WeightCircuitsParams(Parameters):
    """Which heads are spelled out, and what the compositions are compared with."""

    heads: list[str] | None = Field(
        None,
        description="The heads whose token pairs are listed, such as L1H2; by default those that "
        "add the most to, or take the most from, the logit of the token they attend to.",
    )
    top_heads: int = Field(3, ge=1, le=32, description="How many, where none are named.")
    k: int = Field(8, ge=1, le=100, description="How many pairs, triples or tokens in each list.")
    effective: bool = Field(
        False,
        description="From layer 1 on, read tokens as the first block's MLP leaves them instead of "
        "as the embedding gives them.",
    )
    distance: int = Field(
        0,
        ge=0,
        description="Rotary positions: how far back the source lies that destinations compare.",
    )
    token: str | int | None = Field(
        None,
        description="List what the direct path puts after this token (text or #id); by default "
        "the strongest pairs of all tokens.",
    )
    neurons: int = Field(4, ge=1, le=50, description="How many neurons of each layer to list.")
    baseline: Literal["permuted", "gaussian", "rotated"] = Field(
        "permuted",
        description="What composition is compared with: the weights' entries in random order, "
        "normal weights of the same size, or the circuits themselves, turned at random.",
    )
    n_draws: int = Field(20, ge=2, le=1000, description="How many random sets of weights.")
    seed: int = Field(0, ge=0, description="Of the random weights.")


@register
class WeightCircuits(Analysis[WeightCircuitsParams]):
    """Full OV and QK circuits, composition, neurons and the direct path, from the weights alone.

    Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits.
    """

    name = "weight-circuits"
    question = "What do the weights alone say that heads and neurons copy, compare and compose?"
    caveat = (
        "Weights say what a head would do, not when it attends. A copying score near 1 makes no "
        "induction head: every head of a layer can copy, and what tells them apart is where they "
        "look. Logits are less their mean over the vocabulary and scores less their mean over "
        "sources, neither of which has an effect: copying scores with them differ. The norms' "
        "scales and all biases are left out, so that sizes are comparable within a model and are "
        "no logits of a run; of rotary positions one distance is taken, and what positions and "
        "earlier layers put into the stream is not seen. The z-score of a "
        "composition says that a pair of heads is aligned beyond chance, not that the alignment is "
        "used; permuted and Gaussian weights spread over all dimensions, so trained circuits of "
        "few dimensions exceed them easily (the rotated baseline keeps their singular values). It "
        "is itself an estimate: of 20 draws the standard deviation is known to one part in six."
    )

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """Heads, and logits that are linear in the residual stream."""
        cfg = model.cfg
        if not cfg.n_layers:
            return "it has no heads"
        if cfg.head != "lm":
            return f"its logits are not linear in its residual stream (head={cfg.head!r})"
        if cfg.qk_norm == "full" and cfg.norm_centres:
            return "its queries are centred over all heads at once"
        return None

    def quick(self, params: WeightCircuitsParams) -> WeightCircuitsParams:
        """Fewer heads and lists. Not fewer draws: a spread over few is no spread to divide by."""
        smaller = {"top_heads": 2, "k": 5, "neurons": 2}
        return params.model_copy(update=smaller)

    def run(self, model: HookedTransformer, params: WeightCircuitsParams) -> AnalysisResult:
        """Read the circuits and check their traces and norms."""
        cfg = model.cfg
        n_tokens = min(cfg.d_vocab, cfg.d_vocab_out)
        tokens = None if cfg.d_vocab == cfg.d_vocab_out else range(n_tokens)
        effective = params.effective
        with torch.no_grad():
            scores = copying_scores(model, tokens, effective, less_mean=True)
            chosen = _chosen(model, params, scores)
            texts = Texts(model)
            token = None if params.token is None else resolve_input(model, params.token)
            tables = {
                "heads": heads_table(scores, n_tokens),
                "eigenvalues": eigenvalues_table(scores, chosen),
                "ov-pairs": ov_table(model, chosen, params.k, effective, texts),
                "qk-pairs": qk_table(model, chosen, params.k, effective, params.distance, texts),
                "bigrams": bigrams_table(model, params.k, token, texts),
                "skip-trigrams": trigrams_table(
                    model, chosen, params.k, effective, params.distance, texts
                ),
            }
            positions = model.main_stack.pos_embed
            if positions.adds_embedding or positions.adds_to_queries_and_keys:
                tables["offsets"] = offsets_table(model)
            if cfg.n_layers > 1:
                composition = composition_table(model, params.baseline, params.n_draws, params.seed)
                leading = leading_compositions(composition, LEADING)
                tables["leading-compositions"] = leading
                matching = matching_table(model, leading, effective, params.k)
                if len(matching):
                    tables["matching"] = matching
                tables["virtual-heads"] = virtual_table(model, composition, LEADING)
                tables["composition"] = composition
            if not cfg.attn_only and cfg.num_experts is None:
                tables["neurons"] = neurons_table(model, params.neurons, params.k, effective, texts)
            checks = _checks(model, scores, chosen, effective, n_tokens)
        return self.result(
            model, params, tables=tables, figures=_figures(tables, params, chosen), checks=checks
        )


def _chosen(
    model: HookedTransformer, params: WeightCircuitsParams, scores: CopyingScores
) -> list[Head]:
    cfg = model.cfg
    if params.heads is None:
        order = scores.trace.abs().flatten().argsort(descending=True)[: params.top_heads]
        return [divmod(int(i), cfg.n_heads) for i in order]
    require(len(params.heads) > 0, "heads must not be empty. Received none")
    chosen = []
    for name in dict.fromkeys(params.heads):
        if not re.fullmatch(r"L\d+H\d+", name):
            raise InputError(f"a head is named as L1H2. Received {name!r}.")
        layer, head = parse(name)
        if layer >= cfg.n_layers or head >= cfg.n_heads:
            raise InputError(
                f"heads must lie in L0H0 … L{cfg.n_layers - 1}H{cfg.n_heads - 1}. Received {name}."
            )
        chosen.append((layer, head))
    return chosen


def _checks(
    model: HookedTransformer,
    scores: CopyingScores,
    chosen: list[Head],
    effective: bool,
    n_tokens: int,
) -> list[Check]:
    """Small products against the same circuits row by row."""
    traces, norms = [], []
    for layer, head in chosen:
        rows = rows_of(model, layer, effective)
        circuit = ov_circuit(model, layer, head, rows, less_mean=True)
        square = circuit[:n_tokens, :n_tokens]
        trace = (square.A.double() * square.B.mT.double()).sum()
        total = scores.eigenvalues[layer, head].sum().real
        norm = float(scores.norm[layer, head])
        traces.append(float((total - trace).abs()) / max(1.0, norm * n_tokens**0.5))
        part = square[:CHECKED]
        multiplied = chunked_norm(part)
        norms.append(abs(float(part.norm()) - multiplied) / max(1.0, multiplied))
    names = ", ".join(map(label, chosen))
    tolerance = TOLERANCES[model.cfg.dtype]
    return [
        Check(
            name="eigenvalues-sum-to-trace",
            value=max(traces),
            tolerance=tolerance,
            note=f"sum of the eigenvalues of the small product against the sum over tokens of what "
            f"attending to each adds to its own logit, for {names}; |difference| over max(1, "
            "√n times the circuit's norm), the largest that a trace can be",
        ),
        Check(
            name="norm-equals-multiplied-out",
            value=max(norms),
            tolerance=tolerance,
            note=f"norm through the factors against that of the circuit multiplied out by blocks, "
            f"first {min(n_tokens, CHECKED)} rows, for {names}; |difference| over max(1, norm)",
        ),
    ]


def _figures(
    tables: dict[str, pd.DataFrame], params: WeightCircuitsParams, chosen: list[Head]
) -> dict[str, Chart]:
    names = ", ".join(map(label, chosen))
    figures = {
        "copying": Chart(
            kind="heatmap",
            table="heads",
            x="head",
            y="layer",
            value="copying_score",
            value_label="Σ Re λ / Σ |λ|",
            signed=True,
            title="Copying score of each head's full OV circuit",
            alt="For each head whether attending to a token raises (towards 1) or lowers (towards "
            "-1) the logit of that token less the mean logit, layers down, heads across.",
        ),
        "own-logit": Chart(
            kind="heatmap",
            table="heads",
            x="head",
            y="layer",
            value="own_logit",
            value_label="logit, mean over tokens",
            signed=True,
            title="What attending to a token adds to its own logit",
            alt="For each head the mean over the vocabulary of what attending to a token adds to "
            "that token's logit less the mean logit (norms' scales left out), layers down, heads "
            "across.",
        ),
        "eigenvalues": Chart(
            kind="line",
            table="eigenvalues",
            x="rank",
            y="real",
            color="component",
            x_label="rank by size",
            y_label="real part (logits)",
            title=f"Eigenvalues of the full OV circuits of {names}",
            alt=f"The real parts of the OV circuits' eigenvalues of {names}, the largest in size "
            "first: above zero for what is copied, below for what is suppressed.",
        ),
    }
    if "offsets" in tables:
        figures["offsets"] = Chart(
            kind="heatmap",
            table="offsets",
            x="distance",
            x_label="how far back the source lies",
            y="head",
            y_text="component",
            y_label="head",
            value="preferred",
            value_label="share of destinations",
            probability=True,
            title="Which distance the first layer's heads prefer, by positions alone",
            alt="For each head of the first layer and each distance back, the share of "
            "destinations whose best source by position lies there: a previous-token head has "
            "its share at 1.",
        )
    if "composition" in tables:
        against = f"{params.baseline} weights"
        figures["composition"] = Chart(
            kind="heatmap",
            table="composition",
            x="second_order",
            x_text="second",
            x_label="later head",
            y="first_order",
            y_text="first",
            y_label="earlier head",
            value="z",
            value_label="standard deviations",
            facet="through",
            signed=True,
            title=f"Composition beyond {against}, in their standard deviations",
            alt="How strongly each later head reads each earlier one through its keys, queries and "
            f"values, as standard deviations from the mean over {against}.",
        )
        figures["strongest-compositions"] = Chart(
            kind="graph",
            table="leading-compositions",
            x="first",
            y="second",
            value="score",
            color="through",
            x_level="first_layer",
            y_level="second_layer",
            value_label="composition score",
            title=f"The {len(tables['leading-compositions'])} strongest compositions",
            alt="A graph of the compositions that exceed their baseline the most, from earlier "
            "heads below to later heads above, by query, key or value.",
        )
        figures["virtual-heads"] = Chart(
            kind="bars",
            table="virtual-heads",
            x="pair",
            value="norm",
            value_label="norm of both OV circuits in a row",
            title="The virtual heads that move the most",
            alt="Pairs of an earlier and a later head by the Frobenius norm of the product of "
            "their OV circuits, the largest first.",
        )
    return figures
