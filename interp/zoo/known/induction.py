"""An induction circuit of two heads: … A B … A → B."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import require, require_number, require_whole
from interp.zoo.known.previous_token import previous_token_row, wire_previous_token
from interp.zoo.known.truth import KnownModel
from interp.zoo.known.wiring import (
    SATURATED,
    Stream,
    attention,
    blank_model,
    counts,
    difference,
    even_reference,
    softmax_of,
    wire,
)
from interp.zoo.known.words import symbols

_CURRENT = 0.25  # how much less than L1H1 the other head of its layer writes
_KINDS = 3  # what is corrupted: the query, the keys, the values


def induction(
    sharpness: float | None = None,
    strength: float = 4.0,
    saturated: bool = False,
    length: int = 10,
    d_vocab: int = 32,
    n_ctx: int = 32,
    n_each: int = 2,
    seed: int = 0,
    dtype: torch.dtype | str = torch.float64,
    device: torch.device | str | None = None,
) -> KnownModel:
    """Two layers of attention with two heads each.

    - L0H0, previous token: writes the token before, as in `previous_token`, to a subspace that only
      keys of L1H1 read.
    - L0H1, sink: looks at position 0 and writes its token where nothing reads.
    - L1H0, current token: looks at its own position and copies its token to the logits, with a
      quarter of the `strength`. All that it does is copying, and it is no induction head.
    - L1H1, induction: the score of key j is `sharpness` times the weight w_j that L0H0 gave, at j,
      to the token which stands at the query. So its weight on j is e^(sharpness · w_j) / Σ_i
      e^(sharpness · w_i), where w is near 1 behind an earlier copy of that token, and 0 where the
      token is not among what j sees. It copies what it reads to the logits.

    L0H1 and L1H0 are `SATURATED`, whatever the sharpness.

    The clean prompts hold A B and C D once each among other tokens, in either order, and end in A:
    right is B, wrong is D. A third of the rows each is corrupted in

    - the last token, now C: the query of L1H1 changes;
    - A and C, exchanged but for the last token: what L0H0 reads, so the keys of L1H1;
    - B and D, exchanged: the values of L1H1.

    So every edge of the circuit alone turns the answer in a third of the rows.

    Args:
        sharpness: Score of the previous token (L0H0) and of a key that matches (L1H1), in nats,
            from 1 to 10. None: 5.
        strength: The logit of a token that gets all attention.
        saturated: Instead, make all patterns one-hot in fp64, as large scores do (`SATURATED`).
            Then gradients of the pattern vanish at both ends and first-order methods miss what acts
            through it.
        length: Of the prompts.
        d_vocab: Tokens; the prompts' are all distinct but for the last.
        n_ctx: Longest sequence.
        n_each: Rows with each corruption.
        seed: Of the prompts.
        dtype, device: Of the model.

    Raises:
        InputError: for a number outside its range, both a sharpness and `saturated`, or prompts
            that do not fit.
    """
    require(
        sharpness is None or not saturated,
        f"saturated is a sharpness of its own: give one of the two. Received sharpness {sharpness}",
    )
    if sharpness is None:
        sharpness = SATURATED if saturated else 5.0
    require_number("sharpness", sharpness)
    require(
        saturated or 1 <= sharpness <= 10,
        f"sharpness must lie between 1 and 10. Received {sharpness}",
    )
    require_number("strength", strength)
    require_whole("length", length, 6)
    require_whole("n_each", n_each, 1)
    require_whole("n_ctx", n_ctx, length)
    require_whole("d_vocab", d_vocab, length)
    stream = Stream(token=d_vocab, position=n_ctx, previous=d_vocab, unread=d_vocab, out=d_vocab)
    model = blank_model(
        "induction", stream, 2, 2, max(d_vocab, n_ctx), n_ctx, d_vocab, dtype, device
    )
    names, places = slice(d_vocab), slice(n_ctx)
    wire_previous_token(model, stream, 0, 0, sharpness, "previous")
    sink, later = attention(model, 0), attention(model, 1)
    to_first = torch.zeros(n_ctx, n_ctx, dtype=torch.float64)
    to_first[:, 0] = SATURATED
    wire(sink.W_Q[1], stream["position"], places, to_first)
    wire(sink.W_K[1], stream["position"], places)
    wire(sink.W_V[1], stream["token"], names)
    wire(sink.W_O[1], names, stream["unread"])
    wire(later.W_Q[0], stream["position"], places, SATURATED)
    wire(later.W_K[0], stream["position"], places)
    wire(later.W_Q[1], stream["token"], names, sharpness)
    wire(later.W_K[1], stream["previous"], names)
    for head, weight in ((0, _CURRENT), (1, 1.0)):
        wire(later.W_V[head], stream["token"], names, weight)
        wire(later.W_O[head], names, stream["out"])
    wire(model.unembed.W_U, stream["out"], slice(None), strength)

    generator = torch.Generator().manual_seed(seed)
    clean, corrupted, right, wrong = _prompts(length, d_vocab, n_each, generator)
    end = length - 1
    logits, by_head, pattern = _truth(clean, sharpness, strength, d_vocab)
    corrupted_logits, _, _ = _truth(corrupted, sharpness, strength, d_vocab)
    return KnownModel(
        name="induction",
        description=(
            "L0H0 writes each position's previous token; L1H1 looks for the current token among "
            "those and copies what stands there: … A B … A → B."
        ),
        model=model,
        clean=clean,
        corrupted=corrupted,
        right=right,
        wrong=wrong,
        position=end,
        clean_value=difference(logits, right, wrong),
        corrupted_value=difference(corrupted_logits, right, wrong),
        logits=logits,
        # L0H0 writes where the logits do not look. L1H0 adds to the logit of A, which is neither
        # right nor wrong; what it adds to B and to D, exp(-SATURATED) of it, is the same.
        direct={"L1H1": difference(by_head["L1H1"], right, wrong)},
        patterns={
            ("L0H0", end): previous_token_row(sharpness, end, length).expand(len(clean), -1),
            ("L0H1", end): _one_hot(0, clean),
            ("L1H0", end): _one_hot(end, clean),
            ("L1H1", end): pattern,
        },
        heads={
            "L0H0": "previous token",
            "L0H1": "sink: looks at the first token, to no effect",
            "L1H0": "copies the current token",
            "L1H1": "induction: copies what followed the current token before",
        },
        edges=_EDGES,
        fixed_edges=frozenset(
            {f"pos_embed->{head}.{part}" for head in ("L0H0", "L0H1", "L1H0") for part in "qk"}
        ),
        expected=_expected(saturated),
        words=symbols(d_vocab),
        reference=even_reference(length, d_vocab),
    )


_EDGES = frozenset(
    {
        "embed->L0H0.v",
        "L0H0->L1H1.k",
        "embed->L1H1.q",
        "embed->L1H1.v",
        "L1H1->logits",
    }
)


def _expected(saturated: bool) -> dict[str, frozenset[object]]:
    circuit = frozenset({"L0H0", "L1H1"})
    last = frozenset({"L1H1"})
    # With a saturated pattern p the derivative of softmax, diag(p) - p pᵀ, is zero to rounding, at
    # both ends. Values are still linear: of the circuit's edges only the last head's value and
    # output are left.
    linear = frozenset({"embed->L1H1.v", "L1H1->logits"})
    return {
        # A previous-token head writes to keys alone: it has no direct effect at all.
        "direct": last,
        # Without L0H0 all keys are alike, L1H1 looks everywhere and gives B and D the same.
        "ablation": circuit,
        # L0H0's clean output restores the rows with corrupted keys, L1H1's all rows.
        "activation_patching": circuit,
        "attribution_patching": last if saturated else circuit,
        "attribution_patching_noise": last if saturated else circuit,
        # AtP* computes the change of a pattern exactly for what enters it as a query or as a key,
        # and finds L1H1's however saturated. Not so L0H0: its share is judged by the gradient with
        # respect to what it writes, which passes through that softmax. And GradDrop, which leaves
        # out the gradient through one layer at a time and gives nothing to nodes of that layer,
        # keeps of a model of two layers the direct effects alone: L0H0 has none.
        "atp_star": frozenset({"L1H1", "L1H1.q", "L1H1.k", "L1H1.v"}),
        "eap": linear if saturated else _EDGES,
        # On the line between the embeddings the two keys' scores cross half-way, where the pattern
        # is not saturated: the mean gradient sees what the gradient at either end does not.
        "eap_ig": _EDGES,
        "path_patching": _EDGES,
        "circuit_search": _EDGES,
        "previous_token_heads": frozenset({"L0H0"}),
        "current_token_heads": frozenset({"L1H0"}),
        "first_token_heads": frozenset({"L0H1"}),
        "duplicate_token_heads": frozenset(),
        "induction_heads": last,
        # Both heads of the layer copy; one of them is an induction head.
        "copying_heads": frozenset({"L1H0", "L1H1"}),
        # L0H0 writes to a subspace that L1H1's keys read and nothing else does.
        "k_composition": frozenset({("L0H0", "L1H1")}),
        "q_composition": frozenset(),
        "v_composition": frozenset(),
    }


def _prompts(
    length: int, d_vocab: int, n_each: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clean and corrupted tokens, the right and the wrong one."""
    rows = []
    for row in range(_KINDS * n_each):
        tokens = torch.randperm(d_vocab, generator=generator)[: length - 1].tolist()
        # Places for two pairs that do not overlap. Not at position 0, whose only key is itself: to
        # L0H0 the first token is its own predecessor.
        first = int(torch.randint(1, length - 4, (), generator=generator))
        second = int(torch.randint(first + 2, length - 2, (), generator=generator))
        a, c = (first, second) if torch.rand((), generator=generator) < 0.5 else (second, first)
        clean = [*tokens, tokens[a]]
        corrupted = list(clean)
        kind = row % _KINDS
        if kind == 0:
            corrupted[-1] = clean[c]
        elif kind == 1:
            corrupted[a], corrupted[c] = clean[c], clean[a]
        else:
            corrupted[a + 1], corrupted[c + 1] = clean[c + 1], clean[a + 1]
        rows.append((clean, corrupted, clean[a + 1], clean[c + 1]))
    clean_rows, corrupted_rows, right, wrong = zip(*rows, strict=True)
    return (*map(torch.tensor, (clean_rows, corrupted_rows, right, wrong)),)  # type: ignore[return-value]


def _truth(
    tokens: Int[Tensor, "batch pos"], sharpness: float, strength: float, d_vocab: int
) -> tuple[Tensor, dict[str, Tensor], Float[Tensor, "batch key_pos"]]:
    """The logits at the last position, what L1H0 and L1H1 add to them, and where L1H1 looks."""
    length = tokens.shape[1]
    before = torch.stack([previous_token_row(sharpness, p, length) for p in range(length)])
    same = (tokens == tokens[:, -1:]).double()  # [batch, key_pos]
    matched = same @ before.T  # w_j: what L0H0 gave at j to copies of the last token
    pattern = softmax_of(sharpness * matched)
    by_head = {
        "L1H0": _CURRENT * strength * counts(tokens, _one_hot(length - 1, tokens), d_vocab),
        "L1H1": strength * counts(tokens, pattern, d_vocab),
    }
    return by_head["L1H0"] + by_head["L1H1"], by_head, pattern


def _one_hot(place: int, tokens: Tensor) -> Float[Tensor, "batch key_pos"]:
    pattern = torch.zeros(tokens.shape, dtype=torch.float64)
    pattern[:, place] = 1.0
    return pattern
