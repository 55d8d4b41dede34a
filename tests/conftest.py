"""What all tests share: how errors are measured, random models, and third-party files."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports huggingface_hub

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from interp import HookedTransformer, HookedTransformerConfig

torch.set_num_threads(1)  # models here are tiny: more threads only wait for one another
settings.register_profile("interp", settings(), deadline=None)  # a machine may be busy
settings.load_profile("interp")

BACKWARD = Tensor.backward  # nnsight puts its own in its place, which reads its caller's source
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}
_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure() -> None:
    """No garbage collection until all tests are found: nothing that is imported becomes garbage."""
    gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share one Ray come first: they stay with one of pytest's workers.

    A worker that has little left to do takes the last tests of another, and would start its own.
    """
    items.sort(key=lambda item: item.path.name != "test_ray.py")


def pytest_collection_finish() -> None:
    """What was imported stays: no later garbage collection need look at it again."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 20)  # models come and go in thousands of objects


@pytest.fixture(scope="session")
def third_party() -> Callable[[str], Path]:
    """The path of a third-party file or folder; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        if not (_DATA / name).exists():
            pytest.skip(f"needs the third-party {name} in ../shared/data, beside the repository")
        return _DATA / name

    return find


@pytest.fixture(scope="session")
def assert_close() -> Callable[..., None]:
    """|found - expected| <= tolerance · max(1, max |expected|), by default that of the dtype."""

    def check(found: Tensor, expected: Tensor, what: str = "", tolerance: float = -1.0) -> None:
        assert found.shape == expected.shape, what
        if tolerance < 0:
            tolerance = max(TOLERANCES[x.dtype] for x in (found, expected))
        found, expected = found.detach().double(), expected.detach().double()
        if not expected.numel():
            return
        largest = float(expected.abs().max())
        if not math.isfinite(largest):  # rare: the rest is quicker without this
            finite = expected.isfinite()
            assert torch.equal(found[~finite], expected[~finite]), what
            found, expected = found[finite], expected[finite]
            if not expected.numel():
                return
            largest = float(expected.abs().max())
        error = float((found - expected).abs().max()) / max(1.0, largest)
        assert error <= tolerance, f"{what}: {error:.1e} > {tolerance:.0e}"

    return check


@torch.no_grad()
def _scramble(model: nn.Module, std: float = 0.2, seed: int = 0) -> Any:
    """Random numbers everywhere, biases and norm weights too, large enough for errors to show."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        drawn = torch.empty(parameter.shape).normal_(0.0, std, generator=generator)
        of_norm = "ln" in name or "norm" in name
        weight = of_norm and not name.endswith((".b", ".bias"))
        parameter.copy_(drawn + 1.0 if weight else drawn)
    return model.eval()


@pytest.fixture(scope="session")
def make_model() -> Callable[..., HookedTransformer]:
    """A tiny random model; keyword arguments replace fields of its config."""

    def make(tokenizer: Any = None, **fields: Any) -> HookedTransformer:
        small: dict[str, Any] = {
            "n_layers": 2, "d_model": 24, "n_ctx": 16, "n_heads": 4, "d_head": 6, "d_mlp": 20,
            "act_fn": "gelu", "d_vocab": 31, "device": "cpu",
        }  # fmt: skip
        if fields.get("attn_only"):
            del small["d_mlp"], small["act_fn"]
        model = HookedTransformer(HookedTransformerConfig(**{**small, **fields}), tokenizer)
        return _scramble(model)

    return make


@pytest.fixture(scope="session")
def hf_gpt2() -> Callable[..., Any]:
    """A tiny random Hugging Face GPT-2; keyword arguments are for its config."""
    transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

    def make(dtype: torch.dtype = torch.float32, **fields: Any) -> Any:
        small = {"n_layer": 2, "n_embd": 24, "n_head": 3, "n_positions": 20, "vocab_size": 37}
        config = transformers.GPT2Config(**{**small, **fields}, attn_implementation="eager")
        return _scramble(transformers.GPT2LMHeadModel(config).to(dtype))

    return make


@pytest.fixture(scope="session")
def hf_llama() -> Callable[..., Any]:
    """A tiny random Hugging Face Llama; keyword arguments are for its config."""
    transformers = pytest.importorskip("transformers", reason="needs the extra 'hf'")

    def make(dtype: torch.dtype = torch.float32, **fields: Any) -> Any:
        small = {
            "num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 10, "intermediate_size": 31, "vocab_size": 37,
            "max_position_embeddings": 20,
        }  # fmt: skip
        config = transformers.LlamaConfig(**{**small, **fields}, attn_implementation="eager")
        return _scramble(transformers.LlamaForCausalLM(config).to(dtype))

    return make
