"""One generation under way: read, choose, append, until every row is at its end."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.cache import ActivationCache
from interp.generation.options import Options
from interp.generation.reader import Prompt, open_prompt
from interp.generation.sampling import make_generator
from interp.generation.stopping import Stops, TextPieces, decode

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


@dataclass(frozen=True)
class Step:
    """One step of `generate_stream`.

    Attributes:
        step: Its number, from 0.
        tokens: `[batch]`: the new token of each row; EOS in rows that were at their end before.
        finished: `[batch]`: which rows are at their end now.
        texts: What the new token adds to the text of each row (nothing while a character is
            incomplete, or for special tokens). None without a tokenizer.
        cache: What the hooks asked for saw in this step, which read what had not been read yet (the
            prompts at first, with the encoder; then the token of the step before). None: not asked.
    """

    step: int
    tokens: Int[Tensor, "batch"]
    finished: Bool[Tensor, "batch"]
    texts: list[str] | None
    cache: ActivationCache | None


class Run:
    """What is needed to go on by one token, and how far it has come.

    Attributes:
        reader: Holds all tokens so far.
        prompt: The reader as it began, one row per prompt.
        n_prompt: How many of them were given.
        n_new: `[batch]`: how many tokens each row got before or at its end.
        finished: `[batch]`: which rows are at their end.

    Args:
        model: Generates.
        input: Its prompts.
        options: How.
        reads_all: Whether the last token will be read too.
    """

    def __init__(
        self, model: HookedTransformer, input: Prompt, options: Options, reads_all: bool = False
    ) -> None:
        self.options, self.sampling = options, options.sampling
        self.stops = Stops.parse(
            options.stop,
            options.stop_at_eos,
            options.eos_token_id,
            model.cfg.d_vocab_out,
            model.tokenizer,
        )
        device = model.W_E.device
        self.generator = make_generator(options.seed, options.generator, device)
        self.reader = open_prompt(
            model,
            input,
            options.decoder_input,
            options.attention_mask,
            options.prepend_bos,
            options.padding_side,
            options.use_past_kv_cache,
            options.max_new_tokens,
        )
        self.prompt = copy.copy(self.reader)
        self.prompt.past = None
        self.n_prompt = self.reader.tokens.shape[1]
        # Better now than after all the other tokens.
        more = options.max_new_tokens - int(not reads_all and options.max_new_tokens > 0)
        self.reader.stack.pos_embed.check_length(self.n_prompt + more)
        if options.num_return_sequences > 1 and not options.uses_beams:
            self.reader.repeat(options.num_return_sequences)
        n_rows = self.reader.tokens.shape[0]
        self.n_steps = 0
        self.n_new = torch.zeros(n_rows, dtype=torch.long, device=device)
        self.finished = torch.zeros(n_rows, dtype=torch.bool, device=device)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to generate."""
        if self.n_steps == self.options.max_new_tokens:
            return True
        return bool(self.stops) and bool(self.finished.all())

    def advance(self) -> Int[Tensor, "batch"]:
        """One token more for each row, which is returned."""
        reader = self.reader
        logits = reader.next_logits()
        chosen = self.sampling.choose(logits, reader.tokens, reader.real, self.generator)
        if self.stops:
            chosen = chosen.masked_fill(self.finished, self.stops.fill)
        reader.append(chosen)
        self.n_steps += 1
        self.n_new += ~self.finished
        if self.stops:
            self.finished |= self.stops.ended(reader.tokens, self.n_steps, self.finished)
        return chosen

    def pieces(self) -> list[TextPieces]:
        """What turns the tokens of each row into pieces of text."""
        tokenizer = self.reader.model.tokenizer
        none_new = torch.zeros_like(self.n_new)
        return [TextPieces(tokenizer, ids) for ids in self._ids(self.reader.tokens, none_new)]

    def texts(self, tokens: Int[Tensor, "row pos"], n_new: Int[Tensor, "row"]) -> list[str]:
        """The text of each row up to its end, without special tokens."""
        tokenizer = self.reader.model.tokenizer
        return [decode(tokenizer, ids, skip_special=True) for ids in self._ids(tokens, n_new)]

    def _ids(self, tokens: Int[Tensor, "row pos"], n_new: Int[Tensor, "row"]) -> list[list[int]]:
        """Each row without padding and without what follows its end."""
        mask = self.prompt.mask
        per_prompt = len(tokens) // len(self.prompt.tokens)
        ids = []
        for i, (row, n) in enumerate(zip(tokens.tolist(), n_new.tolist(), strict=True)):
            n_padding = 0 if mask is None else int((mask[i // per_prompt] == 0).sum())
            ids.append(row[n_padding : self.n_prompt + n])
        return ids
