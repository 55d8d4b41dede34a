"""Each tensor of a compiled run is given once, and every name finds its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from interp.compiled.outputs import Outputs

Function = Callable[..., dict[str, Tensor]]
OWN = torch.rand(2, 3)


def _fused(x: Tensor) -> dict[str, Tensor]:
    q, k, v = torch.cat([x, x + 1, x + 2], -1).split(4, -1)
    return {"q": q, "k": k, "again": k, "v_of_heads": v.unsqueeze(2).expand(-1, -1, 5, -1)}


def _with_the_whole(x: Tensor) -> dict[str, Tensor]:
    whole = x * 2
    return {"rest": whole[1:, :, 2:], "turned": whole.transpose(0, 1), "whole": whole}


def _repeated(x: Tensor) -> dict[str, Tensor]:
    y = x + 1
    return {"heads": y.unsqueeze(2).expand(-1, -1, 5, -1), "same": y, "rows": y[:, None]}


def _only_repeated(x: Tensor) -> dict[str, Tensor]:
    return {"heads": (x + 1).unsqueeze(2).expand(-1, -1, 5, -1)}


def _given(x: Tensor) -> dict[str, Tensor]:
    return {"x": x, "part": x[1:, 1:], "repeated": x[:1].expand(6, -1, -1)}


def _own(x: Tensor) -> dict[str, Tensor]:
    return {"own": OWN, "sum": x.sum()}


def _transposed(x: Tensor) -> dict[str, Tensor]:
    made = (x @ x.mT).mT
    return {"mT": made, "m": made.mT, "row": made[:, 1]}


# How many tensors each gives, and how many numbers in them (x is [2, 3, 4]).
CASES: dict[str, tuple[Function, int, int]] = {
    "fused": (_fused, 3, 3 * 24),
    "whole": (_with_the_whole, 1, 24),
    "repeated": (_repeated, 1, 24),
    "only-repeated": (_only_repeated, 1, 24),
    "given": (_given, 0, 0),
    "own": (_own, 1, 1),
    "transposed": (_transposed, 1, 18),
}


def _traced(fn: Function, x: Tensor) -> tuple[Any, Outputs]:
    found: list[Outputs] = []

    def run(x: Tensor) -> list[Tensor]:
        found.append(Outputs([x], dict(fn(x))))
        return found[0].take()

    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        graph = make_fx(run)(mode.from_tensor(x))
    return graph, found[0]


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_every_name_finds_its_tensor(case: str, elsewhere: bool) -> None:
    """Also where inputs are parts of others and outputs lie in memory in another order."""
    fn, n_tensors, n_numbers = CASES[case]
    graph, outputs = _traced(fn, torch.rand(2, 3, 4))
    x = torch.rand(3, 3, 4)[1:] if elsewhere else torch.rand(2, 3, 4)
    made = graph(x)
    assert len(made) == n_tensors
    assert sum(m.untyped_storage().nbytes() for m in made) == 4 * n_numbers
    if elsewhere:
        made = [m.mT.contiguous().mT if m.ndim > 1 else m for m in made]
    found, expected = outputs.find([x], made), fn(x)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    places = {t.untyped_storage().data_ptr() for t in found.values()}
    assert len(places) == len({t.untyped_storage().data_ptr() for t in expected.values()}) or (
        case == "fused" and len(places) == 3
    )
