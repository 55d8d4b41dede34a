"""What keeps the tensors that pass through hook points."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from interp.devices.memory import bytes_by_name, bytes_kept, readable
from interp.devices.parsing import parse_device
from interp.devices.transfer import PinnedCopies
from interp.errors import InputError, require, require_whole
from interp.run.slicing import Slice, SliceInput

WHAT_HELPS = "Less is kept with names_filter, pos_slice or a narrower dtype."

SCORE_HOOKS = ("hook_attn_scores", "hook_pattern", "hook_pos_bias")
# What a decoder reads of another sequence, whose positions are not its own.
_OF_SOURCE = (".cross_attn.hook_k", ".cross_attn.hook_v", ".cross_attn.k_norm.")


def position_axis(name: str, tensor: Shaped[Tensor, "batch ..."]) -> int | None:
    """Which axis of a recorded tensor (with a batch axis) is the destination position.

    None where there is none, or where positions are those of an encoder–decoder's source.
    """
    return position_axis_of(name, tensor.ndim)


def position_axis_of(name: str, n_axes: int) -> int | None:
    """The same for a tensor with so many axes."""
    last = name.rsplit(".", 1)[-1]
    if name.startswith("encoder.") or any(part in name for part in _OF_SOURCE):
        return None
    if last in SCORE_HOOKS:
        return 2
    of_sequence = name.startswith(("pooler.", "unembed.")) and n_axes == 2
    return 1 if n_axes > 1 and not of_sequence else None


def once(tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """The tensor with length 1 along every axis that only repeats one entry."""
    for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor


class SharedCopies:
    """What was made of tensors, once for all names of the same entries of memory."""

    def __init__(self) -> None:
        # By the memory that a tensor lies in: views of it find each other there in every mode.
        self._made = WeakIdKeyDictionary(ref_type=weakref.ref)

    def of(
        self,
        single: Shaped[Tensor, "..."],
        make: Callable[[], Shaped[Tensor, "..."]],
        axis: int | None = None,
    ) -> Shaped[Tensor, "..."]:
        """What `make` gives, or gave for another view of the same entries.

        Such views may differ in axes of length 1, which the caller sees to, and repeat no entry
        (`once`). `axis` tells apart what is made of the same entries in different ways.
        """
        squeezed = single.squeeze()
        version = 0 if single.is_inference() else single._version
        place = (axis, version, squeezed.storage_offset(), squeezed.shape, squeezed.stride())
        made = self._made.setdefault(single.untyped_storage(), {})
        if place not in made:
            made[place] = make()
        return made[place]


def floating_dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    """The dtype that records are kept in, checked.

    Raises:
        InputError: for anything but a floating-point dtype or None.
    """
    fits = dtype is None or (isinstance(dtype, torch.dtype) and dtype.is_floating_point)
    require(fits, f"dtype must be a floating-point torch.dtype. Received {dtype!r}")
    return dtype


def dtype_kept(tensor: Shaped[Tensor, "..."], wanted: torch.dtype | None) -> torch.dtype:
    """The dtype that a tensor is kept in: whole numbers stay as they are."""
    return wanted if wanted is not None and tensor.is_floating_point() else tensor.dtype


def largest(sizes: dict[str, int], most: int = 3) -> str:
    """Who takes most: `attn.hook_pattern of 12 layers: 1.2 GiB; …`, from hook name → bytes."""
    layers: dict[str, list[int]] = {}
    for name, size in sizes.items():
        stack, block, rest = name.rpartition("blocks.")
        label = f"{stack}{rest.partition('.')[2]}" if block else name
        layers.setdefault(label, []).append(size)
    kinds = sorted(layers, key=lambda label: -sum(layers[label]))[:most]
    return "; ".join(
        f"{kind}{f' of {len(layers[kind])} layers' if len(layers[kind]) > 1 else ''}: "
        f"{readable(sum(layers[kind]))}"
        for kind in kinds
    )


class CacheRecorder:
    """Keeps detached tensors by hook name.

    Names for the same tensor share memory: tensors are kept as they are, and where a part of one,
    another dtype, or a copy on another device is wanted, it is made once. A tensor that is part of
    a larger piece of memory is copied, so that the rest of it can go.

    Args:
        device: Where to keep them. None: where they are.
        remove_batch_dim: Keep them without their batch axis, which must have length 1.
        records_gradients: Keep gradients too, under `<name>_grad`.
        pos_slice: Keep only these (destination) positions; a single one keeps its axis.
        dtype: What to keep floating-point tensors in. None: as they are.
        max_bytes: How many bytes to keep at most. None: no limit.

    Attributes:
        cache: Hook name → tensor.
        run_depth: The run that it belongs to, counted as in `Watchers`.

    Raises:
        InputError: for a device, dtype or limit that breaks a rule; and, while recording, once more
            than `max_bytes` are kept, or for a batch that cannot be removed.
    """

    def __init__(
        self,
        device: torch.device | str | None = None,
        remove_batch_dim: bool = False,
        records_gradients: bool = False,
        pos_slice: SliceInput = None,
        *,
        dtype: torch.dtype | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self.cache: dict[str, Tensor] = {}
        self.device = None
        if device is not None:
            # `cuda` alone is not the device that a tensor names: ask for the one that is meant.
            self.device = torch.empty(0, device=parse_device(device)).device
        self.remove_batch_dim = remove_batch_dim
        self.records_gradients = records_gradients
        self.pos_slice = Slice.unwrap(pos_slice)
        self.dtype = floating_dtype(dtype)
        if max_bytes is not None:
            require_whole("max_bytes", max_bytes, 0)
        self.max_bytes = max_bytes
        self.run_depth = 1
        self._keeps_as_is = (
            self.device is None and self.dtype is None and self.pos_slice.is_everything
        )
        self._limit, self._limit_is = max_bytes, "max_bytes"
        self._shared = SharedCopies()
        # What is kept: in how many records, in which memory, how many bytes.
        self._n_counted = 0
        self._counted: set[int] = set()
        self._kept = 0
        self._copies: PinnedCopies | None = None

    def begin(self) -> None:
        """From here to `finish`, copies from a GPU to the CPU run beside the computation.

        Their contents are undefined in between. Without it each copy waits until it is made.
        """
        if self.device is not None:
            self._copies = PinnedCopies()

    def finish(self) -> None:
        """Wait until all copies are complete; `limit_run` is over."""
        self._limit, self._limit_is = self.max_bytes, "max_bytes"
        copies, self._copies = self._copies, None
        if copies is not None:
            copies.finish()

    def limit_run(self, n_bytes: int, name: str) -> None:
        """Stop once more than this is kept, until `finish`; `name` says what limits it."""
        self._limit, self._limit_is = n_bytes, name

    def record(self, name: str, tensor: Shaped[Tensor, "batch ..."]) -> None:
        """Keep a tensor under its hook's name."""
        self._keep(name, name, tensor)

    def record_gradient(self, name: str, gradient: Float[Tensor, "batch ..."]) -> None:
        """Keep a gradient under its hook's name and `_grad`."""
        self._keep(name + "_grad", name, gradient)

    def _keep(self, key: str, name: str, tensor: Tensor) -> None:
        kept = tensor.detach()
        if not (self._keeps_as_is and _has_memory_to_itself(kept)):
            kept = self._copy_of_part(kept, position_axis(name, kept))
        if self.remove_batch_dim:
            if kept.shape[0] != 1:
                raise InputError(
                    f"remove_batch_dim needs a batch of one. {name} has {tuple(tensor.shape)}."
                )
            kept = kept[0]
        self.cache[key] = kept
        if self._limit is not None:
            self._check_limit(kept, self._limit)

    def _copy_of_part(self, tensor: Tensor, axis: int | None) -> Tensor:
        """The wanted positions on the wanted device, copied once for all views of a tensor."""
        single = part = once(tensor)
        shape = list(tensor.shape)
        if axis is not None and not self.pos_slice.is_everything:
            if single.shape[axis] == shape[axis]:
                part = self.pos_slice.apply(single, axis)
                if part.ndim < single.ndim:
                    part = part.unsqueeze(axis)  # a single position keeps its axis
                shape[axis] = part.shape[axis]
            else:  # the same at every position
                shape[axis] = len(self.pos_slice.indices(shape[axis]))
        made = self._shared.of(
            single,
            lambda: self._converted(part, part is single and _has_memory_to_itself(single)),
            axis,
        )
        return made.view(part.shape).expand(shape)

    def _converted(self, part: Tensor, may_stay: bool) -> Tensor:
        """A part in the dtype and on the device wanted; itself only if it `may_stay`."""
        dtype, device = dtype_kept(part, self.dtype), self.device or part.device
        beside = self._copies is not None and self._copies.take(part.device, device)
        if not beside and part.device == device:
            # A copy otherwise: a view would keep what was left out in memory.
            return part.to(dtype, copy=not may_stay)
        if dtype.itemsize < part.dtype.itemsize:
            part = part.to(dtype)  # before it travels
        if beside:
            assert self._copies is not None
            return self._copies.copy(part, dtype)
        return part.to(device, copy=True).to(dtype)

    def _check_limit(self, kept: Tensor, limit: int) -> None:
        storage = kept.untyped_storage()
        if len(self.cache) != self._n_counted + 1:
            self._count_anew()  # records were replaced, or taken out by whoever holds the cache
        else:
            self._n_counted += 1
            if storage._cdata not in self._counted:
                self._counted.add(storage._cdata)
                self._kept += storage.nbytes()
        if self._kept > limit:
            self._count_anew()
        if self._kept > limit:
            raise InputError(
                f"recording has kept {readable(self._kept)} and is not at its end: more than "
                f"{self._limit_is} ({readable(limit)}). "
                f"Largest so far: {largest(bytes_by_name(self.cache))}. {WHAT_HELPS}"
            )

    def _count_anew(self) -> None:
        self._n_counted = len(self.cache)
        self._counted = {t.untyped_storage()._cdata for t in self.cache.values()}
        self._kept = bytes_kept(self.cache.values())


def _has_memory_to_itself(tensor: Tensor) -> bool:
    """Whether nothing else lies in the memory that a tensor keeps alive."""
    if type(tensor) is not Tensor:
        return True  # what only stands for memory has none of its own (fake, spread over devices)
    n_bytes = tensor.untyped_storage().nbytes()
    if tensor.nbytes >= n_bytes and 0 in tensor.stride():
        tensor = once(tensor)
    return tensor.nbytes >= n_bytes
