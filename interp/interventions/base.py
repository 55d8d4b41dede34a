"""What every intervention is: a value that makes hooks for a model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from interp.errors import InputError, require
from interp.hooks import HookFunction
from interp.interventions.parts import Part
from interp.interventions.places import BoundPlace, Layout, Place, bound
from interp.interventions.reference import Recorded, Reference

if TYPE_CHECKING:
    from interp.interventions.positions import PositionMap
    from interp.transformer import HookedTransformer

Needs = list[tuple[Reference | None, tuple[str, ...]]]
"""References and the hooks wanted of them; None is the unedited run of the same input."""


@dataclass(frozen=True)
class Edit:
    """One hook that an intervention puts on a model.

    Attributes:
        hook: The full name.
        fn: The hook function.
        sees_all: It only looks, and at what all other edits of the same hook have made.
    """

    hook: str
    fn: HookFunction
    sees_all: bool = False


@dataclass
class Binding:
    """What interventions are bound to.

    Attributes:
        model: The model.
        layout: Of the run that is changed.
        recorded: What was recorded of each reference.
        moves: Where an encoding acts → the maps of positions bound there so far, in their order.
    """

    model: HookedTransformer
    layout: Layout
    recorded: dict[Reference | None, Recorded] = field(default_factory=dict)
    moves: dict[str, tuple[PositionMap, ...]] = field(default_factory=dict)

    def of(self, reference: Reference | None) -> Recorded:
        """What was recorded of a reference."""
        return self.recorded[reference]


class Intervention(Part):
    """A change of a run. Frozen, composable, and as JSON the same again."""

    def needs(self, model: HookedTransformer) -> Needs:
        """What has to be recorded before it can be bound.

        Raises:
            InputError: for a place that the model does not have.
        """
        return []

    @abstractmethod
    def bind(self, to: Binding) -> list[Edit]:
        """Its hooks, in the order in which they are to be put on.

        Raises:
            InputError: where it has no meaning in this model.
        """

    @abstractmethod
    def describe(self) -> str:
        """One line: what it does, where, and with which reference."""

    def __str__(self) -> str:
        return self.describe()


def as_place(given: object) -> Place:
    """A place, or the name of a hook as one.

    Raises:
        InputError: for anything else.
    """
    place = Place(given) if isinstance(given, str) else given
    if not isinstance(place, Place):
        raise InputError(f"a place must be a Place or a hook's name. Received {given!r}.")
    return place


def as_reference(given: object, what: str) -> Reference:
    """A reference, or rows of tokens as one.

    Raises:
        InputError: for anything else.
    """
    plain = isinstance(given, Tensor | Sequence) and not isinstance(given, str)
    reference = Reference(given) if plain else given  # type: ignore[arg-type]
    if not isinstance(reference, Reference):
        raise InputError(f"{what} must be a Reference or rows of tokens. Received {given!r:.80}.")
    return reference


class AtPlace(Intervention):
    """An intervention that makes new numbers for the entries at a place, hook by hook.

    Attributes:
        place: What is touched; a hook's name is all of it.
        refused: Ends of hook names where it has no meaning.
    """

    place: Place | str
    refused: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        self.put("place", as_place(self.place))

    @property
    def where(self) -> Place:
        """`place`, which is one once the intervention is made."""
        assert isinstance(self.place, Place)
        return self.place

    def hooks(self, model: HookedTransformer) -> tuple[str, ...]:
        """Full names of the hooks that it changes.

        Raises:
            InputError: for hooks where it has no meaning, and as `Place.hooks`.
        """
        names = self.where.hooks(model)
        for name in names:
            require(
                not name.endswith(self.refused),
                f"{self.kind!r} has no meaning at {name.rsplit('.', 1)[-1]}. Received {name}",
            )
        return names

    @abstractmethod
    def editor(self, at: BoundPlace, to: Binding) -> Any:
        """A function from the activation at one hook to what takes its place."""

    def bind(self, to: Binding) -> list[Edit]:
        """One edit at each of the hooks."""
        self.hooks(to.model)
        edits = []
        for at in bound(to.model, self.where, to.layout):
            edit = self.editor(at, to)
            edits.append(Edit(at.hook, lambda x, hook, edit=edit: edit(x)))
        return edits
