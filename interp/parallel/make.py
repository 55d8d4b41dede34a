"""Spreading a model over processes, and opening one spread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor.experimental import implicit_replication

from interp.config import HookedTransformerConfig
from interp.errors import InputError
from interp.parallel.model import TensorParallelTransformer, fill
from interp.parallel.ranks import Mesh, Ranks
from interp.pretrained import load_model
from interp.transformer import HookedTransformer


def tensor_parallel(
    model: HookedTransformer, mesh: Mesh = None, *, check_replicas: bool = False
) -> TensorParallelTransformer:
    """A model with the same weights, of which each process holds its share of heads and neurons.

    Every process calls it, with the same model; start them with `torchrun --nproc-per-node 2
    script.py`. (Shoeybi et al. 2019, Megatron-LM, §3.)

    Args:
        model: Stays as it is; it may lie on the CPU where the ranks compute on GPUs. Its hooks are
            not taken along.
        mesh: The processes: a `DeviceMesh` with one axis, or how many there are. None: all that
            were started, on CUDA where there is one, else the CPU.
        check_replicas: Compare inputs, and what watched hooks pass on, between ranks: slow, for
            finding a hook that sends ranks apart.

    Raises:
        InputError: for a mesh that breaks a rule, processes that were not started together, a
            mixture of experts, or heads, key/value heads or neurons that the ranks cannot share
            out evenly.
        ReplicaError: later, with `check_replicas`, where ranks differ.
    """
    if isinstance(model, TensorParallelTransformer):
        raise InputError("this model is spread over ranks already.")
    if not isinstance(model, HookedTransformer):
        raise InputError(f"model must be a HookedTransformer. Received {type(model).__name__}.")
    spread = TensorParallelTransformer._unfilled(
        model.cfg, model.tokenizer, Ranks.of(mesh), check_replicas
    )
    fill(spread, model.state_dict())
    for name, weight in spread.named_parameters():
        weight.requires_grad_(model.get_parameter(name).requires_grad)
    return spread.train(model.training)


def load_tensor_parallel(
    name: str | Path,
    mesh: Mesh = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    tokenizer: Any = None,
    *,
    check_replicas: bool = False,
) -> TensorParallelTransformer:
    """Open a trained model spread over processes, each keeping its own share of the weights.

    Nowhere is the whole in memory: files are mapped and read tensor by tensor.

    Args:
        name: As for `load_model`.
        mesh: As for `tensor_parallel`.
        dtype: None: that of the weights.
        revision: Of a model on the hub.
        tokenizer: Instead of the one beside the weights.
        check_replicas: As for `tensor_parallel`.

    Raises:
        InputError: as `load_model` and `tensor_parallel`.
    """
    ranks = Ranks.of(mesh)
    if str(name).startswith("zoo:"):  # made, not read
        model = load_model(name, "cpu", dtype, revision, tokenizer)
        return tensor_parallel(model, ranks.mesh, check_replicas=check_replicas)

    def make(cfg: HookedTransformerConfig, tokenizer: Any) -> HookedTransformer:
        return TensorParallelTransformer._unfilled(cfg, tokenizer, ranks, check_replicas)

    with implicit_replication():  # of what is read: each rank writes its part of it
        found = load_model(name, ranks.device, dtype, revision, tokenizer, make=make)
    assert isinstance(found, TensorParallelTransformer)
    return found
