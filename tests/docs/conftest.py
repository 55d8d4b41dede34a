"""What tests of the site share: code of pages and examples runs as in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import interp.positions
from analyses import list_analyses, registry
from interp.pretrained import registry as pretrained
from tests.conftest import BACKWARD


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A page or an example finds nothing that others set, and what it sets is gone afterwards."""
    monkeypatch.setattr(torch.Tensor, "backward", BACKWARD)
    encodings, families = dict(interp.positions.ENCODINGS), pretrained._FAMILIES
    analyses = {each.name: each for each in list_analyses()}
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)
    pretrained._FAMILIES = families
    for held, before in ((registry._registered, analyses), (interp.positions.ENCODINGS, encodings)):
        held.clear()
        held.update(before)
