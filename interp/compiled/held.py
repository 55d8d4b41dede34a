"""What hook functions hold: the tensors that they read, and the way to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

from jaxtyping import Shaped
from torch import Tensor, nn

Link = tuple[Callable[[Any], Any], Any, Any]
"""How something is looked up, by what key, and what was found."""

_N_STEPS = 6


def links_to(
    tensors: Collection[Shaped[Tensor, "..."]], holder: object, left_out: Iterable[object] = ()
) -> list[Link]:
    """The ways by which a function (or object) comes to these tensors.

    Followed are closures, global names, attributes, what `partial` and methods are bound to, lists,
    tuples, dictionaries and modules (what of a module begins with `_` is not), for a few steps.

    Args:
        left_out: What is not looked into.
    """
    return _links({id(x) for x in tensors}, holder, {id(x) for x in left_out}, _N_STEPS)


def are_unchanged(links: Collection[Link]) -> bool:
    """Whether each still leads to the same object."""
    return all(look_up(key) is found for look_up, key, found in links)


def _links(wanted: set[int], holder: object, seen: set[int], n_steps: int) -> list[Link]:
    found: list[Link] = []
    for link in _parts(holder):
        part = link[2]
        if isinstance(part, Tensor):
            if id(part) in wanted:
                found.append(link)
        elif n_steps > 1 and id(part) not in seen:
            seen.add(id(part))
            # Modules may be nested as deeply as they like.
            left = n_steps if isinstance(holder, nn.Module) else n_steps - 1
            further = _links(wanted, part, seen, left)
            found += [link, *further] if further else []
    return found


def _parts(holder: Any) -> Iterator[Link]:
    """What lies directly in an object."""
    if isinstance(holder, (ModuleType, type, str, bytes)):
        return
    if isinstance(holder, dict):
        yield from ((holder.get, key, part) for key, part in list(holder.items()))
    elif isinstance(holder, (list, tuple)):
        yield from ((partial(_at, holder), i, part) for i, part in enumerate(holder))
    elif isinstance(holder, FunctionType):
        yield from ((_contents, cell, _contents(cell)) for cell in holder.__closure__ or ())
        names = holder.__globals__
        yield from ((names.get, n, names[n]) for n in holder.__code__.co_names if n in names)
        yield from _attributes(holder, "__defaults__", "__kwdefaults__")
    elif isinstance(holder, MethodType):
        yield from _attributes(holder, "__self__", "__func__")
    elif isinstance(holder, partial):
        yield from _attributes(holder, "func", "args", "keywords")
    elif isinstance(holder, nn.Module):
        own = vars(holder)
        for parts in (own, holder._parameters, holder._buffers, holder._modules):
            keys = [name for name in parts if parts is not own or name[0] != "_"]
            yield from ((parts.get, name, parts[name]) for name in keys)
    elif hasattr(holder, "__dict__"):
        yield from ((vars(holder).get, name, part) for name, part in list(vars(holder).items()))


def _attributes(holder: object, *names: str) -> Iterator[Link]:
    return ((partial(getattr, holder), name, getattr(holder, name)) for name in names)


def _at(holder: list[Any] | tuple[Any, ...], i: int) -> Any:
    return holder[i] if i < len(holder) else None


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound, or no longer
        return None
