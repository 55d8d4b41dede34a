"""When a row of generated tokens is at its end, and what text its tokens are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.errors import InputError, is_whole, require

Stop = int | str | Sequence[int | str | Sequence[int]]
"""A token, a text, or several of these and of sequences of tokens; any of them ends a row."""

# Tokens of context that decoders need to write a token as they would in the whole text.
_CONTEXT = 4

# How decoders write bytes that are no character yet.
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Stops:
    """What ends a row.

    Attributes:
        tokens: Single tokens that do, EOS among them.
        sequences: Sequences of tokens that do.
        texts: Texts that do once they occur in what was generated.
        fill: What follows the end of a row: EOS, the pad token without one, or 0.
        tokenizer: For `texts`.
    """

    tokens: tuple[int, ...] = ()
    sequences: tuple[tuple[int, ...], ...] = ()
    texts: tuple[str, ...] = ()
    fill: int = 0
    tokenizer: Any = None

    @classmethod
    def parse(
        cls,
        stop: Stop | None,
        stop_at_eos: bool,
        eos_token_id: int | Sequence[int] | None,
        d_vocab: int,
        tokenizer: Any = None,
    ) -> Stops:
        """What these arguments of `generate` mean.

        Raises:
            InputError: for a token outside the vocabulary, something that is no stop at all, or a
                text without a tokenizer.
        """
        if not stop_at_eos and stop is None:
            return cls()
        eos = _tokens_of(eos_token_id, "eos_token_id", d_vocab)
        if not eos and tokenizer is not None and tokenizer.eos_token_id is not None:
            eos = (int(tokenizer.eos_token_id),)
            _tokens_of(eos, "eos_token_id", d_vocab)
        pad = None if tokenizer is None else tokenizer.pad_token_id
        fill = eos[0] if eos else 0 if pad is None else int(pad)
        sequences, texts = [], []
        several = isinstance(stop, Sequence | Tensor) and not isinstance(stop, str)
        several = several and getattr(stop, "ndim", 1) > 0
        stops: list[Any] = list(stop) if several else [] if stop is None else [stop]  # type: ignore[arg-type]
        for one in stops:
            if isinstance(one, str):
                require(one != "", "a text to stop at must not be empty")
                texts.append(one)
            else:
                sequences.append(_tokens_of(one, "stop", d_vocab))
        require(all(sequences), "a sequence of tokens to stop at must not be empty")
        if texts and tokenizer is None:
            raise InputError(f"stop={texts[0]!r} needs a tokenizer, and this model has none.")
        single = (eos if stop_at_eos else ()) + tuple(s[0] for s in sequences if len(s) == 1)
        return cls(
            tuple(dict.fromkeys(single)),
            tuple(s for s in sequences if len(s) > 1),
            tuple(texts),
            fill,
            tokenizer,
        )

    def __bool__(self) -> bool:
        """Whether anything ends a row."""
        return bool(self.tokens or self.sequences or self.texts)

    @property
    def n_ending_tokens(self) -> int:
        """How many tokens can end a row, texts aside."""
        return len({*self.tokens, *(s[-1] for s in self.sequences)})

    def ended(
        self, rows: Int[Tensor, "*axes pos"], n_new: int, skip: Bool[Tensor, "*axes"] | None = None
    ) -> Bool[Tensor, "*axes"]:
        """Which rows the last token ends, given that `n_new` tokens of each were generated.

        `skip`: rows that nobody asks about; they are False.
        """
        axes, flat = rows.shape[:-1], rows.flatten(0, -2)
        new = flat[:, flat.shape[1] - n_new :]
        ended = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
        if self.tokens:
            ended |= torch.isin(new[:, -1], torch.tensor(self.tokens, device=flat.device))
        for sequence in self.sequences:
            if len(sequence) <= n_new:
                wanted = torch.tensor(sequence, device=flat.device)
                ended |= (new[:, -len(sequence) :] == wanted).all(1)
        if skip is not None:
            ended &= ~skip.flatten()
        if self.texts:
            open_rows = ~ended if skip is None else ~(ended | skip.flatten())
            for i in open_rows.nonzero()[:, 0].tolist():
                text = text_after(self.tokenizer, flat[i].tolist(), n_new)
                ended[i] = any(stop in text for stop in self.texts)
        return ended.view(axes)


def _tokens_of(given: Any, name: str, d_vocab: int) -> tuple[int, ...]:
    if given is None:
        return ()
    if isinstance(given, Tensor):
        given = given.tolist()
    tokens = tuple(given) if isinstance(given, Sequence) else (given,)
    for token in tokens:
        require(
            is_whole(token, 0) and token < d_vocab,
            f"{name} must hold tokens in 0 … {d_vocab - 1}. Received {token!r}",
        )
    return tokens


def decode(tokenizer: Any, ids: Sequence[int], skip_special: bool = False) -> str:
    """The text of these tokens."""
    return tokenizer.decode(
        list(ids), skip_special_tokens=skip_special, clean_up_tokenization_spaces=False
    )


def text_after(tokenizer: Any, ids: Sequence[int], n_new: int) -> str:
    """The text of the last `n_new` tokens as it is in the whole, special tokens included."""
    first = len(ids) - n_new
    context = ids[max(first - _CONTEXT, 0) : first]
    before = decode(tokenizer, context)
    return decode(tokenizer, [*context, *ids[first:]])[len(before) :]


class TextPieces:
    """The text of a growing row, piece by piece, special tokens left out.

    A piece is given once it will not change any more: a character whose bytes are spread over
    several tokens comes with the last of them. Only the last few tokens are decoded each time.

    Args:
        tokenizer: Decodes.
        ids: The row so far.
    """

    def __init__(self, tokenizer: Any, ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(ids)
        self._first = max(len(self._ids) - _CONTEXT, 0)
        self._given = len(self._ids)

    def add(self, token: int, last: bool = False) -> str:
        """The text that this token completes; with `last` also what is still incomplete."""
        self._ids.append(token)
        before = decode(self._tokenizer, self._ids[self._first : self._given], skip_special=True)
        now = decode(self._tokenizer, self._ids[self._first :], skip_special=True)
        if not now.startswith(before):
            before = before.rstrip(_INCOMPLETE)  # the prompt itself ends inside a character
        if now.endswith(_INCOMPLETE) and not last:
            return ""
        if before and len(now) > len(before):
            self._first = self._given
        self._given = len(self._ids)
        return now[len(before) :]
