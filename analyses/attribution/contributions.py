"""What each component of one position's residual stream adds to a logit, and towards which tokens.

With the final norm's scale held as it was, a logit before any soft cap is a sum over the parts of
the stream and two constants: what the final norm's and the unembedding's biases add.

Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.attribution.stream_parts import (
    By,
    Part,
    StreamParts,
    is_neuron,
    neuron_part,
    stream_parts,
)
from analyses.inputs.prompts import token_texts
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import Check
from interp.attribution.logit_direction import LogitDirection
from interp.components.norm import Norm
from interp.errors import require, require_whole
from interp.frozen_norms import pass_on
from interp.precision import wide

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_SUBLAYERS = {
    "embed": "embeddings",
    "attention": "attention",
    "head": "attention",
    "cross-attention": "cross-attention",
    "cross-head": "cross-attention",
    "mlp": "MLP",
    "bias": "biases",
}


@dataclass(frozen=True)
class Contributions:
    """The parts of a stream and what they add up to.

    Attributes:
        table: A row for each component, in the order that they are written: order, component, kind,
            layer, number, column (of a grid of layers: `attn`, `mlp`, `H3` …; empty for those of no
            layer), norm, cosine (with the stream), share (of the stream, along it: they sum to 1);
            where a logit is explained, contribution and running (the sum so far). The last two
            components are then `ln_final.b` and `b_U`, which are no vectors of the stream.
        value: The logit that is explained, as the model gave it before a soft cap; None: none is.
        total: The sum of the contributions.
        checks: That the parts sum to the stream, and the contributions to the logit.
    """

    table: pd.DataFrame
    value: float | None
    total: float | None
    checks: list[Check]


@torch.no_grad()
def contributions(
    model: HookedTransformer,
    position: int,
    right: int | None,
    wrong: int | None = None,
    less_mean: bool = False,
    by: By = "layer",
    **inputs: Any,
) -> Contributions:
    """Take one position's stream apart, and a logit with it.

    Args:
        model: A model with layers.
        position: The destination; negative ones count from the end.
        right: The token whose logit is explained; None: explain none, which is all there is where
            logits are not linear in the stream.
        wrong: Explain the excess over this token's logit instead.
        less_mean: Explain the excess over the mean logit instead.
        by: `layer`, or `head` for heads in place of attention.
        **inputs: What the model is called with, as tensors of one row.

    Raises:
        InputError: as `stream_parts` and `LogitDirection.of`.
    """
    found = stream_parts(model, position, by, **inputs)
    vectors, stream = found.vectors.double(), found.stream.double()
    tolerance = TOLERANCES[model.cfg.dtype]
    length = stream.norm()
    norms = vectors.norm(dim=-1)
    along = vectors @ stream / length
    rows = _rows(found.parts).assign(
        norm=norms.cpu().numpy(),
        cosine=(along / norms.masked_fill(norms == 0, 1.0)).cpu().numpy(),
        share=(along / length).cpu().numpy(),
    )
    checks = [
        Check(
            name="parts-sum-to-stream",
            value=scaled_error(vectors.sum(0), stream),
            tolerance=tolerance,
            note=f"sum of components against the last residual stream; {SCALED}",
        )
    ]
    if right is None:
        return Contributions(rows, None, None, checks)
    towards = LogitDirection.of(model, right, wrong, less_mean)
    direction = towards.direction.double().to(stream.device)
    added = (vectors @ direction / found.scale.double()).tolist()
    added += [float(towards.norm_bias), float(towards.unembed_bias)]
    constants = _rows([Part("ln_final.b", "bias"), Part("b_U", "bias")]).assign(
        norm=math.nan, cosine=math.nan, share=math.nan
    )
    table = pd.concat([rows, constants], ignore_index=True)
    table["order"] = range(len(table))
    table = table.assign(contribution=added, running=pd.Series(added).cumsum())
    assert found.linear is not None  # `LogitDirection.of` refuses other models
    value = found.linear[right]
    if wrong is not None:
        value = value - found.linear[wrong]
    if less_mean:
        value = value - found.linear.mean()
    total = torch.tensor(sum(added), dtype=torch.float64)
    checks.append(
        Check(
            name="contributions-sum-to-logit",
            value=scaled_error(total, value),
            tolerance=tolerance,
            note=f"sum of contributions against the model's own logits; {SCALED}",
        )
    )
    return Contributions(table, float(value), float(total), checks)


def leading(table: pd.DataFrame, n: int = 20) -> pd.DataFrame:
    """The n largest contributions, either sign, and the sum of the others: together, the logit.

    Args:
        table: Of `Contributions`, where a logit is explained.
        n: How many.

    Returns:
        component, kind, contribution, largest in size first.
    """
    largest = table["contribution"].abs().sort_values(ascending=False, kind="stable").index
    ranked = table.loc[largest, ["component", "kind", "contribution"]].reset_index(drop=True)
    rest = ranked["contribution"].iloc[n:]
    if rest.empty:
        return ranked
    others = {"component": f"{len(rest)} others", "kind": "rest", "contribution": rest.sum()}
    return pd.concat([ranked.head(n), pd.DataFrame([others])], ignore_index=True)


def by_sublayer(table: pd.DataFrame) -> pd.DataFrame:
    """Contributions summed over the heads of each layer, and how the logit grows along the layers.

    Args:
        table: Of `Contributions`, where a logit is explained.

    Returns:
        order, sublayer (`embeddings`, `L0 attention`, `L0 cross-attention`, `L0 MLP`, …, `biases`),
        part (embeddings, attention, cross-attention, MLP, biases), contribution, running.
    """
    part = table["kind"].map(_SUBLAYERS)
    layer = table["layer"].map(lambda i: "" if i < 0 else f"L{i} ")
    rows = table.assign(sublayer=layer + part, part=part)
    groups = rows.groupby(["sublayer", "part"], sort=False, as_index=False)["contribution"].sum()
    groups.insert(0, "order", range(len(groups)))
    return groups.assign(running=groups["contribution"].cumsum())


@torch.no_grad()
def promoted_tokens(
    model: HookedTransformer, component: str, position: int, top_k: int = 10, **inputs: Any
) -> pd.DataFrame:
    """The tokens that one component raises and lowers most at a position, on its own.

    What it adds to all logits alike changes no probability, so it is taken less its mean over the
    vocabulary.

    Args:
        model: With `head="lm"`.
        component: As `Part` labels them, `L0N17` for a neuron.
        position: The destination; negative ones count from the end.
        top_k: How many tokens at each end.
        **inputs: What the model is called with, as tensors of one row.

    Returns:
        component, direction (`promoted`, `suppressed`), order, rank, token, token_id, contribution
        (logits), best promoted first and most suppressed last.

    Raises:
        InputError: for a component that is not there, a model whose logits are not linear in its
            stream, and as `stream_parts`.
    """
    require_whole("top_k", top_k, 1)
    neuron = is_neuron(component)
    if neuron is not None:
        found, _ = neuron_part(model, position, *neuron, **inputs)
    else:
        per_head = any(letter in component for letter in "HC") and "CROSS" not in component
        by: By = "head" if per_head or component == "biases" else "layer"
        found = stream_parts(model, position, by, **inputs)
    labels = [part.label for part in found.parts]
    require(
        component in labels,
        f"a component is one of {', '.join(labels)}, or a neuron as L0N0. Received {component!r}",
    )
    at = labels.index(component)
    one = replace(found, parts=found.parts[at : at + 1], vectors=found.vectors[at : at + 1])
    (logits,) = logits_of(model, one)
    k = min(top_k, max(len(logits) // 2, 1))
    top, bottom = logits.topk(k), logits.topk(k, largest=False)
    ids = torch.cat([top.indices, bottom.indices.flip(0)]).tolist()
    values = torch.cat([top.values, bottom.values.flip(0)]).tolist()
    return pd.DataFrame(
        {
            "component": component,
            "direction": ["promoted"] * k + ["suppressed"] * k,
            "order": range(2 * k),
            "rank": [*range(1, k + 1), *range(k, 0, -1)],
            "token": token_texts(model, ids),
            "token_id": ids,
            "contribution": values,
        }
    )


def logits_of(model: HookedTransformer, found: StreamParts) -> Float[Tensor, "part d_vocab_out"]:
    """What each part adds to each logit, less its mean over the vocabulary.

    Raises:
        InputError: for a model whose logits are not linear in its stream.
    """
    require(
        model.cfg.head == "lm",
        "a component adds to logits by itself only where they are linear in the residual stream "
        f"(head='lm'). This model's head is {model.cfg.head!r}",
    )
    vectors, norm = found.vectors, model.main_stack.ln_final
    if isinstance(norm, Norm):
        vectors = pass_on(norm, vectors, found.scale)
    logits = wide(vectors.to(model.W_U.device)) @ wide(model.W_U) * model.cfg.logit_scale
    return logits - logits.mean(-1, keepdim=True)


def _rows(parts: list[Part]) -> pd.DataFrame:
    columns = {"attention": "attn", "cross-attention": "cross", "mlp": "mlp"}
    return pd.DataFrame(
        {
            "order": range(len(parts)),
            "component": [part.label for part in parts],
            "kind": [part.kind for part in parts],
            "layer": [part.layer for part in parts],
            "number": [part.number for part in parts],
            "column": [
                columns.get(part.kind, "" if part.layer < 0 else part.label.lstrip("L0123456789"))
                for part in parts
            ],
        }
    )
