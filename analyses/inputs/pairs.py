"""Pairs of prompts: clean ones, which show a behaviour, and corrupted ones, which do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from pydantic import AfterValidator, Field
from torch import Tensor

from analyses.base import Parameters
from analyses.inputs.prompts import token_texts
from analyses.inputs.targets import resolve_position, resolve_token, token_name
from interp.errors import require
from interp.patching.metrics import LogitDiff

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

    # What the fields hold once they are validated. A form and the command line see the annotations
    # below, by which a single value may stand for a list of one.
    Texts = list[str]
    TokenLists = list[list[int]]
    Outputs = list[str | int]
else:

    def _several(value: Any) -> Any:
        return value if isinstance(value, list) else [] if value == "" else [value]

    def _rows(value: Any) -> Any:
        return [value] if value and isinstance(value[0], int) else value

    Texts = Annotated[str | list[str], AfterValidator(_several)]
    TokenLists = Annotated[list[int] | list[list[int]], AfterValidator(_rows)]
    Outputs = Annotated[str | int | list[str | int], AfterValidator(_several)]

_PROMPTS = ("clean", "corrupted", "clean_tokens", "corrupted_tokens")
_ABOUT_PROMPTS = (*_PROMPTS, "right", "wrong", "position", "prepend_bos")


class PairParams(Parameters):
    """The prompts, and which logits tell them apart."""

    clean: Texts = Field(
        [], description="Prompts that show the behaviour: a text, or a list of texts."
    )
    corrupted: Texts = Field(
        [],
        description="For each clean prompt one that does not show it, of as many tokens.",
    )
    clean_tokens: TokenLists | None = Field(
        None, description="Token ids of the clean prompts instead of texts, used as they are."
    )
    corrupted_tokens: TokenLists | None = Field(
        None, description="Token ids of the corrupted prompts instead of texts."
    )
    right: Outputs = Field(
        [],
        description="The answer to the clean prompt: a token's text, or #7 for id 7; one for each "
        "pair or one for all. By default the top prediction for the clean prompt.",
    )
    wrong: Outputs = Field(
        [],
        description="The answer whose logit is taken off; by default the top prediction for the "
        "corrupted prompt.",
    )
    position: int = Field(
        -1, description="Where the logits are read; negative counts from the end."
    )
    prepend_bos: bool | None = Field(
        None, description="Begin the prompts with BOS; by default as the model was made for."
    )


class TakesPairs:
    """Mixin of an analysis of pairs: `class X(TakesPairs, Analysis[XParams])`."""

    @classmethod
    def merged(cls, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Prompts that the user gives take the place of the model's default pairs and answers."""
        if any(given.get(name) for name in _PROMPTS):
            defaults = {k: v for k, v in defaults.items() if k not in _ABOUT_PROMPTS}
        return {**defaults, **given}

    @classmethod
    def supports(cls, model: HookedTransformer) -> str | None:
        """Layers, and one sequence."""
        if not model.cfg.n_layers:
            return "it has no layers"
        if model.cfg.architecture == "encoder-decoder":
            return "it reads two sequences (an encoder-decoder)"
        return None


@dataclass(frozen=True)
class Pairs:
    """Pairs of prompts, resolved for one model.

    Attributes:
        clean, corrupted: Tokens `[batch, pos]`, on the model's device; no padding.
        texts, corrupted_texts: The first pair's tokens as texts.
        right, wrong: Ids of the outputs compared, `[batch]`.
        position: Where the logits are read, from 0; 0 for a classifier, which reads its first.
        metric: The logit of `right` less that of `wrong`, per prompt.
        quantity: Its mean over pairs, in words.
    """

    clean: Int[Tensor, "batch pos"]
    corrupted: Int[Tensor, "batch pos"]
    texts: list[str]
    corrupted_texts: list[str]
    right: Int[Tensor, "batch"]
    wrong: Int[Tensor, "batch"]
    position: int
    metric: LogitDiff
    quantity: str

    @property
    def n_pairs(self) -> int:
        """How many pairs there are."""
        return self.clean.shape[0]

    @property
    def n_pos(self) -> int:
        """How many tokens every prompt has."""
        return self.clean.shape[1]

    @property
    def labels(self) -> list[str]:
        """A label for each position: the first pair's token; `clean→corrupted` where they differ.

        With several pairs, these are the first pair's tokens all the same.
        """
        pairs = zip(self.texts, self.corrupted_texts, strict=True)
        return [a if a == b else f"{a}→{b}" for a, b in pairs]


def resolve_pairs(model: HookedTransformer, params: PairParams) -> Pairs:
    """The pairs that parameters ask for. Runs the model where `right` or `wrong` are left open.

    Args:
        model: The model that reads them.
        params: What was asked for.

    Raises:
        InputError: for prompts that are missing or given twice, that are not all of one number of
            tokens, and for answers that are not one token each or do not differ.
    """
    clean = _prompts(model, params, "clean")
    corrupted = _prompts(model, params, "corrupted")
    require(
        params.prepend_bos is None or not (params.clean_tokens and params.corrupted_tokens),
        "prepend_bos has no meaning for tokens, which are used as they are. "
        f"Received {params.prepend_bos}",
    )
    require(
        len(clean) == len(corrupted),
        "there must be one corrupted prompt for each clean one. "
        f"Received {len(clean)} clean and {len(corrupted)} corrupted",
    )
    lengths = [len(row) for row in (*clean, *corrupted)]
    require(
        len(set(lengths)) == 1,
        "all prompts must have the same number of tokens. "
        f"Received {lengths[: len(clean)]} clean and {lengths[len(clean) :]} corrupted",
    )
    device = model.W_E.device
    rows = torch.tensor([*clean, *corrupted], device=device)
    _require_known(model, rows)
    if model.cfg.classifies:
        require(
            params.position in (-1, 0),
            f"position has no meaning for a classifier, which has one output for each prompt. "
            f"Received {params.position}",
        )
        position, read_at = 0, -1
    else:
        position = read_at = resolve_position(params.position, lengths[0])
    n = len(clean)
    tops = None
    if not params.right or not params.wrong:
        tops = _top_predictions(model, rows, read_at)
    right = _answers(model, "right", params.right, n) if params.right else tops[:n]  # type: ignore[index]
    wrong = _answers(model, "wrong", params.wrong, n) if params.wrong else tops[n:]  # type: ignore[index]
    for i, (a, b) in enumerate(zip(right, wrong, strict=True)):
        require(
            a != b,
            f"right and wrong must differ in every pair: give both. Pair {i} has "
            f"{token_name(model, a)} twice",
        )
    right_ids, wrong_ids = torch.tensor(right, device=device), torch.tensor(wrong, device=device)
    return Pairs(
        rows[:n],
        rows[n:],
        token_texts(model, rows[0]),
        token_texts(model, rows[n]),
        right_ids,
        wrong_ids,
        position,
        LogitDiff(right_ids, wrong_ids, pos=read_at),
        _quantity(model, right, wrong),
    )


def pairs_table(
    model: HookedTransformer,
    pairs: Pairs,
    clean_values: Float[Tensor, "batch"],
    corrupted_values: Float[Tensor, "batch"],
) -> pd.DataFrame:
    """A row for each pair: its prompts, answers and the metric of both runs.

    `told_apart`: whether the clean run prefers the right answer, and the corrupted run the wrong
    one. Where they do not, there is no behaviour whose place could be found.
    """
    n = pairs.n_pairs
    told_apart = (clean_values > 0) & (corrupted_values < 0)
    right, wrong = pairs.right.tolist(), pairs.wrong.tolist()
    return pd.DataFrame(
        {
            "pair": range(n),
            "clean": [_shown(model, row) for row in pairs.clean],
            "corrupted": [_shown(model, row) for row in pairs.corrupted],
            "right": [token_name(model, i) for i in right],
            "wrong": [token_name(model, i) for i in wrong],
            "position": pairs.position,
            "quantity": [_quantity(model, [a], [b]) for a, b in zip(right, wrong, strict=True)],
            "clean_value": clean_values.double().cpu().numpy(),
            "corrupted_value": corrupted_values.double().cpu().numpy(),
            "told_apart": told_apart.cpu().numpy(),
        }
    )


def mean_over(n_pairs: int, quantity: str) -> str:
    """The words for a quantity's mean over so many pairs."""
    return quantity if n_pairs == 1 else f"{quantity}, mean over {n_pairs} pairs"


def _shown(model: HookedTransformer, row: Tensor) -> str:
    """A prompt as one text; where no token carries its space, with spaces between the tokens."""
    texts = token_texts(model, row)
    return ("" if any(text.startswith(" ") for text in texts) else " ").join(texts)


def _prompts(model: HookedTransformer, params: PairParams, name: str) -> Sequence[Sequence[int]]:
    texts: list[str] = getattr(params, name)
    tokens: list[list[int]] | None = getattr(params, f"{name}_tokens")
    require(
        bool(texts) != bool(tokens),
        f"give the {name} prompts as {name} (texts) or as {name}_tokens (ids)"
        + (", not both" if texts else ""),
    )
    if tokens:
        require(all(tokens), f"{name}_tokens must not hold an empty prompt")
        return tokens
    return [model.tokenize(text, params.prepend_bos)[0][0].tolist() for text in texts]


def _require_known(model: HookedTransformer, rows: Tensor) -> None:
    low, high = int(rows.min()), int(rows.max())
    require(
        low >= 0 and high < model.cfg.d_vocab,
        f"tokens must lie in 0 … {model.cfg.d_vocab - 1}. Received {low if low < 0 else high}",
    )


def _answers(model: HookedTransformer, name: str, given: Sequence[str | int], n: int) -> list[int]:
    require(
        len(given) in (1, n),
        f"{name} must be one answer, or one for each of {n} pairs. Received {len(given)}",
    )
    found = [resolve_token(model, token) for token in given]
    return found * n if len(found) == 1 else found


def _top_predictions(model: HookedTransformer, rows: Tensor, position: int) -> list[int]:
    with torch.no_grad():
        logits = model(rows)
    here = logits if logits.ndim == 2 else logits[:, position]
    found: list[int] = here.argmax(-1).tolist()
    return found


def _quantity(model: HookedTransformer, right: Sequence[int], wrong: Sequence[int]) -> str:
    if len(set(right)) == 1 and len(set(wrong)) == 1:
        words = f"logit of {token_name(model, right[0])} less that of {token_name(model, wrong[0])}"
    else:
        words = "logit of the right answer less that of the wrong one"
    return mean_over(len(right), words)
