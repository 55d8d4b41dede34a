"""Patches of a compiled run: which rows are changed where is part of its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from interp.errors import require
from interp.hooks import HookFunction, HookPoint
from interp.names import get_act_name
from interp.run.recording import position_axis

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_INDICES = ("layer", "pos", "head")


class Patch(NamedTuple):
    """One change in each row of a batch of a compiled model.

    Of `compile(patch=…)`, which sweeps places without tracing again, and as fast as can be. What is
    applied to any run, saved and described in words is `interp.interventions.Patch`.

    Row i has `value[i]` in layer `layer[i]`, at position `pos[i]` and head `head[i]` of the hook
    that was named in `compile(patch=…)`. Negative numbers count from the end. Numbers on a GPU are
    waited for, to be checked; those on the CPU, lists and ints are not.

    Attributes:
        layer: `[batch]`, or one for all rows.
        pos: `[batch]`, or one for all rows (of a pattern: the destination); None: all positions.
        value: What stands there: the hook's tensor without the axes that are indexed:
            `[batch, d_model]` at one position of the residual stream, `[batch, pos, d_head]` at one
            head and all positions.
        head: `[batch]`, or one for all rows (of keys and values: the key/value head); None: all
            heads, or there are none.
    """

    layer: Int[Tensor, "batch"] | int
    pos: Int[Tensor, "batch"] | int | None
    value: Float[Tensor, "batch *axes"]
    head: Int[Tensor, "batch"] | int | None = None


@dataclass
class Extent:
    """What there is to index for a patch, noted while a run is traced.

    Attributes:
        sizes: How many layers, positions and heads, where the patch says which.
        layers: Those that run.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    layers: set[int] = field(default_factory=set)


class PatchSite:
    """The hook that is patched, in every layer of a model's (main) stack.

    Args:
        name: Short, as `get_act_name` takes it with a layer, such as `resid_pre` or `z`, or the
            part of a full name behind `blocks.0.`, such as `attn.hook_z`.

    Raises:
        InputError: if the blocks have no such hook.
    """

    def __init__(self, model: HookedTransformer, name: str) -> None:
        require(isinstance(name, str), f"patch must name a hook. Received {name!r}")
        prefix = "decoder." if model.cfg.architecture == "encoder-decoder" else ""
        require(
            "blocks." not in name,
            "patch takes a hook's name inside a block, such as 'attn.hook_z' or 'z': the layer "
            f"comes with each Patch. Received {name!r}",
        )
        full = name if "hook_" in name else get_act_name(name, 0).removeprefix("blocks.0.")
        self.names = [f"{prefix}blocks.{i}.{full}" for i in range(model.cfg.n_layers)]
        model.match_hooks(self.names)

    def pack(self, patch: Patch, n_rows: int) -> dict[str, Num[Tensor, "row ..."]]:
        """The patch as tensors, where they are.

        Raises:
            InputError: for something else than a patch, or one that does not fit the batch.
        """
        require(isinstance(patch, Patch), f"patch must be a Patch. Received {patch!r}")
        require(patch.layer is not None, "a patch needs a layer")
        value = patch.value
        found = tuple(value.shape) if isinstance(value, Tensor) else value
        require(
            isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == n_rows,
            f"a patch needs a value for each of the {n_rows} rows. Received {found!r}",
        )
        packed = {"patch.value": value}
        for part in _INDICES:
            index = getattr(patch, part)
            if index is None:
                continue
            rows = torch.as_tensor(index)
            whole = rows.dtype != torch.bool and not rows.is_floating_point()
            require(
                whole and rows.shape in ((), (n_rows,)),
                f"{part} of a patch must be a whole number, or one for each of the {n_rows} "
                f"rows. Received {index!r}",
            )
            packed[f"patch.{part}"] = rows.long().expand(n_rows)
        return packed

    def hooks(
        self, packed: Mapping[str, Num[Tensor, "row ..."]], extent: Extent
    ) -> list[tuple[str, HookFunction]]:
        """The hooks that put it in. When they run they note what there is to index.

        Raises (when they run):
            InputError: for a value of another shape, or a head where there is none.
        """
        extent.sizes["layer"] = len(self.names)
        return [(n, _Put(i, packed, extent)) for i, n in enumerate(self.names)]


def check_range(packed: Mapping[str, Num[Tensor, "row ..."]], extent: Extent) -> None:
    """Raise `InputError` for a layer, position or head that does not exist or is not reached."""
    for part, size in extent.sizes.items():
        low, high = packed[f"patch.{part}"].aminmax()
        require(
            bool(low >= -size and high < size),
            f"{part} of a patch must lie in -{size} … {size - 1}. Received {low} … {high}",
        )
    if packed:
        patched = {i % extent.sizes["layer"] for i in packed["patch.layer"].tolist()}
        require(
            patched <= extent.layers,
            f"a patch must be in layers that run: {sorted(extent.layers)}. "
            f"Received {sorted(patched)}",
        )


class _Put:
    """Puts the values of a patch where they belong, in one layer."""

    def __init__(self, layer: int, packed: Mapping[str, Tensor], extent: Extent) -> None:
        self.layer, self.packed, self.extent = layer, packed, extent

    def __call__(self, x: Tensor, hook: HookPoint) -> Tensor:
        assert hook.name is not None
        self.extent.layers.add(self.layer)
        sizes = self.extent.sizes
        layer, value = self.packed["patch.layer"], self.packed["patch.value"]
        chosen = (layer == self.layer) | (layer == self.layer - sizes["layer"])
        chosen = chosen.view(-1, *[1] * (x.ndim - 1))
        axes = {}
        for part, axis in (
            ("pos", position_axis(hook.name, x)),
            ("head", _head_axis(hook.name, x)),
        ):
            if f"patch.{part}" in self.packed:
                require(axis is not None, f"{hook.name} {tuple(x.shape)} has no axis for {part}")
                assert axis is not None
                axes[axis] = self.packed[f"patch.{part}"]
                sizes[part] = x.shape[axis]
        left = [size for axis, size in enumerate(x.shape) if axis not in axes]
        require(
            list(value.shape) == left,
            f"the value of a patch of {hook.name} must be {tuple(left)} here. "
            f"Received {tuple(value.shape)}",
        )
        for axis in sorted(axes):
            size, at = x.shape[axis], axes[axis][:, None]
            places = torch.arange(size, device=x.device)
            here = (places == at) | (places - size == at)  # [batch, size]
            chosen = chosen & here.view([n if i in (0, axis) else 1 for i, n in enumerate(x.shape)])
            value = value.unsqueeze(axis)
        return torch.where(chosen, value.to(x.dtype), x)


def _head_axis(name: str, x: Tensor) -> int | None:
    """Which axis of a block's hook is the head."""
    if x.ndim != 4 or ".mlp." in name:
        return None
    return 1 if name.endswith(("hook_attn_scores", "hook_pattern")) else 2
