"""How like a head's whole pattern is to one that is given, as TransformerLens measures it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError, require, require_one_of
from interp.precision import wide

if TYPE_CHECKING:
    from interp.cache import ActivationCache
    from interp.transformer import HookedTransformer

HeadName = Literal["previous_token_head", "duplicate_token_head", "induction_head"]
HEAD_NAMES: tuple[HeadName, ...] = ("previous_token_head", "duplicate_token_head", "induction_head")
ErrorMeasure = Literal["abs", "mul"]


@torch.no_grad()
def detect_head(
    model: HookedTransformer,
    seq: str | Sequence[str] | Int[Tensor, "pos"],
    detection_pattern: Float[Tensor, "pos key_pos"] | HeadName,
    heads: Sequence[tuple[int, int]] | Mapping[int, Sequence[int]] | None = None,
    cache: ActivationCache | None = None,
    *,
    exclude_bos: bool = False,
    exclude_current_token: bool = False,
    error_measure: ErrorMeasure = "mul",
) -> Float[Tensor, "layer head"]:
    """Compare every head's pattern with one that a known kind of head would have.

    TransformerLens's `head_detector.detect_head`, for scripts that use it; its `abs` is rounded to
    three digits there and is not here. `head_scores` counts only destinations at which a kind of
    head has somewhere to look, and knows errors and chance.

    Args:
        model: A causal model.
        seq: A text, several texts (their scores are averaged), or tokens of one text.
        detection_pattern: The name of a kind of head, or a lower triangular matrix.
        heads: Which heads, as pairs (layer, head) or heads by layer; others get -1. None: all.
        cache: A run on the text with `hook_pattern` of these layers, without a batch axis
            (`remove_batch_dim=True`).
        exclude_bos: Leave out attention to the first token.
        exclude_current_token: Leave out attention of tokens to themselves.
        error_measure: `mul`: the share of the pattern's sum that lies where the detection pattern
            is 1 (weighted by it otherwise). `abs`: 1 less the sum of absolute differences, per
            destination: 1 for the very pattern, down to -1.

    Raises:
        InputError: for a name that is none, a pattern that is not a lower triangle of the text's
            length, a text of fewer than two tokens or longer than the model reads, a cache beside
            several texts, or a model that is not a causal one.
    """
    require_one_of("error_measure", error_measure, ("abs", "mul"))
    require(
        model.cfg.architecture == "decoder" and model.cfg.attention_dir == "causal",
        "detection patterns are lower triangles, for causal attention in one stack. This model is "
        f"a(n) {model.cfg.attention_dir} {model.cfg.architecture}",
    )
    if not isinstance(seq, str | Tensor):
        require(cache is None, "a cache is of one text. Received one beside several texts")
        require(len(seq) > 0, "seq must hold at least one text. Received none")
        each = [
            detect_head(
                model,
                one,
                detection_pattern,
                heads,
                exclude_bos=exclude_bos,
                exclude_current_token=exclude_current_token,
                error_measure=error_measure,
            )
            for one in seq
        ]
        return torch.stack(each).mean(0)
    tokens = model.to_tokens(seq)[0] if isinstance(seq, str) else seq.to(model.W_E.device)
    require(
        tokens.ndim == 1 and 1 < len(tokens) <= model.cfg.n_ctx,
        f"seq must be one text of 2 … {model.cfg.n_ctx} tokens. Received {tuple(tokens.shape)}",
    )
    if isinstance(detection_pattern, str):
        detection_pattern = named_pattern(detection_pattern, tokens)
    _check_pattern(detection_pattern, len(tokens))
    chosen = _chosen_heads(model, heads)
    if cache is None:
        names = [f"blocks.{layer}.attn.hook_pattern" for layer in chosen]
        _, cache = model.run_with_cache(tokens[None], names_filter=names, remove_batch_dim=True)
    dtype = torch.float64 if model.cfg.dtype == torch.float64 else torch.float32
    shape = (model.cfg.n_layers, model.cfg.n_heads)
    found = torch.full(shape, -1.0, dtype=dtype, device=tokens.device)
    for layer, numbers in chosen.items():
        pattern = cache["pattern", layer]
        require(
            pattern.shape[1:] == (len(tokens), len(tokens)),
            f"the cache must hold patterns [head, pos, key_pos] of this text. They are "
            f"{tuple(pattern.shape)}",
        )
        shown = wide(pattern)
        wanted = detection_pattern.to(shown)
        hidden = torch.zeros_like(wanted, dtype=torch.bool)
        if exclude_bos:
            hidden[:, 0] = True
        if exclude_current_token:
            hidden.fill_diagonal_(True)
        if error_measure == "mul":
            seen = shown.masked_fill(hidden, 0)
            scores = (seen * wanted).sum((1, 2)) / seen.sum((1, 2))
        else:
            difference = (shown - wanted).abs().masked_fill(hidden, 0)
            scores = 1 - difference.sum((1, 2)) / len(tokens)
        for head in numbers:
            found[layer, head] = scores[head]
    return found


def named_pattern(name: str, tokens: Int[Tensor, "pos"]) -> Float[Tensor, "pos key_pos"]:
    """The pattern of a kind of head on a text: 1 where it looks, else 0.

    Raises:
        InputError: for a name that is not one of `HEAD_NAMES`.
    """
    require_one_of("detection_pattern", name, HEAD_NAMES)
    n = len(tokens)
    if name == "previous_token_head":
        return torch.ones(n, n, device=tokens.device).tril(-1).triu(-1)
    earlier = (tokens[:, None] == tokens).float().tril(-1)
    if name == "duplicate_token_head":
        return earlier
    after = torch.zeros_like(earlier)
    after[:, 1:] = earlier[:, :-1]
    return after


def _check_pattern(pattern: Tensor, n: int) -> None:
    fits = tuple(pattern.shape) == (n, n) and bool((pattern.triu(1) == 0).all())
    if not fits:
        raise InputError(
            f"detection_pattern must be a lower triangle [{n}, {n}], as the text has {n} tokens. "
            f"Received {tuple(pattern.shape)}."
        )


def _chosen_heads(
    model: HookedTransformer,
    heads: Sequence[tuple[int, int]] | Mapping[int, Sequence[int]] | None,
) -> dict[int, list[int]]:
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    chosen: dict[int, list[int]] = defaultdict(list)
    if heads is None:
        return {layer: list(range(n_heads)) for layer in range(n_layers)}
    if isinstance(heads, Mapping):
        pairs = [(layer, head) for layer, numbers in heads.items() for head in numbers]
    else:
        pairs = list(heads)
    for layer, head in pairs:
        require(
            0 <= layer < n_layers and 0 <= head < n_heads,
            f"heads must lie in layers 0 … {n_layers - 1}, heads 0 … {n_heads - 1}. "
            f"Received {(layer, head)}",
        )
        chosen[layer].append(head)
    return chosen
