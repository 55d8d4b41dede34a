"""How much of a head's attention goes where a known kind of head looks, with errors and chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.behaviour.reading import Part, TextRead, read_text
from interp.errors import InputError, require, require_one_of, unknown
from interp.kernels import attention_statistics, pattern_statistics
from interp.run.arguments import EncoderOutput
from interp.tokenization.text import TextInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from interp.transformer import HookedTransformer

Route = Literal["statistics", "patterns"]

STATISTIC_OF = {
    "previous_token": "previous_mass",
    "duplicate_token": "same_token_mass",
    "induction": "induction_mass",
    "first_token": "first_mass",
    "same_token": "self_mass",
}
"""Of each behaviour, the pattern statistic that is its attention mass."""

BEHAVIOURS = tuple(STATISTIC_OF)
"""The behaviours that heads are scored for.

`previous_token`: to the token before. `duplicate_token`: to earlier occurrences of the same token.
`induction`: to the tokens right after those. `first_token`: to the first token (an attention sink).
`same_token`: to the destination itself.
"""


@dataclass(frozen=True)
class BehaviourScore:
    """One behaviour of every head: mean attention mass over destinations where it is possible.

    Every sequence gives one number, the mean over its own destinations, and sequences weigh alike.

    Attributes:
        behaviour: Its name.
        values: `[sequence, layer, head]` for the sequences that have such destinations.
        chances: `[sequence, layer]`, what attention that is uniform over all a destination sees
            would have on the same destinations.
        n_destinations: In all sequences.
    """

    behaviour: str
    values: Float[Tensor, "sequence layer head"]
    chances: Float[Tensor, "sequence layer"]
    n_destinations: int

    @property
    def n_sequences(self) -> int:
        """Sequences with such destinations."""
        return self.values.shape[0]

    @property
    def score(self) -> Float[Tensor, "layer head"]:
        """Mean over sequences, 0 … 1; NaN if there is none."""
        return self.values.mean(0)

    @property
    def stderr(self) -> Float[Tensor, "layer head"]:
        """Standard error of that mean over sequences, s/√n; NaN for fewer than two."""
        return _stderr(self.values)

    @property
    def chance(self) -> Float[Tensor, "layer"]:
        """Mean over sequences, 0 … 1."""
        return self.chances.mean(0)

    @property
    def excess(self) -> Float[Tensor, "layer head"]:
        """How far from chance to all: (score - chance) / (1 - chance); 0 for uniform attention."""
        chance = self.chance[:, None]
        return (self.score - chance) / (1 - chance)

    @property
    def errors_above_chance(self) -> Float[Tensor, "layer head"]:
        """Mean of (value - chance) over its standard error, both over sequences."""
        above = self.values - self.chances[..., None]
        return above.mean(0) / _stderr(above)


def _stderr(x: Tensor) -> Tensor:
    if x.shape[0] < 2:
        return torch.full_like(x.sum(0), torch.nan)
    return x.std(0) / x.shape[0] ** 0.5


@torch.no_grad()
def head_scores(
    model: HookedTransformer,
    input: TextInput | Int[Tensor, "batch pos"] | None,
    behaviours: Iterable[str] | None = None,
    *,
    part: Part | None = None,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    prepend_bos: bool | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
    decoder_input: TextInput | Int[Tensor, "batch pos"] | None = None,
    decoder_attention_mask: Int[Tensor, "batch pos"] | None = None,
    encoder_output: EncoderOutput | None = None,
    route: Route = "statistics",
) -> dict[str, BehaviourScore]:
    """Score every head for behaviours, on any texts; a row of the batch is a sequence.

    A destination counts for a behaviour if its text has a source for it. Two kinds of sources that
    would mistake a sink for something else do not count: the first token as a previous one, and the
    first token as its own. Neither does the first token as a destination, which in a causal model
    has nowhere else to look. Layers with a window are scored on the same destinations, seen or not.

    The scores say where a head looks, not what it does there: a head that attends like an induction
    head need not copy, and one that copies need not attend so.

    Sources: Elhage et al. (2021), A Mathematical Framework for Transformer Circuits; Olsson et al.
    (2022), In-context Learning and Induction Heads (previous-token and induction heads); Wang et
    al. (2022), Interpretability in the Wild (duplicate-token heads); Xiao et al. (2023), Efficient
    Streaming Language Models with Attention Sinks.

    Args:
        model: Any model with heads.
        input: Text or tokens, as `forward` takes them; `repeated_tokens(model).tokens` has
            destinations for all behaviours.
        behaviours: Names of `BEHAVIOURS`. None: all.
        part: Of an encoder–decoder: whose attention to its own text. None: the decoder's.
        attention_mask, prepend_bos, token_type_ids, decoder_input, decoder_attention_mask,
            encoder_output: As in `forward`; the encoder takes the first two.
        route: `statistics` keeps attention fused and needs memory that grows with the length of the
            text; `patterns` makes each layer's pattern, one at a time, and also sees edits of
            `hook_attn_scores` and `hook_pattern`. They give the same scores.

    Returns:
        A `BehaviourScore` by name, in the order asked for; those of a behaviour that no destination
        of these texts can show have no sequences.

    Raises:
        InputError: for input that `forward` refuses, an unknown behaviour, a model without heads,
            or edits that the `statistics` route does not see.
    """
    names = _chosen(behaviours)
    require_one_of("route", route, ("statistics", "patterns"))
    given = read_text(
        model,
        input,
        part,
        attention_mask=attention_mask,
        prepend_bos=prepend_bos,
        token_type_ids=token_type_ids,
        decoder_input=decoder_input,
        decoder_attention_mask=decoder_attention_mask,
        encoder_output=encoder_output,
    )
    require(given.n_layers > 0, "the model must have heads. It has no layers")
    masses = _of_statistics(given, names) if route == "statistics" else _of_patterns(given, names)
    windows = [given.window(layer) for layer in range(given.n_layers)]
    uniform = {window: _uniform(given, window, names) for window in {None, *windows}}
    found = {}
    for name in names:
        counts = _destinations(given, name, uniform[None][name])
        chance = torch.stack([uniform[window][name] for window in windows])
        values = _mean_over(masses[name].double(), counts)  # [layer, sequence, head]
        found[name] = BehaviourScore(
            name,
            values.transpose(0, 1),
            _mean_over(chance[:, :, None], counts)[..., 0].T,
            int(counts.sum()),
        )
    return found


def _chosen(behaviours: Iterable[str] | None) -> tuple[str, ...]:
    if behaviours is None:
        return BEHAVIOURS
    require(
        not isinstance(behaviours, str),
        f"behaviours must be a sequence of names. Received the string {behaviours!r}",
    )
    names = tuple(dict.fromkeys(behaviours))
    require(bool(names), "behaviours must name at least one. Received none")
    for name in names:
        if name not in BEHAVIOURS:
            raise unknown("behaviour", name, BEHAVIOURS)
    return names


def _mean_over(
    masses: Float[Tensor, "layer batch head pos"], counts: Bool[Tensor, "batch pos"]
) -> Float[Tensor, "layer sequence head"]:
    """Each sequence's mean over the destinations that count, of sequences that have any."""
    n = counts.sum(1)
    kept = n > 0
    total = (masses * counts[:, None]).sum(-1)
    return total[:, kept] / n[kept, None]


def _destinations(
    given: TextRead, behaviour: str, uniform: Float[Tensor, "batch pos"]
) -> Bool[Tensor, "batch pos"]:
    """Which destinations count for a behaviour; `uniform` is its mass without a window."""
    first_place = 2 if behaviour == "previous_token" else 1
    return (given.places >= first_place) & (uniform > 0)


def _uniform(
    given: TextRead, window: int | None, names: tuple[str, ...]
) -> dict[str, Float[Tensor, "batch pos"]]:
    """The masses of attention that is the same to all that a destination sees, in fp64."""
    scores = torch.zeros(*given.tokens.shape, 1, 1, dtype=torch.float64, device=given.tokens.device)
    statistics = [STATISTIC_OF[name] for name in names]
    of_tokens = not {"same_token_mass", "induction_mass"}.isdisjoint(statistics)
    found = pattern_statistics(
        scores,
        scores,
        tokens=given.tokens if of_tokens else None,
        causal=given.stack.causal,
        real_keys=given.real,
        window=window,
        statistics=statistics,
    )
    return {name: found[STATISTIC_OF[name]][:, 0] for name in names}


def _of_statistics(
    given: TextRead, names: tuple[str, ...]
) -> dict[str, Float[Tensor, "layer batch head pos"]]:
    statistics = [STATISTIC_OF[name] for name in names]
    found = attention_statistics(
        given.model,
        **{"input": None, **given.arguments},
        statistics=statistics,
        part=given.part,
    )
    return {name: found[STATISTIC_OF[name]] for name in names}


def _of_patterns(
    given: TextRead, names: tuple[str, ...]
) -> dict[str, Float[Tensor, "layer batch head pos"]]:
    # Sources are few, mostly: going to each takes a fifth of the time of masking whole patterns.
    pairs = {name: source_mask(given, name).nonzero(as_tuple=True) for name in names}
    masses: dict[str, list[Tensor]] = {name: [] for name in names}

    def look(layer: int, pattern: Tensor) -> None:
        batch, n_heads, pos, _ = pattern.shape
        dtype = pattern.dtype if pattern.dtype == torch.float64 else torch.float32
        for name, (row, i, j) in pairs.items():
            total = pattern.new_zeros(batch * pos, n_heads, dtype=dtype)
            total.index_add_(0, row * pos + i, pattern[row, :, i, j].to(dtype))
            masses[name].append(total.view(batch, pos, n_heads).transpose(1, 2))

    given.watch_patterns(look)
    return {name: torch.stack(layers) for name, layers in masses.items()}


def source_mask(given: TextRead, behaviour: str) -> Bool[Tensor, "batch pos key_pos"]:
    """Which sources a head of this behaviour looks at, for real tokens alone.

    Raises:
        InputError: for another behaviour.
    """
    tokens, real, places = given.tokens, given.real, given.places
    index = torch.arange(tokens.shape[1], device=tokens.device)
    earlier = index[:, None] > index
    both = real[:, :, None] & real[:, None, :]
    back = places[:, :, None] - places[:, None, :]
    if behaviour == "previous_token":
        found = back == 1
    elif behaviour == "same_token":
        found = back == 0
    elif behaviour == "first_token":
        found = (places == 0)[:, None, :].expand_as(both)
    elif behaviour == "duplicate_token":
        found = (tokens[:, :, None] == tokens[:, None, :]) & earlier
    elif behaviour == "induction":
        # What a source's predecessor is: of the first, itself, which is no predecessor.
        before = tokens.gather(1, given.index_of((places - 1).clamp(min=0)))
        has_one = (places > 0)[:, None, :]
        found = (tokens[:, :, None] == before[:, None, :]) & has_one & (back >= 0)
    else:
        raise unknown("behaviour", behaviour, BEHAVIOURS)
    return found & both


@dataclass(frozen=True)
class FoundHead:
    """A head that shows a behaviour.

    Attributes:
        behaviour: Which.
        layer, head: Which head.
        score, stderr, chance: Of its attention mass, 0 … 1.
    """

    behaviour: str
    layer: int
    head: int
    score: float
    stderr: float
    chance: float

    @property
    def label(self) -> str:
        """Such as `L1H3`."""
        return f"L{self.layer}H{self.head}"


THRESHOLD = 0.4
"""Of the excess over chance, from which a head is said to show a behaviour."""
N_ERRORS = 5.0
"""How many standard errors it must be above chance."""


def shows(
    score: BehaviourScore, threshold: float = THRESHOLD, n_errors: float = N_ERRORS
) -> Bool[Tensor, "layer head"]:
    """Which heads show a behaviour: none in a model that has no such heads.

    A head does if its excess, (score - chance) / (1 - chance), reaches `threshold`, and its score
    is more than `n_errors` standard errors above chance, sequence by sequence. The first keeps out
    heads that lean somewhere without going there, the second those that sequences disagree on. Of
    a handful of sequences the standard error is itself a guess: two may agree by accident.
    Where no destination can show a behaviour, no head does.

    Raises:
        InputError: if there is one sequence only, whose error is unknown, `threshold` is not in
            (0, 1], or `n_errors` is negative.
    """
    require(0 < threshold <= 1, f"threshold must lie in (0, 1]. Received {threshold}")
    require(n_errors >= 0, f"n_errors must not be negative. Received {n_errors}")
    if not score.n_sequences:
        return torch.zeros(score.values.shape[1:], dtype=torch.bool, device=score.values.device)
    if score.n_sequences == 1:
        raise InputError(
            f"{score.behaviour}: there must be at least two sequences to tell an error. Received 1."
        )
    # No spread at all: infinitely many errors, if there is a difference.
    return (score.excess >= threshold) & (score.errors_above_chance > n_errors)


def found_heads(
    scores: dict[str, BehaviourScore], threshold: float = THRESHOLD, n_errors: float = N_ERRORS
) -> list[FoundHead]:
    """The heads that show a behaviour by the rule of `shows`, of each the highest score first.

    Raises:
        InputError: as `shows`.
    """
    found = []
    for name, of in scores.items():
        heads: Any = shows(of, threshold, n_errors).nonzero().tolist()
        score, stderr, chance = of.score, of.stderr, of.chance
        for layer, head in sorted(heads, key=lambda at: -float(score[at[0], at[1]])):
            numbers = (float(x) for x in (score[layer, head], stderr[layer, head], chance[layer]))
            found.append(FoundHead(name, layer, head, *numbers))
    return found
