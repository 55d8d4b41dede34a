"""Which senders and receivers the numbers of a path sweep belong to."""

from __future__ import annotations

from collections.abc import Callable

import torch

from interp import HookedTransformer, patching


def test_labels_are_the_layers_and_heads_that_were_chosen(
    make_model: Callable[..., HookedTransformer],
) -> None:
    model = make_model()
    tokens = torch.arange(8).view(2, 4)
    with torch.no_grad():
        _, clean = model.run_with_cache(tokens + 1, names_filter="blocks.*.attn.hook_z")
    senders = patching.sites(model, "z", layers=[0], positions="all", heads=[3, 1])
    receivers = patching.sites(model, "q_input", layers=[-1], positions="all", heads=[2])
    found = patching.path_sweep(model, tokens, clean, senders, receivers, patching.LogitDiff(3, 5))
    assert found.axis_names == ("layer", "head", "to_layer", "to_head")
    assert found.labels == ((0,), (3, 1), (1,), (2,))
    assert found.values.shape == (1, 2, 1, 1, 2)
