"""A head that copies the token before."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import require_number, require_whole
from interp.transformer import HookedTransformer
from interp.zoo.known.truth import KnownModel
from interp.zoo.known.wiring import (
    Stream,
    attention,
    blank_model,
    counts,
    difference,
    even_reference,
    wire,
)
from interp.zoo.known.words import symbols


def previous_token(
    sharpness: float = 5.0,
    strength: float = 4.0,
    length: int = 8,
    d_vocab: int = 32,
    n_ctx: int = 32,
    n_prompts: int = 4,
    seed: int = 0,
    dtype: torch.dtype | str = torch.float64,
    device: torch.device | str | None = None,
) -> KnownModel:
    """One layer of attention: L0H0 copies the previous token to the logits, L0H1 does nothing.

    L0H0's score is `sharpness` where the key's position is one less than the query's, else 0. At
    position p > 0, with p + 1 keys, it looks at p - 1 with weight e^sharpness / (e^sharpness + p)
    and at each other with 1 / (e^sharpness + p). It adds to each token's logit `strength` times the
    weight that it gives that token.

    L0H1 attends evenly and writes the tokens to a subspace that nothing reads: large outputs, no
    effect.

    The corrupted prompts differ in the last token but one.

    Args:
        sharpness: The score of the previous position, in nats.
        strength: The logit of a token that gets all attention.
        length: Of the prompts.
        d_vocab: Tokens; the prompts' are all distinct.
        n_ctx: Longest sequence.
        n_prompts: Rows of the batch.
        seed: Of the prompts.
        dtype, device: Of the model.

    Raises:
        InputError: for a number that is not positive, or prompts that do not fit.
    """
    require_number("sharpness", sharpness)
    require_number("strength", strength)
    require_whole("length", length, 3)
    require_whole("n_prompts", n_prompts, 1)
    require_whole("n_ctx", n_ctx, length)
    require_whole("d_vocab", d_vocab, length + 1)
    stream = Stream(token=d_vocab, position=n_ctx, unread=d_vocab, out=d_vocab)
    d_head = max(d_vocab, n_ctx)
    model = blank_model("previous_token", stream, 1, 2, d_head, n_ctx, d_vocab, dtype, device)
    wire_previous_token(model, stream, 0, 0, sharpness, "out")
    attn, names = attention(model, 0), slice(d_vocab)
    wire(attn.W_V[1], stream["token"], names)
    wire(attn.W_O[1], names, stream["unread"])
    wire(model.unembed.W_U, stream["out"], slice(None), strength)

    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack([torch.randperm(d_vocab, generator=generator) for _ in range(n_prompts)])
    clean, wrong = drawn[:, :length], drawn[:, length]
    corrupted, right = clean.clone(), clean[:, -2]
    corrupted[:, -2] = wrong

    # The right token is only in the clean prompt, the wrong one only in the corrupted: at the last
    # position, length - 1, the head gives it e^sharpness / (e^sharpness + length - 1).
    weight = math.exp(sharpness) / (math.exp(sharpness) + length - 1)
    value = torch.full((n_prompts,), strength * weight, dtype=torch.float64)
    pattern = previous_token_row(sharpness, length - 1, length).expand(n_prompts, -1)
    logits = strength * counts(clean, pattern, d_vocab)
    circuit = frozenset({"embed->L0H0.v", "L0H0->logits"})
    the_head = frozenset({"L0H0"})
    return KnownModel(
        name="previous_token",
        description="L0H0 attends to the previous position and copies its token to the logits.",
        model=model,
        clean=clean,
        corrupted=corrupted,
        right=right,
        wrong=wrong,
        position=length - 1,
        clean_value=difference(logits, right, wrong),
        corrupted_value=-value,
        logits=logits,
        direct={"L0H0": value},
        patterns={("L0H0", length - 1): pattern, ("L0H1", length - 1): _even(n_prompts, length)},
        heads={"L0H0": "copies the previous token", "L0H1": "idle"},
        edges=circuit,
        fixed_edges=frozenset({"pos_embed->L0H0.q", "pos_embed->L0H0.k"}),
        expected={
            # All of the metric goes through one head, and linearly: positions decide the pattern,
            # and they are the same for both prompts. So first order is exact.
            "direct": the_head,
            "ablation": the_head,
            "activation_patching": the_head,
            "attribution_patching": the_head,
            "attribution_patching_noise": the_head,
            "atp_star": the_head | {"L0H0.v"},
            "eap": circuit,
            "eap_ig": circuit,
            "path_patching": circuit,
            "circuit_search": circuit,
            "previous_token_heads": the_head,
            "induction_heads": frozenset(),
            "current_token_heads": frozenset(),
            "first_token_heads": frozenset(),
            "duplicate_token_heads": frozenset(),
            # Its OV circuit from tokens to logits is `strength` times the identity.
            "copying_heads": the_head,
            "q_composition": frozenset(),
            "k_composition": frozenset(),
            "v_composition": frozenset(),
        },
        words=symbols(d_vocab),
        reference=even_reference(length, d_vocab),
    )


def wire_previous_token(
    model: HookedTransformer,
    stream: Stream,
    layer: int,
    head: int,
    sharpness: float,
    writes: str,
) -> None:
    """Make a head that looks one position back and writes the token there to a subspace."""
    attn, cfg = attention(model, layer), model.cfg
    places, names = slice(cfg.n_ctx), slice(cfg.d_vocab)
    # A query at position p asks for the key's coordinate p - 1.
    ones = torch.ones(cfg.n_ctx - 1, dtype=torch.float64)
    wire(attn.W_Q[head], stream["position"], places, sharpness * ones.diag(-1))
    wire(attn.W_K[head], stream["position"], places)
    wire(attn.W_V[head], stream["token"], names)
    wire(attn.W_O[head], names, stream[writes])


def previous_token_row(sharpness: float, pos: int, length: int) -> Float[Tensor, "key_pos"]:
    """Where a previous-token head looks from one position, beside later ones that it cannot see.

    At position 0 there is no previous one, and only itself to look at.
    """
    row = torch.zeros(length, dtype=torch.float64)
    if pos == 0:
        row[0] = 1.0
        return row
    row[: pos + 1] = 1.0 / (math.exp(sharpness) + pos)
    row[pos - 1] = math.exp(sharpness) / (math.exp(sharpness) + pos)
    return row


def _even(n_prompts: int, length: int) -> Float[Tensor, "batch key_pos"]:
    return torch.full((n_prompts, length), 1.0 / length, dtype=torch.float64)
