"""A model that reads a growing batch: first the prompts, then each token as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import InputError, require
from interp.run.kv_cache import KeyValueCache
from interp.tokenization.text import PaddingSide
from interp.tokenization.token_ids import WHOLE_DTYPES

if TYPE_CHECKING:
    from interp.run.running import EncoderOutput
    from interp.stack import Stack
    from interp.transformer import HookedTransformer

# For so many new tokens a key/value cache has room from the start; few texts become longer.
_ROOM = 1024

Tokens = Int[Tensor, "batch pos"]
Prompt = str | Sequence[str] | Tokens | Int[Tensor, "pos"]


class Reader:
    """What a model has read of each row, and the logits of what comes next.

    Attributes:
        model: Reads.
        tokens: `[batch, pos]`, all so far; of an encoder–decoder, the decoder's.
        mask: 0 for padding on the left. None: there is none.
        encoded: What an encoder–decoder's encoder made of the source, made once.
        past: Keys and values of what was read. None: all is read anew each time.
        n_read: How many of the tokens have been read.
    """

    def __init__(
        self,
        model: HookedTransformer,
        tokens: Tokens,
        mask: Tokens | None,
        encoded: EncoderOutput | None,
        use_past_kv_cache: bool,
        n_more: int = 0,
    ) -> None:
        """`n_more`: how many tokens will be appended at most."""
        self.model = model
        self.tokens = tokens
        self.encoded = encoded
        self.past: KeyValueCache | None = None
        self.n_read = 0
        if use_past_kv_cache and model.cfg.attention_dir == "causal":
            n_rows, length = tokens.shape
            capacity = length + min(n_more, _ROOM)
            self.past = KeyValueCache.init_cache(model.cfg, tokens.device, n_rows, capacity)
        self.mask = mask
        if self.past is None or model.mask_of_padding(tokens, None, None) is not None:
            self._nothing_else_is_padding()

    def _nothing_else_is_padding(self) -> None:
        """Say so, where `forward` could take tokens that the model wrote, or a BOS, for it."""
        if self.mask is None and self.encoded is None and self.model.tokenizer is not None:
            self.mask = torch.ones_like(self.tokens)

    @property
    def stack(self) -> Stack:
        """The part of the model that reads the tokens."""
        return self.model if self.encoded is None else self.model.decoder

    @property
    def real(self) -> Bool[Tensor, "batch pos"] | None:
        """`mask` as booleans."""
        return None if self.mask is None else self.mask.bool()

    def may_cache(self, length: int) -> bool:
        """Whether keys and values of a text this long stay what they were when it was shorter."""
        try:
            self.stack.pos_embed.check_cached_length(length)
        except InputError:
            return False
        return True

    def next_logits(self) -> Float[Tensor, "batch d_vocab_out"]:
        """Read what has not been read yet, and give the logits of the next token."""
        if self.past is not None and not self.may_cache(self.tokens.shape[1]):
            self.past = None
            self._nothing_else_is_padding()
        start = 0 if self.past is None else self.n_read
        tokens = self.tokens[:, start:]
        mask = None if self.mask is None else self.mask[:, start:]
        if self.encoded is None:
            logits = self._read(tokens, mask)
        else:
            logits = self.model(
                encoder_output=self.encoded,
                decoder_input=tokens,
                decoder_attention_mask=mask,
                past_kv_cache=self.past,
            )
        self.n_read = self.tokens.shape[1]
        last = logits[:, -1].to(self.tokens.device)
        never = self.model.cfg.suppress_tokens
        if never:
            last = last.index_fill(1, torch.tensor(never, device=last.device), -torch.inf)
        return last

    def _read(self, tokens: Tokens, mask: Tokens | None) -> Float[Tensor, "batch pos d_vocab_out"]:
        """A decoder's logits: of the last position alone, unless a hook looks behind the blocks."""
        model = self.model
        if tokens.shape[1] == 1 or model._plan(model).final_norm_wanted:
            return model(tokens, attention_mask=mask, past_kv_cache=self.past)
        n_layers = model.cfg.n_layers
        residual = model(
            tokens, attention_mask=mask, past_kv_cache=self.past, stop_at_layer=n_layers
        )
        return model(residual[:, -1:], start_at_layer=n_layers)

    def whole(self, tokens: Tokens) -> Reader:
        """A reader that reads all of these tokens, which continue its own, in one run.

        With several rows for each of its own they stand next to one another.
        """
        n = tokens.shape[0] // self.tokens.shape[0]
        rows = torch.arange(self.tokens.shape[0], device=tokens.device).repeat_interleave(n)
        encoded = None if self.encoded is None else self.encoded.select(rows)
        mask = None if self.mask is None else self.mask[rows]
        if mask is not None:
            mask = F.pad(mask, (0, tokens.shape[1] - mask.shape[1]), value=1)
        return Reader(self.model, tokens, mask, encoded, use_past_kv_cache=False)

    def append(self, chosen: Int[Tensor, "batch"]) -> None:
        """One more token for each row."""
        self.tokens = torch.cat([self.tokens, chosen[:, None]], 1)
        if self.mask is not None:
            self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], 1)

    def select(self, rows: Int[Tensor, "row"], same_source: bool = False) -> None:
        """Go on with these rows, in this order; `same_source`: each reads the source it did."""
        self.tokens = self.tokens[rows]
        self.mask = None if self.mask is None else self.mask[rows]
        self.past = None if self.past is None else self.past.select(rows, same_source)
        if self.encoded is not None and not same_source:
            self.encoded = self.encoded.select(rows)

    def repeat(self, n: int) -> None:
        """Every row n times, one after the other."""
        rows = torch.arange(self.tokens.shape[0], device=self.tokens.device)
        self.select(rows.repeat_interleave(n))


def open_prompt(
    model: HookedTransformer,
    input: Prompt,
    decoder_input: Prompt | None,
    attention_mask: Int[Tensor, "batch pos"] | None,
    prepend_bos: bool | None,
    padding_side: PaddingSide | None,
    use_past_kv_cache: bool,
    n_more: int = 0,
) -> Reader:
    """A reader of these prompts; an encoder–decoder's encoder has read its source.

    `n_more`: how many tokens will be appended at most.

    Raises:
        InputError: for a model that cannot continue a text, or prompts that break a rule.
    """
    cfg = model.cfg
    if cfg.architecture == "encoder" or cfg.head != "lm":
        raise InputError(
            "generating needs a decoder or an encoder-decoder with head='lm'. "
            f"This is a(n) {cfg.architecture} with head={cfg.head!r}."
        )
    if cfg.architecture == "encoder-decoder":
        if isinstance(input, Tensor) and input.ndim == 1:
            input = input[None]
        encoded = model.encode(input, prepend_bos, padding_side, attention_mask)
        tokens, mask = _target(model, decoder_input, encoded.residual.shape[0])
        return Reader(model, tokens, mask, encoded, use_past_kv_cache, n_more)
    require(decoder_input is None, f"decoder_input has no meaning in this {cfg.architecture}")
    if isinstance(input, Tensor):
        tokens = _rows(model, input)
        if attention_mask is None:
            _refuse_padding_at_the_end(model, tokens)
            mask = model.mask_of_padding(tokens, padding_side, prepend_bos)
        else:
            mask = _checked_mask(attention_mask.to(tokens.device), tokens)
    else:
        require(attention_mask is None, "attention_mask belongs to tokens: texts make their own")
        require(
            padding_side in (None, "left", "right"),
            f"padding_side must be 'left' or 'right'. Received {padding_side!r}",
        )
        tokens, mask = model.tokenize(input, prepend_bos, "left")
    return Reader(model, tokens, mask, None, use_past_kv_cache, n_more)


def _refuse_padding_at_the_end(model: Any, tokens: Tokens) -> None:
    """Rows that end in padding would be continued behind it."""
    tokenizer = model.tokenizer
    if tokenizer is None or tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        return
    ends = tokens[:, -1] == tokenizer.pad_token_id
    if bool(ends.any()) and not bool(ends.all()):
        raise InputError(
            "generating needs padding on the left (to_tokens(…, padding_side='left')). "
            f"Row {int(ends.int().argmax())} ends in the pad token."
        )


def _target(
    model: HookedTransformer, given: Prompt | None, n_rows: int
) -> tuple[Tokens, Tokens | None]:
    mask = None
    if given is None:
        tokens = torch.full((1, 1), model._start_id(), device=model.W_E.device)
    elif isinstance(given, Tensor):
        tokens = _rows(model, given)
    else:
        tokens, mask = model.tokenize(given, None, "left", target=True)
    if tokens.shape[0] == 1:
        tokens = tokens.expand(n_rows, -1)
    require(
        tokens.shape[0] == n_rows,
        f"decoder_input must have one row, or one for each source ({n_rows}). "
        f"It has {tokens.shape[0]}",
    )
    return tokens, mask


def _rows(model: Any, tokens: Tensor) -> Tokens:
    if tokens.ndim == 1:
        tokens = tokens[None]
    require(
        tokens.ndim == 2 and tokens.numel() > 0 and tokens.dtype in WHOLE_DTYPES,
        "generating needs whole-number tokens [batch, pos] or [pos]. "
        f"Received {tokens.dtype} {tuple(tokens.shape)}",
    )
    return tokens.to(model.W_E.device).long()


def _checked_mask(mask: Tensor, tokens: Tokens) -> Tokens | None:
    if mask.shape != tokens.shape:
        raise InputError(
            f"attention_mask must be [batch, pos] = {tuple(tokens.shape)}. "
            f"Received {tuple(mask.shape)}."
        )
    mask = mask.bool().long()
    if bool((mask.diff(dim=1) < 0).any()) or not bool(mask[:, -1].all()):
        raise InputError("generating needs padding on the left: each row of attention_mask 0…01…1.")
    return mask
