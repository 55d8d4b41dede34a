"""When the same bits are promised."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch

from interp.harvest.made_on import made_on, promises_same_bits


def test_it_says_what_there_is(make_model: Callable[..., Any]) -> None:
    found = made_on(make_model())
    assert found == json.loads(json.dumps(found))
    assert found["device"] == "cpu" and found["dtype"] == "float32"
    assert found["threads"] == torch.get_num_threads() and found["torch"] == torch.__version__
    assert "tf32" not in found


def test_the_same_bits_are_promised_on_one_kind_of_cpu(make_model: Callable[..., Any]) -> None:
    here = made_on(make_model())
    assert promises_same_bits([here, dict(here)])
    assert promises_same_bits([made_on(make_model(dtype=torch.float64))])
    assert not promises_same_bits([])
    assert not promises_same_bits([here, {**here, "threads": here["threads"] + 1}])
    assert not promises_same_bits([here, {**here, "torch": "1.0"}])
    assert not promises_same_bits([{**here, "device": "NVIDIA H200", "tf32": False}])
    assert not promises_same_bits([made_on(make_model(dtype=torch.bfloat16))])
