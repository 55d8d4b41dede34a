"""Deterministic runs: the same bits, and every switch put back."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from interp import HookedTransformer, HookedTransformerConfig, InputError
from interp.numerics import deterministic
from interp.numerics.deterministic import _precision_parts


def state() -> tuple[object, ...]:
    cudnn = torch.backends.cudnn
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
        torch.get_float32_matmul_precision(),
        tuple(part.fp32_precision for part in _precision_parts()),
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


def test_switches_are_set_inside_and_put_back() -> None:
    torch.set_deterministic_debug_mode("warn")
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    try:
        before = state()
        with deterministic():
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
            assert torch.backends.cudnn.deterministic
            assert not torch.backends.cudnn.benchmark
            assert torch.get_float32_matmul_precision() == "highest"
            assert {part.fp32_precision for part in _precision_parts()} <= {"ieee"}
        assert state() == before
        with pytest.raises(ZeroDivisionError), deterministic(3):
            _ = 1 / 0
        assert state() == before
    finally:
        torch.set_deterministic_debug_mode("default")
        torch.backends.cudnn.benchmark = False
        torch.set_float32_matmul_precision("highest")


def told() -> list[object]:
    """What every switch of precision says; torch refuses where newer ones contradict older."""
    found: list[object] = [part.fp32_precision for part in _precision_parts()]
    for read in (torch.get_float32_matmul_precision, lambda: torch.backends.cudnn.allow_tf32):
        try:
            found.append(read())
        except RuntimeError:
            found.append("contradicted")
    return found


def set_all() -> None:
    torch.backends.fp32_precision = "tf32"


def set_products() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def set_convolutions() -> None:
    torch.backends.cudnn.conv.fp32_precision = "ieee"


def set_by_the_older_switch() -> None:
    torch.backends.cudnn.allow_tf32 = False


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch before 2.9"
)
@pytest.mark.parametrize(
    "set_it", [set_all, set_products, set_convolutions, set_by_the_older_switch]
)
def test_precisions_that_were_set_part_by_part(set_it: Callable[[], None]) -> None:
    whole, parts = torch.backends.fp32_precision, _precision_parts()
    original, allowed = [part.fp32_precision for part in parts], torch.backends.cudnn.allow_tf32
    set_it()
    try:
        before = told()
        with deterministic():
            assert set(told()) == {"ieee", "highest", False}
        assert told() == before
    finally:
        torch.backends.fp32_precision = whole
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = allowed
        for part, precision in zip(parts, original, strict=True):
            part.fp32_precision = precision
    assert told() == [*original, "highest", allowed]


def draws() -> tuple[float, float, float]:
    return float(torch.rand(1)), float(np.random.rand()), random.random()


def test_seeds_all_generators_and_puts_them_back() -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = draws()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    with deterministic(11):
        first = draws()
    with deterministic(11):
        assert draws() == first
    with deterministic():
        assert draws() == before  # without a seed they go on from where they are
    assert draws() == before


@pytest.mark.parametrize("seed", [-1, 2.0, True, 1 << 32])
def test_seeds_that_break_the_rule(seed: object) -> None:
    with pytest.raises(InputError, match="seed must be"), deterministic(seed):  # type: ignore[arg-type]
        pass


def test_the_variable_for_cublas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    started = [False]
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: started[0])
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic():
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    with deterministic():
        started[0] = True  # it reads the variable now
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    with deterministic():
        pass
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    rule = "must be :4096:8 or :16:8 before CUDA starts.* Received ':0:0'"
    with pytest.raises(InputError, match=rule), deterministic():
        pass
    assert not torch.are_deterministic_algorithms_enabled()


DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", ["dense", "experts", "relative"])
def test_runs_and_training_repeat_bit_for_bit(device: str, shape: str) -> None:
    changes = {
        "dense": {},
        "experts": {"num_experts": 4, "experts_per_token": 2, "act_fn": "silu", "gated_mlp": True},
        "relative": {"positional_embedding_type": "relative_positional_bias"},
    }[shape]
    fields = {
        "n_layers": 2, "d_model": 24, "n_ctx": 16, "n_heads": 4, "d_head": 6, "d_mlp": 20,
        "act_fn": "gelu", "d_vocab": 31, "device": device,
    }  # fmt: skip

    def train() -> dict[str, torch.Tensor]:
        with deterministic(7):
            model = HookedTransformer(HookedTransformerConfig(**{**fields, **changes}))
            for _ in range(3):
                tokens = torch.randint(0, 31, (4, 12))
                weights = list(model.parameters())
                gradients = torch.autograd.grad(
                    model(tokens, return_type="loss"), weights, allow_unused=True
                )
                with torch.no_grad():
                    for weight, gradient in zip(weights, gradients, strict=True):
                        if gradient is not None:
                            weight -= 0.1 * gradient
            return {name: weight.clone() for name, weight in model.state_dict().items()}

    first, second = train(), train()
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name
