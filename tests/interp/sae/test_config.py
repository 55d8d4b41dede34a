"""What a config takes, fills in and refuses."""

from __future__ import annotations

import json

import pytest
import torch

from interp import InputError
from interp.sae import SAEConfig


def test_what_is_filled_in() -> None:
    cfg = SAEConfig(kind="topk", d_in=12, d_sae=40, k=3, dtype="float64", device="cpu")
    assert (cfg.aux_k, cfg.aux_coefficient) == (6, 1 / 32)
    assert cfg.torch_dtype == torch.float64 and cfg.torch_device == torch.device("cpu")
    assert SAEConfig(kind="topk", d_in=1, d_sae=4, k=1).aux_k == 1
    assert SAEConfig(kind="topk", d_in=12, d_sae=4, k=1).aux_k == 6  # whatever the size
    relu = SAEConfig(kind="relu", d_in=3, d_sae=4, l1_coefficient=0)
    assert relu.aux_k is None and relu.aux_coefficient is None


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "topk", "k": 3, "aux_k": 0, "seed": 4},
        {"kind": "gated", "l1_coefficient": 0.25, "dtype": "bfloat16"},
    ],
)
def test_json_and_back(fields: dict) -> None:
    cfg = SAEConfig(d_in=3, d_sae=7, device="cpu", **fields)
    assert SAEConfig.from_dict(json.loads(json.dumps(cfg.to_dict()))) == cfg


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "jump"}, "kind must be one of"),
        ({"d_in": 0}, "d_in must be a whole number of at least 1"),
        ({"d_sae": 2.0}, "d_sae must be a whole number"),
        ({"seed": -1}, "seed"),
        ({"l1_coefficient": None}, "l1_coefficient must be a number"),
        ({"l1_coefficient": -0.1}, "Received -0.1"),
        ({"l1_coefficient": float("nan")}, "l1_coefficient"),
        ({"k": 2}, "k is for kind 'topk'"),
        ({"aux_k": 2}, "aux_k is for kind 'topk'"),
        ({"kind": "gated", "aux_coefficient": 0.1}, "aux_coefficient is for kind 'topk'"),
        ({"kind": "topk", "k": 2}, "l1_coefficient is not for kind 'topk'"),
        ({"kind": "topk", "l1_coefficient": None}, "k must be a whole number"),
        ({"kind": "topk", "l1_coefficient": None, "k": 8}, r"k must be at most d_sae \(7\)"),
        ({"kind": "topk", "l1_coefficient": None, "k": 2, "aux_k": -1}, "aux_k must be a whole"),
        ({"kind": "topk", "l1_coefficient": None, "k": 2, "aux_coefficient": -1}, "aux_coeff"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"device": "nowhere"}, "device must be one"),
    ],
)
def test_bad_fields_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        SAEConfig(**{"kind": "relu", "d_in": 3, "d_sae": 7, "l1_coefficient": 0.1, **fields})


def test_a_document_must_have_the_fields() -> None:
    with pytest.raises(InputError, match=r"Missing: \['d_in', 'kind'\]; unknown: \['width'\]"):
        SAEConfig.from_dict({"d_sae": 3, "width": 3})
