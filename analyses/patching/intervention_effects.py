"""What interventions change in a run, everywhere at once: before, after, and the difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analyses.inputs.prompts import token_texts
from analyses.inputs.targets import resolve_position, token_name
from interp.attribution.direct import direct_logit_attribution, hooks_needed
from interp.errors import InputError, require
from interp.interventions import Intervention, applied
from interp.lens.logit_lens import final_stream, stream_hooks, stream_label
from interp.lens.read_out import why_not
from interp.lens.statistics import Statistics, read_statistics

if TYPE_CHECKING:
    from interp.cache import ActivationCache
    from interp.transformer import HookedTransformer

LEADING = 5  # tokens taken from before, from after, and from those that moved most
_ROWS_AT_ONCE = 64  # positions whose distributions are there in fp64 at one time


@dataclass(frozen=True)
class Effects:
    """Tables of two runs on one input; `difference` is always after less before.

    Attributes:
        outcome: quantity, before, after, difference; at one position.
        predictions: rank, token, token_id, before, after, difference (probabilities),
            logit_before, logit_after, logit_difference, of the tokens that lead or move most at
            that position, the likeliest in either run first.
        positions: position, token, kl (KL(before ‖ after) of the prediction there, in nats),
            top_before and top_after (the likeliest), surprise_before, surprise_after and
            surprise_difference (how unlikely this token was, in nats; missing where nothing
            predicts it). None: the model answers for the whole sequence.
        streams: order, stream, position, token, norm_before, norm_after, norm_difference, moved
            (‖after − before‖), and of the logit lens, where it was read, probability_before,
            probability_after, probability_difference (of the target), top_before and top_after.
        components: component, kind, layer, head, before, after, difference: direct contributions to
            the quantity at that position. None: logits are not linear in the stream.
        quantity: What components contribute to.
        target, wrong: The token that is followed, and the one whose logit is taken off.
    """

    outcome: pd.DataFrame
    predictions: pd.DataFrame
    positions: pd.DataFrame | None
    streams: pd.DataFrame
    components: pd.DataFrame | None
    quantity: str
    target: int
    wrong: int | None


@dataclass(frozen=True)
class _Run:
    """Logits `[pos, d_vocab_out]` (a classifier's: one row) and what was recorded."""

    logits: Float[Tensor, "pos d_vocab_out"]
    cache: ActivationCache


@torch.no_grad()
def effects(
    model: HookedTransformer,
    inputs: Mapping[str, Int[Tensor, "1 pos"]],
    interventions: Iterable[Intervention],
    position: int = -1,
    target: int | None = None,
    wrong: int | None = None,
    lens: bool = True,
) -> Effects:
    """Run a model without and with interventions, once each, and compare.

    Args:
        model: The model.
        inputs: Arguments of `forward`, of one prompt: `input` `[1, pos]`, `decoder_input`.
        interventions: What is done in the second run.
        position: Where predictions and contributions are compared, among the tokens behind which
            the model predicts; negative ones count from the end. A classifier has no use for it.
        target: The output that is followed. None: the likeliest one before.
        wrong: Another one, whose logit is taken off.
        lens: Whether to read streams with the logit lens, where the model has one.

    Raises:
        InputError: for several prompts, an output or position that is not there, a wrong answer
            that is the target, numbers beyond the dtype's range in either run, and as `hooks_for`.
    """
    rows = inputs["input"].shape[0]
    require(rows == 1, f"effects are those on one prompt. Received {rows}")
    read = inputs.get("decoder_input", inputs["input"])[0].tolist()
    texts = token_texts(model, read)
    by_position = not model.cfg.classifies
    here = resolve_position(position, len(read)) if by_position else 0
    runs = [_run(model, inputs)]
    with applied(model, list(interventions), **inputs):
        runs.append(_run(model, inputs))
    for run, which in zip(runs, ("without", "with"), strict=True):
        _require_finite(model, run, which)
    if target is None:
        target = int(runs[0].logits[here].argmax())
    for token in (target, wrong):
        fits = token is None or 0 <= token < model.cfg.d_vocab_out
        require(fits, f"an output must lie in 0 … {model.cfg.d_vocab_out - 1}. Received {token}")
    if wrong == target:
        raise InputError(f"wrong must differ from the target. Both are {token_name(model, wrong)}.")
    quantity = f"logit of {token_name(model, target)}"
    if wrong is not None:
        quantity += f" less that of {token_name(model, wrong)}"
    causal = model.cfg.attention_dir == "causal"
    linear = model.cfg.head == "lm"
    return Effects(
        outcome=_outcome(model, runs, here, target, wrong, quantity),
        predictions=_predictions(model, runs, here),
        positions=_positions(model, runs, read, texts, causal) if by_position else None,
        streams=_streams(model, runs, texts, target, lens and why_not(model.cfg) is None),
        components=_components(model, runs, here, target, wrong) if linear else None,
        quantity=quantity,
        target=target,
        wrong=wrong,
    )


@torch.no_grad()
def pattern_effects(
    model: HookedTransformer,
    inputs: Mapping[str, Int[Tensor, "1 pos"]],
    interventions: Iterable[Intervention],
    hook: str,
    head: int,
) -> pd.DataFrame:
    """One head's attention without and with interventions.

    Args:
        model: The model.
        inputs: As of `effects`.
        interventions: What is done in the second run.
        hook: Full name of the patterns' hook.
        head: Which query head.

    Returns:
        destination, source, their tokens, before, after, difference; without the sources that a
        causal mask hides.

    Raises:
        InputError: for a hook that is no pattern, or a head that it does not have.
    """
    known = hook in model.hook_dict and hook.endswith("hook_pattern")
    require(known, f"the hook must be one of patterns. Received {hook!r}")
    n_heads = model.cfg.n_heads
    require(0 <= head < n_heads, f"head must lie in 0 … {n_heads - 1}. Received {head}")
    given: dict[str, Any] = {**inputs, "names_filter": hook, "return_type": None}
    found = [model.run_with_cache(**given)[1][hook][0, head]]
    with applied(model, list(interventions), **inputs):
        found.append(model.run_with_cache(**given)[1][hook][0, head])
    source = inputs["input"][0]
    own = source if hook.startswith("encoder.") else inputs.get("decoder_input", inputs["input"])[0]
    crosses = ".cross_attn." in hook
    seen = source if crosses else own
    n, m = found[0].shape
    shown = torch.ones(n, m, dtype=torch.bool)
    if not (crosses or hook.startswith("encoder.") or model.cfg.attention_dir != "causal"):
        shown = shown.tril()
    to, of = (places.numpy() for places in shown.nonzero(as_tuple=True))
    before, after = (x.double().cpu().numpy()[to, of] for x in found)
    read, looked_at = token_texts(model, own), token_texts(model, seen)
    return pd.DataFrame(
        {
            "destination": to,
            "source": of,
            "destination_token": [read[i] for i in to],
            "source_token": [looked_at[i] for i in of],
            **_compared("", before, after),
        }
    )


def _run(model: HookedTransformer, inputs: Mapping[str, Tensor]) -> _Run:
    names = [*stream_hooks(model), final_stream(model)]
    if model.cfg.head == "lm":
        names += hooks_needed(model)
    given: dict[str, Any] = {**inputs, "names_filter": list(dict.fromkeys(names))}
    logits, cache = model.run_with_cache(**given)
    return _Run(logits if model.cfg.classifies else logits[0], cache)


def _require_finite(model: HookedTransformer, run: _Run, which: str) -> None:
    """Raise `InputError` where a run overflowed: nothing can be said of what is not a number."""
    streams = [run.cache[hook] for hook in stream_hooks(model)]
    # A logit of −inf is a token that is ruled out.
    fits = not run.logits.isnan().any() and all(bool(x.isfinite().all()) for x in streams)
    dtype = str(model.cfg.dtype).removeprefix("torch.")
    require(
        fits,
        f"{which} the interventions, the run has numbers beyond the range of {dtype}: there is "
        "nothing to compare. Take smaller amounts",
    )


# --- tables --------------------------------------------------------------------------------------


def _compared(name: str, before: Any, after: Any) -> dict[str, Any]:
    """The three columns of a quantity."""
    start = f"{name}_" if name else ""
    return {
        f"{start}before": before,
        f"{start}after": after,
        f"{start}difference": after - before,
    }


def _log_probs(logits: Tensor) -> Float[Tensor, "*axes d_vocab_out"]:
    return logits.double().log_softmax(-1)


def _outcome(
    model: HookedTransformer,
    runs: list[_Run],
    here: int,
    target: int,
    wrong: int | None,
    quantity: str,
) -> pd.DataFrame:
    rows = []
    logits = [run.logits[here].double() for run in runs]
    if wrong is not None:
        rows.append([quantity, *(float(x[target] - x[wrong]) for x in logits)])
    for token in (target, wrong):
        if token is not None:
            name = token_name(model, token)
            rows.append([f"logit of {name}", *(float(x[token]) for x in logits)])
            probabilities = [float(_log_probs(x)[token].exp()) for x in logits]
            rows.append([f"probability of {name}", *probabilities])
    table = pd.DataFrame(rows, columns=["quantity", "before", "after"])
    return table.assign(difference=table["after"] - table["before"])


def _predictions(model: HookedTransformer, runs: list[_Run], here: int) -> pd.DataFrame:
    logits = [run.logits[here].double() for run in runs]
    before, after = (_log_probs(x).exp() for x in logits)
    n = min(LEADING, len(before))
    chosen = torch.cat([x.topk(n).indices for x in (before, after, (after - before).abs())])
    chosen = chosen.unique()
    order = torch.maximum(before, after)[chosen].sort(descending=True, stable=True).indices
    ids = chosen[order]
    return pd.DataFrame(
        {
            "rank": range(1, len(ids) + 1),
            "token": [str(i) for i in ids.tolist()]
            if model.cfg.classifies
            else token_texts(model, ids),
            "token_id": ids.tolist(),
            **_compared("", before[ids].cpu().numpy(), after[ids].cpu().numpy()),
            **_compared("logit", *(x[ids].cpu().numpy() for x in logits)),
        }
    )


def _positions(
    model: HookedTransformer, runs: list[_Run], read: list[int], texts: list[str], causal: bool
) -> pd.DataFrame:
    n, d_vocab = len(read), model.cfg.d_vocab_out
    kl = torch.zeros(n, dtype=torch.float64)
    tops, surprises = [], []
    for run in runs:
        tops.append(token_texts(model, run.logits.argmax(-1)))
        surprises.append(torch.full((n,), torch.nan, dtype=torch.float64))
    for start in range(0, n, _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, n))
        p, q = (_log_probs(run.logits[rows]) for run in runs)
        share = p.exp()
        kl[rows] = (share * (p - q)).masked_fill(share == 0, 0.0).sum(-1).cpu()  # 0 log 0 = 0
        for log_probs, surprise in zip((p, q), surprises, strict=True):
            for i in range(rows.start, rows.stop):
                # A token that the model cannot predict cannot surprise it.
                if causal and i + 1 < n and read[i + 1] < d_vocab:
                    surprise[i + 1] = -log_probs[i - start, read[i + 1]]
    return pd.DataFrame(
        {
            "position": range(n),
            "token": texts,
            # Rounding may leave an equal distribution a little below zero.
            "kl": kl.clamp(min=0.0).numpy(),
            "top_before": tops[0],
            "top_after": tops[1],
            **_compared("surprise", *(surprise.numpy() for surprise in surprises)),
        }
    )


def _streams(
    model: HookedTransformer, runs: list[_Run], texts: list[str], target: int, lens: bool
) -> pd.DataFrame:
    hooks = stream_hooks(model)
    before, after = (torch.stack([run.cache[hook][0] for hook in hooks]) for run in runs)
    n = before.shape[1]
    found: dict[str, Any] = {
        "order": [i for i in range(len(hooks)) for _ in range(n)],
        "stream": [stream_label(model, hook) for hook in hooks for _ in range(n)],
        "position": list(range(n)) * len(hooks),
        "token": texts * len(hooks),
        **_compared("norm", *(_flat(x.double().norm(dim=-1)) for x in (before, after))),
        "moved": _flat((after.double() - before.double()).norm(dim=-1)),
    }
    if lens:
        read = [_read(model, run, streams, target) for run, streams in
                zip(runs, (before, after), strict=True)]  # fmt: skip
        probabilities = []
        for name, one in zip(("before", "after"), read, strict=True):
            assert one.target_probability is not None
            probabilities.append(_flat(one.target_probability.double()))
            found[f"top_{name}"] = token_texts(model, one.top_tokens.flatten())
        found |= _compared("probability", *probabilities)
    return pd.DataFrame(found)


def _read(model: HookedTransformer, run: _Run, streams: Tensor, target: int) -> Statistics:
    final = run.cache[final_stream(model)][0]
    targets = torch.full((len(final), 1), target, device=final.device)
    return read_statistics(model, list(streams), final, targets, 1)


def _components(
    model: HookedTransformer, runs: list[_Run], here: int, target: int, wrong: int | None
) -> pd.DataFrame:
    found = [direct_logit_attribution(model, run.cache, target, wrong) for run in runs]
    parts = found[0].components
    return pd.DataFrame(
        {
            "component": [part.label for part in parts],
            "kind": [part.kind for part in parts],
            "layer": [-1 if part.layer is None else part.layer for part in parts],
            "head": [-1 if part.head is None else part.head for part in parts],
            **_compared("", *(_flat(x.values[:, 0, here].double()) for x in found)),
        }
    )


def _flat(x: Tensor) -> Any:
    return x.flatten().cpu().numpy()
