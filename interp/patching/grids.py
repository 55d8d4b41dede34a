"""Grids of places to patch: layers, positions, heads and sources of one kind of hook."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Int
from torch import Tensor

from interp.errors import InputError, require
from interp.names import get_act_name
from interp.patching.axes import HookAxes, axes_of

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Numbers = int | Sequence[int] | Int[Tensor, "entry"]
"""Whole numbers; a single one is a list of one."""
Choice = Literal["each", "all"] | Numbers
"""`each` entry of an axis by itself, `all` of them at once, or these, each by itself."""

_ARGUMENTS = {"pos": "positions", "head": "heads", "src_pos": "sources"}  # in the grid's order


@dataclass(frozen=True)
class Sites:
    """Places to patch, each by itself: the product of its axes.

    Attributes:
        hooks: Hook names, one for each layer (or a single one).
        layers: Their layers, the grid's first axis; None: a single hook, and no such axis.
        axes: What the tensors at these hooks look like.
        chosen: Axis name → what is taken of it: `each`, `all` or a tuple.
    """

    hooks: tuple[str, ...]
    layers: tuple[int, ...] | None
    axes: HookAxes
    chosen: dict[str, Literal["each", "all"] | tuple[int, ...]]

    def grid(self, n_pos: int, n_source: int) -> Grid:
        """The places in texts of this length (and, of an encoder–decoder, source's length).

        Raises:
            InputError: for a position or head that is not there.
        """
        own = n_source if self.axes.of_source else n_pos
        lengths = {
            "pos": own,
            "head": self.axes.n_heads,
            "src_pos": n_source if self.axes.reads_source else n_pos,
        }
        names: list[str] = []
        labels: list[tuple[int, ...]] = []
        if self.layers is not None:
            names, labels = ["layer"], [self.layers]
        for name in _ARGUMENTS:
            chosen, length = self.chosen[name], lengths[name]
            if name in self.axes.names and chosen != "all":
                entries = range(length) if chosen == "each" else chosen
                names.append(name)
                labels.append(entries_within(_ARGUMENTS[name], entries, length))
        shape = tuple(map(len, labels))
        n = math.prod(shape)
        places = np.indices(shape).reshape(len(shape), n)
        at = dict(zip(names, places, strict=True))
        hook_of = at.pop("layer", np.zeros(n, dtype=np.int64))
        tables = {
            name: np.array(entries, dtype=np.int64)
            for name, entries in zip(names, labels, strict=True)
        }
        coordinates = {name: tables[name][place] for name, place in at.items()}
        return Grid(tuple(names), tuple(labels), hook_of, coordinates)


@dataclass(frozen=True)
class Grid:
    """The places of `Sites` in texts of one length.

    Attributes:
        axis_names: Of the grid.
        labels: For each axis, the layers, positions or heads along it.
        hook_of: `[site]`: which hook.
        coordinates: Axis → `[site]`: which entry.
    """

    axis_names: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    hook_of: np.ndarray
    coordinates: dict[str, np.ndarray]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        return tuple(map(len, self.labels))


def sites(
    model: HookedTransformer,
    name: str,
    layers: Numbers | None = None,
    positions: Choice = "each",
    heads: Choice = "each",
    sources: Choice = "all",
) -> Sites:
    """A grid of places to patch, with those of the axes `layer`, `pos`, `head`, `src_pos` it has.

    Args:
        model: The model.
        name: A hook in every layer: by its short name (`resid_pre`, `z`, `pattern`) or by the name
            it has inside a block (`mlp.hook_post`, `ln1.hook_scale`); in an encoder's layers with
            `encoder.` before it. Or a single hook's full name, which gives a grid without layers.
        layers: Which layers; negative numbers count from the end, here and below. None: all.
        positions: Destinations in scores and patterns, positions elsewhere.
        heads: Of a hook with heads (key/value heads, where it has those).
        sources: Source positions in scores and patterns.

    Raises:
        InputError: for a name that fits no hook, and a choice for an axis that the hook lacks.
    """
    hooks, numbers = _hooks(model, name, layers)
    axes = axes_of(model, hooks[0]) if hooks else HookAxes(("pos",))
    usual = {"pos": "each", "head": "each", "src_pos": "all"}
    chosen: dict[str, Literal["each", "all"] | tuple[int, ...]] = {}
    for axis, choice in zip(usual, (positions, heads, sources), strict=True):
        argument = _ARGUMENTS[axis]
        if isinstance(choice, str) and choice in ("each", "all"):
            chosen[axis] = choice
        else:
            chosen[axis] = _whole_numbers(choice, f"{argument} must be 'each', 'all' or")
        require(
            axis in axes.names or chosen[axis] in ("all", usual[axis]),
            f"{argument} cannot be chosen: {name} has no axis {axis}. Received {choice!r}",
        )
    return Sites(hooks, numbers, axes, chosen)


def _whole_numbers(given: object, rule: str) -> tuple[int, ...]:
    """One or several whole numbers, also of numpy or torch."""
    entries = given.tolist() if isinstance(given, Tensor | np.ndarray) else given
    entries = entries if isinstance(entries, Sequence | range) else [entries]
    try:
        if any(isinstance(i, bool | np.bool_) for i in entries):
            raise TypeError
        return tuple(map(operator.index, entries))
    except TypeError:
        raise InputError(
            f"{rule} a whole number or a sequence of them. Received {given!r}."
        ) from None


def _hooks(
    model: HookedTransformer, name: str, layers: Numbers | None
) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """The hooks of a name, and their layers."""
    require(isinstance(name, str), f"a hook name must be a string. Received {name!r}")
    cfg, known = model.cfg, model.hook_dict
    encodes = name.startswith("encoder.")
    prefix, n_layers = "", cfg.n_layers
    short = name
    if cfg.architecture == "encoder-decoder":
        prefix = "encoder." if encodes else "decoder."
        n_layers = (cfg.n_encoder_layers or 0) if encodes else cfg.n_layers
        short = name.removeprefix(prefix)
    single = name if name in known else get_act_name(name) if get_act_name(name) in known else None
    if single is None:
        for layer in range(n_layers):
            if any(n in known for n in _in_layer(prefix, short, layer)):
                break
        else:
            model.match_hooks(name)  # says which names are close
            raise InputError(f"{name!r} must be one hook, or one in every layer.")
        numbers: Sequence[int] = range(n_layers)
        if layers is not None:
            several = _whole_numbers(layers, "layers must be None,")
            numbers = entries_within("layers", several, n_layers)
        found = []
        for layer in numbers:
            names = [n for n in _in_layer(prefix, short, layer) if n in known]
            require(bool(names), f"layer {layer} has no hook {name!r}")
            found.append(names[0])
        return tuple(found), tuple(numbers)
    require(layers is None, f"{name} is a single hook and has no layers. Received {layers}")
    return (single,), None


def _in_layer(prefix: str, short: str, layer: int) -> list[str]:
    """What a name may stand for in one layer."""
    return [
        f"{prefix}blocks.{layer}.{short}",
        f"{prefix}{get_act_name(short, layer)}",
    ]


def entries_within(name: str, entries: Iterable[int], length: int) -> tuple[int, ...]:
    """The entries of an axis that is this long; negative ones count from its end.

    Raises:
        InputError: for one that is not there.
    """
    entries = tuple(entries)
    for i in entries:
        require(-length <= i < length, f"{name} must lie in -{length} … {length - 1}. Received {i}")
    return tuple(i % length for i in entries)
