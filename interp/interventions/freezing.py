"""Interventions that hold attention patterns or norms as they are in another run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from interp.errors import InputError, require
from interp.interventions.base import Binding, Edit, Intervention, Needs, as_reference
from interp.interventions.parts import listed, whole_numbers
from interp.interventions.places import BoundPlace, Numbers, Place, bound
from interp.interventions.reference import Recorded, Reference, TokenRows

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


class _Freeze(Intervention):
    """Activations of a reference in the place of a run's own."""

    reference: Reference | TokenRows | None

    def __post_init__(self) -> None:
        if self.reference is not None:
            self.put("reference", as_reference(self.reference, "reference"))

    @property
    def source(self) -> Reference | None:
        """`reference`, which is one (or None) once the intervention is made."""
        assert self.reference is None or isinstance(self.reference, Reference)
        return self.reference

    def held(self, model: HookedTransformer) -> Place:
        """What is held."""
        raise NotImplementedError

    def places(self, to: Binding) -> list[BoundPlace]:
        """What is held, hook by hook."""
        return bound(to.model, self.held(to.model), to.layout)

    def hooks(self, model: HookedTransformer) -> tuple[str, ...]:
        """Full names of the hooks that it changes."""
        return self.held(model).hooks(model)

    def needs(self, model: HookedTransformer) -> Needs:
        """Its hooks, of its reference or of the run itself."""
        return [(self.source, self.hooks(model))]

    def bind(self, to: Binding) -> list[Edit]:
        """One edit at each of the hooks."""
        recorded = to.of(self.source)
        return [self._edit(at, recorded) for at in self.places(to)]

    def _edit(self, at: BoundPlace, recorded: Recorded) -> Edit:
        found = recorded.activations[at.hook]

        def edit(x: Tensor, hook: object) -> Tensor:
            return at.write(x, at.aligned(found, recorded, x))

        return Edit(at.hook, edit)

    def _from(self) -> str:
        source = self.source
        return "the unedited run of the same input" if source is None else source.describe()


@dataclass(frozen=True, eq=False)
class FreezePatterns(_Freeze, kind="freeze-patterns"):
    """Attention patterns held at those of a reference, so that edits reach values alone.

    Attributes:
        layers: Which; negative numbers count from the end. None: all.
        heads: Which query heads. None: all.
        part: Which attention: `attn`, `cross_attn`; of an encoder–decoder's encoder `encoder.attn`.
        reference: The run that they are of: one prompt, or one for each row. None: the unedited run
            of the same input, which `hooks_for` is then given.
    """

    layers: Numbers | None = None
    heads: Numbers | None = None
    part: str = "attn"
    reference: Reference | TokenRows | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.put("layers", whole_numbers("layers", self.layers))
        self.put("heads", whole_numbers("heads", self.heads))

    def held(self, model: HookedTransformer) -> Place:
        """The patterns."""
        return Place(attention_hook(self.part, "pattern"), layers=self.layers, heads=self.heads)

    def describe(self) -> str:
        """Whose patterns are held at what."""
        place = Place(f"{self.part}.hook_pattern", layers=self.layers, heads=self.heads)
        return f"{place.describe()} held at {self._from()}"


@dataclass(frozen=True, eq=False)
class FreezeNorms(_Freeze, kind="freeze-norms"):
    """Scales of norms held at those of a reference, so that norms are linear.

    Attributes:
        layers: Norms in these layers. None: everywhere, those outside of layers too.
        norms: Which, by the name that they have (`ln1`, `ln2`, `ln_final`, `q_norm`). None: all.
        reference: The run that they are of: one prompt, or one for each row. None: the unedited run
            of the same input, which `hooks_for` is then given.
    """

    layers: Numbers | None = None
    norms: str | Sequence[str] | None = None
    reference: Reference | TokenRows | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.put("layers", whole_numbers("layers", self.layers))
        if self.norms is not None:
            names = (self.norms,) if isinstance(self.norms, str) else tuple(self.norms)
            require(
                bool(names) and all(isinstance(name, str) for name in names),
                f"norms must be names. Received {self.norms!r}",
            )
            self.put("norms", names)

    def held(self, model: HookedTransformer) -> Place:
        """The scales of all norms.

        Raises:
            InputError: for a model without norms.
        """
        if not any(name.endswith("hook_scale") for name in model.hook_dict):
            raise InputError("norms cannot be frozen in a model without any.")
        return Place("*hook_scale", layers=self.layers)

    def hooks(self, model: HookedTransformer) -> tuple[str, ...]:
        """Full names of the scales that it holds.

        Raises:
            InputError: for a norm that the model does not have.
        """
        names = super().hooks(model)
        if self.norms is None:
            return names
        there = {name.split(".")[-2] for name in names}
        for norm in self.norms:
            require(
                norm in there,
                f"norms must be some of {', '.join(sorted(there))}. Received {norm!r}",
            )
        return tuple(name for name in names if name.split(".")[-2] in self.norms)

    def places(self, to: Binding) -> list[BoundPlace]:
        """The scales of these norms."""
        chosen = set(self.hooks(to.model))
        return [at for at in super().places(to) if at.hook in chosen]

    def describe(self) -> str:
        """Which norms are held at what."""
        of = "all norms" if self.norms is None else f"norms {listed(self.norms)}"
        where = "" if self.layers is None else f" of layers {listed(self.layers)}"  # type: ignore[arg-type]
        return f"scales of {of}{where} (all positions) held at {self._from()}"


def attention_hook(part: str, kind: str) -> str:
    """`cross_attn`, `pattern` → `cross_attn.hook_pattern`; `encoder.` may stand before it.

    Raises:
        InputError: for another part.
    """
    parts = ("attn", "cross_attn", "encoder.attn", "decoder.attn", "decoder.cross_attn")
    require(part in parts, f"part must be one of {', '.join(parts)}. Received {part!r}")
    return f"{part}.hook_{kind}"
