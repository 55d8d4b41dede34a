"""What a neuron reads and writes, in tokens.

Rows of these products are neurons or tokens; read them with `top_per_row` and `row_norms`. Norms
are taken as everywhere in this package: centring and weights in, scales and biases out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from interp.errors import require, require_one_of, require_whole
from interp.factored import FactoredMatrix
from interp.precision import wide
from interp.weight_circuits.circuits import Rows, rows_read
from interp.weight_circuits.norms import (
    check_layer,
    check_linear_logits,
    norm_of_reader,
    path_from_writer,
    push,
)

if TYPE_CHECKING:
    from torch import Tensor

    from interp.transformer import HookedTransformer


def neuron_input_circuit(
    model: HookedTransformer,
    layer: int,
    weight: Literal["in", "gate"] | None = None,
    rows: Rows = "token",
    expert: int | None = None,
) -> FactoredMatrix:
    """W_E W_in: how much each token by itself excites each neuron, `[row, d_mlp]`.

    Args:
        model: With MLPs; of an encoder–decoder the decoder's.
        layer: Of the MLP.
        weight: `gate`: W_gate, before the non-linearity of a gated MLP; `in`: W_in, which the
            activated gate is multiplied by. Default: `gate` where there is one.
        rows: What is read.
        expert: Which one of a mixture.

    Raises:
        InputError: for a layer, expert, weight or rows that are not there.
    """
    mlp_weight = _weight(model, layer, expert, "W_in")
    if weight is None:
        weight = "gate" if _is_gated(model) else "in"
    require_one_of("weight", weight, ("in", "gate"))
    if weight == "gate":
        require(_is_gated(model), "this model's MLPs have no gate. Received weight 'gate'")
        mlp_weight = _weight(model, layer, expert, "W_gate")
    return FactoredMatrix(rows_read(model, layer, rows, "mlp"), mlp_weight)


def neuron_output_circuit(
    model: HookedTransformer, layer: int, expert: int | None = None, less_mean: bool = False
) -> FactoredMatrix:
    """W_out W_U: what a unit of each neuron adds to each logit, `[d_mlp, d_vocab_out]`.

    Args:
        model: With MLPs and `head="lm"`.
        layer: Of the MLP.
        expert: Which one of a mixture (before its weight).
        less_mean: Less the mean over the vocabulary, which changes no probability.

    Raises:
        InputError: for a layer or expert that is not there, or another `cfg.head` than `lm`.
    """
    check_linear_logits(model)
    W_out = _weight(model, layer, expert, "W_out")
    path = path_from_writer(model, layer, "mlp") + norm_of_reader(model, model.cfg.n_layers)
    B = wide(model.W_U) * model.cfg.logit_scale
    if less_mean:
        B = B - B.mean(-1, keepdim=True)
    return FactoredMatrix(push(path, W_out), B)


def _is_gated(model: HookedTransformer) -> bool:
    return model.cfg.gated_mlp or model.cfg.num_experts is not None


def _weight(model: HookedTransformer, layer: int, expert: int | None, name: str) -> Tensor:
    check_layer(model, layer)
    require(not model.cfg.attn_only, "this model has no neurons (attn_only)")
    weight = wide(getattr(model.main_stack.blocks[layer].mlp, name))
    n = model.cfg.num_experts
    if n is None:
        require(expert is None, f"only a mixture has experts. Received expert {expert}")
        return weight
    require_whole("expert", expert, 0)
    assert expert is not None
    require(expert < n, f"expert must lie in 0 … {n - 1}. Received {expert}")
    return weight[expert]
