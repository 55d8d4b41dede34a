"""Sequences in which a stretch comes twice, and how well a model makes use of that.

All sequences begin with BOS. Within a stretch no symbol comes twice, so that what follows the
earlier occurrence of a symbol is certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.transformer import HookedTransformer
from interp.zoo.recipes.symbols import BOS_ID, SYMBOLS

N_CTX = 64
EVALUATION_LENGTHS = (8, 12, 16, 20, 24, 28, 31)

Tokens = Int[Tensor, "batch pos"]


@dataclass(frozen=True)
class Repeats:
    """Training data.

    Attributes:
        tokens: `[batch, pos]`.
        predictable: `[batch, pos]`, True for tokens that follow from earlier ones: those of the
            repeat, from its second on.
    """

    tokens: Tokens
    predictable: Bool[Tensor, "batch pos"]


def training_rows(
    generator: torch.Generator, batch: int, shortest: int = 4, longest: int = 24
) -> Repeats:
    """Rows of `N_CTX` tokens: BOS, a lead-in, a stretch, its repeat, and a tail.

    The length of the stretch and of the lead-in differ from row to row. If every repeat began at
    the same place, or every copy came at the same distance, positions alone would give it away.
    Lead-in and tail are made of symbols that the row has nowhere else.
    """
    symbols = _distinct_symbols(generator, batch, len(SYMBOLS))
    length = torch.randint(shortest, longest + 1, (batch, 1), generator=generator)
    room = N_CTX - 1 - 2 * length
    lead_in = (torch.rand(batch, 1, generator=generator) * (room + 1)).long()
    place = torch.arange(N_CTX - 1)
    repeat = lead_in + length
    # Going back by one length at the start of the repeat reads the stretch again; what comes after
    # goes on where the stretch had ended.
    source = torch.where(place < repeat, place, place - length)
    tokens = _after_bos(symbols.gather(1, source))
    position = torch.arange(N_CTX)
    predictable = (position > repeat + 1) & (position <= repeat + length)
    return Repeats(tokens, predictable)


def repeated_rows(generator: torch.Generator, batch: int, length: int) -> Tokens:
    """BOS, `length` symbols drawn without replacement, and the same symbols again."""
    stretch = _distinct_symbols(generator, batch, length)
    return _after_bos(torch.cat([stretch, stretch], 1))


@dataclass(frozen=True)
class Scores:
    """What `evaluate` finds.

    Attributes:
        loss: Mean loss in nats of the repeat's tokens, from its second on.
        previous_token: `[layer, head]`, mean attention from every position after BOS to the one
            before it.
        induction: `[layer, head]`, mean attention from every token of the repeat to the token that
            came after its earlier occurrence.
    """

    loss: float
    previous_token: Float[Tensor, "layer head"]
    induction: Float[Tensor, "layer head"]

    def columns(self) -> dict[str, float]:
        """One flat row: `repeat_loss`, `previous_token.L0H0`, …, `induction.L0H0`, …"""
        row = {"repeat_loss": self.loss}
        for name in ("previous_token", "induction"):
            table: Tensor = getattr(self, name)
            for layer, heads in enumerate(table.tolist()):
                row |= {f"{name}.L{layer}H{head}": score for head, score in enumerate(heads)}
        return row


@torch.no_grad()
def evaluate(
    model: HookedTransformer,
    seed: int,
    batch: int = 64,
    lengths: Sequence[int] = EVALUATION_LENGTHS,
) -> Scores:
    """Loss and head scores on fresh `repeated_rows`, averaged over lengths."""
    generator = torch.Generator().manual_seed(seed)
    losses, previous, induction = [], [], []
    for length in lengths:
        tokens = repeated_rows(generator, batch, length).to(model.W_E.device)
        loss, cache = model.run_with_cache(
            tokens,
            return_type="loss",
            loss_per_token=True,
            names_filter="blocks.*.attn.hook_pattern",
        )
        pattern = torch.stack([cache["pattern", layer] for layer in range(model.cfg.n_layers)])
        losses.append(loss[:, length + 1 :].mean().item())  # predictions of positions length + 2 …
        previous.append(_attention_back(pattern, 1, start=1))
        induction.append(_attention_back(pattern, length - 1, start=length + 1))
    return Scores(
        loss=sum(losses) / len(losses),
        previous_token=torch.stack(previous).mean(0),
        induction=torch.stack(induction).mean(0),
    )


def _attention_back(
    pattern: Float[Tensor, "layer batch head pos key_pos"], distance: int, start: int
) -> Float[Tensor, "layer head"]:
    """Mean attention to the key `distance` back, over destinations from `start` on."""
    diagonal = pattern.diagonal(-distance, dim1=-2, dim2=-1)  # its first destination is `distance`
    return diagonal[..., start - distance :].mean((1, -1)).cpu()


def _distinct_symbols(generator: torch.Generator, batch: int, count: int) -> Tokens:
    order = torch.rand(batch, len(SYMBOLS), generator=generator).argsort(1)
    return order[:, :count] + BOS_ID + 1


def _after_bos(symbols: Tokens) -> Tokens:
    return torch.cat([torch.full_like(symbols[:, :1], BOS_ID), symbols], 1)
