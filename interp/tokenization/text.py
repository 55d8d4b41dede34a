"""Between text and tokens. A BOS token is only ever put there by `prepend_bos`."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError, require
from interp.tokenization.token_ids import token_ids

if TYPE_CHECKING:
    from interp.config import HookedTransformerConfig

PaddingSide = Literal["left", "right"]
TextInput = str | Sequence[str]
Tokens = Int[Tensor, "batch pos"]

# Text to put in front of a token's text, so that a tokenizer which treats the start of a text in
# its own way (Llama's puts a space there) shows what it makes of the text elsewhere.
_ANCHORS = ("\n", ".", "a")


# How vocabularies write a token's leading space.
_SPACES = (" ", "▁", "Ġ")


class Text:
    """The tokenizer methods of `HookedTransformer`.

    Attributes:
        tokenizer: A Hugging Face tokenizer, or None.
    """

    cfg: HookedTransformerConfig
    tokenizer: Any
    W_E: Any
    W_U: Any
    # The texts of single tokens found so far, and the tokenizer whose they are.
    _texts_known: tuple[Any, dict[int, str]] = (None, {})

    def set_tokenizer(
        self, tokenizer: Any, default_padding_side: PaddingSide | None = None
    ) -> None:
        """Use this tokenizer; it gives `cfg.d_vocab` where that is still unknown.

        Args:
            tokenizer: A Hugging Face tokenizer.
            default_padding_side: Where it pads. None: as it does.

        A tokenizer without a pad token pads with its EOS token. The caller's own is not changed.

        Raises:
            InputError: if it knows more tokens than the model.
        """
        tokenizer = _prepared(tokenizer, default_padding_side)
        size = max(tokenizer.get_vocab().values()) + 1
        if self.cfg.d_vocab == -1:
            self.cfg.d_vocab = size
            if self.cfg.d_vocab_out == -1:
                self.cfg.d_vocab_out = size
        elif size > self.cfg.d_vocab:
            raise InputError(
                f"the tokenizer must not know more tokens than the model ({self.cfg.d_vocab}). "
                f"It knows {size}."
            )
        self.tokenizer = tokenizer

    def _needs_tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise InputError("text needs a tokenizer, and this model has none: give it tokens.")
        return self.tokenizer

    def _bos_id(self, prepend_bos: bool | None) -> int | None:
        """The token to begin texts with; None: none."""
        tokenizer = self._needs_tokenizer()
        wanted = self.cfg.default_prepend_bos if prepend_bos is None else prepend_bos
        if wanted and tokenizer.bos_token_id is None and prepend_bos:
            raise InputError("prepend_bos was asked for, but the tokenizer has no BOS token.")
        return tokenizer.bos_token_id if wanted else None

    def _start_id(self) -> int:
        """What an encoder–decoder's output begins with.

        Raises:
            InputError: if neither `cfg.decoder_start_token_id` nor a BOS token says so.
        """
        start = self.cfg.decoder_start_token_id
        if start is None and self.tokenizer is not None:
            start = self.tokenizer.bos_token_id
        if start is None:
            raise InputError(
                "a decoder's text begins with a start token: set cfg.decoder_start_token_id, "
                "or use a tokenizer with a BOS token."
            )
        return int(start)

    def _pad_id(self) -> int:
        tokenizer = self._needs_tokenizer()
        for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        raise InputError("texts of different lengths need a pad or EOS token in the tokenizer.")

    def tokenize(
        self,
        input: TextInput,
        prepend_bos: bool | None = None,
        padding_side: PaddingSide | None = None,
        truncate: bool = False,
        target: bool = False,
    ) -> tuple[Tokens, Tokens | None]:
        """Tokens on the model's device, and their attention mask (None: nothing is padded).

        A decoder's text begins with BOS if `prepend_bos` says so. An encoder's gets, by the same
        argument, all the special tokens that its tokenizer puts around a text (CLS and SEP, EOS).
        `target`: what an encoder–decoder's decoder reads begins with its start token.

        Raises:
            InputError: without a tokenizer, without a text, or for a text without tokens.
        """
        tokenizer = self._needs_tokenizer()
        several = isinstance(input, Iterable) and not isinstance(input, Mapping | bytes)
        several = several and getattr(input, "ndim", 1) == 1
        texts = [input] if isinstance(input, str) else list(input) if several else []
        if not texts or not all(isinstance(t, str) for t in texts):
            raise InputError(f"input must be a text or texts. Received {input!r:.80}.")
        whole = self.cfg.architecture != "decoder" and not target
        if whole and (self.cfg.default_prepend_bos if prepend_bos is None else prepend_bos):
            limit = self.cfg.n_ctx if truncate else None
            rows = [self._encode(tokenizer, t, special=True, limit=limit) for t in texts]
        else:
            start = self._start_id() if target else None if whole else self._bos_id(prepend_bos)
            rows = [self._encode(tokenizer, t) for t in texts]
            rows = [row if start is None else [start, *row] for row in rows]
        if truncate:
            rows = [row[: self.cfg.n_ctx] for row in rows]
        for text, row in zip(texts, rows, strict=True):
            if not row:
                raise InputError(f"a text must give at least one token. Received {text!r}.")
        longest = max(map(len, rows))
        device = self.W_E.device
        if all(len(row) == longest for row in rows):
            return torch.tensor(rows, device=device), None
        left = _checked_side(padding_side or tokenizer.padding_side) == "left"
        pad = self._pad_id()
        tokens = torch.full((len(rows), longest), pad)
        mask = torch.zeros_like(tokens)
        for i, row in enumerate(rows):
            place = slice(longest - len(row), longest) if left else slice(0, len(row))
            tokens[i, place], mask[i, place] = torch.tensor(row), 1
        return tokens.to(device), mask.to(device)

    @staticmethod
    def _encode(
        tokenizer: Any, text: str, special: bool = False, limit: int | None = None
    ) -> list[int]:
        """A text's tokens; with a limit, cut so that special tokens around it stay."""
        cut = {} if limit is None else {"truncation": True, "max_length": limit}
        try:
            return tokenizer.encode(text, add_special_tokens=special, **cut)
        except Exception as fault:  # the tokenizers library raises nothing narrower
            raise InputError(f"the tokenizer cannot read {text!r:.80}: {fault}") from fault

    def mask_of_padding(
        self,
        tokens: Tokens,
        padding_side: PaddingSide | None,
        prepend_bos: bool | None,
        causal: bool = True,
    ) -> Tokens | None:
        """The mask that tokens padded by this tokenizer need; None: there is no such.

        Causal attention never looks at padding on the right, so that needs none. Where the pad
        token is the BOS token too, the last of the leading ones is the BOS, as TransformerLens has
        it.
        """
        tokenizer = self.tokenizer
        if tokenizer is None:
            return None
        left = (padding_side or tokenizer.padding_side) == "left"
        pad = tokenizer.pad_token_id
        pad = tokenizer.eos_token_id if pad is None else pad
        if pad is None or (causal and not left):
            return None
        if not causal:
            # An EOS ends a text and is no padding, even where there is no other pad token.
            padding = tokens == pad
            return 1 - padding.long() if padding.any() and pad != tokenizer.eos_token_id else None
        leading = (tokens == pad).long().cumprod(1)
        if self._bos_id(prepend_bos) == pad:
            has_some = leading.sum(1, keepdim=True) > 0
            leading = torch.cat([leading[:, 1:], torch.zeros_like(leading[:, :1])], 1) * has_some
        return 1 - leading if leading.any() else None

    def to_tokens(
        self,
        input: TextInput,
        prepend_bos: bool | None = None,
        padding_side: PaddingSide | None = None,
        move_to_device: bool = True,
        truncate: bool = True,
    ) -> Tokens:
        """Tokens `[batch, pos]`, padded to the longest text.

        Args:
            input: A text, or several.
            prepend_bos: Begin with the BOS token. None: `cfg.default_prepend_bos`, where the
                tokenizer has one.
            padding_side: None: the tokenizer's.
            move_to_device: To the model's device.
            truncate: Cut texts at `n_ctx` tokens.

        Raises:
            InputError: without a tokenizer, or for a text that gives no token.
        """
        tokens, _ = self.tokenize(input, prepend_bos, padding_side, truncate)
        return tokens if move_to_device else tokens.cpu()

    def to_string(
        self,
        tokens: Int[Tensor, "..."] | Sequence[int] | Sequence[Sequence[int]] | np.ndarray | int,
    ) -> str | list[str]:
        """The text of tokens; of each row for `[batch, pos]`.

        Raises:
            InputError: for more than two axes, or a model without a tokenizer.
        """
        tokenizer = self._needs_tokenizer()
        ids = token_ids(tokens, self.cfg.d_vocab)
        if ids.ndim > 2:
            raise InputError(f"tokens must be [batch, pos] or [pos]. Received {tuple(ids.shape)}.")
        if ids.ndim == 2:
            return [self._decode(tokenizer, row) for row in ids.tolist()]
        return self._decode(tokenizer, ids.reshape(-1).tolist())

    @staticmethod
    def _decode(tokenizer: Any, ids: list[int]) -> str:
        return tokenizer.decode(ids, clean_up_tokenization_spaces=False)

    def to_str_tokens(
        self,
        input: TextInput | Int[Tensor, "..."] | np.ndarray | Sequence[int],
        prepend_bos: bool | None = None,
        padding_side: PaddingSide | None = None,
    ) -> list[str] | list[list[str]]:
        """The text of each token by itself, a leading space kept; a list per text of a list.

        Texts are not padded, so `padding_side` makes no difference; it is TransformerLens's.
        """
        if isinstance(input, str):
            return self._texts_of(self.tokenize(input, prepend_bos)[0][0].tolist())
        if isinstance(input, Sequence) and input and isinstance(input[0], str):
            return [self._texts_of(self.tokenize(t, prepend_bos)[0][0].tolist()) for t in input]  # type: ignore[arg-type]
        self._needs_tokenizer()
        ids = token_ids(input, self.cfg.d_vocab)
        require(ids.ndim <= 2, f"tokens must be [batch, pos]. Received {tuple(ids.shape)}")
        if ids.ndim == 2 and ids.shape[0] == 1:
            ids = ids[0]
        if ids.ndim == 2:
            return [self._texts_of(row) for row in ids.tolist()]
        return self._texts_of(ids.reshape(-1).tolist())

    def _texts_of(self, ids: list[int]) -> list[str]:
        return [self.to_single_str_token(i) for i in ids]

    def to_single_str_token(self, int_token: int) -> str:
        """The text of one token, a leading space kept.

        Raises:
            InputError: for anything but one of the model's tokens, or without a tokenizer.
        """
        tokenizer = self._needs_tokenizer()
        if type(int_token) is not int:
            ids = token_ids(int_token, self.cfg.d_vocab)
            require(ids.numel() == 1, f"there must be one token. Received {ids.numel()}")
            int_token = int(ids)
        if self._texts_known[0] is not tokenizer:
            self._texts_known = (tokenizer, {})
        texts = self._texts_known[1]
        if int_token not in texts:
            token_ids(int_token, self.cfg.d_vocab)
            # Some tokenizers strip a text's first space; the second of two shows it. (Parts of
            # characters may fuse with their neighbour instead: such a token is shown alone.)
            once = self._decode(tokenizer, [int_token])
            second = self._decode(tokenizer, [int_token, int_token])[len(once) :]
            if second.startswith(" ") and not once.startswith(" "):
                # Its own space, or one that the decoder puts between any two tokens?
                own = tokenizer.convert_ids_to_tokens(int_token).startswith(_SPACES)
                second = second if own else once
            texts[int_token] = second if second.endswith(once) else once
        return texts[int_token]

    def to_single_token(self, string: str) -> int:
        """The one token that this text is.

        A token whose own text is exactly `string` is preferred (`" Lily"` is Llama's `▁Lily`); else
        the text as a whole must tokenize to one token.

        Raises:
            InputError: if it is several tokens.
        """
        tokenizer = self._needs_tokenizer()
        require(isinstance(string, str), f"a text is needed. Received {string!r:.80}")
        alone = self._encode(tokenizer, string)
        candidates = [alone]
        for anchor in _ANCHORS:
            try:
                before = self._encode(tokenizer, anchor)
            except InputError:
                continue  # a vocabulary without this anchor
            both = self._encode(tokenizer, anchor + string)
            if both[: len(before)] == before:
                candidates.append(both[len(before) :])
        single = [ids[0] for ids in candidates if len(ids) == 1]
        for token in single:
            if self.to_single_str_token(token) == string:
                return token
        if len(alone) == 1:
            return alone[0]
        raise InputError(f"{string!r} must be a single token. It is {self._texts_of(alone)}.")

    def get_token_position(
        self,
        single_token: str | int,
        input: str | Int[Tensor, "pos"] | Int[Tensor, "1 pos"],
        mode: Literal["first", "last"] = "first",
        prepend_bos: bool | None = None,
        padding_side: PaddingSide | None = None,
    ) -> int:
        """Where a token stands in a text or a row of tokens.

        Raises:
            InputError: if it does not occur, or `input` holds several rows.
        """
        if isinstance(input, str):
            tokens = self.to_tokens(input, prepend_bos, padding_side)
        else:
            tokens = token_ids(input, self.cfg.d_vocab)
        if tokens.ndim == 2:
            if tokens.shape[0] != 1:
                raise InputError(f"input must be a single row. Received {tuple(tokens.shape)}.")
            tokens = tokens[0]
        if mode not in ("first", "last"):
            raise InputError(f"mode must be 'first' or 'last'. Received {mode!r}.")
        if isinstance(single_token, str):
            single_token = self.to_single_token(single_token)
        places = (tokens == int(single_token)).nonzero().flatten().tolist()
        if not places:
            raise InputError(f"token {single_token} does not occur in the input.")
        return places[0 if mode == "first" else -1]

    def tokens_to_residual_directions(
        self, tokens: str | int | Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape d_model"]:
        """The columns of W_U: what the final residual stream is projected on for these logits.

        A text must be a single token; a tensor with one element counts as one token.
        """
        if isinstance(tokens, str):
            tokens = self.to_single_token(tokens)
        ids = token_ids(tokens, self.W_U.shape[-1], self.W_U.device)
        if ids.numel() == 1:
            ids = ids.reshape(())
        directions = rearrange(self.W_U[:, ids], "d_model ... -> ... d_model")
        return directions if self.cfg.logit_scale == 1.0 else directions * self.cfg.logit_scale


def _prepared(tokenizer: Any, padding_side: PaddingSide | None) -> Any:
    side = tokenizer.padding_side if padding_side is None else _checked_side(padding_side)
    lacks_pad = tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None
    if side == tokenizer.padding_side and not lacks_pad:
        return tokenizer
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.padding_side = side
    if lacks_pad:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _checked_side(side: str) -> str:
    if side not in ("left", "right"):
        raise InputError(f"padding_side must be 'left' or 'right'. Received {side!r}.")
    return side
