"""The oracle of edge runs: the restated Transformer, with every edge taken off in a loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any

import torch
from torch import Tensor

from interp import HookedTransformer
from tests.interp.kinds import KINDS
from tests.interp.restatement import Edit, reference

# All kinds of model that have a graph of edges.
GRAPHS = [
    name
    for name, fields in KINDS.items()
    if fields.get("norm_placement", "pre") == "pre"
    and not fields.get("post_embedding_ln")
    and fields.get("architecture") != "encoder-decoder"
]


def senders_before(model: HookedTransformer, layer: int, mlp: bool = False) -> list[str]:
    """What has been written when this layer's attention (or its MLP) reads, from the definition."""
    cfg = model.cfg
    found = ["embed"]
    if cfg.positional_embedding_type in ("standard", "sinusoidal"):
        found.append("pos_embed")
    if cfg.n_token_types:
        found.append("token_type_embed")
    for earlier in range(layer + int(mlp)):
        found += [f"L{earlier}H{head}" for head in range(cfg.n_heads)]
        if earlier == layer and cfg.parallel_attn_mlp:
            found = found[: -cfg.n_heads]
        elif not cfg.attn_only and earlier < layer:
            found.append(f"L{earlier}MLP")
    return found


def edges_of(model: HookedTransformer) -> list[str]:
    """All edges, receiver by receiver."""
    cfg, found = model.cfg, []
    shared = cfg.n_key_value_heads != cfg.n_heads and not cfg.ungroup_grouped_query_attention
    for layer in range(cfg.n_layers):
        for part in "qkv":
            group = shared and part != "q"
            for head in range(cfg.n_key_value_heads if group else cfg.n_heads):
                label = f"L{layer}{'KV' if group else 'H'}{head}.{part}"
                found += [f"{sender}->{label}" for sender in senders_before(model, layer)]
        if not cfg.attn_only:
            found += [f"{s}->L{layer}MLP" for s in senders_before(model, layer, mlp=True)]
    return found + [f"{s}->logits" for s in senders_before(model, cfg.n_layers)]


def written(model: HookedTransformer, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What each sender writes into the stream, `[batch, pos, d_model]`, by label."""
    weights = model.state_dict()
    found = {}
    for name, label in (
        ("hook_embed", "embed"),
        ("hook_pos_embed", "pos_embed"),
        ("hook_token_type_embed", "token_type_embed"),
    ):
        if name in values:
            found[label] = values[name]
    for layer in range(model.cfg.n_layers):
        if f"blocks.{layer}.attn.hook_z" in values:
            for head in range(model.cfg.n_heads):
                z = values[f"blocks.{layer}.attn.hook_z"][:, :, head]
                found[f"L{layer}H{head}"] = z @ weights[f"blocks.{layer}.attn.W_O"][head]
        if f"blocks.{layer}.hook_mlp_out" in values:
            found[f"L{layer}MLP"] = values[f"blocks.{layer}.hook_mlp_out"]
    return found


def logits_of_edges(
    model: HookedTransformer,
    given: dict[str, Tensor],
    live: Set[str],
    elsewhere: Mapping[str, Tensor],
    starts: Callable[[str, Tensor], Tensor] | None = None,
) -> Tensor:
    """Logits where these edges alone carry what this run writes, and the others `elsewhere`.

    Args:
        model: The model, in fp64.
        given: Arguments of `reference`.
        live: Edges.
        elsewhere: What each sender writes there, by label.
        starts: Gives what a sender's hook holds instead of what it would.
    """
    now: dict[str, Tensor] = {}
    edits: dict[str, Edit] = {}

    def keep(name: str) -> Edit:
        def edit(x: Tensor) -> Tensor:
            x = x if starts is None else starts(name, x)
            now.update(written(model, {name: x}))
            return x

        return edit

    def lack(labels: list[str | None], before: list[str]) -> Edit:
        def edit(x: Tensor) -> Tensor:
            x = x.clone()
            for head, label in enumerate(labels):
                for sender in before:
                    if f"{sender}->{label}" not in live:
                        part = x[:, :, head] if x.ndim == 4 else x
                        part -= now[sender] - elsewhere[sender]
            return x

        return edit

    for name in ("hook_embed", "hook_pos_embed", "hook_token_type_embed"):
        edits[name] = keep(name)
    by_hook: dict[str, list[Any]] = {}
    n_layers = model.cfg.n_layers
    for edge in edges_of(model):
        label = edge.split("->")[1]
        if label == "logits":
            hook = f"blocks.{n_layers - 1}.hook_resid_post"
        elif label.endswith("MLP"):
            hook = f"blocks.{label[1:-3]}.hook_mlp_in"
        else:
            hook = f"blocks.{label[1 : min(label.index(c) for c in 'HK' if c in label)]}.hook_"
            hook += f"{label[-1]}_input"
        labels = by_hook.setdefault(hook, [])
        if label not in labels:
            labels.append(label)
    for hook, labels in by_hook.items():
        layer = int(hook.split(".")[1])
        last = hook.endswith("resid_post")
        before = senders_before(model, layer + int(last), mlp=hook.endswith("mlp_in"))
        edits[hook] = lack(labels, before)
    for layer in range(n_layers):
        edits[f"blocks.{layer}.attn.hook_z"] = keep(f"blocks.{layer}.attn.hook_z")
        edits[f"blocks.{layer}.hook_mlp_out"] = keep(f"blocks.{layer}.hook_mlp_out")
    return reference(model, edits=edits, **given)[0]


@torch.no_grad()
def plain_values(model: HookedTransformer, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The value of every hook in an ordinary restated run."""
    return reference(model, **given)[1]
