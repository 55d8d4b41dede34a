"""A head whose two effects cancel to first order, and do not in truth.

The case for which Kramár et al. 2024 (AtP*, section on GradDrop) drop gradients: a node's direct
effect and its effect through a later component have slopes of opposite sign.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require_number, require_whole
from interp.zoo.known.truth import KnownModel
from interp.zoo.known.wiring import (
    SATURATED,
    Stream,
    attention,
    blank_model,
    counts,
    difference,
    mlp,
    wire,
)

_FULL, _FAINT, _FILLER, _END, _RIGHT, _WRONG = range(6)
_AMOUNTS = {_FULL: 1.0, _FAINT: 0.2}
_PLATEAU = (0.4, 0.8)  # where the MLP's answer does not grow


def cancellation(
    strength: float = 4.0,
    n_prompts: int = 2,
    seed: int = 0,
    dtype: torch.dtype | str = torch.float64,
    device: torch.device | str | None = None,
) -> KnownModel:
    """Two layers, in which a head writes x to the logits and a later MLP takes f(x) off again.

    Prompts are an amount, FULL (x = 1) or FAINT (x = 0.2), two other tokens, and END.

    - L0H0: looks at position 0 (up to exp(-`SATURATED`)) and writes the amount x, which the logits
      and the later MLP read.
    - L1MLP: f(x) = relu(x) - relu(x - 0.4) + relu(x - 0.8), which has slope 1 below 0.4 and above
      0.8 and is flat in between. It takes f(x) off the same logit.
    - L0H1, L1H0, L1H1 and L0MLP: idle. The heads write tokens where nothing reads; the MLP is zero.

    The logit of the right token is `strength` (x - f(x)): 0.4 `strength` for the clean FULL, 0 for
    the corrupted FAINT. At both, the slopes of x and f(x) are alike: to first order L0H0 does
    nothing at all, in truth it does everything.

    Args:
        strength: The logit for each unit.
        n_prompts: Rows of the batch; they differ in what has no effect.
        seed: Of the prompts.
        dtype, device: Of the model.

    Raises:
        InputError: for a number that is not positive.
    """
    require_number("strength", strength)
    require_whole("n_prompts", n_prompts, 1)
    length = 4
    stream = Stream(token=6, position=length, amount=1, unread=6, out=1)
    model = blank_model(
        "cancellation",
        stream,
        2,
        2,
        6,
        length,
        6,
        dtype,
        device,
        attn_only=False,
        d_mlp=3,
        act_fn="relu",
    )
    attn, taking_off = attention(model, 0), mlp(model, 1)
    to_first = torch.full((length, 1), SATURATED, dtype=torch.float64)
    wire(attn.W_Q[0], stream["position"], slice(1), to_first)
    first = stream["position"].start
    wire(attn.W_K[0], slice(first, first + 1), slice(1))
    for token, amount in _AMOUNTS.items():
        wire(attn.W_V[0], slice(token, token + 1), slice(1), amount)
    wire(attn.W_O[0], slice(1), stream["amount"])
    for layer, head in ((0, 1), (1, 0), (1, 1)):
        wire(attention(model, layer).W_V[head], stream["token"], slice(6))
        wire(attention(model, layer).W_O[head], slice(6), stream["unread"])
    wire(taking_off.W_in, stream["amount"], slice(3), torch.ones(1, 3))
    signs = torch.tensor([[-1.0], [1.0], [-1.0]], dtype=torch.float64)
    wire(taking_off.W_out, slice(3), stream["out"], signs)
    with torch.no_grad():
        taking_off.b_in[1:] = -torch.tensor(_PLATEAU, dtype=torch.float64)
    for source in ("amount", "out"):
        wire(model.unembed.W_U, stream[source], slice(_RIGHT, _RIGHT + 1), strength)

    generator = torch.Generator().manual_seed(seed)
    between = torch.randint(_FILLER, 6, (n_prompts, 2), generator=generator)
    ends = torch.full((n_prompts, 1), _END)
    clean, corrupted = (
        torch.cat([torch.full((n_prompts, 1), amount), between, ends], 1)
        for amount in (_FULL, _FAINT)
    )
    right, wrong = torch.full((n_prompts,), _RIGHT), torch.full((n_prompts,), _WRONG)
    written, taken = _truth(clean)
    logits = strength * (written - taken)
    corrupted_logits = strength * torch.sub(*_truth(corrupted))
    both, mlp_alone = frozenset({"L0H0", "L1MLP"}), frozenset({"L1MLP"})
    to_logits = frozenset({"L0H0->logits", "L0H0->L1MLP", "L1MLP->logits"})
    edges = to_logits | {"embed->L0H0.v"}
    return KnownModel(
        name="cancellation",
        description=(
            "L0H0 writes an amount to the logits and L1MLP takes off as much, but for a plateau "
            "between the two prompts."
        ),
        model=model,
        clean=clean,
        corrupted=corrupted,
        right=right,
        wrong=wrong,
        position=length - 1,
        clean_value=difference(logits, right, wrong),
        corrupted_value=difference(corrupted_logits, right, wrong),
        logits=logits,
        direct={
            "L0H0": strength * difference(written, right, wrong),
            "L1MLP": -strength * difference(taken, right, wrong),
        },
        patterns={("L0H0", length - 1): torch.eye(length)[:1].double().expand(n_prompts, -1)},
        heads={
            "L0H0": "writes the amount",
            "L0H1": "idle",
            "L1H0": "idle",
            "L1H1": "idle",
        },
        mlps={"L0MLP": "idle", "L1MLP": "takes the amount off, with a plateau"},
        edges=edges,
        fixed_edges=frozenset({"pos_embed->L0H0.q", "pos_embed->L0H0.k"}),
        expected={
            "direct": both,
            "ablation": both,
            "activation_patching": both,
            # The MLP's output is one step from the logits: linear. The head's is two, and there the
            # slopes 1 and -1 cancel.
            "attribution_patching": mlp_alone,
            "attribution_patching_noise": mlp_alone,
            # With the gradient through layer 1 dropped the head has its direct slope alone.
            "atp_star": both | {"L0H0.v"},
            # By edges nothing cancels but in front of the head: each of its two edges has a slope.
            "eap": to_logits,
            # On the line between the embeddings x passes the plateau, where slopes do not cancel.
            "eap_ig": edges,
            "path_patching": edges,
            "circuit_search": edges,
            # It takes FULL to another token, and no token to itself.
            "copying_heads": frozenset(),
            "q_composition": frozenset(),
            "k_composition": frozenset(),
            "v_composition": frozenset(),
        },
        words=("full", "faint", "filler", "end", "right", "wrong"),
        reference=torch.cat([clean, corrupted]),
    )


def _truth(
    tokens: Int[Tensor, "batch pos"],
) -> tuple[Float[Tensor, "batch d_vocab"], Float[Tensor, "batch d_vocab"]]:
    """x and f(x), each in the column of the right token."""
    amounts = torch.zeros(len(tokens), 1, dtype=torch.float64)
    for token, amount in _AMOUNTS.items():
        amounts += amount * (tokens[:, :1] == token)
    low, high = _PLATEAU
    slowed = amounts.clamp(max=low) + (amounts - high).clamp(min=0.0)
    column = torch.full((len(tokens), 1), _RIGHT)
    return counts(column, amounts, 6), counts(column, slowed, 6)
