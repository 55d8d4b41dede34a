"""What senders wrote elsewhere: what an edge carries that is not part of a circuit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.circuits.graph import Graph
from interp.errors import InputError, require
from interp.patching.base import BaseRun, inside_a_run

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

AblationKind = Literal["resample", "mean", "zero"]


@dataclass(frozen=True)
class EdgeReference:
    """What every sender wrote in a run, or on average, or nothing at all.

    Attributes:
        kind: `resample` (what it wrote on other prompts), `mean`, `zero`.
        description: The same in words, with the reference set and the positions.
        activations: Of every sender's hook, `[batch or 1, pos or 1, …]`.
    """

    kind: AblationKind
    description: str
    activations: Mapping[str, Float[Tensor, "batch_or_1 pos_or_1 ..."]]


def sender_hooks(graph: Graph) -> list[str]:
    """The hooks that senders are recorded at, each once, in order."""
    return list(dict.fromkeys(node.hook for node in graph.sender_nodes))


@torch.no_grad()
def resample_reference(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
    *,
    what: str = "the paired corrupted prompt",
) -> EdgeReference:
    """What senders write on other prompts, each the partner of the prompt in its row.

    Args:
        model: The model.
        tokens: The other prompts.
        attention_mask: As for `forward`.
        token_type_ids: As for `forward`.
        what: Which prompts these are, for the description.

    Raises:
        InputError: for a model that has no graph of edges, and as `forward`.
    """
    found = _recorded(model, tokens, attention_mask, token_type_ids).recorded
    return EdgeReference("resample", f"resample from {what}, at the same position", found)


@torch.no_grad()
def mean_reference(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    token_type_ids: Int[Tensor, "batch pos"] | None = None,
    *,
    by_position: bool = True,
    what: str | None = None,
) -> EdgeReference:
    """The mean of what senders write over a reference set. Padding counts nothing.

    Args:
        model: The model.
        tokens: The reference set.
        attention_mask: As for `forward`.
        token_type_ids: As for `forward`.
        by_position: A mean for each position (so that what is judged must have as many as these);
            otherwise one over all positions.
        what: What the reference set is, for the description. None: how many prompts it has.

    Raises:
        InputError: where no prompt has a token at some position (`by_position`), for a model that
            has no graph of edges, and as `forward`.
    """
    run = _recorded(model, tokens, attention_mask, token_type_ids)
    weights = torch.ones(run.batch, run.n_pos, dtype=torch.float64, device=model.W_E.device)
    if run.inputs["attention_mask"] is not None:
        weights = run.inputs["attention_mask"].to(weights)
    axes = (0,) if by_position else (0, 1)
    counts = weights.sum(axes, keepdim=True)
    require(
        bool((counts > 0).all()),
        "a mean by position needs a token at every position in at least one prompt. Received "
        "positions that are padding in all of them",
    )
    share = weights / counts

    def mean(x: Tensor) -> Tensor:
        own = share.to(torch.promote_types(x.dtype, torch.float32))
        own = own.view(*own.shape, *[1] * (x.ndim - 2))
        return (x * own).sum(axes, keepdim=True).to(x.dtype)

    what = what or f"{run.batch} prompts"
    where = "at the same position" if by_position else "over all positions"
    found = {hook: mean(x) for hook, x in run.recorded.items()}
    return EdgeReference("mean", f"mean over {what}, {where}", found)


def zero_reference(model: HookedTransformer) -> EdgeReference:
    """Nothing: zero for z of every head, every MLP's output and every embedding.

    Biases of attention's output stay, as they belong to no sender; biases of values and of MLPs go.

    Raises:
        InputError: for a model that has no graph of edges.
    """
    cfg, at = model.cfg, model.W_E
    found = {}
    for hook in sender_hooks(Graph.of(model)):
        shape = (cfg.n_heads, cfg.d_head) if hook.endswith("hook_z") else (cfg.d_model,)
        found[hook] = torch.zeros(1, 1, *shape, dtype=cfg.dtype, device=at.device)
    return EdgeReference("zero", "zero, at every position", found)


def fitted(
    activations: Mapping[str, Float[Tensor, "batch_or_1 pos_or_1 *rest"]],
    now: Mapping[str, Float[Tensor, "batch pos *rest"]],
) -> dict[str, Float[Tensor, "batch_or_1 pos_or_1 *rest"]]:
    """Activations at the hooks of `now`, checked, on the device and in the dtype of those.

    Raises:
        InputError: where one is missing or of another shape (of one prompt or position it may be).
    """
    found = {}
    for hook, here in now.items():
        # A cache answers for more names than it lists, so it is asked.
        require(hook in activations, f"a source must hold {hook}. It does not")
        tensor: object = activations[hook]
        if not isinstance(tensor, Tensor):
            raise InputError(f"a source's {hook} must be a tensor. Received {tensor!r}.")
        batch, n_pos, *rest = here.shape
        require(
            tensor.ndim == here.ndim
            and tensor.shape[0] in (1, batch)
            and tensor.shape[1] in (1, n_pos)
            and list(tensor.shape[2:]) == rest,
            f"a source's {hook} must be {list(here.shape)} (or of one prompt or position). Its "
            f"shape is {list(tensor.shape)}",
        )
        found[hook] = tensor.detach().to(here.device, here.dtype)
    return found


def _recorded(
    model: HookedTransformer,
    tokens: Tensor,
    attention_mask: Tensor | None,
    token_type_ids: Tensor | None,
) -> BaseRun:
    hooks = set(sender_hooks(Graph.of(model)))
    run = BaseRun(model, tokens, attention_mask, token_type_ids=token_type_ids)
    with inside_a_run(model):
        run.run(set(), hooks, keeps_keys=False)
    return run
