"""`generic_activation_patch` of TransformerLens: any setter, over any table of indices.

Of what TransformerLens 4.3 has, the keywords `reduce` and `baseline` and mappings of several
metrics are left out. `patching.sweep` gives the value of every prompt, and of the run without a
patch.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.cache import ActivationCache
from interp.errors import require
from interp.names import get_act_name
from interp.patching.axes import HookAxes, axes_of
from interp.patching.base import BaseRun
from interp.patching.grids import entries_within
from interp.patching.metrics import Metric
from interp.patching.read_out import LogitsFunction
from interp.patching.setters import AXES_OF, PatchSetter
from interp.patching.sweeps import values_of
from interp.patching.worlds import GridWorlds, SetterWorlds, Worlds

if TYPE_CHECKING:
    import pandas as pd

    from interp.transformer import HookedTransformer


_OTHER_NAMES = {"head_index": "head", "dest_pos": "pos"}


def generic_activation_patch(
    model: HookedTransformer,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Mapping[str, Float[Tensor, "batch_or_1 ..."]],
    patching_metric: Metric | LogitsFunction,
    patch_setter: PatchSetter,
    activation_name: str,
    index_axis_names: Sequence[str] | None = None,
    index_df: pd.DataFrame | None = None,
    return_index_df: bool = False,
) -> Float[Tensor, "*index"] | tuple[Float[Tensor, "*index"], pd.DataFrame]:
    """Patch the corrupted run at every index by itself, and take a metric of each run.

    As in TransformerLens; it runs what `sweep` runs, not a whole model for each index.

    Args:
        model: The model.
        corrupted_tokens: What is run.
        clean_cache: Activations of the clean run.
        patching_metric: A `Metric` (its mean over prompts is taken), or a function of full logits
            that gives one number.
        patch_setter: Called with a copy of the corrupted activation, an index and the clean
            activation; returns the patched one.
        activation_name: Short name of the activation; the first number of an index is the layer.
        index_axis_names: Axes to go through wholly: `layer`, `pos`, `head` or `head_index`,
            `dest_pos`, `src_pos`. For a setter of `patching` they are those of its index.
        index_df: Instead: a table with an index in each row. A negative layer counts from the last.
        return_index_df: Return the table too.

    Returns:
        The metric, in at least fp32, with one axis for each of `index_axis_names`, or one for the
        rows of `index_df`.

    Raises:
        InputError: unless either `index_axis_names` or `index_df` is given, for names that are not
            the setter's, a table of anything but whole numbers, and as `sweep`.
    """
    require(
        (index_axis_names is None) != (index_df is None),
        "either index_axis_names or index_df must be given. "
        f"Received {index_axis_names!r} and {'no' if index_df is None else 'a'} table",
    )
    with torch.no_grad():
        run = BaseRun(model, corrupted_tokens)
        if index_df is not None:
            indices = _indices(index_df)
            shape: tuple[int, ...] = (len(indices),)
        else:
            assert index_axis_names is not None
            _check_names(patch_setter, index_axis_names)
            shape = _shape(run, activation_name, index_axis_names)
            indices = np.indices(shape).reshape(len(shape), -1).T
        worlds = _worlds(run, clean_cache, patch_setter, activation_name, indices)
        values, _ = values_of(run, worlds, patching_metric)
    if isinstance(patching_metric, Metric):
        values = values.mean(-1)
    require(
        values.ndim == 1,
        f"patching_metric must give one number. Received {tuple(values.shape[1:])}",
    )
    values = values.view(shape)
    if not return_index_df:
        return values
    if index_df is None:
        import pandas as pd

        assert index_axis_names is not None
        every = list(itertools.product(*map(range, shape)))
        index_df = pd.DataFrame(every, columns=list(index_axis_names))
    return values, index_df


def _indices(index_df: pd.DataFrame) -> np.ndarray:
    """`[world, number]`."""
    found = index_df.to_numpy()
    require(
        index_df.shape[1] > 0 and (found.dtype.kind in "iu" or len(found) == 0),
        "index_df must hold whole numbers, the first of them the layer. Received "
        + (", ".join(f"{name}: {kind}" for name, kind in index_df.dtypes.items()) or "no columns"),
    )
    return found.astype(np.int64)


def _check_names(setter: PatchSetter, names: Sequence[str]) -> None:
    """Raise `InputError` if these are not the axes of a known setter's index."""
    if setter in AXES_OF:
        wanted = ["layer", *AXES_OF[setter][1]]
        require(
            [_OTHER_NAMES.get(name, name) for name in names] == wanted,
            f"this patch setter takes an index of {', '.join(wanted)}. Received {tuple(names)}",
        )


def _shape(run: BaseRun, name: str, axis_names: Sequence[str]) -> tuple[int, ...]:
    """How long each of these axes is."""
    axes = _axes(run, name, 0)
    n_heads = axes.n_heads or run.model.cfg.n_heads
    lengths = {
        "layer": run.n_layers,
        **dict.fromkeys(("pos", "dest_pos", "src_pos"), run.n_pos),
        **dict.fromkeys(("head", "head_index"), n_heads),
    }
    for axis in axis_names:
        require(
            axis in lengths,
            f"index_axis_names must be of {', '.join(lengths)}. Received {axis!r}",
        )
    return tuple(lengths[axis] for axis in axis_names)


def _hook(run: BaseRun, name: str, layer: int) -> str:
    hook = run.prefix + get_act_name(name, layer)
    if hook not in run.model.hook_dict:
        run.model.match_hooks(hook)  # says which names are close
    return hook


def _axes(run: BaseRun, name: str, layer: int) -> HookAxes:
    return axes_of(run.model, _hook(run, name, layer))


def _worlds(
    run: BaseRun,
    clean: Mapping[str, Tensor],
    setter: PatchSetter,
    name: str,
    indices: np.ndarray,
) -> Worlds:
    require(
        isinstance(clean, Mapping | ActivationCache),
        f"clean_cache must be a cache or dictionary of activations. Received {clean!r:.80}",
    )
    layers = entries_within("layer", indices[:, 0].tolist(), run.n_layers)
    numbers, hook_of = np.unique(np.array(layers, dtype=np.int64), return_inverse=True)
    hooks = [_hook(run, name, int(layer)) for layer in numbers]
    axes = _axes(run, name, int(numbers[0]) if len(numbers) else 0)
    for hook in hooks:
        require(hook in clean, f"clean_cache must hold {hook}. It does not")
    sources = [clean[hook] for hook in hooks]
    takes, of_index = AXES_OF.get(setter, ((), ()))
    if takes and axes.names[: len(takes)] == takes:
        require(
            indices.shape[1] == 1 + len(of_index),
            f"this patch setter takes an index of layer, {', '.join(of_index)}. "
            f"Received {indices.shape[1]} numbers",
        )
        coordinates = {}
        for axis, column in zip(of_index, indices[:, 1:].T, strict=True):
            length = axes.n_heads if axis == "head" else run.n_pos
            coordinates[axis] = np.array(entries_within(axis, column.tolist(), length), np.int64)
        return GridWorlds(hooks, axes, hook_of, coordinates, sources)
    return SetterWorlds(hooks, axes, hook_of, indices, setter, sources)
