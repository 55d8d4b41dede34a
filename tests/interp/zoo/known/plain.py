"""Every method spelled out in plain loops, one run at a time, to hold the truths against."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from interp import HookedTransformer
from interp.zoo.known import KnownModel

Hooks = list[tuple[str, Callable[..., Any]]]


def metric(truth: KnownModel, logits: Tensor) -> Tensor:
    """The logit difference, `[batch]`."""
    at = logits[:, truth.position]
    rows = torch.arange(len(at), device=at.device)
    return at[rows, truth.right] - at[rows, truth.wrong]


def run(truth: KnownModel, tokens: Tensor, hooks: Hooks = ()) -> Tensor:  # type: ignore[assignment]
    """The metric of a run with hooks."""
    return metric(truth, truth.model.run_with_hooks(tokens, fwd_hooks=list(hooks)))


def components(model: HookedTransformer) -> list[str]:
    """Labels of heads and MLPs."""
    cfg = model.cfg
    labels = []
    for layer in range(cfg.n_layers):
        labels += [f"L{layer}H{head}" for head in range(cfg.n_heads)]
        labels += [] if cfg.attn_only else [f"L{layer}MLP"]
    return labels


def place(label: str) -> tuple[str, Any]:
    """The hook that holds what a sender gives, and its part of that tensor."""
    if label in ("embed", "pos_embed"):
        return f"hook_{label}", ...
    head = re.fullmatch(r"L(\d+)H(\d+)", label)
    if head:
        return f"blocks.{head[1]}.attn.hook_z", (slice(None), slice(None), int(head[2]))
    return f"blocks.{label[1:-3]}.hook_mlp_out", ...


def kept(truth: KnownModel, tokens: Tensor) -> dict[str, Tensor]:
    """What every sender gives in a run: heads' z, and the rest as written."""
    wanted = {place(label)[0] for label in senders(truth.model)}
    _, cache = truth.model.run_with_cache(tokens, names_filter=sorted(wanted))
    return {label: cache[name][part] for label in senders(truth.model)
            for name, part in [place(label)]}  # fmt: skip


def senders(model: HookedTransformer) -> list[str]:
    """Labels of all that writes into the stream."""
    positions = ["pos_embed"] if model.cfg.positional_embedding_type == "standard" else []
    return ["embed", *positions, *components(model)]


def put(label: str, value: Tensor) -> Hooks:
    """Replace what a component gives."""
    name, part = place(label)

    def replace(x: Tensor, hook: Any) -> Tensor:
        x[part] = value
        return x

    return [(name, replace)]


def ablations(truth: KnownModel, labels: Iterable[str], kind: str) -> Tensor:
    """The change of the metric on the clean prompts with these components ablated together."""
    hooks: Hooks = []
    reference = kept(truth, truth.reference)
    for label in labels:
        mean = reference[label].mean(0)
        hooks += put(label, mean if kind == "mean" else torch.zeros_like(mean))
    return run(truth, truth.clean, hooks) - run(truth, truth.clean)


def patched_nodes(truth: KnownModel) -> dict[str, Tensor]:
    """What each component's clean output does to the corrupted run."""
    clean, before = kept(truth, truth.clean), run(truth, truth.corrupted)
    return {
        label: run(truth, truth.corrupted, put(label, clean[label])) - before
        for label in components(truth.model)
    }


def written(truth: KnownModel, tokens: Tensor) -> dict[str, Tensor]:
    """What every sender adds to the stream, `[batch, pos, d_model]`."""
    found = kept(truth, tokens)
    for label, value in found.items():
        head = re.fullmatch(r"L(\d+)H(\d+)", label)
        if head:
            found[label] = value @ truth.model.blocks[int(head[1])].attn.W_O[int(head[2])]
    return found


def readers(model: HookedTransformer) -> dict[str, tuple[str, Any, int]]:
    """Each receiver's hook, its part of that tensor, and how many layers' outputs it reads.

    Half a layer is its attention alone.
    """
    found: dict[str, tuple[str, Any, Any]] = {}
    n_layers = model.cfg.n_layers
    for layer in range(n_layers):
        for head in range(model.cfg.n_heads):
            for part in "qkv":
                index = (slice(None), slice(None), head)
                found[f"L{layer}H{head}.{part}"] = (
                    f"blocks.{layer}.hook_{part}_input",
                    index,
                    layer,
                )
        if not model.cfg.attn_only:
            found[f"L{layer}MLP"] = (f"blocks.{layer}.hook_mlp_in", ..., layer + 0.5)
    found["logits"] = (f"blocks.{n_layers - 1}.hook_resid_post", ..., n_layers)
    return found


def edges(model: HookedTransformer) -> list[tuple[str, str]]:
    """All pairs of a sender and a receiver that comes after it."""
    found = []
    for sender in senders(model):
        layer = -1.0
        if sender.startswith("L"):
            layer = int(re.findall(r"\d+", sender)[0]) + (0.5 if sender.endswith("MLP") else 0.0)
        for receiver, (_, _, reads) in readers(model).items():
            if layer < reads:
                found.append((sender, receiver))
    return found


@functools.cache
@torch.no_grad()
def patched_edges(truth: KnownModel, denoise: bool = True) -> dict[str, Tensor]:
    """What patching each edge alone does to the metric; all that comes after is computed anew."""
    base, source = truth.corrupted, truth.clean
    if not denoise:
        base, source = source, base
    in_base, in_source = written(truth, base), written(truth, source)
    before, places = run(truth, base), readers(truth.model)
    effects = {}
    for sender, receiver in edges(truth.model):
        name, part, _ = places[receiver]
        change = in_source[sender] - in_base[sender]

        def add(x: Tensor, hook: Any, part: Any = part, change: Tensor = change) -> Tensor:
            x[part] += change
            return x

        effects[f"{sender}->{receiver}"] = run(truth, base, [(name, add)]) - before
    return effects


def slopes(
    truth: KnownModel, tokens: Tensor, names: Iterable[str], embedded: Tensor | None = None
) -> dict[str, Tensor]:
    """The metric's gradient with respect to what flows on from each hook."""
    leaves: dict[str, Tensor] = {}
    hooks: Hooks = []
    if embedded is not None:
        hooks.append(("hook_embed", lambda x, hook: embedded))
    for name in names:

        def shift(x: Tensor, hook: Any, name: str = name) -> Tensor:
            leaves[name] = torch.zeros_like(x, requires_grad=True)
            return x + leaves[name]

        hooks.append((name, shift))
    with torch.enable_grad():
        total = run(truth, tokens, hooks).sum()
        gradients = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, gradients, strict=True))


@functools.cache
def first_order_nodes(truth: KnownModel, denoise: bool = True) -> dict[str, Tensor]:
    """(other - base) · gradient at the base, for each component: `[batch]`."""
    base, source = truth.corrupted, truth.clean
    if not denoise:
        base, source = source, base
    labels = components(truth.model)
    names = {place(label)[0] for label in labels}
    gradients = slopes(truth, base, sorted(names))
    in_base, in_source = kept(truth, base), kept(truth, source)
    return {
        label: ((in_source[label] - in_base[label]) * gradients[name][part]).sum((1, 2))
        for label in labels
        for name, part in [place(label)]
    }


@functools.cache
def first_order_edges(truth: KnownModel, steps: int = 0) -> dict[str, Tensor]:
    """The same for edges of the corrupted run; with steps, gradients along the line between them.

    They are means over the middles of so many equal parts of the line between the embeddings.
    """
    places = readers(truth.model)
    names = sorted({name for name, _, _ in places.values()})
    in_base, in_source = written(truth, truth.corrupted), written(truth, truth.clean)
    points = [(step + 0.5) / steps for step in range(steps)] or [0.0]
    gradients = dict.fromkeys(names, 0.0)
    for point in points:
        embedded = in_base["embed"].lerp(in_source["embed"], point)
        for name, gradient in slopes(truth, truth.corrupted, names, embedded).items():
            gradients[name] = gradients[name] + gradient / len(points)  # type: ignore[assignment]
    effects = {}
    for sender, receiver in edges(truth.model):
        name, part, _ = places[receiver]
        change = in_source[sender] - in_base[sender]
        effects[f"{sender}->{receiver}"] = (change * gradients[name][part]).sum((1, 2))  # type: ignore[index]
    return effects
