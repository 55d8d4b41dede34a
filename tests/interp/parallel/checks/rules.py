"""What ranks must do alike, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from interp import NonFiniteError
from interp.parallel import Ranks, ReplicaError, tensor_parallel
from interp.probes import features_of, sites_of
from tests.interp.kinds import some_tokens
from tests.interp.parallel.checks.common import LLAMA, check, difference, make, refused


@check
def replicas_are_compared(out: Path) -> None:
    single = make(**LLAMA)
    spread = tensor_parallel(single, check_replicas=True)
    tokens, rank = some_tokens(), dist.get_rank()
    loose = tensor_parallel(single)

    def noisy(x: Tensor, hook: Any) -> Tensor:
        return x + torch.randn(x.shape, generator=torch.Generator().manual_seed(rank)).to(x)

    for name in ("blocks.0.hook_resid_pre", "blocks.1.attn.hook_z", "blocks.0.mlp.hook_post"):
        spread.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: x * 2)])

        def run(name: str = name) -> None:
            spread.run_with_hooks(tokens, fwd_hooks=[(name, noisy)])

        refused(run, name, "the same on every rank", error=ReplicaError)

    def backward() -> None:
        with spread.hooks(bwd_hooks=[("blocks.0.attn.hook_z", noisy)]):
            spread(tokens, return_type="loss").backward()

    refused(backward, "blocks.0.attn.hook_z's gradient", error=ReplicaError)
    refused(lambda: spread(some_tokens(seed=rank)), "the input", error=ReplicaError)
    refused(lambda: spread(some_tokens(n_pos=4 + rank)), "its shape", error=ReplicaError)
    hooks = ["*.hook_resid_post", "*.hook_z", "*.hook_pattern", "*.hook_k", "unembed.hook_out"]
    spread.run_with_cache(tokens, names_filter=hooks, return_type="loss", incl_bwd=True)
    # Without the check the ranks go apart in silence: that is what it is for.
    loose.run_with_hooks(tokens, fwd_hooks=[("blocks.0.hook_resid_pre", noisy)])


@check
def what_cannot_be_is_refused(out: Path) -> None:
    spread = tensor_parallel(make(**LLAMA))
    refused(lambda: tensor_parallel(spread), "already")
    refused(lambda: tensor_parallel("gpt2"), "Received str")  # type: ignore[arg-type]
    refused(lambda: tensor_parallel(make(), 3), "processes is 2", "Received 3")
    refused(lambda: tensor_parallel(make(), True), "Received True")
    refused(lambda: tensor_parallel(make(), init_device_mesh("cpu", (2, 1))), "one axis")
    refused(lambda: tensor_parallel(make(n_heads=3)), "n_heads (3)", "2 ranks")
    refused(lambda: tensor_parallel(make(n_key_value_heads=1)), "n_key_value_heads (1)")
    refused(lambda: tensor_parallel(make(d_mlp=21)), "d_mlp (21)")
    experts = make(num_experts=4, experts_per_token=2, gated_mlp=True)
    refused(lambda: tensor_parallel(experts), "experts")
    refused(lambda: spread.to(torch.float32), "moved or converted")
    refused(spread.compile, "compiled", "gathered()")
    refused(spread.process_weights, "processed")
    refused(lambda: spread.load_state_dict({}, assign=True), "assign=False")
    refused(lambda: copy.deepcopy(spread), "copied")
    refused(lambda: spread.to_devices(["cpu"]), "moved")
    refused(lambda: type(spread).uninitialised(spread.cfg), "tensor_parallel")


@check
def meshes(out: Path) -> float:
    """A number, a mesh, an axis of a larger mesh, and a mesh of one rank."""
    single = make(**LLAMA)
    tokens = some_tokens()
    larger = init_device_mesh("cpu", (1, 2), mesh_dim_names=("data", "tensor"))
    alone = init_device_mesh("cpu", (2, 1), mesh_dim_names=("data", "tensor"))["tensor"]
    found = []
    for mesh, n in ((2, 2), (init_device_mesh("cpu", (2,)), 2), (larger["tensor"], 2), (alone, 1)):
        spread = tensor_parallel(single, mesh)
        assert spread.ranks.size == n
        found.append(difference(spread(tokens), single(tokens), str(mesh)))
    assert Ranks.of(None).rank == dist.get_rank()
    return max(found)


@check
def memory_is_agreed_on(out: Path) -> None:
    """One rank has none left: neither goes on, and neither waits for the other."""
    spread = tensor_parallel(make(**LLAMA))
    sites = sites_of(spread, "resid_post")
    features_of(spread, some_tokens(), sites)
    with pytest.MonkeyPatch.context() as patch:
        left = 0 if dist.get_rank() else 1 << 40
        patch.setattr("interp.probes.sites.free_memory", lambda device: left)
        refused(lambda: features_of(spread, some_tokens(), sites), "more than half of what cpu")


@check
def what_is_not_finite_is_found_on_every_rank(out: Path) -> None:
    single = make(torch.float32, **LLAMA)
    with torch.no_grad():
        single.blocks[1].attn.b_Q[0] = 1e25  # of the first rank's heads
        single.blocks[1].attn._b_K[0] = 1e25
        single.blocks[1].attn._W_K[0] = 0.0
        spread = tensor_parallel(single)
        for model in (single, spread):
            with pytest.raises(NonFiniteError) as fault, model.check_finite():
                model(some_tokens())
            assert fault.value.hook == "blocks.1.attn.hook_attn_scores"
        assert "_attend_fused" not in vars(spread.blocks[1].attn.part)
