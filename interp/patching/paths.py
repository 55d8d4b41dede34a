"""Direct path patching: what one part writes is changed for one reader alone.

The reader's input changes by what the sender writes in the source run less what it writes in the
base run; everything between the two, and every other reader, still sees the base (Wang et al. 2022,
Interpretability in the Wild, §3.1, without the parts in between that are recomputed there).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError, require, require_one_of
from interp.patching.base import BaseRun, inside_a_run
from interp.patching.grids import Grid, Sites
from interp.patching.metrics import Metric
from interp.patching.read_out import LogitsFunction
from interp.patching.sweeps import SweepResult, activation_in, values_of
from interp.patching.worlds import AddedWorlds

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

_WRITERS = ("attn.hook_z", "hook_attn_out", "hook_mlp_out")
_READERS = ("hook_q_input", "hook_k_input", "hook_v_input", "hook_mlp_in")
_EMBEDDINGS = ("hook_embed", "hook_pos_embed")


def path_sweep(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    source: Mapping[str, Float[Tensor, "batch_or_1 pos ..."]],
    senders: Sites,
    receivers: Sites,
    metric: Metric | LogitsFunction,
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    max_bytes: int | None = None,
    progress: bool = False,
) -> SweepResult:
    """Patch every direct path from a sender to a receiver by itself.

    For a grid of heads and layers, one value each, in as few runs as can be. For edges by name,
    embeddings among them: `circuits.patch_edges`; for one edge as part of any run:
    `interventions.KnockOutEdge`.

    Args:
        model: With norms (if any) in front of what reads alone (`norm_placement="pre"`).
        tokens: The prompts that are run.
        source: Activations of the senders in the source run.
        senders: Sites at all positions of `z` (heads), `attn_out` or `mlp_out`, or of `hook_embed`
            or `hook_pos_embed`.
        receivers: Sites at all positions of `q_input`, `k_input`, `v_input` (heads) or `mlp_in`; or
            of the last layer's `resid_post`, which the logits are read from.
        metric: As in `sweep`.
        attention_mask: As for `forward`.
        max_bytes: As in `sweep`. It does not bound what every sender writes, `[sender, batch, pos,
            d_model]`, which is made first and kept.
        progress: Show a progress bar.

    Returns:
        The metric for every sender and receiver, `[*senders, *receivers, batch]`; NaN where the
        receiver comes before the sender. The axes of the receivers are `to_layer` and `to_head`.

    Raises:
        InputError: for other sites or another kind of model, and as `sweep`.
    """
    cfg = model.cfg
    require(
        cfg.norm_placement == "pre" and cfg.architecture != "encoder-decoder",
        "direct paths need a single stack with norms in front of what reads. This is "
        f"{cfg.architecture} with norm_placement={cfg.norm_placement!r}",
    )
    _check_sites("senders", senders, (*_WRITERS, *_EMBEDDINGS))
    last = f"blocks.{cfg.n_layers - 1}.hook_resid_post"
    _check_sites("receivers", receivers, (*_READERS, last))
    for hook in senders.hooks:
        in_stream = hook != "hook_pos_embed" or model.main_stack.pos_embed.adds_embedding
        require(
            hook not in _EMBEDDINGS or (in_stream and not cfg.post_embedding_ln),
            f"{hook} is no direct sender where it is normalised or not added to the residual "
            "stream. In this model it is one or the other",
        )
    with torch.no_grad():
        run = BaseRun(model, tokens, attention_mask)
        there, here = senders.grid(run.n_pos, 0), receivers.grid(run.n_pos, 0)
        added = _written(run, source, senders, there)
        readable = np.array([_written_at(model, hook) for hook in senders.hooks])[there.hook_of]
        read = np.array([_read_at(model, hook) for hook in receivers.hooks])[here.hook_of]
        pairs = readable[:, None] <= read[None]  # [sender, receiver]
        sender, receiver = pairs.nonzero()
        heads = here.coordinates.get("head")
        worlds = AddedWorlds(
            receivers.hooks,
            receivers.axes,
            here.hook_of[receiver],
            None if heads is None else heads[receiver],
            added,
            sender,
        )
        found, base = values_of(run, worlds, metric, max_bytes, progress)
        values = found.new_full((*pairs.shape, *base.shape), torch.nan)
        values[torch.as_tensor(pairs, device=values.device)] = found
    shape = (*there.shape, *here.shape, *base.shape)
    names = (*there.axis_names, *(f"to_{name}" for name in here.axis_names))
    return SweepResult(values.view(shape), base, names, (*there.labels, *here.labels))


def _check_sites(kind: str, sites: Any, allowed: tuple[str, ...]) -> None:
    if not isinstance(sites, Sites):
        raise InputError(f"{kind} must be what patching.sites gives. Received {sites!r}.")
    for hook in sites.hooks:
        require(
            any(hook == name or hook.endswith(f".{name}") for name in allowed),
            f"{kind} must be sites of {', '.join(allowed)}. Received {hook}",
        )
    heads_apart = "head" not in sites.axes.names or sites.chosen["head"] != "all"
    require(
        sites.chosen["pos"] == "all" and heads_apart,
        f"{kind} must be sites at all positions (positions='all') of single heads. Received "
        f"positions={sites.chosen['pos']!r}, heads={sites.chosen['head']!r}",
    )


def _written_at(model: HookedTransformer, hook: str) -> int:
    """The first step (two in each layer) whose readers see what this hook writes."""
    if hook in _EMBEDDINGS:
        return 0
    layer = int(hook.split(".")[1])
    # In a parallel layer the MLP reads what attention reads.
    by_attention = not hook.endswith("hook_mlp_out") and not model.cfg.parallel_attn_mlp
    return 2 * layer + (1 if by_attention else 2)


def _read_at(model: HookedTransformer, hook: str) -> int:
    """The step at which this hook reads."""
    layer = int(hook.split(".")[1])
    if hook.endswith("hook_resid_post"):
        return 2 * layer + 2
    return 2 * layer + int(hook.endswith("hook_mlp_in") and not model.cfg.parallel_attn_mlp)


def _written(
    run: BaseRun, source: Mapping[str, Tensor], senders: Sites, grid: Grid
) -> Float[Tensor, "sender batch pos d_model"]:
    """What each sender writes in the source less what it writes in the base."""
    model = run.model
    with inside_a_run(model):
        run.run(set(), set(senders.hooks), keeps_keys=False)
    changes = []
    for hook in senders.hooks:
        there, base = activation_in(source, run, senders, hook), run.recorded[hook]
        change = there.to(base.device, base.dtype) - base
        if hook.endswith("hook_z"):
            block: Any = run.stack.blocks[int(hook.split(".")[1])]
            change = block.attn.head_results(change).unbind(2)
            changes.append(change)
        else:
            changes.append((change,))
    heads = grid.coordinates.get("head", np.zeros_like(grid.hook_of))
    chosen = [changes[i][head] for i, head in zip(grid.hook_of, heads, strict=True)]
    empty = torch.empty(0, run.batch, run.n_pos, model.cfg.d_model)
    return torch.stack(chosen) if chosen else empty.to(run.streams[run.n_layers])


# --- TransformerLens's names ---------------------------------------------------------------------

Component = Literal["q", "k", "v"]


def get_act_patch_direct_path(
    model: HookedTransformer,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Mapping[str, Float[Tensor, "batch_or_1 pos ..."]],
    corrupted_cache: Mapping[str, Float[Tensor, "batch_or_1 pos ..."]],
    patching_metric: Metric | LogitsFunction,
    src_layer: int,
    src_head: int,
    component: Component = "q",
    verbose: bool = True,
) -> Float[Tensor, "layer head"]:
    """The metric with the path from one head into each later head's query, key or value patched.

    As in TransformerLens, layers up to the sender's are 0. `corrupted_cache` is not needed: the
    corrupted run is run once in any case. `verbose` shows a progress bar.

    Raises:
        InputError: for keys or values where heads share them, and as `path_sweep`.
    """
    return _from_heads(
        model,
        corrupted_tokens,
        clean_cache,
        patching_metric,
        [src_layer],
        [src_head],
        component,
        verbose,
    )[0, 0]


def get_act_patch_direct_path_all_sources(
    model: HookedTransformer,
    corrupted_tokens: Int[Tensor, "batch pos"],
    clean_cache: Mapping[str, Float[Tensor, "batch_or_1 pos ..."]],
    corrupted_cache: Mapping[str, Float[Tensor, "batch_or_1 pos ..."]],
    patching_metric: Metric | LogitsFunction,
    component: Component = "q",
    verbose: bool = True,
) -> Float[Tensor, "layer head to_layer to_head"]:
    """`get_act_patch_direct_path` from every head."""
    cfg = model.cfg
    layers, heads = list(range(cfg.n_layers)), list(range(cfg.n_heads))
    return _from_heads(
        model,
        corrupted_tokens,
        clean_cache,
        patching_metric,
        layers,
        heads,
        component,
        verbose,
    )


def _from_heads(
    model: HookedTransformer,
    tokens: Tensor,
    clean: Mapping[str, Tensor],
    metric: Metric | LogitsFunction,
    layers: list[int],
    heads: list[int],
    component: Component,
    verbose: bool,
) -> Float[Tensor, "layer head to_layer to_head"]:
    from interp.patching.grids import sites

    require_one_of("component", component, ("q", "k", "v"))
    require(
        component == "q" or not model.cfg.groups_queries,
        f"component must be 'q' where heads share keys and values. Received {component!r}",
    )
    senders = sites(model, "z", layers=layers, positions="all", heads=heads)
    receivers = sites(model, f"{component}_input", positions="all")
    found = path_sweep(model, tokens, clean, senders, receivers, metric, progress=verbose).mean()
    from_layer = torch.tensor(layers, device=found.device)[:, None]
    no_path = torch.arange(model.cfg.n_layers, device=found.device) <= from_layer
    return found.masked_fill(no_path[:, None, :, None], 0.0)
