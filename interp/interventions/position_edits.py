"""What moved positions do at the hooks where an encoding acts: to vectors, biases and rotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from interp.errors import InputError, require
from interp.hooks import HookPoint
from interp.interventions.base import Binding
from interp.interventions.reference import Sequences
from interp.patching.axes import as_index
from interp.positions.learned import LearnedPositions
from interp.positions.rotary import RotaryPositions
from interp.precision import wide

if TYPE_CHECKING:
    from interp.interventions.positions import PositionMap

NOWHERE = np.iinfo(np.int64).min
"""The position of a token that has been deprived of it."""


@dataclass(frozen=True)
class Step:
    """Positions before and after one map, in runs of one layout."""

    sequences: Sequences | None
    before: tuple[PositionMap, ...]
    after: tuple[PositionMap, ...]

    def both(self, batch: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """`[row, pos]`, with one row where all are alike; padding is never moved.

        Raises:
            InputError: for a run of another size than the one that was bound.
        """
        if self.sequences is None:
            places = np.arange(length)
            return _through(self.before, places)[None], _through(self.after, places)[None]
        real = self.sequences.real
        require(
            real.shape == (batch, length),
            f"these hooks were bound to an input of {list(real.shape)} tokens. The run has "
            f"{[batch, length]}",
        )
        found = []
        for moves in (self.before, self.after):
            places = self.sequences.places.astype(np.int64)
            for row, is_real in enumerate(real):
                places[row, is_real] = _through(moves, np.arange(int(is_real.sum())))
            found.append(places)
        return found[0], found[1]

    def lengths(self, length: int) -> np.ndarray:
        """Number of real tokens of every row, or of all."""
        return np.array([length]) if self.sequences is None else self.sequences.lengths


def _through(moves: tuple[PositionMap, ...], places: np.ndarray) -> np.ndarray:
    for move in moves:
        places = move.moved(places)
    return places


class PositionEdit:
    """What is done at a hook; what it needs of positions is worked out once for each shape."""

    def __init__(self, to: Binding) -> None:
        self.model, self.binding = to.model, to
        self.encoding = to.model.main_stack.pos_embed
        self._held: dict[Any, Any] = {}

    def __call__(
        self, x: Float[Tensor, "batch *axes"], hook: HookPoint
    ) -> Float[Tensor, "batch *axes"]:
        """The hook function."""
        # Each takes out what its own binding knows to be there.
        for other in hook.fwd_hooks:
            fn = other.fn
            if isinstance(fn, PositionEdit) and fn.binding is not self.binding:
                raise InputError(
                    "moves of positions must be given to hooks_for together, to be made one after "
                    f"another. {hook.name} has some of two calls."
                )
        return self.edit(x)

    def edit(self, x: Float[Tensor, "batch *axes"]) -> Float[Tensor, "batch *axes"]:
        """The activation with the moves made."""
        raise NotImplementedError

    def held(
        self, x: Float[Tensor, "batch *axes"], length: int, step: Step, of: str = ""
    ) -> tuple[Shaped[Tensor, "batch_or_1 length"], ...]:
        """Positions (0 for none) and whether there is one, before and after, on `x`'s device.

        Four tensors `[batch or 1, length]`: whole numbers and booleans by turns.
        """
        key = (of, x.shape[0], length, x.device)
        if key not in self._held:
            found: list[Tensor] = []
            with torch.inference_mode(False):
                for places in step.both(x.shape[0], length):
                    there = places != NOWHERE
                    self.check(places[there])
                    found += [
                        as_index(np.where(there, places, 0), x.device),
                        as_index(there, x.device).bool(),
                    ]
            self._held[key] = tuple(found)
        kept: tuple[Tensor, ...] = self._held[key]
        return kept

    def check(self, places: np.ndarray) -> None:
        """Refuse positions that the encoding does not have."""


class EmbeddingEdit(PositionEdit):
    """Another vector in the place of a position's."""

    def __init__(self, to: Binding, step: Step) -> None:
        super().__init__(to)
        self.step = step

    def check(self, places: np.ndarray) -> None:
        """Vectors begin at position 0, and learned ones end with their table."""
        low, high = (int(places.min()), int(places.max())) if places.size else (0, 0)
        kind = self.model.cfg.positional_embedding_type
        end = f" … {self.encoding.n_ctx - 1}" if isinstance(self.encoding, LearnedPositions) else ""
        require(
            low >= 0 and not (end and high >= self.encoding.n_ctx),
            f"a token can be treated as one of positions 0{end or ' and up'} ({kind}). "
            f"Received {low if low < 0 else high}",
        )

    def edit(self, x: Float[Tensor, "batch *axes"]) -> Float[Tensor, "batch *axes"]:
        """The sum with the vectors of other positions in the place of theirs."""
        before, has, after, gets = self.held(x, x.shape[1], self.step)
        # What went in comes out of the sum exactly, and other edits of this hook stay.
        old, new = self._vectors(before, has, x), self._vectors(after, gets, x)
        changes = ((before != after) | (has != gets)).unsqueeze(-1)
        return torch.where(changes, (x - old) + new, x)

    def _vectors(self, places: Tensor, there: Tensor, x: Tensor) -> Tensor:
        # Checked above on the CPU: no position is past any table that ends.
        learned = isinstance(self.encoding, LearnedPositions)
        length = self.encoding.n_ctx if learned else self._length(x)
        found: Tensor = self.encoding.embedding(places, length).to(x.dtype)
        return found * there.unsqueeze(-1)

    def _length(self, x: Tensor) -> int:
        """Of texts that have all of these positions."""
        key = ("length", x.shape[:2])
        if key not in self._held:
            both = self.step.both(x.shape[0], x.shape[1])
            self._held[key] = max(x.shape[1], *(int(places.max()) + 1 for places in both))
        found: int = self._held[key]
        return found


class BiasEdit(PositionEdit):
    """Other biases in the place of those of pairs of positions."""

    def __init__(self, to: Binding, queries: Step, keys: Step) -> None:
        super().__init__(to)
        self.queries, self.keys = queries, keys

    def edit(self, x: Float[Tensor, "batch *axes"]) -> Float[Tensor, "batch *axes"]:
        """The biases with those of other pairs in the place of theirs."""
        n_queries, n_keys = x.shape[2:]
        require(
            n_queries == n_keys,
            "biases of moved positions need runs of whole texts, without earlier keys in a cache. "
            f"Received {n_queries} queries and {n_keys} keys",
        )
        q_before, q_has, q_after, q_gets = self.held(x, n_queries, self.queries, "queries")
        k_before, k_has, k_after, k_gets = self.held(x, n_keys, self.keys, "keys")
        old = self._biases(q_before, k_before, q_has, k_has, x)
        new = self._biases(q_after, k_after, q_gets, k_gets, x)
        return torch.where(old == new, x, (x - old) + new)

    def _biases(self, queries: Tensor, keys: Tensor, q: Tensor, k: Tensor, x: Tensor) -> Tensor:
        found: Tensor = self.encoding.score_bias(queries, keys, x.dtype)
        return found * (q[:, None, :, None] & k[:, None, None, :])


class TurnEdit(PositionEdit):
    """Queries or keys turned further, by the angle between two positions."""

    def __init__(self, to: Binding, step: Step, layer: int) -> None:
        super().__init__(to)
        self.step = step
        self.local = bool(to.model.blocks[layer].local)

    def edit(self, x: Float[Tensor, "batch *axes"]) -> Float[Tensor, "batch *axes"]:
        """Queries or keys turned from one position to the other."""
        encoding = self.encoding
        assert isinstance(encoding, RotaryPositions)
        before, _, after, _ = self.held(x, x.shape[1], self.step)
        # The angle in fp64, from the frequencies that the model has: no step is rounded twice.
        angles = (after - before).unsqueeze(-1).double() * self._frequencies(x)
        straight = wide(x)
        return encoding.turn(angles, straight.dtype)(straight).to(x.dtype)

    def _frequencies(self, x: Tensor) -> Tensor:
        """`[row or 1, 1, dim]`."""
        encoding = self.encoding
        assert isinstance(encoding, RotaryPositions)
        key = ("frequencies", x.shape[1], x.device, x.dtype)
        if key not in self._held:
            width = torch.float64 if x.dtype == torch.float64 else torch.float32
            lengths = self.step.lengths(x.shape[1]) if encoding.depends_on_length else [x.shape[1]]
            with torch.inference_mode(False):
                of = {
                    n: encoding.frequencies(x.device, width, n, self.local)
                    for n in set(map(int, lengths))
                }
                self._held[key] = torch.stack([of[int(n)] for n in lengths])[:, None].double()
        found: Tensor = self._held[key]
        return found
