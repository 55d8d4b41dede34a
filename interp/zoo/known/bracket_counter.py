"""A counter of brackets: as many closed as opened?"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require, require_number, require_whole
from interp.zoo.known.truth import KnownModel
from interp.zoo.known.wiring import (
    Stream,
    attention,
    blank_model,
    difference,
    mlp,
    wire,
)

_OPEN, _CLOSE, _END, _YES, _NO = range(5)


def bracket_counter(
    n_brackets: int = 8,
    slope: float = 1.0,
    bias: float = 1.0,
    n_ctx: int = 32,
    n_each: int = 4,
    seed: int = 0,
    dtype: torch.dtype | str = torch.float64,
    device: torch.device | str | None = None,
) -> KnownModel:
    """One layer with two heads and an MLP of two neurons, which answers yes or no behind brackets.

    Tokens are `(`, `)`, END, yes and no. Prompts are brackets and END.

    - L0H0, counter: looks at all n positions alike, with value 1 for `(`, -1 for `)` and 0 for END.
      So it writes (opened - closed) / n, where only the MLP reads it.
    - L0H1, idle: looks everywhere and writes the mean token where nothing reads.
    - L0MLP: reads that n times, as b = opened - closed at the prompts' length, and writes `slope`
      (relu(b) + relu(-b)) = `slope` |b| to the logit of no.

    The logit of yes is `bias`, in b_U, between none and the least that an unbalanced prompt gives
    no. It only counts: `)(` is balanced to it.

    In half of the rows the clean prompt is balanced (right: yes) and the corrupted one is not; in
    the other half it is the other way round (right: no). They differ in brackets that are turned.

    |b| is linear between 0 and any b, so a first-order estimate is exact where the gradient is that
    of the prompt out of balance; where it is that of the balanced prompt it is zero, since relu has
    derivative 0 at 0 (as torch defines it), and misses the counter. So over all rows, in either
    direction of patching, first order gives half of the counter's effect, and of the MLP's all.

    Args:
        n_brackets: In each prompt, an even number.
        slope: Of the logit of no, for each bracket too many.
        bias: The logit of yes, less than 2 `slope`.
        n_ctx: Longest sequence.
        n_each: Rows of each half.
        seed: Of the prompts.
        dtype, device: Of the model.

    Raises:
        InputError: for a number that is not positive, or prompts that do not fit.
    """
    require_number("slope", slope)
    require_number("bias", bias)
    require(
        bias < 2 * slope,
        f"bias must be less than 2 slope = {2 * slope}, so that unbalanced prompts get a no. "
        f"Received {bias}",
    )
    require_whole("n_brackets", n_brackets, 2)
    require(n_brackets % 2 == 0, f"n_brackets must be even. Received {n_brackets}")
    require_whole("n_ctx", n_ctx, n_brackets + 1)
    require_whole("n_each", n_each, 1)
    stream = Stream(token=5, balance=1, unread=5, out=1)
    model = blank_model(
        "bracket_counter",
        stream,
        1,
        2,
        5,
        n_ctx,
        5,
        dtype,
        device,
        attn_only=False,
        d_mlp=2,
        act_fn="relu",
    )
    attn, absolute_value = attention(model, 0), mlp(model, 0)
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
    wire(attn.W_V[0], slice(0, 2), slice(1), signs[:, None])
    wire(attn.W_O[0], slice(1), stream["balance"])
    wire(attn.W_V[1], stream["token"], slice(5))
    wire(attn.W_O[1], slice(5), stream["unread"])
    wire(absolute_value.W_in, stream["balance"], slice(2), (n_brackets + 1) * signs[None])
    wire(absolute_value.W_out, slice(2), stream["out"], slope * signs[:, None].abs())
    wire(model.unembed.W_U, stream["out"], slice(_NO, _NO + 1))
    with torch.no_grad():
        model.unembed.b_U[_YES] = bias

    generator = torch.Generator().manual_seed(seed)
    balanced, unbalanced = _prompts(n_brackets, n_each, generator)
    clean = torch.cat([balanced, unbalanced])
    corrupted = torch.cat([unbalanced, balanced])
    right = torch.tensor([_YES] * n_each + [_NO] * n_each)
    wrong = _YES + _NO - right
    logits = _truth(clean, slope, bias)
    absolute, constant = torch.zeros_like(logits), torch.zeros_like(logits)
    absolute[:, _NO], constant[:, _YES] = logits[:, _NO], bias
    found = frozenset({"L0H0", "L0MLP"})
    edges = frozenset({"embed->L0H0.v", "L0H0->L0MLP", "L0MLP->logits"})
    n_pos = n_brackets + 1
    even = torch.full((2 * n_each, n_pos), 1.0 / n_pos, dtype=torch.float64)
    return KnownModel(
        name="bracket_counter",
        description=(
            "L0H0 averages +1 and -1 over all brackets, and the MLP takes the absolute value: yes "
            "where as many are closed as were opened."
        ),
        model=model,
        clean=clean,
        corrupted=corrupted,
        right=right,
        wrong=wrong,
        position=n_brackets,
        clean_value=difference(logits, right, wrong),
        corrupted_value=difference(_truth(corrupted, slope, bias), right, wrong),
        logits=logits,
        direct={
            "L0MLP": difference(absolute, right, wrong),
            "b_U": difference(constant, right, wrong),
        },
        patterns={("L0H0", n_brackets): even, ("L0H1", n_brackets): even},
        heads={"L0H0": "counts opened minus closed brackets", "L0H1": "idle"},
        mlps={"L0MLP": "absolute value of the count"},
        edges=edges,
        expected={
            "direct": frozenset({"L0MLP"}),
            # Set to zero, both say that brackets are balanced: wrong for the half that is not. The
            # mean over the reference is near zero for the counter, and does the same; for the MLP
            # it says a little of no to all, which is right or wrong by turns but not by as much.
            "ablation": found,
            "activation_patching": found,
            "attribution_patching": found,
            "attribution_patching_noise": found,
            "atp_star": found | {"L0H0.v"},
            "eap": edges,
            "eap_ig": edges,
            "path_patching": edges,
            "circuit_search": edges,
            "copying_heads": frozenset(),
            "q_composition": frozenset(),
            "k_composition": frozenset(),
            "v_composition": frozenset(),
        },
        words=("(", ")", "balanced?", "yes", "no"),
        reference=torch.cat(_prompts(n_brackets, 64, generator)),
    )


def _prompts(
    n_brackets: int, n_rows: int, generator: torch.Generator
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Balanced ones, and the same with some brackets of one kind turned."""
    half = n_brackets // 2
    balanced, unbalanced = [], []
    for row in range(n_rows):
        kinds = torch.tensor([_OPEN] * half + [_CLOSE] * half)
        kinds = kinds[torch.randperm(n_brackets, generator=generator)]
        turned, kind = kinds.clone(), (_OPEN, _CLOSE)[row % 2]
        n_turned = int(torch.randint(1, half + 1, (), generator=generator))
        places = (kinds == kind).nonzero()[:, 0]
        turned[places[:n_turned]] = _OPEN + _CLOSE - kind
        balanced.append([*kinds.tolist(), _END])
        unbalanced.append([*turned.tolist(), _END])
    return torch.tensor(balanced), torch.tensor(unbalanced)


def _truth(
    tokens: Int[Tensor, "batch pos"], slope: float, bias: float
) -> Float[Tensor, "batch d_vocab"]:
    """The logits behind END."""
    opened, closed = ((tokens == kind).sum(-1) for kind in (_OPEN, _CLOSE))
    logits = torch.zeros(len(tokens), 5, dtype=torch.float64)
    logits[:, _NO] = slope * (opened - closed).abs().double()
    logits[:, _YES] = bias
    return logits
