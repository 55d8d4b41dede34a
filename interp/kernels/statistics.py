"""What can be told of an attention pattern without writing it down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from interp.errors import InputError, require, unknown

OF_TOKENS = ("same_token_mass", "induction_mass")
"""The statistics that need the tokens."""


@dataclass(frozen=True)
class PatternStatistics:
    """Statistics of an attention pattern p, one number for each head and destination i.

    Every field is `[batch, head, pos]` (of `attention_statistics`, `[layer, batch, head, pos]`), or
    None where it was not asked for; `statistics["entropy"]` gives a field or says that it was not.
    Numbers are fp32 (fp64 for fp64 queries and keys), `top_source` is int64.

    A destination that sees no source has `lse` -inf, `top_source` -1, and 0 in all other fields.
    Positions count the real tokens of a row, so that padding moves nothing.

    Attributes:
        lse: ln Σ_j exp(score_ij), a head's sink counted, so that p_ij = exp(score_ij - lse_i).
        entropy: -Σ_j p_ij ln p_ij, in nats. With sinks, p sums to less than 1 and is taken as it
            is: what the sink takes is not a term of the sum.
        first_mass: p on the first real token.
        previous_mass: p on the real token before i.
        self_mass: p on i itself.
        same_token_mass: Sum of p over the sources before i that hold the same token.
        induction_mass: Sum of p over the sources up to i that come right after an earlier
            occurrence of i's token: where an induction head looks (Olsson et al. 2022).
        mean_distance: Σ_j p_ij (i - j) / Σ_j p_ij in positions, negative where a head looks ahead.
        top_source: The index along key_pos of the largest p; of equals, any.
        top_share: That p.
    """

    lse: Float[Tensor, "*layer batch head pos"] | None = None
    entropy: Float[Tensor, "*layer batch head pos"] | None = None
    first_mass: Float[Tensor, "*layer batch head pos"] | None = None
    previous_mass: Float[Tensor, "*layer batch head pos"] | None = None
    self_mass: Float[Tensor, "*layer batch head pos"] | None = None
    same_token_mass: Float[Tensor, "*layer batch head pos"] | None = None
    induction_mass: Float[Tensor, "*layer batch head pos"] | None = None
    mean_distance: Float[Tensor, "*layer batch head pos"] | None = None
    top_source: Int[Tensor, "*layer batch head pos"] | None = None
    top_share: Float[Tensor, "*layer batch head pos"] | None = None

    def __getitem__(self, name: str) -> Shaped[Tensor, "*layer batch head pos"]:
        """One field.

        Raises:
            InputError: for a name that is no statistic, or one that was not asked for.
        """
        if name not in STATISTICS:
            raise unknown("statistic", name, STATISTICS)
        found = getattr(self, name)
        if found is None:
            raise InputError(
                f"{name} was not asked for: name it in statistics=. There are {', '.join(self)}."
            )
        return found

    def __iter__(self) -> Iterator[str]:
        """The names of the statistics that are here, in the order of the fields."""
        return (name for name in STATISTICS if getattr(self, name) is not None)

    @classmethod
    def stack(cls, layers: Sequence[PatternStatistics]) -> PatternStatistics:
        """The statistics of several layers along a new leading axis."""
        return cls(**{name: torch.stack([layer[name] for layer in layers]) for name in layers[0]})


STATISTICS = tuple(field.name for field in fields(PatternStatistics))
"""The names of all statistics."""


def chosen_statistics(statistics: Iterable[str] | None, has_tokens: bool) -> tuple[str, ...]:
    """The names asked for, once each; None means all that can be told.

    Raises:
        InputError: for a name that is no statistic, none at all, or one that needs tokens.
    """
    if statistics is None:
        return tuple(n for n in STATISTICS if has_tokens or n not in OF_TOKENS)
    require(
        not isinstance(statistics, str),
        f"statistics must be a sequence of names. Received the string {statistics!r}",
    )
    names = tuple(dict.fromkeys(statistics))
    require(bool(names), "statistics must name at least one. Received none")
    for name in names:
        if name not in STATISTICS:
            raise unknown("statistic", name, STATISTICS)
        require(has_tokens or name not in OF_TOKENS, f"{name} needs tokens. Received None")
    return names
