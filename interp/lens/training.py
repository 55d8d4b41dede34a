"""Training a tuned lens, and how well lenses foretell what a model will say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from interp.errors import InputError, require, require_whole
from interp.lens.logit_lens import final_stream, record_streams
from interp.lens.read_out import read_out
from interp.lens.statistics import read_statistics
from interp.lens.tuned_lens import TunedLens
from interp.precision import wide
from interp.run.as_tensors import run_tensors
from interp.training import History, TrainSettings, train

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Prompts = Int[Tensor, "row pos"] | Mapping[str, Int[Tensor, "row pos"]]
Source = Callable[[int, torch.Generator], Prompts]


class _Streams(NamedTuple):
    """What one step learns from: of every real position.

    Attributes:
        streams: `[layer, row, d_model]`.
        final: The last stream, `[row, d_model]`.
    """

    streams: Float[Tensor, "layer row d_model"]
    final: Float[Tensor, "row d_model"]


@torch.inference_mode(False)
def train_tuned_lens(
    model: HookedTransformer,
    prompts: Prompts | Source,
    settings: TrainSettings | None = None,
    *,
    batch_size: int = 8,
    max_bytes: int = 1 << 29,
    progress: bool = False,
) -> tuple[TunedLens, History]:
    """Train translators so that what is read at each layer is close to the final distribution.

    The loss is the mean over layers and real positions of KL(final ‖ lens), in nats. All layers
    learn from one run of the model, in which nothing has gradients. What is drawn is a function of
    `settings.seed` and the step alone.

    Args:
        model: Stays as it is, `.grad` included.
        prompts: Tokens to draw rows from, `[row, pos]`; or a dictionary of arguments of `forward`
            by name (`input`, `attention_mask`, `decoder_input`, …) whose rows belong together; or a
            function of the step and a generator that gives either, a batch of them.
        settings: Steps, learning rate and seed. None: 250 steps with learning rate 10⁻², falling as
            a cosine.
        batch_size: Rows in a step (of prompts that are no function).
        max_bytes: Layers are read in groups whose logits take no more than this; with more than one
            group each is computed twice.
        progress: Show a progress bar.

    Returns:
        The lens, and the history of its training.

    Raises:
        InputError: for a model without a lens, prompts that fit no run, and as `train`.
        TrainingDivergedError: as `train`.
    """
    settings = TrainSettings(steps=250, lr=1e-2, log_every=50) if settings is None else settings
    require_whole("batch_size", batch_size, 1)
    require_whole("max_bytes", max_bytes, 1)
    lens = TunedLens(model)

    def batch(step: int, generator: torch.Generator) -> _Streams:
        rows = (
            prompts(step, generator)
            if callable(prompts)
            else _drawn(prompts, batch_size, generator)
        )
        return _streams(model, lens.hooks, rows)

    def loss(lens: TunedLens, batch: _Streams) -> Tensor:
        return _mean_kl(model, lens, batch, max_bytes)

    with torch.enable_grad():
        history = train(lens, batch, loss, settings, progress=progress)
    lens.eval()
    lens.training_record = {
        **dataclasses.asdict(settings),
        "batch_size": None if callable(prompts) else batch_size,
        "loss": history.rows[-1]["loss"],
    }
    return lens, history


@torch.no_grad()
def lens_kl(
    model: HookedTransformer,
    prompts: Prompts,
    lens: TunedLens | None = None,
    *,
    batch_size: int = 8,
    max_bytes: int = 1 << 28,
) -> Float[Tensor, "layer"]:
    """How far each layer's lens is from the model's prediction: mean KL(final ‖ lens), in nats.

    Args:
        model: The model.
        prompts: As in `train_tuned_lens`, all of which are read.
        lens: A tuned lens of this model. None: the logit lens.
        batch_size: Rows in one run.
        max_bytes: As in `logit_lens`.

    Returns:
        The mean over all real positions, for what each block reads.

    Raises:
        InputError: for a lens of another model, prompts of padding alone, and as `forward`.
    """
    require_whole("batch_size", batch_size, 1)
    if lens is not None:
        lens.check(model)
    rows = _named(prompts)
    hooks = TunedLens(model).hooks if lens is None else lens.hooks
    total = torch.zeros(len(hooks), dtype=torch.float64, device=model.W_E.device)
    n = 0
    for start in range(0, len(rows["input"]), batch_size):
        part = {name: x[start : start + batch_size] for name, x in rows.items()}
        streams, final = _streams(model, hooks, part)
        found = read_statistics(
            model, list(streams), final, None, 1,
            translate=None if lens is None else lens.translate, max_bytes=max_bytes,
        )  # fmt: skip
        total += found.kl.double().sum(-1)
        n += len(final)
    return total / n


def _named(prompts: Prompts) -> dict[str, Tensor]:
    """Arguments of `forward` by name, of as many rows."""
    if isinstance(prompts, Tensor):
        prompts = {"input": prompts}
    if not isinstance(prompts, Mapping) or not isinstance(prompts.get("input"), Tensor):
        raise InputError(
            "prompts must be tokens [row, pos] or tensors by name, `input` among them. "
            f"Received {type(prompts).__name__}."
        )
    shapes = {name: tuple(x.shape) for name, x in prompts.items()}
    lengths = {shape[:1] for shape in shapes.values()}
    require(
        len(lengths) == 1
        and all(len(shape) == 2 for shape in shapes.values())
        and (0,) not in lengths,
        f"prompts must be [row, pos], as many rows of each. Received {shapes}",
    )
    return dict(prompts)


def _drawn(prompts: Prompts, batch_size: int, generator: torch.Generator) -> Prompts:
    """Rows of these, drawn with replacement."""
    rows = _named(prompts)
    which = torch.randint(len(rows["input"]), (batch_size,), generator=generator)
    return {name: x[which.to(x.device)] for name, x in rows.items()}


@torch.no_grad()
def _streams(model: HookedTransformer, hooks: list[str], prompts: Prompts) -> _Streams:
    """The streams of these prompts at their real positions."""
    rows = _named(prompts)
    given = run_tensors(model, rows.pop("input"), **rows)
    final = final_stream(model)
    found = record_streams(model, given, [*hooks, final])
    prefix = "decoder_" if model.cfg.architecture == "encoder-decoder" else ""
    real = given[f"{prefix}attention_mask"].bool().to(found[final].device)
    last = found[final][real]
    require(len(last) > 0, "prompts must hold a token that is no padding. These are padding alone")
    return _Streams(torch.stack([found[name][real] for name in hooks]), last)


def _mean_kl(
    model: HookedTransformer, lens: TunedLens, batch: _Streams, max_bytes: int
) -> Float[Tensor, ""]:
    n_layers, n_rows, _ = batch.streams.shape
    with torch.no_grad():
        p = wide(read_out(model, batch.final)).log_softmax(-1)
        share = p.exp()
        certain = (share * p).masked_fill_(share == 0, 0.0).sum()  # Σ p log p, the same throughout
    size = n_rows * model.cfg.d_vocab_out * p.element_size() * 3
    at_once = max(min(max_bytes // size, n_layers), 1)

    def cross_entropy(layers: slice) -> Tensor:
        h = batch.streams[layers].to(lens.W.dtype)
        read = h + torch.baddbmm(lens.b_W[layers, None], h, lens.W[layers])
        q = wide(read_out(model, read.to(batch.streams.dtype))).log_softmax(-1)
        return -(share * q.masked_fill(share == 0, 0.0)).sum()

    groups = [slice(i, i + at_once) for i in range(0, n_layers, at_once)]
    if len(groups) == 1:
        total = cross_entropy(groups[0])
    else:
        terms = [checkpoint(cross_entropy, layers, use_reentrant=False) for layers in groups]
        total = torch.stack(terms).sum()
    return (total + n_layers * certain) / (n_layers * n_rows)
