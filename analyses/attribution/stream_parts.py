"""One position's residual stream, taken apart: what each component wrote, as it arrives at the end.

The parts sum to the stream that the final norm reads. Where norms lie on the way of a part, it has
passed them with their scale held at the value that it had (`interp.decomposition`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from analyses.inputs.targets import resolve_position
from interp.attribution.direct import hooks_needed
from interp.components.norm import Norm
from interp.errors import InputError, require, require_one_of
from interp.frozen_norms import steps_before
from interp.precision import wide

if TYPE_CHECKING:
    from interp.cache import ActivationCache
    from interp.transformer import HookedTransformer

By = Literal["layer", "head"]
_NEURON = re.compile(r"L(\d+)N(\d+)")
_HEAD = re.compile(r"L(\d+)([HC])(\d+)")
_OUT = re.compile(r"(\d+)_(attn|cross_attn|mlp)_out")
_OUTPUTS = {"attn": ("ATTN", "attention"), "cross_attn": ("CROSS", "cross-attention"),
            "mlp": ("MLP", "mlp")}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One component.

    Attributes:
        label: `embed`, `pos_embed`, `token_type_embed`, `L0ATTN`, `L0CROSS`, `L0MLP`, `L0H3`,
            `L0C3` (a head of cross-attention), `L0N17` (a neuron), `norm_bias`, or `biases`: of
            attention and of the norms on the way, where heads stand by themselves.
        kind: embed, attention, cross-attention, head, cross-head, mlp, neuron or bias.
        layer, number: Where it is; -1 where that has no meaning.
    """

    label: str
    kind: str
    layer: int = -1
    number: int = -1


@dataclass(frozen=True)
class StreamParts:
    """The parts of one position's last residual stream.

    Attributes:
        parts: What the rows are, in the order that they are written.
        vectors: What each wrote, as it arrives, `[part, d_model]`, in at least fp32.
        stream: What the final norm reads, likewise `[d_model]`.
        scale: What it divides by; 1 where there is no norm.
        linear: The logits before a soft cap, in fp64; None where they are not linear in the stream.
    """

    parts: list[Part]
    vectors: Float[Tensor, "part d_model"]
    stream: Float[Tensor, "d_model"]
    scale: Float[Tensor, ""]
    linear: Float[Tensor, "d_vocab_out"] | None


@torch.no_grad()
def stream_parts(
    model: HookedTransformer, position: int, by: By = "layer", **inputs: Any
) -> StreamParts:
    """Run the model once and take the stream of one position apart.

    Of an encoder–decoder it is the decoder's stream.

    Args:
        model: A model with layers.
        position: Which; negative ones count from the end.
        by: `layer`: attention and MLP of each layer; `head`: heads in place of attention.
        **inputs: What the model is called with, as tensors of one row.

    Raises:
        InputError: for a model without layers, or a position that is not there.
    """
    require_one_of("by", by, ("layer", "head"))
    cache = _run(model, position, [], **inputs)
    if by == "layer":
        made = cache.decompose_resid(return_labels=True)
    else:
        made = cache.get_full_resid_decomposition(expand_neurons=False, return_labels=True)
    assert isinstance(made, tuple)
    vectors, labels = made
    parts = [_part(label) for label in labels]
    order = sorted(range(len(parts)), key=lambda i: _place(parts[i]))
    return _found(model, cache, [parts[i] for i in order], vectors[order, 0, 0])


@torch.no_grad()
def neuron_part(
    model: HookedTransformer, position: int, layer: int, neuron: int, **inputs: Any
) -> tuple[StreamParts, float]:
    """What one neuron wrote, as the only part, and its activation (that W_out multiplies).

    Raises:
        InputError: for a model without MLPs or with experts, or a neuron that is not there.
    """
    cfg = model.cfg
    require(not cfg.attn_only, "this model has no MLPs, so it has no neurons")
    require(cfg.num_experts is None, "neurons of a mixture of experts have no one W_out")
    fits = 0 <= layer < cfg.n_layers and 0 <= neuron < cfg.width_mlp
    require(
        fits,
        f"neurons lie in L0N0 … L{cfg.n_layers - 1}N{cfg.width_mlp - 1}. "
        f"Received L{layer}N{neuron}",
    )
    post = f"{_prefix(model)}blocks.{layer}.mlp.hook_post"
    names = [post.replace(f"blocks.{layer}.", f"blocks.{i}.") for i in range(cfg.n_layers)]
    cache = _run(model, position, names, **inputs)
    made = cache.stack_neuron_results(neuron_slice=[neuron], return_labels=True)
    assert isinstance(made, tuple)
    vectors, labels = made
    row = labels.index(f"L{layer}N{neuron}")
    part = Part(labels[row], "neuron", layer, neuron)
    found = _found(model, cache, [part], vectors[[row], 0, 0])
    return found, float(cache[post][0, 0, neuron])


def is_neuron(label: str) -> tuple[int, int] | None:
    """Layer and number of the neuron that a label names; None: it names something else."""
    found = _NEURON.fullmatch(label)
    return None if found is None else (int(found[1]), int(found[2]))


def _run(
    model: HookedTransformer, position: int, more: list[str], **inputs: Any
) -> ActivationCache:
    """What is needed of one position, and of it alone."""
    cfg = model.cfg
    if not cfg.n_layers:
        raise InputError("this model has no layers: its stream is its embedding.")
    tokens = inputs.get("decoder_input", inputs["input"])
    position = resolve_position(position, tokens.shape[1])
    start = _prefix(model)
    names = [*hooks_needed(model), f"{start}blocks.{cfg.n_layers - 1}.hook_resid_post", *more]
    names += [
        f"{start}blocks.{step.layer}.hook_{step.part}_out"
        for step in steps_before(model.main_stack, cfg.n_layers)
    ]
    if cfg.head == "lm":
        names.append("unembed.hook_out")
    _, cache = model.run_with_cache(
        **inputs, names_filter=list(dict.fromkeys(names)), pos_slice=[position], return_type=None
    )
    return cache


def _found(
    model: HookedTransformer, cache: ActivationCache, parts: list[Part], vectors: Any
) -> StreamParts:
    stream = wide(cache["resid_post", model.cfg.n_layers - 1][0, 0])
    scale = torch.ones((), dtype=stream.dtype, device=stream.device)
    if isinstance(model.main_stack.ln_final, Norm):
        scale = wide(cache["ln_final.hook_scale"][0, 0, 0])
    linear = None
    if model.cfg.head == "lm":
        linear = cache["unembed.hook_out"][0, 0].double()
    return StreamParts(parts, wide(vectors), stream, scale, linear)


def _part(label: str) -> Part:
    if (of := _OUT.fullmatch(label)) is not None:
        name, kind = _OUTPUTS[of[2]]
        return Part(f"L{of[1]}{name}", kind, int(of[1]))
    if (of := _HEAD.fullmatch(label)) is not None:
        return Part(label, "head" if of[2] == "H" else "cross-head", int(of[1]), int(of[3]))
    if label == "bias":
        return Part("biases", "bias")
    return Part(label, "bias" if label == "norm_bias" else "embed")


def _place(part: Part) -> tuple[int, int]:
    """When a part is written; stable beside others of the same sublayer."""
    kinds = ("embed", "attention", "head", "cross-attention", "cross-head", "mlp", "bias")
    last = part.kind == "bias"
    return (10**9 if last else part.layer, kinds.index(part.kind))


def _prefix(model: HookedTransformer) -> str:
    return "decoder." if model.cfg.architecture == "encoder-decoder" else ""
