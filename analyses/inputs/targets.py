"""What analyses share about what is asked of a prediction: which token, and at which position."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from analyses.inputs.prompts import token_texts
from interp.charts.tokens import visible
from interp.errors import InputError, require

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


def resolve_token(model: HookedTransformer, token: str | int) -> int:
    """The output that a reader means: a token of the vocabulary, or a class of a classifier.

    Args:
        model: Whose logits are asked about.
        token: Its text; `#7` for id 7; or the id. Where texts name no outputs (no tokenizer, a
            classifier) a decimal number is an id too.

    Raises:
        InputError: for a text that is not one token, a text where only ids have a meaning, and an
            id that has no logit.
    """
    found = token if isinstance(token, int) else _of_text(model, token)
    if not 0 <= found < model.cfg.d_vocab_out:
        raise InputError(f"a token must lie in 0 … {model.cfg.d_vocab_out - 1}. Received {found}.")
    return found


def resolve_input(model: HookedTransformer, token: str | int) -> int:
    """The token that a reader means as one that the model reads, with a logit or without.

    Args:
        model: What reads it.
        token: Its text; `#7` for id 7; or the id, as text too where there is no tokenizer.

    Raises:
        InputError: for a text that is not one token, a text without a tokenizer, and an id outside
            the vocabulary.
    """
    if isinstance(token, int) or re.fullmatch(r"#\d{1,12}", token):
        found = int(str(token).removeprefix("#"))
    elif model.tokenizer is not None:
        found = model.to_single_token(token)
    else:
        rule = "this model has no tokenizer: give a token's id"
        require(token.isdecimal() and len(token) <= 12, f"{rule}. Received {token!r}")
        found = int(token)
    n = model.cfg.d_vocab
    require(0 <= found < n, f"a token must lie in 0 … {n - 1}. Received {found}")
    return found


def token_name(model: HookedTransformer, token: int) -> str:
    """An output as a sentence names it: `“·Lily”`; `class 1` of a classifier."""
    if model.cfg.classifies:
        return f"class {token}"
    return f"“{visible(token_texts(model, [token])[0])}”"


def resolve_position(position: int, n_pos: int) -> int:
    """A position counted from the start; negative ones count from the end.

    Raises:
        InputError: for a position that is not there.
    """
    if not -n_pos <= position < n_pos:
        raise InputError(f"position must lie in {-n_pos} … {n_pos - 1}. Received {position}.")
    return position % n_pos


def _of_text(model: HookedTransformer, token: str) -> int:
    if re.fullmatch(r"#\d{1,12}", token):
        return int(token[1:])
    if model.tokenizer is not None and not model.cfg.classifies:
        return model.to_single_token(token)
    if token.isdecimal() and len(token) <= 12:  # on the command line every value is text
        return int(token)
    rule = (
        "a classifier's outputs are no tokens: give the number of a class"
        if model.cfg.classifies
        else "this model has no tokenizer: give a token id"
    )
    raise InputError(f"{rule} instead of {token!r}.")
