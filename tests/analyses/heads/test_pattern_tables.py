"""Patterns as a table, against the cache they were read from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analyses.heads.pattern_tables import patterns_table
from analyses.inputs.prompts import prompt_tokens, token_texts
from interp import load_model


def test_patterns_by_destination_and_source() -> None:
    model = load_model("zoo:induction", dtype="float64")
    tokens = prompt_tokens(model, "a b a")
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter="blocks.*.attn.hook_pattern")
    table = patterns_table(cache, [(1, 2), (0, 0)], token_texts(model, tokens[0]))
    assert len(table) == 2 * (4 + 3 + 2 + 1)
    assert (table["source"] <= table["destination"]).all()  # what is later is absent, not zero
    cell = table.query("head == 'L1H2' and destination == 3 and source == 1").iloc[0]
    assert cell["attention"] == float(cache["pattern", 1][0, 2, 3, 1])
    assert (cell["destination_token"], cell["source_token"]) == ("a", "a")
    sums = table.groupby(["head", "destination"])["attention"].sum()
    np.testing.assert_allclose(sums, 1.0, atol=1e-12)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"attention_dir": "bidirectional"},
        {"window_size": 2, "attn_types": ("global", "local")},
        {"architecture": "encoder-decoder", "n_encoder_layers": 1},
    ],
    ids=["causal", "bidirectional", "window", "encoder-decoder"],
)
def test_what_is_not_visible_has_no_attention(fields, make_model) -> None:
    """Scores of -inf say what the model's own mask shuts out."""
    model = make_model(**fields)
    tokens = torch.tensor([[1, 2, 3, 4, 5]])
    decoder = {"decoder_input": tokens} if "architecture" in fields else {}
    stack = "decoder." if decoder else ""
    names = [
        f"{stack}blocks.{i}.attn.hook_{kind}" for i in (0, 1) for kind in ("attn_scores", "pattern")
    ]
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=names, **decoder)
    for layer in (0, 1):
        table = patterns_table(cache, [(layer, 0)], list("abcde"))
        seen = np.zeros((5, 5), dtype=bool)
        seen[table["destination"], table["source"]] = True
        np.testing.assert_array_equal(seen, torch.isfinite(cache["attn_scores", layer][0, 0]))
