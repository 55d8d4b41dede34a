from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer
from interp.weight_circuits import (
    composed_qk_circuit,
    composition_baseline,
    copying_scores,
    diagonal_in_top,
    effective_embedding,
    neuron_input_circuit,
    ov_circuit,
    position_vectors,
    qk_circuit,
    skip_trigrams,
    top_pairs,
    top_per_row,
    virtual_ov_norms,
)
from tests.interp.kinds import KINDS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
Make = Callable[..., HookedTransformer]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2", "mixtral-post"])
def test_cuda_as_the_cpu(kind: str, make_model: Make, assert_close: Callable[..., None]) -> None:
    here = make_model(**{**KINDS[kind], "dtype": "float64"})
    there = make_model(**{**KINDS[kind], "dtype": "float64"}).to("cuda")
    calls: dict[str, Callable[[HookedTransformer], Any]] = {
        "copying": lambda m: copying_scores(m, less_mean=True).score,
        "contrast": lambda m: copying_scores(m, range(20)).contrast,
        "composition": lambda m: composition_baseline(m, "K", n_draws=3).scores,
        "permuted": lambda m: composition_baseline(m, "V", n_draws=3).mean.nan_to_num(),
        "gaussian": lambda m: composition_baseline(m, "Q", "gaussian", 3).std.nan_to_num(),
        "rotated": lambda m: composition_baseline(m, "Q", "rotated", 3).mean.nan_to_num(),
        "pairs": lambda m: top_pairs(qk_circuit(m, 1, 1), chunk=7).values,
        "rows": lambda m: top_per_row(ov_circuit(m, 1, 1), [3, 0])[1],
        "diagonal": lambda m: diagonal_in_top(ov_circuit(m, 0, 0), 3).double(),
        "triples": lambda m: skip_trigrams(m, 1, 0, chunk=5).strength,
        "through": lambda m: composed_qk_circuit(m, (0, 0), (1, 1)).AB,
        "virtual": virtual_ov_norms,
        "effective": effective_embedding,
    }
    if kind != "mixtral-post":
        calls["neurons"] = lambda m: neuron_input_circuit(m, 1).AB
    if kind == "gpt2":
        calls["positions"] = position_vectors
    for name, call in calls.items():
        assert_close(call(there).cpu(), call(here), name)
