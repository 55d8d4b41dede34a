"""Which part of a model goes to which device: said outright, or chosen by free memory."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from interp.devices.memory import free_memory, readable
from interp.devices.parsing import parse_device
from interp.errors import InputError, require, require_one_of

Device = torch.device | str | int

DeviceMap = Literal["auto", "balanced"] | Mapping[str, Device] | Sequence[Device]
"""How a model is spread over devices.

- `"balanced"`: over all GPUs, each filled to the same share of its free memory; the CPU without.
- `"auto"`: the same over as few GPUs as hold it; what they cannot hold goes to the CPU.
- A list of devices: the blocks in equal parts over these, in order. The embedding goes to the first
  and the unembedding to the last.
- A dictionary: part → device. Parts are `embed` (all embeddings), `blocks.0` …, `ln_final` and
  `unembed` (with a head before it); of an encoder–decoder `encoder.blocks.0`, `decoder.ln_final` ….
  A key may be a glob, and of several keys that fit a part the last counts.

A whole number is a GPU's. A tied unembedding is always where the embedding is.
"""

# Weights may take so much of what a device has free. The rest is for what a run makes.
_SHARE = 0.9
_STEPS = 50  # of halving: the share is found to a part in 2^50


def choose_devices(
    sizes: Mapping[str, int], device_map: DeviceMap, tied: bool = False
) -> dict[str, torch.device]:
    """The device of every part of a model.

    Args:
        sizes: Part → bytes of its weights, in the order in which they compute.
        device_map: How to spread them.
        tied: The unembedding is the embedding, and so goes where that goes.

    Raises:
        InputError: for another kind of map, a device that is not there, a key that fits no part or
            a part that no key fits, or weights that need more memory than is free.
    """
    free = {part: size for part, size in sizes.items() if not (tied and part == "unembed")}
    if isinstance(device_map, str):
        require_one_of("device_map", device_map, ("auto", "balanced"))
        chosen = _by_memory(free, device_map == "auto")
    elif isinstance(device_map, Mapping):
        chosen = _by_name(list(sizes), device_map)
    elif isinstance(device_map, Sequence) and device_map:
        chosen = _equal_parts(list(free), [known_device(device) for device in device_map])
    else:
        raise InputError(
            "device_map must be 'auto', 'balanced', a list of devices or a dictionary from parts "
            f"to devices. Received {device_map!r}."
        )
    if tied and "embed" in chosen:
        together = chosen.setdefault("unembed", chosen["embed"]) == chosen["embed"]
        require(
            together,
            "a tied unembedding must be on the embedding's device "
            f"({chosen['embed']}). Received {chosen['unembed']}",
        )
    missing = [part for part in sizes if part not in chosen]
    require(not missing, f"device_map must have a device for every part. None: {_listed(missing)}")
    return {part: chosen[part] for part in sizes}


def known_device(device: Device) -> torch.device:
    """A device as its tensors name it: `cuda` is the present GPU.

    Raises:
        InputError: if it is not here.
    """
    whole = isinstance(device, int) and not isinstance(device, bool)
    found = parse_device(f"cuda:{device}" if whole else device)  # type: ignore[arg-type]
    try:
        return torch.empty(0, device=found).device
    except RuntimeError as fault:
        reason = str(fault).splitlines()[0]
        raise InputError(f"device {str(found)!r} cannot be used: {reason}.") from fault


def _by_name(parts: list[str], device_map: Mapping[str, Device]) -> dict[str, torch.device]:
    chosen: dict[str, torch.device] = {}
    for key, device in device_map.items():
        fitting = fnmatch.filter(parts, str(key))
        require(
            bool(fitting),
            f"a key of device_map must fit a part of the model ({_listed(parts)}). "
            f"Received {key!r}",
        )
        chosen |= dict.fromkeys(fitting, known_device(device))
    return chosen


def _equal_parts(parts: list[str], devices: list[torch.device]) -> dict[str, torch.device]:
    blocks = [part for part in parts if "blocks." in part]
    chosen = {"embed": devices[0]}
    for i, part in enumerate(blocks):
        chosen[part] = devices[i * len(devices) // len(blocks)]
    before = devices[0]
    for part in parts:  # a norm goes with the block before it
        before = chosen.setdefault(part, devices[-1] if part == "unembed" else before)
    return chosen


def _by_memory(sizes: Mapping[str, int], fewest: bool) -> dict[str, torch.device]:
    gpus = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    room = {gpu: int(_SHARE * (free_memory(gpu) or 0)) for gpu in gpus}
    cpu = torch.device("cpu")
    if not room:
        return dict.fromkeys(sizes, cpu)
    if not fewest:
        chosen = balanced(sizes, room)
        if chosen is None:
            raise InputError(_too_large(sizes, room))
        return chosen
    by_room = sorted(gpus, key=lambda gpu: -room[gpu])
    for n in range(1, len(gpus) + 1):
        some = {gpu: room[gpu] for gpu in gpus if gpu in by_room[:n]}
        chosen = balanced(sizes, some)
        if chosen is not None:
            return chosen
    on_cpu = free_memory(cpu)
    chosen = filled(sizes, {**room, cpu: sum(sizes.values()) if on_cpu is None else on_cpu})
    if chosen is None:
        raise InputError(_too_large(sizes, {**room, cpu: on_cpu or 0}))
    return chosen


def balanced(
    sizes: Mapping[str, int], room: Mapping[torch.device, int]
) -> dict[str, torch.device] | None:
    """Neighbouring parts together, in the order of the devices, none fuller than need be.

    The largest share of its room that any device gives is as small as it can be; None if that is
    more than all of it.
    """
    best = filled(sizes, room)
    low, high = 0.0, 1.0
    for _ in range(_STEPS if best is not None else 0):
        share = (low + high) / 2
        found = filled(sizes, {device: int(share * size) for device, size in room.items()})
        if found is None:
            low = share
        else:
            best, high = found, share
    return best


def filled(
    sizes: Mapping[str, int], room: Mapping[torch.device, int]
) -> dict[str, torch.device] | None:
    """Each device given parts until the next would not fit; None if some are left over."""
    chosen: dict[str, torch.device] = {}
    devices = iter(room.items())
    device, left = next(devices)
    for part, size in sizes.items():
        while size > left:
            following = next(devices, None)
            if following is None:
                return None
            device, left = following
        chosen[part], left = device, left - size
    return chosen


def _too_large(sizes: Mapping[str, int], room: Mapping[torch.device, int]) -> str:
    found = ", ".join(f"{device} {readable(size)}" for device, size in room.items())
    return (
        f"the model's weights ({readable(sum(sizes.values()))}) must fit into what devices have "
        f"for weights: {found}."
    )


def _listed(parts: Sequence[str]) -> str:
    return ", ".join(parts[:8]) + (", …" if len(parts) > 8 else "")
