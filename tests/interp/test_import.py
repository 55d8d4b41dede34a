"""`import interp` is light and reaches nothing outside."""

from __future__ import annotations

import json
import subprocess
import sys

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


def loaded():
    return sorted(name for name in sys.modules if "." not in name)

import interp
print(json.dumps(loaded()))
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
print(json.dumps(loaded()))
"""


def test_nothing_heavy_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    by_import, by_run = map(json.loads, done.stdout.splitlines())
    for loaded in (by_import, by_run):
        assert "torch" in loaded
        assert not set(_HEAVY) & set(loaded)


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
