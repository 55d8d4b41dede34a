"""What the settings of a corpus come to for a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interp.errors import InputError, require
from interp.harvest.corpus.layout import Layout
from interp.harvest.corpus.settings import DEFAULT_LENGTH, CorpusSettings
from interp.harvest.corpus.tokenizing import Specials, pad_of, separator_of, specials_of

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer


def make_layout(settings: CorpusSettings, model: HookedTransformer, are_tokens: bool) -> Layout:
    """The layout of a corpus for a model, before it is known how long documents are.

    Args:
        settings: Of the corpus.
        model: The model that is to read it.
        are_tokens: Whether the documents are tokens already.

    Raises:
        InputError: for a setting that the model or its tokenizer does not allow.
    """
    cfg = model.cfg
    require(
        cfg.architecture != "encoder-decoder",
        "a corpus is for a model that reads one sequence at a time. An encoder–decoder reads two",
    )
    length = settings.length
    if length is None:
        length = min(cfg.n_ctx, DEFAULT_LENGTH)
    require(length <= cfg.n_ctx, f"length must be at most n_ctx = {cfg.n_ctx}. Received {length}")
    prefix, suffix = _specials(settings, model, are_tokens)
    layout = Layout(
        kind=settings.layout,
        length=length,
        prefix=prefix,
        suffix=suffix,
        separator=_separator(settings, model),
        pad=pad_of(model),
        incomplete=settings.incomplete,
        overlong=settings.overlong,
    )
    n_special = len(prefix) + len(suffix)
    require(
        layout.room >= 1,
        f"length must leave room for a token beside {n_special} special ones. Received {length}",
    )
    return layout


def _specials(settings: CorpusSettings, model: HookedTransformer, are_tokens: bool) -> Specials:
    if are_tokens and not settings.prepend_bos:
        return (), ()
    return specials_of(model, settings.prepend_bos)


def _separator(settings: CorpusSettings, model: HookedTransformer) -> int | None:
    if settings.layout == "padded" or settings.separator == "none":
        return None
    if isinstance(settings.separator, int):
        require(
            settings.separator < model.cfg.d_vocab,
            f"separator must lie in 0 … {model.cfg.d_vocab - 1}. Received {settings.separator}",
        )
        return settings.separator
    found = separator_of(model)
    if found is None and settings.separator == "eos":
        raise InputError("separator='eos' needs a tokenizer with an EOS token. There is none.")
    return found
