"""How much each part of a residual stream makes it what it is: importance by ℓ1 proximity.

A residual stream is a sum: the stream before it, what each head writes of each source token, what
the MLP writes, and biases. A part z of a sum y is the more important the nearer it comes to y:

    proximity(z, y) = max(‖y‖₁ − ‖y − z‖₁, 0),    importance = proximity / Σ over parts of proximity

Parts that lead away from the sum have none; those of one sum add up to 1. Where norms lie between
a part and the sum (post-norm, sandwich) the part is taken as it arrives, their scales held as they
were.

Source: Ferrando et al. 2022, Measuring the Mixing of Contextual Information in the Transformer
(ALTI), §3; Ferrando & Voita 2024, Information Flow Routes, §2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from interp.attribution.arrival import Arrival, PerPosition, Stream, arriving_heads, norm_bias
from interp.errors import require, require_whole
from interp.frozen_norms import Step, steps_before
from interp.precision import wide

if TYPE_CHECKING:
    from interp.cache import ActivationCache
    from interp.transformer import HookedTransformer


@dataclass(frozen=True, slots=True)
class StreamImportance:
    """One residual stream of a model and the importance of each of its parts.

    At a position all of them sum to 1; to 0 where every part leads away from the sum.

    Attributes:
        stream: Its name: `resid_mid` or `resid_post`.
        layer: Of the block that it is in.
        residual: Of the stream before it, at the same position.
        heads: Of what each head writes of each source token; None: no attention writes here.
        mlp: Of what the MLP writes; None: no MLP does. It reads the stream before.
        bias: Of b_O, and of the biases of norms on the way.
        edit: Of what hooks put there: what is left of the sum when every other part is taken off,
            and heads whose output they changed. Next to nothing in a run without such hooks.
        left: The largest entry of what is left, over the largest of the sums (1 at least): how far
            the parts, `edit` apart, are from adding up.
    """

    stream: str
    layer: int
    residual: PerPosition
    heads: Float[Tensor, "batch head pos key_pos"] | None
    mlp: PerPosition | None
    bias: PerPosition
    edit: PerPosition
    left: PerPosition

    @property
    def label(self) -> str:
        """Such as `0_mid`, as the cache's decompositions call it; `1_post`."""
        return f"{self.layer}_{self.stream.removeprefix('resid_')}"

    @property
    def attention(self) -> Float[Tensor, "batch pos key_pos"] | None:
        """Of each source token, all heads together; None: no attention writes here."""
        return None if self.heads is None else self.heads.sum(1)

    def total(self) -> PerPosition:
        """All parts together: 1, or 0 where every part leads away from the sum."""
        found = self.residual + self.bias + self.edit
        if self.heads is not None:
            found = found + self.heads.sum((1, 3))
        return found if self.mlp is None else found + self.mlp


def misfit(model: HookedTransformer) -> str | None:
    """Why the streams of a model cannot be taken apart so, in a few words; None if they can."""
    if model.cfg.architecture == "encoder-decoder":
        return "it reads two sequences (an encoder-decoder)"
    return None if model.cfg.n_layers else "it has no layers"


def proximity_hooks(model: HookedTransformer) -> list[str]:
    """The hooks that `stream_importance` reads from a cache."""
    names = []
    for group in _sums(model):
        for step in group:
            block = f"blocks.{step.layer}."
            names.append(f"{block}hook_{step.part}_out")
            if step.part == "attn":
                names.append(f"{block}hook_resid_pre")
                names += [f"{block}attn.hook_{each}" for each in ("pattern", "v", "z")]
            norms = (step.added if step.part == "attn" else None, step.summed)
            names += [f"{norm}.hook_scale" for norm in norms if norm is not None]
        names.append(_end(model, group))
    return list(dict.fromkeys(names))


@torch.no_grad()
def stream_importance(
    cache: ActivationCache,
    layers: Collection[int] | None = None,
    max_bytes: int | None = None,
) -> list[StreamImportance]:
    """Importance of every part of every residual stream behind the embeddings, the lowest first.

    Two streams a layer (`resid_mid`, `resid_post`); one where a block has no MLP, or one that runs
    beside its attention. Computed where the records are, in at least fp32; the work grows with
    layers × heads × positions² × d_model.

    Args:
        cache: Holding `proximity_hooks(model)`, with its batch axis and all positions.
        layers: Take only the streams of these apart; None: of all.
        max_bytes: How much memory the parts of attention that are there at once may take (those
            of one destination are, whatever they take). None: what is quick: 1 MiB on a CPU, whose
            caches hold it, and 256 MiB elsewhere.

    Raises:
        InputError: for a model that `misfit` names, a layer that is not there, or a cache of other
            than all positions or without its batch axis.
        KeyError: if the cache lacks a hook.
    """
    model = cache.model
    reason = misfit(model)
    require(reason is None, f"importance by proximity does not fit this model: {reason}")
    require(cache.has_batch_dim, "stream_importance needs a cache with its batch axis")
    wanted = range(model.cfg.n_layers) if layers is None else layers
    strange = [layer for layer in wanted if layer not in range(model.cfg.n_layers)]
    require(not strange, f"layers must lie in 0 … {model.cfg.n_layers - 1}. Received {strange[:3]}")
    return [
        _taken_apart(model, cache, group, max_bytes)
        for group in _sums(model)
        if group[0].layer in wanted
    ]


@torch.no_grad()
def neuron_importance(
    cache: ActivationCache, importance: StreamImportance, max_bytes: int | None = None
) -> Float[Tensor, "batch pos d_mlp"]:
    """The importance of an MLP divided among its neurons, in proportion to their proximity.

    A neuron's part is post × its row of W_out, as it arrives in the stream. Together they have the
    MLP's importance, or none where each of them leads away from the sum.

    Args:
        cache: That `importance` was made from, holding `post` of its layer too.
        importance: Of a stream that an MLP writes into.
        max_bytes: As in `stream_importance`.

    Raises:
        InputError: for a stream without an MLP, or a mixture of experts, whose neurons have no one
            W_out.
        KeyError: if the cache lacks a hook.
    """
    model = cache.model
    require(
        importance.mlp is not None,
        f"neurons write where an MLP does. {importance.label} has none",
    )
    require(model.cfg.num_experts is None, "neurons of a mixture of experts have no one W_out")
    assert importance.mlp is not None
    group = next(
        each
        for each in _sums(model)
        if each[-1].layer == importance.layer and each[-1].part == "mlp"
    )
    through = Arrival.of(model, cache, group[-1], added=True)
    y = wide(cache[_end(model, group)])
    post = wide(cache["post", importance.layer])
    written = through.part(wide(model.main_stack.blocks[importance.layer].mlp.W_out).to(y))
    weights = post * through.factor(y)[..., None]
    near = torch.empty_like(post)
    sizes = y.abs().sum(-1)
    n_neurons, d_model = written.shape
    step = max(_room(y, max_bytes) // (n_neurons * d_model), 1)
    for row in range(len(y)):
        for some in torch.arange(y.shape[1], device=y.device).split(step):
            far = torch.addcmul(
                y[row, some, None], weights[row, some, :, None], written[None], value=-1
            )
            near[row, some] = sizes[row, some, None] - far.abs_().sum(-1)
    near.clamp_(min=0)
    total = near.sum(-1, keepdim=True)
    return near / total.masked_fill(total == 0, 1.0) * importance.mlp[..., None]


# --- which sums there are ------------------------------------------------------------------------


def _sums(model: HookedTransformer) -> Iterator[list[Step]]:
    """The sublayers that write into each stream: one, or both where they run side by side."""
    steps = list(steps_before(model.main_stack, model.cfg.n_layers))
    size = 2 if model.cfg.parallel_attn_mlp and not model.cfg.attn_only else 1
    for start in range(0, len(steps), size):
        yield steps[start : start + size]


def _begin(model: HookedTransformer, group: Sequence[Step]) -> str:
    after_attention = group[0].part == "mlp"
    return f"blocks.{group[0].layer}.hook_resid_{'mid' if after_attention else 'pre'}"


def _end(model: HookedTransformer, group: Sequence[Step]) -> str:
    """The hook of the stream as what comes next reads it."""
    layer, cfg = group[-1].layer, model.cfg
    if group[-1].part == "attn" and not cfg.attn_only:
        return f"blocks.{layer}.hook_resid_mid"
    last = layer == cfg.n_layers - 1
    return f"blocks.{layer}.hook_resid_post" if last else f"blocks.{layer + 1}.hook_resid_pre"


# --- one sum -------------------------------------------------------------------------------------


def _taken_apart(
    model: HookedTransformer, cache: ActivationCache, group: list[Step], max_bytes: int | None
) -> StreamImportance:
    begin, end = _begin(model, group), _end(model, group)
    y = wide(cache[end])
    summed = Arrival.of(model, cache, group[-1], added=False)
    residual = summed.whole(wide(cache[begin]))
    bias = norm_bias(model, group[-1].summed, y)
    edit = torch.zeros_like(y)
    left = y - residual
    heads = mlp = None
    for step in group:
        out = wide(cache[f"blocks.{step.layer}.hook_{step.part}_out"])
        if step.part == "mlp":
            mlp = summed.whole(out)
            left = left - mlp
            continue
        written = arriving_heads(model, cache, step, out)
        heads = written.proximity(y, _room(y, max_bytes))
        edit, bias = edit + written.edited, bias + written.bias
        left = left - written.by_source
    left = left - bias - edit
    edit = edit + left
    near = [_proximity(part, y) for part in (residual, bias, edit)]
    near_mlp = None if mlp is None else _proximity(mlp, y)
    total = sum(near, torch.zeros_like(near[0]))
    total = total if near_mlp is None else total + near_mlp
    total = total if heads is None else total + heads.sum((1, 3))
    total = total.masked_fill(total == 0, 1.0)
    largest = y.abs().amax().clamp(min=1.0)
    return StreamImportance(
        stream="resid_mid" if end.endswith("hook_resid_mid") else "resid_post",
        layer=group[-1].layer,
        residual=near[0] / total,
        heads=None if heads is None else heads / total[:, None, :, None],
        mlp=None if near_mlp is None else near_mlp / total,
        bias=near[1] / total,
        edit=near[2] / total,
        left=left.abs().amax(-1) / largest,
    )


def _proximity(part: Stream, y: Stream) -> PerPosition:
    return (y.abs().sum(-1) - (y - part).abs().sum(-1)).clamp(min=0)


def _room(like: Tensor, max_bytes: int | None) -> int:
    """How many numbers may be there at once."""
    if max_bytes is None:
        max_bytes = 1 << 20 if like.device.type == "cpu" else 1 << 28
    require_whole("max_bytes", max_bytes, 1)
    return max_bytes // like.element_size()
