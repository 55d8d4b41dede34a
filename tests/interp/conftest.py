"""Models shared by the property tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from interp import HookedTransformer
from tests.interp.kinds import KINDS


@pytest.fixture(scope="session")
def kind(make_model: Callable[..., HookedTransformer]) -> Callable[[str], HookedTransformer]:
    """The fp64 model of that name in `KINDS`, made once."""
    made: dict[str, HookedTransformer] = {}

    def get(name: str) -> HookedTransformer:
        if name not in made:
            made[name] = make_model(dtype="float64", **KINDS[name])
        assert not any(p.is_watched for p in made[name].hook_points())
        return made[name]

    return get
