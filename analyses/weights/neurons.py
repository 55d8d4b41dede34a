"""What the neurons of one layer read and write: tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from analyses.weights.tables import Texts, rows_of
from interp.errors import require
from interp.weight_circuits import neuron_input_circuit, neuron_output_circuit, top_per_row
from interp.weight_circuits.directions import Directions, Stack, block_directions

if TYPE_CHECKING:
    from interp.factored import FactoredMatrix
    from interp.transformer import HookedTransformer


@torch.no_grad()
def neuron_sizes_table(model: HookedTransformer, layer: int, stack: Stack = "") -> pd.DataFrame:
    """How much each neuron reads and writes, and whether it writes what it reads.

    Norms' weights and centring are in, their scales and all biases out
    (`interp.weight_circuits.directions`).

    Args:
        model: With MLPs.
        layer: Of the MLP.
        stack: Of an encoder–decoder, `encoder` or `decoder`.

    Returns:
        neuron (of a mixture those of all experts, one after another), component (`L1N35`),
        read_norm (‖W_in‖), write_norm (‖W_out‖), strength (their product), cosine (of W_in and
        W_out; 0 for one of zeros) and, with gates, gate_norm (‖W_gate‖) and gate_cosine (of W_gate
        and W_out).

    Raises:
        InputError: for a layer or stack that is not there, or a model without MLPs.
    """
    require(not model.cfg.attn_only, "this model has no neurons (attn_only)")
    of = {each.kind: each for each in block_directions(model, layer, stack)}
    read, written = of["W_in"], of["W_out"]
    read_norm, write_norm = _norms(read), _norms(written)
    columns = {
        "neuron": range(len(read)),
        "component": [read.name(i) for i in range(len(read))],
        "read_norm": read_norm.tolist(),
        "write_norm": write_norm.tolist(),
        "strength": (read_norm * write_norm).tolist(),
        "cosine": _cosines(read, written).tolist(),
    }
    if "W_gate" in of:
        columns["gate_norm"] = _norms(of["W_gate"]).tolist()
        columns["gate_cosine"] = _cosines(of["W_gate"], written).tolist()
    return pd.DataFrame(columns)


@torch.no_grad()
def neuron_tokens_table(
    model: HookedTransformer,
    layer: int,
    neuron: int,
    k: int,
    effective: bool,
    texts: Texts,
) -> pd.DataFrame:
    """The tokens that one neuron reads most of, and the outputs that it raises and lowers most.

    Args:
        model: With MLPs; of an encoder–decoder the decoder's.
        layer: Of the MLP.
        neuron: As `neuron_sizes_table` counts them.
        k: How many of each.
        effective: From layer 1 on, read tokens as the first block's MLP leaves them.
        texts: Looks texts of tokens up.

    Returns:
        kind (excited by, inhibited by: what the non-linearity gets of each token alone, through
        W_gate where there is one; promotes, suppresses: what a unit of activation adds to each
        logit, less the mean over all), rank, token, token_id, value.

    Raises:
        InputError: for a layer or neuron that is not there, or logits that are not linear in the
            residual stream.
    """
    cfg = model.cfg
    n = cfg.width_mlp * (cfg.num_experts or 1)
    require(0 <= neuron < n, f"neuron must lie in 0 … {n - 1}. Received {neuron}")
    expert, place = (None, neuron) if cfg.num_experts is None else divmod(neuron, cfg.width_mlp)
    rows = rows_of(model, layer, effective)
    read = neuron_input_circuit(model, layer, rows=rows, expert=expert).T
    written = neuron_output_circuit(model, layer, expert=expert, less_mean=True)
    kinds: list[tuple[str, FactoredMatrix, bool]] = [
        ("excited by", read, True),
        ("inhibited by", read, False),
        ("promotes", written, True),
        ("suppresses", written, False),
    ]
    frames = []
    for kind, circuit, largest in kinds:
        ids, values = top_per_row(circuit, [place], k, largest=largest)
        frames.append(
            pd.DataFrame(
                {
                    "kind": kind,
                    "rank": range(1, ids.shape[1] + 1),
                    "token": texts(ids[0]),
                    "token_id": ids[0].tolist(),
                    "value": values[0].double().tolist(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _norms(of: Directions) -> Tensor:
    return torch.linalg.vector_norm(of.vectors, dim=-1).double()


def _cosines(a: Directions, b: Directions) -> Tensor:
    """Pair by pair."""
    sizes = _norms(a) * _norms(b)
    products = (a.vectors.double() * b.vectors.double()).sum(-1)
    return torch.where(sizes > 0, products / torch.where(sizes > 0, sizes, 1.0), 0.0)
