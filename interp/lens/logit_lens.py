"""The logit lens: what a model would predict if a layer were its last.

Every residual stream on the way is read as the last one is, through the final norm and the
unembedding. Where a model norms the stream itself (`norm_placement="post"`) the streams are those
behind the norms, which is what the next block reads; such a model mostly has no final norm, and
they are unembedded as they are.

Source: nostalgebraist 2020, interpreting GPT: the logit lens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import InputError, require, require_one_of, require_whole
from interp.lens.read_out import require_lens
from interp.lens.statistics import read_statistics
from interp.run.as_tensors import run_tensors
from interp.run.slicing import Slice, SliceInput

if TYPE_CHECKING:
    from interp.lens.tuned_lens import TunedLens
    from interp.root import NamesFilter
    from interp.transformer import HookedTransformer

Scale = Literal["own", "final"]
Targets = int | Int[Tensor, "batch"] | Int[Tensor, "batch pos"] | Int[Tensor, "batch pos target"]


@dataclass(frozen=True)
class LensReading:
    """What a lens read, for every stream, prompt and position.

    Attributes:
        labels: Of the streams, as `ActivationCache.accumulated_resid` names them: `0_pre`, `0_mid`,
            …, `final_post`; of other hooks, their names.
        hooks: The hook of each.
        positions: `[pos]`: which positions were read.
        real: `[batch, pos]`, False for padding, whose numbers mean nothing. None: no padding.
        final_token: The model's own top prediction, `[batch, pos]`.
        top_tokens, top_probabilities: The likeliest tokens of each stream, best first,
            `[stream, batch, pos, k]`.
        entropy: Of each stream's distribution, in nats, `[stream, batch, pos]`.
        kl: KL(final ‖ lens) = Σ p log(p / q), p the model's own distribution and q the stream's, in
            nats, likewise.
        final_probability: What each stream gives the token that the model predicts, likewise.
        target_logit, target_probability: Of the targets, likewise, with an axis more where targets
            had one. None: no targets.
        target_rank: How many tokens have a larger logit than the target: 0 is the top.
        logits: `[stream, batch, pos, d_vocab_out]`; None: not kept.
    """

    labels: list[str]
    hooks: list[str]
    positions: Int[Tensor, "pos"]
    real: Bool[Tensor, "batch pos"] | None
    final_token: Int[Tensor, "batch pos"]
    top_tokens: Int[Tensor, "stream batch pos k"]
    top_probabilities: Float[Tensor, "stream batch pos k"]
    entropy: Float[Tensor, "stream batch pos"]
    kl: Float[Tensor, "stream batch pos"]
    final_probability: Float[Tensor, "stream batch pos"]
    target_logit: Float[Tensor, "stream batch pos *target"] | None
    target_probability: Float[Tensor, "stream batch pos *target"] | None
    target_rank: Int[Tensor, "stream batch pos *target"] | None
    logits: Float[Tensor, "stream batch pos d_vocab_out"] | None


@torch.no_grad()
def logit_lens(
    model: HookedTransformer,
    input: Any,
    targets: Targets | None = None,
    *,
    hooks: NamesFilter = None,
    incl_mid: bool = False,
    top_k: int = 5,
    pos_slice: SliceInput = None,
    scale: Scale = "own",
    tuned: TunedLens | None = None,
    keep_logits: bool = False,
    max_bytes: int = 1 << 28,
    **given: Any,
) -> LensReading:
    """Run once, and read residual streams as the model reads its last one.

    Of an encoder–decoder the decoder's streams. Hooks attached to blocks act in the run.

    Args:
        model: A model with a logit for every position.
        input: Text, texts or tokens, as `forward` takes them.
        targets: Tokens to follow: one for all, one per prompt `[batch]`, one for each position read
            `[batch, pos]`, or several for each `[batch, pos, target]`.
        hooks: What to read instead of the streams: hooks of the (decoder's) blocks that carry
            `[batch, pos, d_model]`, such as `blocks.*.hook_mlp_out`. `final_post` comes last.
        incl_mid: Read the streams between attention and MLP too.
        top_k: How many of the likeliest tokens to give.
        pos_slice: Which positions to read. A single one keeps its axis.
        scale: What the final norm divides by: each vector's `own` scale, recomputed (the logit
            lens), or that of the `final` stream at its position, held for all.
        tuned: A tuned lens, whose translators are put in front. It must have been trained on this
            very model.
        keep_logits: Keep the logits of all streams and positions.
        max_bytes: How much memory the logits that are there at once may take, those kept apart.
        **given: `attention_mask`, `decoder_input`, `token_type_ids`, `prepend_bos`, … of `forward`.

    Raises:
        InputError: for a model whose head reads a whole sequence at once, one with hooks on its
            final norm or unembedding; hooks of another shape; tokens that are not in the
            vocabulary; a tuned lens of another model; and as `forward`.
    """
    require_lens(model)
    require_one_of("scale", scale, ("own", "final"))
    require_whole("top_k", top_k, 1)
    require_whole("max_bytes", max_bytes, 1)
    d_vocab = model.cfg.d_vocab_out
    require(top_k <= d_vocab, f"top_k must not exceed the vocabulary ({d_vocab}). Received {top_k}")
    require(
        tuned is None or (hooks is None and not incl_mid and scale == "own"),
        "a tuned lens has translators for the streams between blocks, and reads them with their "
        "own scale: hooks, incl_mid and scale have no meaning beside it",
    )
    prompts = run_tensors(model, input, **given)
    names = _names(model, hooks, incl_mid)
    vectors = record_streams(model, prompts, names, pos_slice)
    final = vectors[final_stream(model)]
    batch, n_pos = final.shape[:2]
    wanted, many = _checked_targets(targets, batch, n_pos, d_vocab)
    translate = None
    if tuned is not None:
        tuned.check(model)
        translate = tuned.translate
    found = read_statistics(
        model,
        [vectors[name].flatten(0, 1) for name in names],
        final.flatten(0, 1),
        None if wanted is None else wanted.flatten(0, 1).to(final.device),
        top_k,
        own_scale=scale == "own",
        translate=translate,
        keep_logits=keep_logits,
        max_bytes=max_bytes,
    )

    def by_row(x: Tensor, axis: int = 1) -> Tensor:
        return x.unflatten(axis, (batch, n_pos))

    def of_targets(x: Tensor | None) -> Tensor | None:
        return None if x is None else by_row(x) if many else by_row(x)[..., 0]

    positions, real = _positions(model, prompts, pos_slice)
    return LensReading(
        labels=[stream_label(model, name) for name in names],
        hooks=names,
        positions=positions,
        real=real,
        final_token=by_row(found.final_token, 0),
        top_tokens=by_row(found.top_tokens),
        top_probabilities=by_row(found.top_probabilities),
        entropy=by_row(found.entropy),
        kl=by_row(found.kl),
        final_probability=by_row(found.final_probability),
        target_logit=of_targets(found.target_logit),
        target_probability=of_targets(found.target_probability),
        target_rank=of_targets(found.target_rank),
        logits=None if found.logits is None else by_row(found.logits),
    )


# --- streams -------------------------------------------------------------------------------------


def stack_prefix(model: HookedTransformer) -> str:
    """What the names of the stack that logits come from begin with."""
    return "decoder." if model.cfg.architecture == "encoder-decoder" else ""


def stream_hooks(model: HookedTransformer, incl_mid: bool = False) -> list[str]:
    """The hooks of the residual streams, in their order; `final_stream` is the last.

    What each block reads, with `incl_mid` what its cross-attention and its MLP read where that is
    another stream, and what the last block gives.
    """
    names: list[str] = []
    between = ("hook_resid_mid", "hook_resid_mid_cross") if incl_mid else ()
    for layer in range(model.cfg.n_layers):
        block = f"{stack_prefix(model)}blocks.{layer}."
        kinds = ("hook_resid_pre", *between)
        names += [block + kind for kind in kinds if block + kind in model.hook_dict]
    return [*names, final_stream(model)]


def final_stream(model: HookedTransformer) -> str:
    """The hook of what the final norm reads; a model without blocks has none by this name."""
    return f"{stack_prefix(model)}blocks.{model.cfg.n_layers - 1}.hook_resid_post"


def stream_label(model: HookedTransformer, hook: str) -> str:
    """What a stream is called: `2_pre` for `blocks.2.hook_resid_pre`, `final_post` for the last."""
    if hook == final_stream(model):
        return "final_post"
    start, _, kind = hook.rpartition(".hook_resid_")
    return f"{start.rpartition('.')[2]}_{kind}" if start and kind != "post" else hook


def record_streams(
    model: HookedTransformer,
    prompts: dict[str, Int[Tensor, "batch pos"]],
    names: Sequence[str],
    pos_slice: SliceInput = None,
) -> dict[str, Float[Tensor, "batch pos d_model"]]:
    """What flows on from these hooks in one run, which ends with the last block.

    Args:
        model: The model.
        prompts: What `run_tensors` gave.
        names: Hooks of the stack that logits come from.
        pos_slice: Which positions to keep.

    Raises:
        InputError: for a hook that carries something else than vectors of the residual stream.
    """
    if not model.cfg.n_layers:  # what would be the first block's is the last stream
        streams = model(**prompts, stop_at_layer=0)
        kept = Slice.unwrap(pos_slice).indices(streams.shape[1])
        return {names[0]: streams[:, kept]}
    arguments: dict[str, Any] = dict(prompts)
    _, cache = model.run_with_cache(
        **arguments,
        return_type=None,
        names_filter=list(names),
        pos_slice=pos_slice,
        return_cache_object=False,
    )
    d_model = model.cfg.d_model
    n_pos = cache[names[-1]].shape[1]
    for name in names:
        shape = cache[name].shape
        fits = len(shape) == 3 and shape[-1] == d_model and shape[1] == n_pos
        require(
            fits,
            f"a lens reads vectors of the residual stream, [batch, pos, {d_model}]. "
            f"{name} has {list(shape)}",
        )
    return {name: cache[name] for name in names}


def _names(model: HookedTransformer, hooks: NamesFilter, incl_mid: bool) -> list[str]:
    """The hooks to read, the final stream last."""
    if hooks is None:
        return stream_hooks(model, incl_mid)
    require(not incl_mid, "incl_mid has no meaning beside hooks: name the streams there")
    last = final_stream(model)
    chosen = [name for name in model.match_hooks(hooks) if name != last]
    prefix = stack_prefix(model)
    within = (f"{prefix}blocks.", f"{prefix}hook_embed")
    strangers = [name for name in chosen if not name.startswith(within)]
    require(
        model.cfg.n_layers > 0, "a model without blocks has no hooks to read but its last stream"
    )
    require(
        not strangers,
        "a lens reads hooks of the blocks that logits come from (and hook_embed). "
        f"Received {', '.join(strangers)}",
    )
    return [*chosen, last]


def _positions(
    model: HookedTransformer, prompts: dict[str, Tensor], pos_slice: SliceInput
) -> tuple[Int[Tensor, "pos"], Bool[Tensor, "batch pos"] | None]:
    """Which positions were read, and which of them are no padding."""
    prefix = "decoder_" if model.cfg.architecture == "encoder-decoder" else ""
    mask = prompts[f"{prefix}attention_mask"].bool()
    kept = torch.tensor(Slice.unwrap(pos_slice).indices(mask.shape[1]), device=mask.device)
    real = mask[:, kept]
    return kept, None if bool(real.all()) else real


def _checked_targets(
    targets: Targets | None, batch: int, n_pos: int, d_vocab: int
) -> tuple[Int[Tensor, "batch pos target"] | None, bool]:
    """Targets of every position, and whether there are several for each."""
    if targets is None:
        return None, False
    rule = (
        f"targets must be whole numbers: one, one per prompt [{batch}], one per position "
        f"[{batch}, {n_pos}] or several [{batch}, {n_pos}, target]"
    )
    if isinstance(targets, str):
        raise InputError(f"{rule}. Received {targets!r}.")
    found = torch.as_tensor(targets)
    if found.is_floating_point() or found.dtype == torch.bool or found.ndim > 3:
        raise InputError(f"{rule}. Received {found.dtype} {list(found.shape)}.")
    expected = (batch, n_pos)[: found.ndim]
    require(
        tuple(found.shape[:2]) == expected and found.numel() > 0,
        f"{rule}. Received {list(found.shape)}",
    )
    low, high = (int(x) for x in found.aminmax())
    require(
        low >= 0 and high < d_vocab,
        f"targets must lie in 0 … {d_vocab - 1}. Received {low} … {high}",
    )
    many = found.ndim == 3
    while found.ndim < 3:
        found = found[..., None]
    return found.long().expand(batch, n_pos, -1), many
