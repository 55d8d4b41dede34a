"""Random tokens that come twice: text in which nothing but earlier text says what follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import require, require_whole

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

LENGTH = 50
"""Of a stretch, where the model can read two of it."""


@dataclass(frozen=True)
class RepeatedTokens:
    """Rows of what texts begin with, a stretch of random tokens, the same again, and an ending.

    Attributes:
        tokens: `[batch, pos]`, on the model's device.
        length: Of the stretch, in tokens.
        start: The index of its first token: how many come before (BOS, or none).
        distinct: Whether no token comes twice within a stretch, so that what follows the earlier
            occurrence of a token is certain.
    """

    tokens: Int[Tensor, "batch pos"]
    length: int
    start: int
    distinct: bool

    @property
    def known(self) -> range:
        """Indices of the tokens that follow from earlier ones: the repeat's, from its second on."""
        return range(self.start + self.length + 1, self.start + 2 * self.length)

    @property
    def unknown(self) -> range:
        """Indices of the same tokens where they came first, and nothing told them."""
        return range(self.start + 1, self.start + self.length)


def repeated_tokens(
    model: HookedTransformer,
    batch: int = 32,
    length: int | None = None,
    seed: int = 0,
    prepend_bos: bool | None = None,
    part: Literal["decoder", "encoder"] | None = None,
) -> RepeatedTokens:
    """Random tokens of a model's vocabulary, each row a stretch twice over.

    Tokens are drawn from all that are not special to the tokenizer (without one: from all), without
    replacement within a row's stretch where there are enough of them, else with.

    Args:
        model: Whose vocabulary, beginning of texts and longest text are taken.
        batch: Number of rows.
        length: Of the stretch. None: 50, or what fits twice into what the model can read.
        seed: Of the draws, which are the same on every device.
        prepend_bos: Put what the model's texts begin with in front: BOS; of an encoder also what
            they end with at the end. None: `cfg.default_prepend_bos` (a tokenizer without a BOS
            token puts none). The decoder of an encoder–decoder always gets its start token.
        part: Of an encoder–decoder: who is to read the tokens. None: the decoder.

    Raises:
        InputError: if a number is too small, the text would be longer than the model can read, or
            BOS is asked for where there is none.
    """
    require_whole("batch", batch, 1)
    before, after = special_tokens_around(model, prepend_bos, part)
    room = (model.cfg.n_ctx - len(before) - len(after)) // 2
    chosen = min(LENGTH, room) if length is None else length
    require(room >= 2, f"two stretches of 2 tokens must fit. The model reads {model.cfg.n_ctx}")
    require_whole("length", chosen, 2)
    require(
        chosen <= room,
        f"length must be at most {room}, to be read twice by this model. Received {chosen}",
    )
    symbols = ordinary_tokens(model)
    distinct = len(symbols) >= chosen
    generator = torch.Generator().manual_seed(seed)
    if distinct:
        draws = [torch.randperm(len(symbols), generator=generator)[:chosen] for _ in range(batch)]
        drawn = torch.stack(draws)
    else:
        drawn = torch.randint(len(symbols), (batch, chosen), generator=generator)
    stretch = symbols[drawn]
    ends = [torch.tensor(ids, dtype=torch.long).expand(batch, -1) for ids in (before, after)]
    tokens = torch.cat([ends[0], stretch, stretch, ends[1]], 1)
    return RepeatedTokens(tokens.to(model.W_E.device), chosen, len(before), distinct)


def ordinary_tokens(model: HookedTransformer) -> Int[Tensor, "symbol"]:
    """All tokens that are not special to the tokenizer, without one all there are, in order.

    Raises:
        InputError: if every token is special.
    """
    tokenizer: Any = model.tokenizer
    if tokenizer is None:
        return torch.arange(model.cfg.d_vocab)
    special = set(tokenizer.all_special_ids)
    ids = sorted(set(tokenizer.get_vocab().values()) - special)
    require(bool(ids), "the tokenizer must have tokens that are not special. It has none")
    return torch.tensor(ids)


def special_tokens_around(
    model: HookedTransformer, prepend_bos: bool | None, part: str | None
) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text; arguments as in `repeated_tokens`.

    Raises:
        InputError: if BOS is asked for where there is none.
    """
    if model.cfg.architecture == "encoder-decoder" and part != "encoder":
        return [model._start_id()], []
    tokenizer: Any = model.tokenizer
    if tokenizer is None:
        require(
            not prepend_bos, "prepend_bos needs a tokenizer, which knows BOS. This model has none"
        )
        return [], []
    if model.cfg.architecture == "decoder":
        bos = model._bos_id(prepend_bos)
        return ([] if bos is None else [bos]), []
    if not (model.cfg.default_prepend_bos if prepend_bos is None else prepend_bos):
        return [], []
    special = tokenizer.encode("", add_special_tokens=True)
    first = {tokenizer.bos_token_id, tokenizer.cls_token_id} - {None}
    n_before = int(bool(special) and special[0] in first)
    return special[:n_before], special[n_before:]
