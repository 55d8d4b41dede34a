"""Frozen values that read and write JSON: what interventions are made of.

```json
{"version": 1, "kind": "zero", "place": {"kind": "place", "hook": "z", "heads": [1], …}}
{"tensor": {"dtype": "float32", "shape": [2], "base64": "AACAPwAAAEA="}}
```
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import InputError, is_whole, require, unknown
from interp.files import parse_json, short

VERSION = 1
_MOST_AXES = 64
_KINDS: dict[str, type[Part]] = {}


class Part:
    """A frozen dataclass with a `kind`; two are equal when their JSON is.

    Attributes:
        kind: What it is called in JSON.
    """

    kind: ClassVar[str] = ""

    def __init_subclass__(cls, kind: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if kind:
            cls.kind = kind
            _KINDS[kind] = cls

    def to_json(self, indent: int | None = None) -> str:
        """Itself as JSON, exactly: tensors as base64 with dtype and shape."""
        return json.dumps({"version": VERSION, **encode(self)}, indent=indent, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote.

        Raises:
            InputError: for text that is no JSON, another version, a kind or field that is not
                known, one that is missing, and values that break a rule.
        """
        try:
            found = parse_json(text)
        except InputError as fault:
            raise InputError(f"an intervention must be JSON: {fault}") from fault
        told = f"JSON of an intervention is an object. Received {found!r:.80}"
        require(isinstance(found, dict), told)
        version = found.pop("version", None)
        require(
            is_whole(version, 1) and version == VERSION,
            f"the version of an intervention's JSON must be {VERSION}. Received {version!r}",
        )
        part = decode(found)
        if not isinstance(part, cls):
            raise InputError(
                f"this JSON must hold a {cls.__name__}. It holds a {type(part).__name__}."
            )
        return part

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Part):
            return self is other
        return hash(self) == hash(other) and encode(self) == encode(other)

    def __hash__(self) -> int:
        found: int | None = self.__dict__.get("_hash")
        if found is None:
            found = hash(_summary(self))
            self.put("_hash", found)
        return found

    def put(self, name: str, value: Any) -> None:
        """Bring a field into its usual form, while the value is being made."""
        object.__setattr__(self, name, value)


def encode(value: Any) -> Any:
    """A value as JSON knows it."""
    if isinstance(value, Part):
        named = {f.name: encode(getattr(value, f.name)) for f in fields(value)}  # type: ignore[arg-type]
        return {"kind": value.kind, **named}
    if isinstance(value, Tensor):
        return {"tensor": _encode_tensor(value)}
    if isinstance(value, Mapping):
        return {"entries": {name: encode(entry) for name, entry in value.items()}}
    if isinstance(value, tuple):
        return [encode(entry) for entry in value]
    return value


def decode(value: Any) -> Any:
    """The value that `encode` wrote.

    Raises:
        InputError: for anything that it does not write.
    """
    if isinstance(value, list):
        return tuple(map(decode, value))
    if not isinstance(value, dict):
        return value
    if set(value) == {"tensor"}:
        return _decode_tensor(value["tensor"])
    if set(value) == {"entries"} and isinstance(value["entries"], dict):
        return {name: decode(entry) for name, entry in value["entries"].items()}
    given = dict(value)
    kind = given.pop("kind", None)
    require(isinstance(kind, str), f"an object must say its kind. Received {value!r:.80}")
    if kind not in _KINDS:
        raise unknown("kind of intervention", kind, _KINDS)
    cls = _KINDS[kind]
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise unknown(f"field of {kind!r}", name, known)
    try:
        return cls(**{name: decode(entry) for name, entry in given.items()})
    except TypeError as fault:  # a field without a default is missing
        raise InputError(f"{kind!r} is not complete: {fault}.") from fault


def _summary(value: Any) -> Any:
    """Something to hash, the same for values whose JSON is; tensors are not written out for it."""
    if isinstance(value, Part):
        return value.kind, *(_summary(getattr(value, f.name)) for f in fields(value))  # type: ignore[arg-type]
    if isinstance(value, Tensor):
        return str(value.dtype), tuple(value.shape), hash(_bytes_of(value))
    if isinstance(value, Mapping):
        return frozenset((name, _summary(entry)) for name, entry in value.items())
    return tuple(map(_summary, value)) if isinstance(value, tuple) else value


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _encode_tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "base64": base64.b64encode(_bytes_of(tensor)).decode("ascii"),
    }


def _decode_tensor(given: Any) -> Tensor:
    complete = isinstance(given, dict) and set(given) == {"dtype", "shape", "base64"}
    require(complete, f"a tensor has dtype, shape and base64. Received {given!r:.80}")
    dtype = getattr(torch, str(given["dtype"]), None)
    shape = given["shape"]
    if not isinstance(dtype, torch.dtype):
        told = f"a tensor's dtype must be one of torch's. Received {given['dtype']!r:.80}."
        raise InputError(told)
    sizes = isinstance(shape, list) and len(shape) <= _MOST_AXES
    sizes = sizes and all(is_whole(n, 0) and n < 2**63 for n in shape)
    require(sizes, f"a tensor's shape must be whole numbers. Received {short(shape, 80)}")
    try:
        data = base64.b64decode(given["base64"], validate=True)
    except (TypeError, ValueError, binascii.Error) as fault:
        raise InputError(f"a tensor's numbers must be base64: {fault}") from fault
    size = math.prod(shape) * dtype.itemsize
    require(
        len(data) == size,
        f"a tensor of shape {short(shape, 80)} and {dtype} has {short(size, 40)} bytes. "
        f"Received {len(data)}",
    )
    flat = torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())
    try:
        return flat.view(dtype).reshape(shape)
    except (RuntimeError, TypeError) as fault:  # a dtype without numbers, sizes beyond all memory
        told = f"a tensor of shape {short(shape, 80)} and {dtype} cannot be made: {short(fault)}"
        raise InputError(told) from fault


def whole_numbers(name: str, given: object) -> tuple[int, ...] | None:
    """One or several whole numbers (also of numpy or torch) as a tuple; None stays None.

    Raises:
        InputError: for anything else, and for none at all.
    """
    if given is None:
        return None
    entries = given.tolist() if isinstance(given, Tensor | np.ndarray) else given
    entries = list(entries) if isinstance(entries, Iterable) else [entries]
    try:
        found = tuple(map(operator.index, entries))
        fits = bool(found) and not any(isinstance(i, bool | np.bool_) for i in entries)
    except TypeError:
        fits = False
    require(fits, f"{name} must be one or several whole numbers, or None. Received {given!r}")
    return found


def finite(name: str, given: object) -> float:
    """A finite number as a float.

    Raises:
        InputError: for anything else.
    """
    if not isinstance(given, int | float) or isinstance(given, bool) or not math.isfinite(given):
        raise InputError(f"{name} must be a finite number. Received {given!r}.")
    return float(given)


def floating(name: str, given: object, n_axes: int) -> Float[Tensor, "..."]:
    """A copy of a tensor (or nested numbers: fp64) with so many axes and finite entries.

    Raises:
        InputError: for anything else.
    """
    try:
        tensor = given if isinstance(given, Tensor) else torch.tensor(given)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise InputError(f"{name} must be a tensor of numbers. Received {given!r:.80}.") from fault
    if not isinstance(given, Tensor) or not tensor.is_floating_point():
        tensor = torch.as_tensor(given, dtype=torch.float64)
    tensor = tensor.detach().clone()  # a view of weights would change with them
    fits = tensor.ndim == n_axes and tensor.numel() > 0 and bool(tensor.isfinite().all())
    require(
        fits, f"{name} must have {n_axes} axes and finite numbers. Received {list(tensor.shape)}"
    )
    return tensor


def listed(numbers: Iterable[object]) -> str:
    """`1, 2, 5`; of many the first few."""
    entries = list(map(str, numbers))
    return ", ".join(entries[:6]) + (f", … ({len(entries)})" if len(entries) > 6 else "")
