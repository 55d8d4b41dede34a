"""The oracle of all sweeps: one plain run with one hook for every place."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor

from interp import HookedTransformer
from interp.patching import Metric, Sites


def lengths_of(model: HookedTransformer, sites: Sites, run: Mapping[str, Any]) -> dict[str, int]:
    """How long the axes of a site's tensors are."""
    own = run["input"].shape[1]
    target = run["decoder_input"].shape[1] if "decoder_input" in run else own
    name = sites.hooks[0]
    encodes, crosses = name.startswith("encoder."), ".cross_attn." in name
    of_keys = crosses and name.endswith(("hook_k", "hook_v", "hook_scale", "hook_normalized"))
    if "cross_attn.q_norm" in name:
        of_keys = False
    return {
        "pos": own if encodes or of_keys else target,
        "src_pos": own if encodes or crosses else target,
        "head": sites.axes.n_heads,
    }


@torch.no_grad()
def patched_one_by_one(
    model: HookedTransformer,
    run: Mapping[str, Any],
    source: Mapping[str, Tensor] | float,
    sites: Sites,
    metric: Any,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """`[*grid, …]`: what the metric is in each of the runs."""
    lengths = lengths_of(model, sites, run)
    axes = [sites.hooks]
    kinds = [name for name in ("pos", "head", "src_pos") if name in sites.axes.names]
    kinds = [name for name in kinds if sites.chosen[name] != "all"]
    for kind in kinds:
        chosen = sites.chosen[kind]
        axes.append(tuple(range(lengths[kind])) if isinstance(chosen, str) else tuple(chosen))
    values = []
    for name, *place in product(*axes):
        at = dict(zip(kinds, place, strict=True))

        def put_in(x: Tensor, hook: Any, at: dict[str, int] = at) -> None:
            index = (slice(None), *(at.get(axis, slice(None)) for axis in sites.axes.names))
            x[index] = source if isinstance(source, float) else source[hook.name][index]

        logits = model.run_with_hooks(**run, fwd_hooks=[(name, put_in)])
        if isinstance(metric, Metric):
            values.append(metric.per_prompt(logits, attention_mask))
        else:
            values.append(metric(logits))
    shape = tuple(map(len, axes if sites.layers is not None else axes[1:]))
    return torch.stack(values).reshape(*shape, *values[0].shape)
