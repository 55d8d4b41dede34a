"""Caches of keys and values, and what is generated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from interp import KeyValueCache
from interp.parallel import tensor_parallel
from tests.interp.kinds import some_tokens
from tests.interp.parallel.checks.common import LLAMA, USABLE, check, difference, make, refused


@check
def keys_and_values_are_kept(out: Path) -> float:
    worst = [0.0]
    for kind in ("llama", "gpt2", "llama-ungrouped", "bloom"):
        single = make(**USABLE[kind])
        spread = tensor_parallel(single)
        tokens = some_tokens(2, 9)
        with torch.no_grad():
            cache = KeyValueCache.init_cache(spread.cfg, "cpu", 2)
            parts = [spread(t, past_kv_cache=cache) for t in tokens.split([4, 1, 1, 3], 1)]
            worst.append(difference(torch.cat(parts, 1), single(tokens), kind))
        whole_heads = single.cfg.n_heads if "un" in kind else single.cfg.n_kv_heads
        assert cache[0].keys.shape[2] == whole_heads // 2
    return max(worst)


@check
def caches_of_other_models_are_refused(out: Path) -> None:
    single = make(n_heads=8, d_head=3, n_key_value_heads=8)
    other = KeyValueCache.init_cache(single.cfg, "cpu", 2)
    single(some_tokens(2, 3), past_kv_cache=other)
    spread = tensor_parallel(single)
    refused(lambda: spread(some_tokens(2, 1), past_kv_cache=other), "4 here", "with 8")


@check
def generates_alike(out: Path) -> None:
    single = make(**LLAMA, n_layers=2)
    spread = tensor_parallel(single)
    tokens = some_tokens(2, 4)
    options: dict[str, Any] = {"max_new_tokens": 5, "stop_at_eos": False}
    for more in ({"do_sample": False}, {"seed": 3}, {"num_beams": 3, "do_sample": False}):
        a, b = (m.generate(tokens, **options, **more) for m in (spread, single))
        assert torch.equal(a, b), more
    # Nobody says what to draw with, and the ranks' own generators stand elsewhere.
    torch.manual_seed(dist.get_rank())
    drawn = spread.generate(tokens, **options, temperature=3.0)
    both = [torch.empty_like(drawn) for _ in range(2)]
    dist.all_gather(both, drawn)
    assert torch.equal(*both)
    again = spread.generate(tokens, **options, temperature=3.0)
    assert not torch.equal(drawn, again)
