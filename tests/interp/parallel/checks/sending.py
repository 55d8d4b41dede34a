"""Ranks send what is asked for and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from interp.parallel import tensor_parallel
from tests.interp.kinds import some_tokens
from tests.interp.parallel.checks.common import LLAMA, check, make


@check
def nothing_is_sent_that_nobody_asked_for(out: Path) -> None:
    spread = tensor_parallel(make(n_layers=3, **LLAMA))
    tokens = some_tokens()

    def sent(fn: Callable[[], Any]) -> tuple[int, int]:
        with _Sent() as seen:
            fn()
        sums = sum("reduce" in name for name in seen.names)
        return sums, len(seen.names) - sums

    with torch.no_grad():
        assert sent(lambda: spread(tokens)) == (6, 0)

        def record(name: str) -> None:
            spread.run_with_cache(tokens, names_filter=f"blocks.1.{name}")

        for name in ("attn.hook_z", "attn.hook_pattern", "mlp.hook_pre", "attn.hook_result"):
            assert sent(partial(record, name)) == (6, 1), name
        for name in ("hook_resid_pre", "hook_attn_out", "attn.hook_q_input", "ln1.hook_scale"):
            assert sent(partial(record, name)) == (6, 0), name

        def change() -> None:
            hooks = [("blocks.1.attn.hook_z", lambda z, hook: z * 2)]
            spread.run_with_hooks(tokens, fwd_hooks=hooks)

        assert sent(change) == (6, 1)

        def stop() -> None:
            spread.run_with_cache(tokens, names_filter="blocks.0.hook_*", return_type=None)

        assert sent(stop) == (2, 0)
    # Backward: another sum where each sublayer begins, of what flows back to it.
    loss = spread(tokens, return_type="loss")
    assert sent(loss.backward) == (6, 0)


class _Sent(TorchDispatchMode):
    """What is sent to other processes, by torch's names for it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in ("c10d", "_c10d_functional"):
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))
