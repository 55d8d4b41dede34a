"""What a run recorded, looked up by the names that the field uses."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Sequence, ValuesView
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from interp.decomposition import Decomposition
from interp.devices.memory import bytes_by_name, bytes_kept, readable
from interp.devices.parsing import parse_device
from interp.display.activations import activations_html
from interp.errors import InputError, require
from interp.names import get_act_name
from interp.run.recording import SharedCopies, dtype_kept, floating_dtype, largest, once
from interp.run.slicing import Slice, SliceInput

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_STACKS = ("encoder", "decoder")
_SHARED = ("unembed.",)

Key = str | tuple[str | int | None, ...]


class ActivationCache(Decomposition):
    """Recorded tensors by hook name, with what can be computed from them.

    `cache["blocks.0.attn.hook_pattern"]`, `cache["pattern", 0]` and `cache["scale", 1, "ln1"]`
    look tensors up; negative layers count from the end. Names for the same tensor share its memory.

    Attributes:
        cache_dict: Hook name → tensor.
        model: The model that was run.
        has_batch_dim: Whether the tensors have their batch axis.
    """

    def __init__(
        self,
        cache_dict: dict[str, Shaped[Tensor, "..."]],
        model: HookedTransformer,
        has_batch_dim: bool = True,
    ) -> None:
        self.cache_dict = cache_dict
        self.model = model
        self.has_batch_dim = has_batch_dim

    def __getitem__(self, key: Key) -> Shaped[Tensor, "..."]:
        """A recorded tensor.

        Raises:
            KeyError: if no tensor of that name was recorded; the message says what to ask for.
        """
        name = self.full_name(key)
        if name not in self.cache_dict:
            known = name.removesuffix("_grad") in self.model.hook_dict
            hint = (
                "It exists but was not recorded: put it in names_filter."
                if known
                else "The model has no such hook."
            )
            raise KeyError(f"{name} is not in this cache. {hint}")
        return self.cache_dict[name]

    def full_name(self, key: Key) -> str:
        """The hook that a key means. Of an encoder–decoder's, the decoder's unless it says else.

        `cache["pattern", 0]` is `decoder.blocks.0.attn.hook_pattern` there, and
        `cache["encoder.pattern", 0]` the encoder's.

        Raises:
            InputError: for a key that does not begin with a name, or has its stack behind it.
        """
        if isinstance(key, str):
            if key in self.cache_dict:
                return key
            key = (key,)
        parts = list(key) if isinstance(key, Sequence) else []
        name, rest = (parts[0], parts[1:]) if parts else (None, [])
        if not isinstance(name, str):
            raise InputError(f"a cache key begins with a name. Received {key!r:.80}.")
        stack, short = "", name
        if self.model.cfg.architecture == "encoder-decoder":
            first, _, after = name.partition(".")
            stack, short = (first, after) if first in _STACKS else ("decoder", name)
            if any(part in _STACKS for part in rest):
                raise InputError(
                    f"the stack stands before the name: 'encoder.{short}'. Got {key!r}."
                )
        if rest and isinstance(rest[0], int) and rest[0] < 0:
            encodes = stack == "encoder"
            rest[0] += (
                (self.model.cfg.n_encoder_layers or 0) if encodes else self.model.cfg.n_layers
            )
        found = get_act_name(short, *rest)
        if not stack or found.startswith(_SHARED):
            return found
        return f"{stack}.{found}"

    def __contains__(self, key: Key) -> bool:
        return self.full_name(key) in self.cache_dict

    def __len__(self) -> int:
        return len(self.cache_dict)

    def __iter__(self) -> Iterator[str]:
        return iter(self.cache_dict)

    def keys(self) -> KeysView[str]:
        """The recorded names."""
        return self.cache_dict.keys()

    def values(self) -> ValuesView[Shaped[Tensor, "..."]]:
        """The recorded tensors."""
        return self.cache_dict.values()

    def items(self) -> ItemsView[str, Shaped[Tensor, "..."]]:
        """Names and tensors."""
        return self.cache_dict.items()

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the recorded tensors keep alive, each storage counted once."""
        return bytes_kept(self.values())

    def to(
        self,
        device: torch.device | str | None = None,
        move_model: bool = False,
        *,
        dtype: torch.dtype | None = None,
    ) -> ActivationCache:
        """A cache on another device, or with floating-point tensors in another dtype.

        None leaves that as it is. Names for the same tensor still share its memory. `move_model`
        moves the model too.

        Raises:
            InputError: for a device that is not there, a dtype that is no floating-point dtype, or
                `move_model` without a device.
        """
        floating_dtype(dtype)
        if device is not None:
            device = parse_device(device)
        require(not move_model or device is not None, "move_model needs a device. Received None")
        shared = SharedCopies()

        def move(tensor: Tensor) -> Tensor:
            single, target = once(tensor), device or tensor.device
            moved = shared.of(single, lambda: single.to(target, dtype_kept(tensor, dtype)))
            return moved.view(single.shape).expand(tensor.shape)

        cache = {name: move(t) for name, t in self.items()}
        if move_model:
            self.model.to(device)
        return ActivationCache(cache, self.model, self.has_batch_dim)

    def remove_batch_dim(self) -> ActivationCache:
        """Drop the batch axis, in place, of a cache of one prompt.

        Raises:
            InputError: if the batch is larger than one.
        """
        if self.has_batch_dim:
            for name, tensor in self.items():
                if tensor.shape[0] != 1:
                    raise InputError(
                        f"remove_batch_dim needs a batch of one. {name} has {tuple(tensor.shape)}."
                    )
            self.cache_dict = {name: tensor[0] for name, tensor in self.items()}
            self.has_batch_dim = False
        return self

    def apply_slice_to_batch_dim(self, batch_slice: SliceInput) -> ActivationCache:
        """A cache of some rows of the batch; an int leaves no batch axis.

        Raises:
            InputError: without a batch axis, or outside of it.
        """
        if not self.has_batch_dim:
            raise InputError("this cache has no batch axis to slice.")
        chosen = Slice.unwrap(batch_slice)
        cache = {name: chosen.apply(tensor, 0) for name, tensor in self.items()}
        return ActivationCache(cache, self.model, not isinstance(chosen.index, int))

    def stack_activation(
        self, activation_name: str, layer: int = -1, sublayer_type: str | None = None
    ) -> Float[Tensor, "layer ..."]:
        """One activation of layers 0 … layer - 1 (-1: all), stacked on a new first axis."""
        n_layers = self.model.cfg.n_layers if layer == -1 else layer
        return torch.stack([self[activation_name, i, sublayer_type] for i in range(n_layers)])

    def __repr__(self) -> str:
        lines = [
            f"  {name}: {tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}"
            for name, t in self.items()
        ]
        device = next((str(t.device) for t in self.values()), "nowhere")
        head = f"ActivationCache: {len(self)} tensors, {readable(self.nbytes)} on {device}"
        if lines:
            head += f" (largest: {largest(bytes_by_name(self.cache_dict))})"
        return "\n".join([head, *lines])

    def _repr_html_(self) -> str:
        return activations_html(self.cache_dict)
