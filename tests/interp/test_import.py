"""What is imported is light, loads what is needed alone, and reaches nothing outside.

A process takes seconds to start, so one is asked for everything: it tells after each step which
packages it has loaded so far.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_HEAVY = [
    "transformers",
    "transformer_lens",
    "pandas",
    "matplotlib",
    "seaborn",
    "plotly",
    "streamlit",
    "ray",
    "huggingface_hub",
    "tokenizers",
    "pyarrow",
    "typer",
]

_SCRIPT = """
import json, socket, sys

def refuse(*args, **kwargs):
    raise OSError("no network in this test")

socket.socket.connect = socket.socket.connect_ex = refuse
socket.create_connection = socket.getaddrinfo = refuse


def tell(step):
    print(json.dumps([step, sorted(name for name in sys.modules if "." not in name)]))


import interp
tell("import")

import torch
cfg = interp.HookedTransformerConfig(
    n_layers=1, d_model=8, n_heads=2, n_ctx=4, d_vocab=5, attn_only=True, device="cpu"
)
model = interp.HookedTransformer(cfg)
_, cache = model.run_with_cache(torch.tensor([[1, 2, 3]]), return_type="loss", incl_bwd=True)
cache.decompose_resid(apply_ln=True)
model.OV.svd()
model.process_weights()
model.generate(torch.tensor([[1]]), max_new_tokens=2)
from interp import display
shown = [display.show_tokens(model, torch.tensor([1, 2])), display.show_attribution(["a"], [1.0])]
shown.append(display.show_attention(["a", "b", "c"], cache["pattern", 0]))
assert all(each._repr_html_() and repr(each) for each in (model, cfg, cache, *shown))
tell("run")

import interp.kernels
tell("kernels")

import interp.compat.transformer_lens
assert not interp.compat.transformer_lens.is_bridge(None)
tell("compat")

import pandas as pd
from interp.charts import Chart, show
chart = Chart(kind="bars", table="t", title="T", alt="A", x="x", value="v")
repr(show(chart, pd.DataFrame({"x": [1], "v": [2.0]})))
tell("chart")

import analyses
tell("analyses")
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """The packages that are loaded after each step."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {step: set(names) for step, names in map(json.loads, done.stdout.splitlines())}


def test_nothing_heavy_is_loaded(loaded: dict[str, set[str]]) -> None:
    for step in ("import", "run", "kernels", "compat"):
        assert "torch" in loaded[step]
        assert not set(_HEAVY) & loaded[step], step


def test_kernels_are_compiled_by_nothing_before_they_are_used(loaded: dict[str, set[str]]) -> None:
    assert "triton" not in loaded["kernels"]


def test_nothing_is_imported_to_draw_before_it_is_drawn(loaded: dict[str, set[str]]) -> None:
    assert "pandas" in loaded["chart"]
    assert not {"matplotlib", "seaborn", "plotly"} & loaded["chart"]


def test_analyses_are_light(loaded: dict[str, set[str]]) -> None:
    drawing = {"matplotlib", "seaborn", "plotly", "streamlit"}
    assert not (drawing | {"transformer_lens"}) & loaded["analyses"]


def test_public_names() -> None:
    import interp

    assert sorted(interp.__all__) == interp.__all__ or set(interp.__all__) <= set(dir(interp))
    for name in (
        "HookedTransformer",
        "HookedTransformerConfig",
        "HookPoint",
        "ActivationCache",
        "FactoredMatrix",
        "load_model",
    ):
        assert name in interp.__all__
        assert getattr(interp, name) is not None
