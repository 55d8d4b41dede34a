"""How much better a model predicts a text for having read its beginning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.behaviour.reading import read_text
from interp.errors import InputError, require
from interp.tokenization.text import TextInput

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


@dataclass(frozen=True)
class Estimate:
    """A mean over sequences.

    Attributes:
        mean: The mean.
        stderr: Its standard error, s/√n; NaN for a single sequence.
        n_sequences: n.
    """

    mean: float
    stderr: float
    n_sequences: int


def estimate(values: Float[Tensor, "sequence"]) -> Estimate:
    """The mean of one number per sequence.

    Raises:
        InputError: for none, or another shape.
    """
    require(
        values.ndim == 1 and len(values) > 0,
        f"values must be one number for each sequence. Received {tuple(values.shape)}",
    )
    wide = values.double()
    stderr = float(wide.std()) / len(wide) ** 0.5 if len(wide) > 1 else float("nan")
    return Estimate(float(wide.mean()), stderr, len(wide))


def predicts_next_tokens(model: HookedTransformer) -> bool:
    """Whether a model is one that predicts each token from those before it, in one sequence.

    Not those of the zoo that were trained to say something else at every token (`zoo:count-…`).
    """
    from interp.zoo.tasks import task_of  # here: the zoo is on top of models

    cfg, task = model.cfg, task_of(model)
    causal = cfg.architecture == "decoder" and cfg.attention_dir == "causal"
    asked = task is None or task.next_tokens
    return causal and asked and cfg.head == "lm" and cfg.d_vocab_out == cfg.d_vocab


@torch.no_grad()
def token_losses(
    model: HookedTransformer,
    input: TextInput | Int[Tensor, "batch pos"],
    prepend_bos: bool | None = None,
) -> Float[Tensor, "batch pos"]:
    """The loss in nats of every token but the first, at that token's own index; NaN at the first.

    Texts must be of one length: an index is to mean the same in all. Of a tensor only what
    `forward` takes for padding is padding: in a causal model, pad tokens on the left, where that is
    the tokenizer's side.

    Raises:
        InputError: for a model that predicts no next tokens, or texts that `forward` refuses, that
            are padded or that have one token only.
    """
    require(predicts_next_tokens(model), "the model must predict next tokens. This one does not")
    given = read_text(model, input, prepend_bos=prepend_bos)
    if not bool(given.real.all()):
        raise InputError("texts must be of the same number of tokens. Some are padded.")
    n_pos = given.tokens.shape[1]
    require(
        n_pos > 1,
        f"texts must have at least two tokens: the first is not predicted. Received {n_pos}",
    )
    losses = model(**given.arguments, return_type="loss", loss_per_token=True)
    none = torch.full_like(losses[:, :1], torch.nan)
    return torch.cat([none, losses], 1)


def mean_loss(losses: Float[Tensor, "batch pos"], at: int | range) -> Estimate:
    """The loss of the tokens at these indices.

    Args:
        losses: What `token_losses` gives.
        at: Indices of tokens, 1 … pos - 1.

    Raises:
        InputError: for an index outside of that, or none.
    """
    indices = [at] if isinstance(at, int) else list(at)
    n = losses.shape[1]
    require(
        bool(indices) and all(1 <= i < n for i in indices),
        f"at must name tokens in 1 … {n - 1}: the first is not predicted. Received {at}",
    )
    return estimate(losses[:, indices].double().mean(1))


def in_context_score(
    losses: Float[Tensor, "batch pos"], early: int | range = 50, late: int | range = 500
) -> Estimate:
    """Loss late in a text less loss early in it, in nats: negative where context helps.

    Olsson et al. (2022), In-context Learning and Induction Heads: the loss of the 500th token less
    that of the 50th, averaged over texts. Other indices are another measure, so say which.

    Args:
        losses: What `token_losses` gives.
        early, late: Indices of tokens, whose mean is taken if they are several. The first token, at
            0, is BOS where there is one.

    Raises:
        InputError: for an index that the texts do not have, or none.
    """
    n = losses.shape[1]
    means = []
    for name, at in (("early", early), ("late", late)):
        indices = [at] if isinstance(at, int) else list(at)
        require(
            bool(indices) and all(1 <= i < n for i in indices),
            f"{name} must name tokens in 1 … {n - 1}: the first is not predicted. Received {at}",
        )
        means.append(losses[:, indices].double().mean(1))
    return estimate(means[1] - means[0])
