"""From interventions to hooks on a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Int
from torch import Tensor

from interp.errors import InputError, require
from interp.hooks import HookFunction
from interp.interventions.base import Binding, Intervention
from interp.interventions.parts import Part
from interp.interventions.places import Layout
from interp.interventions.reference import Recorded, Reference, Sequences, record
from interp.patching.base import BaseRun, inside_a_run

if TYPE_CHECKING:
    from interp.tokenization.text import TextInput
    from interp.transformer import HookedTransformer


@dataclass(frozen=True, eq=False)
class Interventions(Part, kind="interventions"):
    """Several interventions, made one after another.

    Attributes:
        items: The interventions. Where several touch one hook, each sees what those before it made.
    """

    items: tuple[Intervention, ...] | Sequence[Intervention]

    def __post_init__(self) -> None:
        several = isinstance(self.items, Iterable) and not isinstance(self.items, str)
        self.put("items", tuple(self.items) if several else (self.items,))
        for item in self.items:
            if not isinstance(item, Intervention):
                raise InputError(f"items must be interventions. Received {item!r:.80}.")

    def __iter__(self) -> Iterator[Intervention]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __add__(self, other: Interventions | Intervention) -> Interventions:
        return Interventions((*self.items, *_several(other)))

    def describe(self) -> str:
        """A line for each."""
        return "\n".join(item.describe() for item in self.items)

    def _repr_html_(self) -> str:
        from interp.display.interventions import interventions_html

        return interventions_html(self)


Given = Intervention | Interventions | Iterable[Intervention]
"""One or several interventions."""


def hooks_for(
    model: HookedTransformer,
    interventions: Given,
    input: TextInput | Int[Tensor, "batch key_pos"] | None = None,
    attention_mask: Int[Tensor, "batch key_pos"] | None = None,
    decoder_input: TextInput | Int[Tensor, "batch pos"] | None = None,
    decoder_attention_mask: Int[Tensor, "batch pos"] | None = None,
    token_type_ids: Int[Tensor, "batch key_pos"] | None = None,
) -> list[tuple[str, HookFunction]]:
    """Hooks that make these interventions, for `model.hooks(fwd_hooks=…)` and `run_with_hooks`.

    References are run once, now, recording the hooks that are needed and no others, in the model as
    it is, with the hooks that are on it. Interventions on one hook are made in their order.

    A run that goes on from a key/value cache counts positions from 0 among its own tokens: what
    depends on positions belongs in whole runs.

    Args:
        model: The model.
        interventions: One or several.
        input: What the hooks will be used on, where that is padded or something is to be held as it
            is without them: the hooks are then for this input alone. Without it positions are
            those of the tensors, and the hooks are for every input.
        attention_mask: As for `forward`, and so the following.
        decoder_input: Of an encoder–decoder.
        decoder_attention_mask: `attention_mask` for it.
        token_type_ids: Which segment each token is of.

    Raises:
        InputError: for a place that is not in the model, a reference that does not fit, and an
            intervention that needs the input where there is none. Positions beyond a run's and a
            reference shorter than it are found when the hooks are called.
    """
    several = _several(interventions)
    run = None
    if input is not None:
        run = BaseRun(
            model, input, attention_mask, decoder_input, decoder_attention_mask, token_type_ids
        )
    else:
        for name, value in (
            ("attention_mask", attention_mask),
            ("decoder_input", decoder_input),
            ("decoder_attention_mask", decoder_attention_mask),
            ("token_type_ids", token_type_ids),
        ):
            require(value is None, f"{name} belongs to an input. Received none")
    wanted: dict[Reference | None, dict[str, None]] = {}
    for intervention in several:
        for reference, hooks in intervention.needs(model):
            require(
                reference is not None or run is not None,
                f"{intervention.kind!r} holds what the unedited run has: give hooks_for that run's "
                "input (or the intervention a reference). Received none",
            )
            wanted.setdefault(reference, {}).update(dict.fromkeys(hooks))
    binding = Binding(model, _layout(run))
    with inside_a_run(model):
        for reference, names in wanted.items():
            if reference is None:
                assert run is not None
                found = record(model, list(names), run.inputs)
                binding.recorded[None] = Recorded(found, None, None, as_run=True)
            else:
                binding.recorded[reference] = reference.record(model, list(names))
    edits = [edit for intervention in several for edit in intervention.bind(binding)]
    ordered = [e for e in edits if not e.sees_all] + [e for e in edits if e.sees_all]
    return [(edit.hook, edit.fn) for edit in ordered]


@contextmanager
def applied(
    model: HookedTransformer, interventions: Given, input: Any = None, **inputs: Any
) -> Iterator[HookedTransformer]:
    """The model with these interventions for the length of a `with` block; arguments as above.

    Raises:
        InputError: as `hooks_for`.
    """
    with model.hooks(fwd_hooks=hooks_for(model, interventions, input, **inputs)):
        yield model


def _several(given: Given) -> tuple[Intervention, ...]:
    if isinstance(given, Intervention):
        return (given,)
    items = (given if isinstance(given, Interventions) else Interventions(given)).items  # type: ignore[arg-type]
    assert isinstance(items, tuple)
    return items


def _layout(run: BaseRun | None) -> Layout:
    if run is None:
        return Layout()
    source = run.inputs["attention_mask"]
    if not run.crosses:
        return Layout(Sequences.of(source))
    target = run.inputs["decoder_attention_mask"]
    return Layout(Sequences.of(target), Sequences.of(source))
