"""Texts to tokens, many at once, just as the model's own `to_tokens` makes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from interp.errors import InputError

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

# Any of them will do that the tokenizer makes tokens of.
_PROBES = ("a", "A", "0", ".")
_SPECIAL_IDS = ("bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id", "pad_token_id")

Specials = tuple[tuple[int, ...], tuple[int, ...]]
"""The tokens in front of a text's own, and those behind them."""


def encode(
    tokenizer: Any,
    texts: Sequence[str],
    special: bool = False,
    where: Callable[[int], str] = "text {}".format,
) -> list[list[int]]:
    """The tokens of each text by itself, without special ones around them unless asked for.

    Args:
        tokenizer: A Hugging Face tokenizer.
        texts: At least one.
        special: Put the tokenizer's special tokens around each.
        where: Says in an error which text it was, by its number.

    Raises:
        InputError: if the tokenizer cannot read one.
    """
    try:
        return _encode(tokenizer, texts, special)
    except Exception as fault:  # the tokenizers library raises nothing narrower
        _find_unreadable(tokenizer, texts, where)
        raise InputError(
            f"the tokenizer cannot read {where(0)} and those after it: {fault}"
        ) from fault


def _encode(tokenizer: Any, texts: Sequence[str], special: bool) -> list[list[int]]:
    # verbose: nothing need be said of texts that are longer than the model's context.
    found = tokenizer(
        list(texts), add_special_tokens=special, return_attention_mask=False, verbose=False
    )
    return found["input_ids"]


def _find_unreadable(tokenizer: Any, texts: Sequence[str], where: Callable[[int], str]) -> None:
    for i, text in enumerate(texts):
        try:
            _encode(tokenizer, [text], False)
        except Exception as fault:
            raise InputError(
                f"{where(i)}: the tokenizer cannot read {text!r:.80}: {fault}"
            ) from fault


def specials_of(model: HookedTransformer, prepend_bos: bool | None) -> Specials:
    """What the model's `to_tokens` puts around a text.

    Raises:
        InputError: without a tokenizer, or if BOS is asked for and the tokenizer has none.
    """
    tokenizer = model._needs_tokenizer()
    if model.cfg.architecture == "decoder":
        bos = model._bos_id(prepend_bos)
        return ((), ()) if bos is None else ((int(bos),), ())
    if not (model.cfg.default_prepend_bos if prepend_bos is None else prepend_bos):
        return (), ()
    for probe in _PROBES:
        (own,), (whole,) = (encode(tokenizer, [probe], special) for special in (False, True))
        for begin in range(len(whole) - len(own) + 1) if own else ():
            end = begin + len(own)
            if whole[begin:end] == own:
                return tuple(whole[:begin]), tuple(whole[end:])
    raise InputError(
        "an encoder's tokenizer must put its special tokens before and behind a text's own. "
        "This one does not: use prepend_bos=False."
    )


def separator_of(model: HookedTransformer) -> int | None:
    """The token that ends a text: EOS, or an encoder's SEP; None where there is none."""
    names = ["eos_token_id"]
    if model.cfg.architecture != "decoder":
        names.insert(0, "sep_token_id")
    return _first_id(model.tokenizer, names)


def pad_of(model: HookedTransformer) -> int:
    """The token that texts are padded with; 0 where the tokenizer says nothing."""
    found = _first_id(model.tokenizer, ["pad_token_id", "eos_token_id"])
    return 0 if found is None else found


def _first_id(tokenizer: Any, names: Sequence[str]) -> int | None:
    found = (getattr(tokenizer, name, None) for name in names)
    return next((int(token) for token in found if token is not None), None)


def identity_of(tokenizer: Any) -> str:
    """A hash (sha256, hex) of all that decides what tokens the tokenizer makes of a text."""
    document: dict[str, Any] = {name: getattr(tokenizer, name, None) for name in _SPECIAL_IDS}
    document["split_special_tokens"] = getattr(tokenizer, "split_special_tokens", False)
    if getattr(tokenizer, "is_fast", False):
        pipeline = json.loads(tokenizer.backend_tokenizer.to_str())
        # How it cut and padded the texts that it read last.
        del pipeline["truncation"], pipeline["padding"]
        document["pipeline"] = pipeline
    else:
        document["class"] = type(tokenizer).__name__
        document["vocabulary"] = tokenizer.get_vocab()
    text = json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
