"""The tables of `weight-circuits`: each a reading of one kind of circuit, in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from analyses.inputs.prompts import token_texts
from interp.factored import FactoredMatrix
from interp.weight_circuits import (
    CopyingScores,
    composed_qk_circuit,
    composition_baseline,
    composition_scores,
    copying_score,
    diagonal_in_top,
    direct_path,
    neuron_input_circuit,
    neuron_output_circuit,
    ov_circuit,
    qk_circuit,
    row_norms,
    skip_trigrams,
    top_pairs,
    top_per_row,
    virtual_ov_norms,
)
from interp.weight_circuits.circuits import Rows

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer
    from interp.weight_circuits.composition import Baseline

Head = tuple[int, int]


def label(head: Head) -> str:
    """`L1H3` of layer 1, head 3."""
    return f"L{head[0]}H{head[1]}"


class Texts:
    """Texts of tokens and of outputs, each looked up once."""

    def __init__(self, model: HookedTransformer) -> None:
        self._model = model
        self._known: dict[int, str] = {}

    def __call__(self, tokens: Int[Tensor, "token"] | Sequence[int]) -> list[str]:
        """One text for each."""
        ids = [int(t) for t in tokens]
        new = [t for t in dict.fromkeys(ids) if t not in self._known]
        self._known.update(zip(new, token_texts(self._model, new), strict=True))
        return [self._known[t] for t in ids]


def rows_of(model: HookedTransformer, layer: int, effective: bool) -> Rows:
    """What a layer reads as tokens: the first one always W_E."""
    return "effective" if effective and layer > 0 else "token"


def heads_table(scores: CopyingScores, n_tokens: int) -> pd.DataFrame:
    """How each head's full OV circuit copies, logits less their mean."""
    n_layers, n_heads = scores.score.shape
    return pd.DataFrame(
        [
            {
                "component": label((layer, head)),
                "layer": layer,
                "head": head,
                "copying_score": float(scores.score[layer, head]),
                "eigenvalue_share": float(scores.eigenvalue_share[layer, head]),
                "own_logit": float(scores.trace[layer, head]) / n_tokens,
                "contrast": float(scores.contrast[layer, head]),
                "norm": float(scores.norm[layer, head]),
            }
            for layer in range(n_layers)
            for head in range(n_heads)
        ]
    )


def eigenvalues_table(scores: CopyingScores, heads: Sequence[Head]) -> pd.DataFrame:
    """The eigenvalues of some heads' OV circuits, the largest in size first."""
    frames = []
    for head in heads:
        values = scores.eigenvalues[head]
        values = values[values.abs().argsort(descending=True)].cpu()
        frames.append(
            pd.DataFrame(
                {
                    "component": label(head),
                    "rank": range(1, len(values) + 1),
                    "real": values.real.numpy(),
                    "imaginary": values.imag.numpy(),
                    "size": values.abs().numpy(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def pairs_table(
    circuit: FactoredMatrix,
    k: int,
    texts: Texts,
    row: str,
    column: str,
    value: str,
    largest: bool = True,
    token: int | None = None,
) -> pd.DataFrame:
    """The most extreme entries of a circuit between tokens, the most extreme first.

    Args:
        circuit: Rows and columns are tokens or outputs.
        k: How many.
        texts: Looks texts of tokens up.
        row, column, value: What its rows, columns and entries are called.
        largest: False: the smallest.
        token: Of this row alone; by default of all.

    Returns:
        rank (from 1), row, column, row_id, column_id, value, by the names given.

    Raises:
        InputError: for a token that has no row, or k below 1.
    """
    if token is None:
        found = top_pairs(circuit, k, largest=largest)
        rows, columns, values = found.rows, found.columns, found.values
    else:
        chosen, entries = top_per_row(circuit, [token], k, largest=largest)
        columns, values = chosen[0], entries[0]
        rows = torch.full_like(columns, token)
    return pd.DataFrame(
        {
            "rank": range(1, len(values) + 1),
            row: texts(rows),
            column: texts(columns),
            f"{row}_id": rows.tolist(),
            f"{column}_id": columns.tolist(),
            value: values.double().tolist(),
        }
    )


def ov_table(
    model: HookedTransformer, heads: Sequence[Head], k: int, effective: bool, texts: Texts
) -> pd.DataFrame:
    """What attending to which token raises and lowers the most, logits less their mean."""
    frames = []
    for layer, head in heads:
        circuit = ov_circuit(model, layer, head, rows_of(model, layer, effective), less_mean=True)
        for effect, largest in (("raises", True), ("lowers", False)):
            found = pairs_table(circuit, k, texts, "source", "output", "logit", largest)
            found.insert(0, "component", label((layer, head)))
            found.insert(1, "effect", effect)
            frames.append(found)
    return pd.concat(frames, ignore_index=True)


def qk_table(
    model: HookedTransformer,
    heads: Sequence[Head],
    k: int,
    effective: bool,
    distance: int,
    texts: Texts,
) -> pd.DataFrame:
    """Which destination likes which source most, scores less their mean over all sources."""
    frames = []
    for layer, head in heads:
        rows = rows_of(model, layer, effective)
        circuit = qk_circuit(model, layer, head, rows, rows, distance, scaled=True)
        found = pairs_table(less_mean(circuit), k, texts, "destination", "source", "score")
        found.insert(0, "component", label((layer, head)))
        frames.append(found)
    return pd.concat(frames, ignore_index=True)


def offsets_table(
    model: HookedTransformer, n_offsets: int = 8, n_positions: int = 256
) -> pd.DataFrame:
    """What the first layer's heads make of positions alone, where these are vectors.

    For each distance back from the destination: the mean score less that over all sources that the
    destination sees, and the share of destinations that like that source best.
    """
    n = min(model.cfg.n_ctx, n_positions)
    causal = bool(model.main_stack.causal)
    furthest = min(n_offsets, n - 1 if causal else (n - 1) // 2)
    places = torch.arange(n, device=model.W_E.device)
    seen = places[:, None] >= places if causal else torch.ones_like(places[:, None] >= places)
    frames = []
    for head in range(model.cfg.n_heads):
        scores = qk_circuit(model, 0, head, "position", "position", scaled=True)[:n, :n].AB
        mean = scores.where(seen, 0).sum(-1, keepdim=True) / seen.sum(-1, keepdim=True)
        best = places - scores.where(seen, -torch.inf).argmax(-1)
        inner = slice(furthest, n if causal else n - furthest)  # destinations with all distances
        for distance in range(0 if causal else -furthest, furthest + 1):
            at = places[inner]
            frames.append(
                {
                    "component": label((0, head)),
                    "head": head,
                    "distance": distance,
                    "score": float((scores - mean)[at, at - distance].double().mean()),
                    "preferred": float((best[inner] == distance).double().mean()),
                }
            )
    return pd.DataFrame(frames)


def less_mean(scores: FactoredMatrix) -> FactoredMatrix:
    """Scores less their mean over all sources, which has no effect on a pattern."""
    return FactoredMatrix(scores.A, scores.B - scores.B.mean(-1, keepdim=True))


def composition_table(
    model: HookedTransformer, baseline: Baseline | None, n_draws: int, seed: int
) -> pd.DataFrame:
    """Every pair of an earlier and a later head, through queries, keys and values.

    Without a baseline the scores alone, which take one part in `n_draws` of the time.
    """
    frames = []
    n_heads = model.cfg.n_heads
    modes: tuple[Literal["Q", "K", "V"], ...] = ("Q", "K", "V")
    for mode in modes:
        if baseline is None:
            numbers = {"score": composition_scores(model, mode)}
        else:
            found = composition_baseline(model, mode, baseline, n_draws, seed)
            numbers = {"score": found.scores, "baseline": found.mean}
            numbers |= {"baseline_std": found.std, "z": found.z}
        every = [divmod(i, n_heads) for i in range(model.cfg.n_layers * n_heads)]
        pairs = [(a, b) for a in every for b in every if a[0] < b[0]]
        at = tuple(torch.tensor([(*a, *b) for a, b in pairs]).T)
        frames.append(
            pd.DataFrame(
                {
                    "through": mode,
                    "first": [label(a) for a, _ in pairs],
                    "second": [label(b) for _, b in pairs],
                    "first_layer": [a[0] for a, _ in pairs],
                    "second_layer": [b[0] for _, b in pairs],
                    "first_order": [a[0] * n_heads + a[1] for a, _ in pairs],
                    "second_order": [b[0] * n_heads + b[1] for _, b in pairs],
                    **{name: x.cpu()[at].double().numpy() for name, x in numbers.items()},
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def leading_compositions(composition: pd.DataFrame, n: int) -> pd.DataFrame:
    """The pairs that compose most beyond their baseline, by how far the score exceeds it."""
    excess = composition["score"] - composition["baseline"]
    leading = composition.assign(excess=excess).sort_values(
        "excess", ascending=False, kind="stable"
    )
    columns = [
        "through", "first", "second", "first_layer", "second_layer", "score", "baseline",
        "excess", "z",
    ]  # fmt: skip
    return leading[columns].head(n).reset_index(drop=True)


def matching_table(
    model: HookedTransformer, leading: pd.DataFrame, effective: bool, k: int
) -> pd.DataFrame:
    """Whether the strongest Q- and K-compositions compare tokens with themselves."""
    rows = []
    chosen = leading[leading["through"].isin(["Q", "K"])].head(k)
    for through, first, second in zip(
        chosen["through"], chosen["first"], chosen["second"], strict=True
    ):
        earlier, later = parse(first), parse(second)
        kind: Rows = rows_of(model, earlier[0], effective)
        circuit = less_mean(composed_qk_circuit(model, earlier, later, through, kind))
        rows.append(
            {
                "through": through,
                "first": first,
                "second": second,
                "matching_score": float(copying_score(circuit)),
                "matches_best": float(diagonal_in_top(circuit).double().mean()),
                "norm": float(circuit.norm().detach()),
            }
        )
    return pd.DataFrame(rows)


def virtual_table(model: HookedTransformer, composition: pd.DataFrame, n: int) -> pd.DataFrame:
    """The virtual heads that move the most, by the norm of both OV circuits in a row."""
    pairs = composition[composition["through"] == "V"]
    norms = virtual_ov_norms(model).flatten(2).flatten(0, 1).double().cpu().numpy()
    table = pd.DataFrame(
        {
            "pair": pairs["first"] + "→" + pairs["second"],
            "first": pairs["first"],
            "second": pairs["second"],
            "norm": norms[pairs["first_order"], pairs["second_order"]],
            "v_composition": pairs["score"],
            "z": pairs["z"],
        }
    )
    leading = table.sort_values("norm", ascending=False, kind="stable")
    return leading.head(n).reset_index(drop=True)


def neurons_table(
    model: HookedTransformer, n_neurons: int, k: int, effective: bool, texts: Texts
) -> pd.DataFrame:
    """What the strongest neurons of each layer read and write.

    A neuron's strength is the norm of what it reads of all tokens times that of what it writes to
    all logits.
    """
    frames = []
    for layer in range(model.cfg.n_layers):
        read = neuron_input_circuit(model, layer, rows=rows_of(model, layer, effective)).T
        written = neuron_output_circuit(model, layer, less_mean=True)
        strength = row_norms(read) * row_norms(written)
        leading = strength.topk(min(n_neurons, len(strength))).indices
        for kind, circuit, largest in (
            ("excited by", read, True),
            ("inhibited by", read, False),
            ("promotes", written, True),
            ("suppresses", written, False),
        ):
            tokens, values = top_per_row(circuit, leading, k, largest=largest)
            for neuron, ids, numbers in zip(leading.tolist(), tokens, values, strict=True):
                frames.append(
                    pd.DataFrame(
                        {
                            "layer": layer,
                            "neuron": neuron,
                            "strength": float(strength[neuron]),
                            "kind": kind,
                            "rank": range(1, len(ids) + 1),
                            "token": texts(ids),
                            "token_id": ids.tolist(),
                            "value": numbers.double().tolist(),
                        }
                    )
                )
    return pd.concat(frames, ignore_index=True)


def bigrams_table(
    model: HookedTransformer, k: int, token: int | None, texts: Texts
) -> pd.DataFrame:
    """What follows a token by the direct path alone, or the strongest pairs of all."""
    circuit = direct_path(model, less_mean=True)
    return pairs_table(circuit, k, texts, "token", "output", "logit", token=token)


def trigrams_table(
    model: HookedTransformer,
    heads: Sequence[Head],
    k: int,
    effective: bool,
    distance: int,
    texts: Texts,
) -> pd.DataFrame:
    """source … destination → output, by attention × logit."""
    frames = []
    for layer, head in heads:
        rows = rows_of(model, layer, effective)
        for rises in (True, False):
            found = skip_trigrams(model, layer, head, k, rises, rows, distance)
            frames.append(
                pd.DataFrame(
                    {
                        "component": label((layer, head)),
                        "output_logit": "rises" if rises else "falls",
                        "rank": range(1, len(found) + 1),
                        "source": texts(found.source),
                        "destination": texts(found.destination),
                        "output": texts(found.output),
                        "attention_score": found.attention.double().tolist(),
                        "logit": found.logit.double().tolist(),
                        "strength": found.strength.double().tolist(),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def parse(text: str) -> Head:
    """(1, 3) of `L1H3`."""
    layer, head = text.removeprefix("L").split("H")
    return int(layer), int(head)
