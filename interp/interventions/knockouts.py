"""Interventions that take out a head, an edge, or a link of attention."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interp.errors import InputError, require
from interp.interventions.base import Binding, Edit, Intervention, Needs, as_reference
from interp.interventions.freezing import attention_hook
from interp.interventions.parts import whole_numbers
from interp.interventions.places import Numbers, Place, bound
from interp.interventions.reference import Reference, TokenRows
from interp.interventions.replacements import replacement

if TYPE_CHECKING:
    from interp.circuits.graph import Graph
    from interp.transformer import HookedTransformer


class _Replaced(Intervention):
    """What is taken out is replaced by zero, a mean, another prompt's, or another run's."""

    by: str
    reference: Reference | TokenRows | None
    pooled: bool
    seed: int

    def __post_init__(self) -> None:
        if self.reference is not None:
            self.put("reference", as_reference(self.reference, "reference"))
        self._instead(Place("z"))  # says what does not go together

    def _instead(self, place: Place) -> Any:
        reference = self.reference
        assert reference is None or isinstance(reference, Reference)
        return replacement(self.by, place, reference, self.pooled, self.seed)

    def _by(self) -> str:
        if self.reference is None:
            return "zero"
        assert isinstance(self.reference, Reference)
        how = {
            "mean": "the mean pooled over positions"
            if self.pooled
            else "the mean at each position",
            "resample": f"a resampled prompt's (seed {self.seed})",
            "patch": "another run's",
        }
        return f"{how[self.by]}, {self.reference.describe()}"


@dataclass(frozen=True, eq=False)
class KnockOutHead(_Replaced, kind="knock-out-head"):
    """One head's z replaced, so that the head writes nothing, or what it writes elsewhere.

    Attributes:
        head: `L0H3`: a query head, also where heads share keys and values.
        positions: Destinations. None: all.
        by: `zero`, `mean`, `resample` or `patch`, as the interventions of these names.
        reference: What all but `zero` take it from.
        pooled: As of `Mean`.
        seed: As of `Resample`.
        part: Which attention: `attn`, `cross_attn`; of an encoder–decoder's encoder `encoder.attn`.
    """

    head: str
    positions: Numbers | None = None
    by: str = "zero"
    reference: Reference | TokenRows | None = None
    pooled: bool = False
    seed: int = 0
    part: str = "attn"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.put("positions", whole_numbers("positions", self.positions))
        self.expanded()

    def expanded(self) -> Any:
        """The same as a replacement at a place."""
        layer, head = parse_head(self.head)
        hook = attention_hook(self.part, "z")
        return self._instead(Place(hook, layers=layer, heads=head, positions=self.positions))

    def needs(self, model: HookedTransformer) -> Needs:
        """What the replacement needs."""
        return self.expanded().needs(model)

    def bind(self, to: Binding) -> list[Edit]:
        """The replacement's edit."""
        return self.expanded().bind(to)

    def describe(self) -> str:
        """Which head, where, replaced by what."""
        where = "all positions" if self.positions is None else f"positions {self.positions}"
        return f"head {self.head} of {self.part} knocked out ({where}), replaced by {self._by()}"


@dataclass(frozen=True, eq=False)
class KnockOutEdge(_Replaced, kind="knock-out-edge"):
    """What one sender writes, replaced as one receiver sees it: all others see it as it is.

    The receiver's input changes by what stands instead less what the sender writes in this very
    run, at all positions. For the effects of many edges on a metric: `circuits.patch_edges`.

    Attributes:
        edge: `L0H1->L1H0.k`, `embed->L0MLP`, `L1H0->logits`: labels of `circuits.Graph`.
        by: `zero`, `mean`, `resample` or `patch`, as the interventions of these names.
        reference: What all but `zero` take it from.
        pooled: As of `Mean`.
        seed: As of `Resample`.
    """

    edge: str
    by: str = "zero"
    reference: Reference | TokenRows | None = None
    pooled: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = isinstance(self.edge, str) and self.edge.count("->") == 1
        require(fits, f"an edge is written sender->receiver. Received {self.edge!r}")

    def needs(self, model: HookedTransformer) -> Needs:
        """What the sender writes in the reference."""
        _graph(model).parse(self.edge)
        return self._instead(self._written(model)).needs(model)

    def _written(self, model: HookedTransformer) -> Place:
        """Where what the sender writes is seen."""
        graph = _graph(model)
        node = graph.sender(graph.parse(self.edge)[0])
        # What a head writes is its hook_result, whoever has edited that.
        hook = node.hook.replace("hook_z", "hook_result")
        return Place(hook, heads=node.head)

    def bind(self, to: Binding) -> list[Edit]:
        """One edit of what the receiver reads, and a look at what the sender writes."""
        graph = _graph(to.model)
        receiver = graph.receiver(graph.parse(self.edge)[1])
        place = self._written(to.model)
        at = bound(to.model, place, to.layout)[0]
        instead = self._instead(place).editor(at, to)
        head = None if place.heads is None else place.heads[0]  # type: ignore[index]
        seen: list[Tensor] = []

        def look(x: Tensor, hook: object) -> None:
            seen[:] = [x]

        def edit(x: Tensor, hook: object) -> Tensor:
            if not seen:
                raise InputError(f"{self.edge}: the sender did not run before the receiver.")
            written = seen.pop()
            change = instead(written) - written
            if head is not None:
                change = change[:, :, head]
            if receiver.head is None:
                return x + change
            x = x.clone()  # others may keep the tensor that they saw here
            x[:, :, receiver.head] += change
            return x

        return [Edit(at.hook, look, sees_all=True), Edit(receiver.hook, edit)]

    def describe(self) -> str:
        """Which edge, replaced by what."""
        return f"edge {self.edge} knocked out (all positions), replaced by {self._by()}"


@dataclass(frozen=True, eq=False)
class KnockOutAttention(Intervention, kind="knock-out-attention"):
    """Links from sources to destinations cut, in chosen heads (Geva et al. 2023, §5).

    Attributes:
        sources: Positions that are no longer seen. None: all.
        destinations: Positions that no longer see them. None: all.
        layers: Which layers; negative numbers count from the end. None: all.
        heads: Which query heads. None: all.
        renormalise: The scores become -inf before the softmax, so that the rest of the pattern
            grows to sum to 1 (all of it gone, the destination reads nothing). False: the entries of
            the pattern become 0, and the rest stays as it is.
        part: Which attention: `attn`, `cross_attn`; of an encoder–decoder's encoder `encoder.attn`.
    """

    sources: Numbers | None = None
    destinations: Numbers | None = None
    layers: Numbers | None = None
    heads: Numbers | None = None
    renormalise: bool = True
    part: str = "attn"

    def __post_init__(self) -> None:
        for name in ("sources", "destinations", "layers", "heads"):
            self.put(name, whole_numbers(name, getattr(self, name)))
        require(
            isinstance(self.renormalise, bool),
            f"renormalise must be True or False. Received {self.renormalise!r}",
        )
        attention_hook(self.part, "pattern")

    @property
    def place(self) -> Place:
        """The entries of scores or patterns that it changes."""
        return Place(
            attention_hook(self.part, "attn_scores" if self.renormalise else "pattern"),
            layers=self.layers,
            heads=self.heads,
            positions=self.destinations,
            sources=self.sources,
        )

    def bind(self, to: Binding) -> list[Edit]:
        """One edit in every layer."""
        nothing = -torch.inf if self.renormalise else 0.0
        return [
            Edit(at.hook, lambda x, hook, at=at: at.write(x, nothing))
            for at in bound(to.model, self.place, to.layout)
        ]

    def describe(self) -> str:
        """Which links, and what becomes of the rest."""
        how = "the rest renormalised" if self.renormalise else "the rest of the pattern as it is"
        return f"attention links cut at {self.place.describe()}, {how}"


def parse_head(label: object) -> tuple[int, int]:
    """`L0H3` → layer 0, head 3.

    Raises:
        InputError: for anything else.
    """
    found = re.fullmatch(r"L(\d+)H(\d+)", label) if isinstance(label, str) else None
    if found is None:
        raise InputError(f"a head is written L0H3 (layer 0, head 3). Received {label!r}.")
    return int(found[1]), int(found[2])


def _graph(model: HookedTransformer) -> Graph:
    # Circuits stand above interventions: they are looked up where a label is read.
    from interp.circuits.graph import Graph

    return Graph.of(model)
