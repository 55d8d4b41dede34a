"""The Python that a page offers, run as a reader would run it."""

from __future__ import annotations

import functools
from typing import Any

import pandas as pd
import pytest

import interp
from interp import HookedTransformer, load_model


@functools.lru_cache(maxsize=4)
def _opened(name: str, **more: Any) -> HookedTransformer:
    """Every script of a page opens the same model, which takes as long as what it does with it."""
    return load_model(name, **more)


def run_script(code: str) -> pd.DataFrame:
    """The table that a script leaves in `table`; it may import neither screen nor tests."""
    assert "dashboards" not in code and "streamlit" not in code, code
    scope: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interp, "load_model", _opened)
        exec(compile(code, "script", "exec"), scope)
    return scope["table"]
