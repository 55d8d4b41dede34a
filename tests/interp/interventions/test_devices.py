"""Interventions on a GPU give what they give on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interp import HookedTransformer
from interp.interventions import Patch, Reference, hooks_for
from tests.interp.interventions.test_apply import some_of_each
from tests.interp.kinds import KINDS, given_to, with_padding


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3", "t5", "classifier"])
def test_the_same_on_a_gpu(
    make_model: Callable[..., HookedTransformer], name: str, assert_close: Any
) -> None:
    cpu = make_model(dtype="float64", **KINDS[name])
    gpu = make_model(dtype="float64", **KINDS[name]).to("cuda")
    given = with_padding(given_to(cpu), [0, 1, 2], left=True)
    moved = {key: x.to("cuda") for key, x in given.items()}
    for label, item in some_of_each(cpu, 0).items():
        with torch.no_grad():
            expected = cpu.run_with_hooks(**given, fwd_hooks=hooks_for(cpu, item, **given))
            hooks = hooks_for(gpu, item, **moved)
            found = gpu.run_with_hooks(**moved, fwd_hooks=hooks)
            again = gpu.run_with_hooks(**moved, fwd_hooks=hooks)
        assert_close(found.cpu(), expected, label)
        assert_close(again.cpu(), expected, label)
    hook = "decoder.blocks.0.hook_resid_pre" if name == "t5" else "blocks.0.hook_resid_pre"
    held = Patch(hook, Reference(activations={hook: torch.ones(1, 8, 24)}))
    found = gpu.run_with_hooks(**moved, fwd_hooks=hooks_for(gpu, held, **moved))
    assert_close(found.cpu(), cpu.run_with_hooks(**given, fwd_hooks=hooks_for(cpu, held, **given)))
