"""Patching, attribution and other analyses find what they find on one device."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import Tensor

from interp.attribution import direct_logit_attribution, edge_attribution, estimate
from interp.attribution.direct import hooks_needed
from interp.lens import logit_lens
from interp.parallel import tensor_parallel
from interp.patching import (
    get_act_patch_attn_head_all_pos_every,
    get_act_patch_block_every,
    get_act_patch_resid_pre,
)
from tests.covering import EXHAUSTIVE
from tests.interp.kinds import KINDS, some_tokens
from tests.interp.parallel.checks.common import LLAMA, check, difference, make


@check
def patches(out: Path) -> float:
    worst = [0.0]
    for kind in ("gpt2", "llama") if EXHAUSTIVE else ("llama",):
        single = make(**KINDS[kind])
        spread = tensor_parallel(single)
        clean, corrupted = some_tokens(2, 5, 0), some_tokens(2, 5, 1)

        def metric(logits: Tensor) -> Tensor:
            return logits[:, -1, 3].mean() - logits[:, -1, 4].mean()

        found = []
        for model in (spread, single):
            cache = model.run_with_cache(clean)[1]
            found.append([
                sweep(model, corrupted, cache, metric)
                for sweep in (
                    get_act_patch_resid_pre,
                    get_act_patch_block_every,
                    get_act_patch_attn_head_all_pos_every,
                )
            ])  # fmt: skip
        worst += [difference(a, b, "patching") for a, b in zip(*found, strict=True)]
    return max(worst)


@check
def attributes(out: Path) -> float:
    single = make(**LLAMA)
    spread = tensor_parallel(single)
    clean, corrupted = some_tokens(1, 5, 0), some_tokens(1, 5, 1)

    def metric(logits: Tensor) -> Tensor:
        return logits[:, -1, 3] - logits[:, -1, 4]

    found = []
    for model in (spread, single):
        cache = model.run_with_cache(clean, names_filter=hooks_needed(model))[1]
        direct = direct_logit_attribution(model, cache, 3, 4)
        source = model.run_with_cache(clean)[1]
        z = estimate(model, corrupted, source, "z", metric).values
        lens = logit_lens(model, clean)
        edges = edge_attribution(model, clean, corrupted, metric)
        found.append((direct, z, lens, edges))
    return max(
        difference(a, b, f"attribution {i}")
        for i, (x, y) in enumerate(zip(*found, strict=True))
        for a, b in zip(_tensors(x), _tensors(y), strict=True)
    )


def _tensors(found: Any) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found]
    fields = (getattr(found, f.name) for f in dataclasses.fields(found))
    return [x for x in fields if isinstance(x, Tensor)]
