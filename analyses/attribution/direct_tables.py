"""Direct logit attribution by source token and by neuron, of one prompt, as tables.

Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from analyses.heads.attention_maps import visible_sources
from analyses.inputs.prompts import token_texts
from analyses.inputs.targets import resolve_position
from analyses.results.checks import SCALED, TOLERANCES, scaled_error
from analyses.results.result import Check
from interp.attribution.by_source_and_neuron import (
    mlp_bias_attribution,
    neuron_attribution,
    source_attribution,
)
from interp.attribution.direct import DirectAttribution, direct_logit_attribution, hooks_needed
from interp.errors import InputError, require_whole
from interp.weight_circuits.chunks import top_per_row
from interp.weight_circuits.circuits import ov_circuit

if TYPE_CHECKING:
    from interp.cache import ActivationCache
    from interp.transformer import HookedTransformer


@dataclass(frozen=True)
class Checked:
    """A table, and the identity that it was checked by.

    Attributes:
        table: The numbers.
        check: What they must sum to.
    """

    table: pd.DataFrame
    check: Check


@torch.no_grad()
def sources_table(
    model: HookedTransformer,
    position: int,
    right: int,
    wrong: int | None = None,
    less_mean: bool = False,
    **inputs: Any,
) -> Checked:
    """Every head's share of a logit at one position, split over the tokens that it read.

    Self-attention alone: heads of cross-attention read another sequence.

    Args:
        model: With `head="lm"`.
        position: The destination; negative ones count from the end.
        right, wrong, less_mean: What is explained; see `direct_logit_attribution`.
        **inputs: What the model is called with, as tensors of one row.

    Returns:
        order, head (its label), layer, number, source, source_token, attention, attribution
        (logits), without the sources that the head's layer hides from the destination.

    Raises:
        InputError: as `direct_logit_attribution`, or for a position that is not there.
    """
    cfg = model.cfg
    layers = range(cfg.n_layers)
    attribution, cache, texts = _run(
        model, right, wrong, less_mean, _watched(model, layers, "attn", "pattern", "v"), inputs
    )
    position = resolve_position(position, len(texts))
    n = len(texts)
    frames, sums = [], []
    for layer in layers:
        seen = visible_sources(model, layer, n, n)[position].nonzero().flatten().tolist()
        pattern = cache["pattern", layer][0, :, position].double().cpu().numpy()
        for head in range(cfg.n_heads):
            split = source_attribution(model, cache, attribution, layer, head)[0, position]
            sums.append(split.sum())
            frames.append(
                pd.DataFrame(
                    {
                        "order": layer * cfg.n_heads + head,
                        "head": f"L{layer}H{head}",
                        "layer": layer,
                        "number": head,
                        "source": seen,
                        "source_token": [texts[i] for i in seen],
                        "attention": pattern[head, seen],
                        "attribution": split[seen].double().cpu().numpy(),
                    }
                )
            )
    whole = attribution.heads(cfg.n_layers, cfg.n_heads)[:, :, 0, position].flatten()
    check = Check(
        name="sources-sum-to-heads",
        value=scaled_error(torch.stack(sums), whole),
        tolerance=TOLERANCES[cfg.dtype],
        note=f"each head's sum over source tokens against its share; {SCALED}",
    )
    return Checked(pd.concat(frames, ignore_index=True), check)


def summed_over_heads(sources: pd.DataFrame) -> pd.DataFrame:
    """What all heads together take from each source: source, source_token, attribution."""
    groups = sources.groupby(["source", "source_token"], sort=True)
    return groups["attribution"].sum().reset_index()


@torch.no_grad()
def head_sources_table(
    model: HookedTransformer,
    layer: int,
    head: int,
    right: int,
    wrong: int | None = None,
    less_mean: bool = False,
    **inputs: Any,
) -> pd.DataFrame:
    """One head's share of a logit at every position, split over the tokens that it read.

    The same logit is explained at all positions. Arguments are those of `sources_table`, and the
    head's layer and number.

    Returns:
        destination, destination_token, source, source_token, attention, attribution, without the
        sources that the head's layer hides from a destination.

    Raises:
        InputError: as `sources_table`, or for a head that does not exist.
    """
    names = _watched(model, [layer], "attn", "pattern", "v")
    attribution, cache, texts = _run(model, right, wrong, less_mean, names, inputs)
    split = source_attribution(model, cache, attribution, layer, head)[0].double().cpu()
    pattern = cache["pattern", layer][0, head].double().cpu()
    seen = visible_sources(model, layer, len(texts), len(texts))
    destination, source = (axis.tolist() for axis in seen.nonzero(as_tuple=True))
    return pd.DataFrame(
        {
            "destination": destination,
            "destination_token": [texts[i] for i in destination],
            "source": source,
            "source_token": [texts[i] for i in source],
            "attention": pattern[seen].numpy(),
            "attribution": split[seen].numpy(),
        }
    )


@torch.no_grad()
def neurons_table(
    model: HookedTransformer,
    layer: int,
    position: int,
    right: int,
    wrong: int | None = None,
    less_mean: bool = False,
    top: int = 20,
    **inputs: Any,
) -> Checked:
    """The neurons of one MLP with the largest shares of a logit, either sign, at one position.

    Args:
        model: With `head="lm"` and MLPs.
        layer: The MLP's.
        position: The destination; negative ones count from the end.
        right, wrong, less_mean: What is explained; see `direct_logit_attribution`.
        top: How many to list.
        **inputs: What the model is called with, as tensors of one row.

    Returns:
        rank, neuron (its label, with its expert in front where there are several), layer, expert
        (-1: there is one MLP), number, activation, attribution (logits).

    Raises:
        InputError: as `neuron_attribution`, or for a position that is not there.
    """
    require_whole("top", top, 1)
    kinds = ["post"] if model.cfg.num_experts is None else ["post", "expert_weights"]
    if model.cfg.attn_only:
        raise InputError("this model has no MLPs, so it has no neurons.")
    names = _watched(model, [layer], "mlp", *kinds)
    attribution, cache, texts = _run(model, right, wrong, less_mean, names, inputs)
    position = resolve_position(position, len(texts))
    shares = neuron_attribution(model, cache, attribution, layer)[0, position]
    post = cache["post", layer][0, position]
    rest = mlp_bias_attribution(model, cache, attribution, layer)[0, position]
    labels = [part.label for part in attribution.components]
    whole = attribution.values[labels.index(f"L{layer}MLP"), 0, position]
    check = Check(
        name="neurons-sum-to-mlp",
        value=scaled_error(shares.sum() + rest, whole),
        tolerance=TOLERANCES[model.cfg.dtype],
        note=f"all neurons and the MLP's biases against its share; {SCALED}",
    )
    width = shares.shape[-1]
    flat = shares.flatten()
    leading = flat.abs().topk(min(top, len(flat))).indices.tolist()
    experts = [-1 if shares.ndim == 1 else at // width for at in leading]
    numbers = [at % width for at in leading]
    table = pd.DataFrame(
        {
            "rank": range(1, len(leading) + 1),
            "neuron": [
                f"L{layer}N{n}" if e < 0 else f"L{layer}E{e}N{n}"
                for e, n in zip(experts, numbers, strict=True)
            ],
            "layer": layer,
            "expert": experts,
            "number": numbers,
            "activation": post.flatten()[leading].double().cpu().numpy(),
            "attribution": flat[leading].double().cpu().numpy(),
        }
    )
    return Checked(table, check)


@torch.no_grad()
def ov_table(
    model: HookedTransformer, layer: int, head: int, tokens: list[int], top_k: int = 5
) -> pd.DataFrame:
    """What a head's OV circuit makes of tokens, from the weights alone.

    Per unit of the norms' scales, which are left out, and less the mean over the vocabulary; what
    other layers have made of a token by the time that the head reads it is left out too.

    Args:
        model: With `head="lm"`.
        layer, head: The head of self-attention.
        tokens: What it attends to; a token that stands there twice has one entry.
        top_k: How many outputs to list.

    Returns:
        token, token_id, rank, top_token, top_token_id, score, own_score (of the output with the
        token's own id; NaN: there is none).

    Raises:
        InputError: as `ov_circuit`.
    """
    circuit = ov_circuit(model, layer, head, less_mean=True)
    ids = list(dict.fromkeys(tokens))
    found, scores = top_per_row(circuit, ids, top_k)
    k = found.shape[1]
    own = [
        float(circuit.A[i] @ circuit.B[:, i]) if i < model.cfg.d_vocab_out else float("nan")
        for i in ids
    ]
    return pd.DataFrame(
        {
            "token": [text for text in token_texts(model, ids) for _ in range(k)],
            "token_id": [i for i in ids for _ in range(k)],
            "rank": list(range(1, k + 1)) * len(ids),
            "top_token": token_texts(model, found.flatten()),
            "top_token_id": found.flatten().tolist(),
            "score": scores.flatten().double().cpu().numpy(),
            "own_score": [x for x in own for _ in range(k)],
        }
    )


def _watched(model: HookedTransformer, layers: Any, part: str, *kinds: str) -> list[str]:
    prefix = "decoder." if model.cfg.architecture == "encoder-decoder" else ""
    for layer in layers:
        if not 0 <= layer < model.cfg.n_layers:
            raise InputError(f"layer must lie in 0 … {model.cfg.n_layers - 1}. Received {layer}.")
    return [f"{prefix}blocks.{layer}.{part}.hook_{kind}" for layer in layers for kind in kinds]


def _run(
    model: HookedTransformer,
    right: int,
    wrong: int | None,
    less_mean: bool,
    names: list[str],
    inputs: dict[str, Any],
) -> tuple[DirectAttribution, ActivationCache, list[str]]:
    _, cache = model.run_with_cache(
        **inputs, names_filter=[*hooks_needed(model), *names], return_type=None
    )
    attribution = direct_logit_attribution(model, cache, right, wrong, less_mean)
    tokens = inputs.get("decoder_input", inputs["input"])
    return attribution, cache, token_texts(model, tokens[0])
