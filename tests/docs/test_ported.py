"""The ported scripts give with interp the numbers that they gave with transformer-lens 3.9.0."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest
import torch

from docs.ported.compare import HERE, NUMBERS, SCRIPTS, difference, tolerance


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    """What TransformerLens gave: script → dtype → name → numbers."""
    return json.loads(NUMBERS.read_text(encoding="utf-8"))


def _main(script: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"ported_{script}", HERE / f"{script}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.mark.parametrize("script", SCRIPTS)
def test_numbers_are_those_of_transformer_lens(
    script: str, recorded: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBRARY", "interp")
    main = _main(script)
    for dtype, expected in recorded[script].items():
        found = main(getattr(torch, dtype))
        assert found.keys() == expected.keys()
        for name, numbers in expected.items():
            error = difference(found[name], numbers)
            assert error <= tolerance(dtype, name), f"{dtype} {name}: {error:.1e}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_recorded_numbers_say_something(script: str, recorded: dict[str, Any]) -> None:
    for numbers in recorded[script].values():
        assert len(numbers) >= 13
        for name, values in numbers.items():
            spread = torch.tensor(values, dtype=torch.float64)
            assert spread.isfinite().all(), name
            assert spread.abs().max() > 1e-3, (
                f"{name} is all but zero: it would agree with anything"
            )


def test_difference_sees_values_shapes_and_nan() -> None:
    assert difference([1.0, 2.0], [1.0, 2.0]) == 0.0
    assert difference([1.0, 30.0], [1.0, 20.0]) == pytest.approx(0.5)
    assert difference([0.1], [0.2]) == pytest.approx(0.1)  # absolute below one
    assert difference([1.0], [1.0, 1.0]) == float("inf")
    assert difference([float("nan")], [1.0]) == float("inf")
    assert difference([], []) == 0.0
