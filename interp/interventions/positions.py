"""Interventions that give tokens other positions than those at which they stand.

All are one thing: a map from the position at which a token is treated to another one. It acts where
the encoding acts (`hook_pos_embed`, `hook_rot_q` and `hook_rot_k`, or `hook_pos_bias`) and nowhere
else: who sees whom (the causal mask, windows) stays as it is, and so do the tokens' order and the
length of the text that some rotary scalings go by.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from interp.errors import require, require_whole
from interp.interventions.base import Binding, Edit, Intervention
from interp.interventions.parts import listed, whole_numbers
from interp.interventions.places import Numbers
from interp.interventions.position_edits import (
    NOWHERE,
    BiasEdit,
    EmbeddingEdit,
    PositionEdit,
    Step,
    TurnEdit,
)
from interp.patching.grids import entries_within

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


class PositionMap(Intervention):
    """Chosen tokens treated as if they stood elsewhere.

    Positions count the real tokens of each row, from 0; negative ones count from the end. Several
    such interventions are made one after another, whatever the encoding: a shift by 1 and one by 2
    are a shift by 3, and a swap exchanges what those before it have left. For that they have to be
    given to `hooks_for` (or `applied`) together: none knows of moves that are on the model already,
    and a run with both raises `InputError`.

    They belong in runs of whole texts: one that goes on from a key/value cache counts its own
    tokens from 0, which biases refuse and the others cannot see. Generate with
    `use_past_kv_cache=False`.

    Attributes:
        layers: Where the encoding acts layer by layer (rotary): these alone. None: all.
        as_query, as_key: Whether a token is treated so where it looks and where it is looked at.
            Only rotary and biases on scores can tell the two apart.
    """

    layers: Numbers | None
    as_query: bool
    as_key: bool

    def __post_init__(self) -> None:
        self.put("layers", whole_numbers("layers", self.layers))
        for name in ("as_query", "as_key"):
            given = getattr(self, name)
            require(isinstance(given, bool), f"{name} must be True or False. Received {given!r}")
        require(
            self.as_query or self.as_key,
            "as_query or as_key must be True: else nothing is moved. Both are False",
        )

    @abstractmethod
    def moved(self, places: np.ndarray) -> np.ndarray:
        """The positions `[token]` of one row, all of its real tokens, once they are moved.

        Raises:
            InputError: for a token that is not there.
        """

    @abstractmethod
    def what(self) -> str:
        """What is done to which tokens, in a few words."""

    def describe(self) -> str:
        """What is done to which tokens, and where it shows."""
        where = [] if self.layers is None else [f"layers {listed(self.layers)}"]  # type: ignore[arg-type]
        if not (self.as_query and self.as_key):
            where.append("as queries alone" if self.as_query else "as keys alone")
        return f"{self.what()} ({'; '.join(where)})" if where else self.what()

    def hooks(self, model: HookedTransformer) -> tuple[str, ...]:
        """Full names of the hooks that it changes.

        Raises:
            InputError: for an encoder–decoder, a model without positional encoding, layers that
                are not there or that the encoding does not tell apart, and queries and keys that it
                does not tell apart.
        """
        cfg, encoding = model.cfg, model.main_stack.pos_embed
        require(
            cfg.architecture != "encoder-decoder",
            "positions are moved in a single stack. This is an encoder-decoder",
        )
        kind = cfg.positional_embedding_type
        if encoding.rotates:
            chosen = range(cfg.n_layers) if self.layers is None else self.layers
            layers = entries_within("layers", chosen, cfg.n_layers)  # type: ignore[arg-type]
            roles = [role for role, on in (("q", self.as_query), ("k", self.as_key)) if on]
            return tuple(f"blocks.{n}.attn.hook_rot_{role}" for n in layers for role in roles)
        require(kind != "none", f"{self.kind!r} needs a positional encoding. This model has none")
        require(
            self.layers is None,
            f"{kind} positions enter once for all layers: choose none. Received {self.layers}",
        )
        if encoding.biases_scores:
            return ("hook_pos_bias",)
        require(
            self.as_query and self.as_key,
            f"{kind} positions are the same vectors for queries and keys: they cannot be moved for "
            "one of the two",
        )
        return ("hook_pos_embed",)

    def bind(self, to: Binding) -> list[Edit]:
        """One edit at each of the hooks."""
        found = []
        for hook in self.hooks(to.model):
            if hook == "hook_pos_embed":
                step: PositionEdit = EmbeddingEdit(to, self._after(to, hook))
            elif hook == "hook_pos_bias":
                queries = self._after(to, "queries", self.as_query)
                step = BiasEdit(to, queries, self._after(to, "keys", self.as_key))
            else:
                step = TurnEdit(to, self._after(to, hook), int(hook.split(".")[1]))
            found.append(Edit(hook, step))
        return found

    def _after(self, to: Binding, where: str, moves: bool = True) -> Step:
        """The maps bound so far, with and without this one, which is then one of them."""
        before = to.moves.get(where, ())
        after = (*before, self) if moves else before
        to.moves[where] = after
        return Step(to.layout.main, before, after)


class _OfTokens(PositionMap):
    """One that moves chosen tokens.

    Attributes:
        positions: Which. None: all.
    """

    positions: Numbers | None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.put("positions", whole_numbers("positions", self.positions))

    def chosen(self, places: np.ndarray) -> list[int]:
        """Which of a row's tokens are meant."""
        n = len(places)
        if self.positions is None:
            return list(range(n))
        assert isinstance(self.positions, tuple)
        return sorted(set(entries_within("positions", self.positions, n)))

    def which(self) -> str:
        """Them, in words."""
        if self.positions is None:
            return "all positions"
        return f"positions {listed(self.positions)}"  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class ShiftPositions(_OfTokens, kind="shift-positions"):
    """Tokens treated as if they stood some positions later.

    Relative encodings do not see a shift of all tokens.

    Attributes:
        by: How many positions; negative: earlier.
        positions: Which tokens. None: all.
        layers, as_query, as_key: As of `PositionMap`.
    """

    by: int
    positions: Numbers | None = None
    layers: Numbers | None = None
    as_query: bool = True
    as_key: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        found = whole_numbers("by", self.by)
        require(
            found is not None and len(found) == 1,
            f"by must be one whole number. Received {self.by!r}",
        )
        assert found is not None
        self.put("by", found[0])

    def moved(self, places: np.ndarray) -> np.ndarray:
        """Each chosen one so much later; one without a position has none."""
        new = places.copy()
        chosen = [i for i in self.chosen(places) if places[i] != NOWHERE]
        new[chosen] += self.by
        return new

    def what(self) -> str:
        """How far, and which."""
        return f"{self.which()} treated as {self.by:+d}"


@dataclass(frozen=True, eq=False)
class ShufflePositions(_OfTokens, kind="shuffle-positions"):
    """The positions of chosen tokens dealt out among them anew.

    The permutation is drawn for the number of chosen tokens: the same for all rows with so many.

    Attributes:
        positions: Which tokens. None: all.
        seed: Of the permutation.
        layers, as_query, as_key: As of `PositionMap`.
    """

    positions: Numbers | None = None
    seed: int = 0
    layers: Numbers | None = None
    as_query: bool = True
    as_key: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole("seed", self.seed, 0)

    def moved(self, places: np.ndarray) -> np.ndarray:
        """Those of the chosen ones in another order."""
        new, chosen = places.copy(), np.array(self.chosen(places))
        new[chosen] = places[np.random.default_rng(self.seed).permutation(chosen)]
        return new

    def what(self) -> str:
        """Which, and the seed."""
        return f"{self.which()} shuffled, seed {self.seed}"


@dataclass(frozen=True, eq=False)
class FreezePositions(_OfTokens, kind="freeze-positions"):
    """Tokens treated as if all stood at one position.

    Attributes:
        at: Which, from 0.
        positions: Which tokens. None: all.
        layers, as_query, as_key: As of `PositionMap`.
    """

    at: int = 0
    positions: Numbers | None = None
    layers: Numbers | None = None
    as_query: bool = True
    as_key: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole("at", self.at, 0)

    def moved(self, places: np.ndarray) -> np.ndarray:
        """All chosen ones at one."""
        new = places.copy()
        new[self.chosen(places)] = self.at
        return new

    def what(self) -> str:
        """Which, and where they are frozen."""
        return f"{self.which()} all treated as {self.at}"


@dataclass(frozen=True, eq=False)
class SwapPositions(PositionMap, kind="swap-positions"):
    """Tokens that take each other's positions, pair by pair.

    Attributes:
        first, second: Which tokens: the i-th of the one with the i-th of the other.
        layers, as_query, as_key: As of `PositionMap`.
    """

    first: Numbers
    second: Numbers
    layers: Numbers | None = None
    as_query: bool = True
    as_key: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("first", "second"):
            found = whole_numbers(name, getattr(self, name))
            require(found is not None, f"{name} must be one or several whole numbers")
            self.put(name, found)
        a, b = self.pairs
        require(
            len(a) == len(b),
            f"first and second must be as many. Received {len(a)} and {len(b)}",
        )

    @property
    def pairs(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """`first` and `second`, which are tuples once the intervention is made."""
        assert isinstance(self.first, tuple) and isinstance(self.second, tuple)
        return self.first, self.second

    def moved(self, places: np.ndarray) -> np.ndarray:
        """Each of a pair where the other was.

        Raises:
            InputError: for a position in two pairs.
        """
        n, new = len(places), places.copy()
        a, b = self.pairs
        first, second = entries_within("first", a, n), entries_within("second", b, n)
        together = [*first, *second]
        require(
            len(set(together)) == len(together),
            f"a token is swapped once. Received {first} and {second}",
        )
        new[together] = places[[*second, *first]]
        return new

    def what(self) -> str:
        """Which pairs."""
        return f"positions {listed(self.pairs[0])} swapped with {listed(self.pairs[1])}"


@dataclass(frozen=True, eq=False)
class ZeroPositions(_OfTokens, kind="zero-positions"):
    """Tokens without position: what the encoding gives them is zero.

    An embedding of zeros; an angle of 0, which is that of position 0 (what YaRN multiplies queries
    and keys by stays); no bias on the scores of any pair that the token is one of.

    Attributes:
        positions: Which tokens. None: all.
        layers, as_query, as_key: As of `PositionMap`.
    """

    positions: Numbers | None = None
    layers: Numbers | None = None
    as_query: bool = True
    as_key: bool = True

    def moved(self, places: np.ndarray) -> np.ndarray:
        """The chosen ones nowhere."""
        new = places.copy()
        new[self.chosen(places)] = NOWHERE
        return new

    def what(self) -> str:
        """Which."""
        return f"{self.which()} without positional part"
