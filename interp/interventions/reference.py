"""Runs that interventions take activations from, and how their positions meet those of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError, require
from interp.interventions.parts import Part, whole_numbers

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer

Rows = tuple[tuple[int, ...], ...]
TokenRows = Sequence[Sequence[int]] | Int[Tensor, "row pos"]

_AT_ONCE = 64  # rows of a reference that are run together


@dataclass(frozen=True, eq=False)
class Reference(Part, kind="reference"):
    """Prompts whose activations are used elsewhere, or such activations themselves.

    Rows are tokens alone, without padding; they may differ in length. Position i of a row meets
    the i-th real token of a run.

    Attributes:
        tokens: A row of token ids for each prompt (of an encoder–decoder: what its encoder reads).
        decoder_tokens: What an encoder–decoder's decoder reads, a row for each prompt.
        token_types: Segments, as `tokens`. None: all of the first.
        activations: Instead of tokens: hook name → tensor `[row, …]` as recorded without padding.

    Raises:
        InputError: for neither or both of tokens and activations, and rows that are empty or do
            not belong together.
    """

    tokens: Rows | TokenRows | None = None
    decoder_tokens: Rows | TokenRows | None = None
    token_types: Rows | TokenRows | None = None
    activations: Mapping[str, Float[Tensor, "row ..."]] | None = None

    def __post_init__(self) -> None:
        require(
            (self.tokens is None) != (self.activations is None),
            "a reference is either tokens or activations. Received "
            + ("neither" if self.tokens is None else "both"),
        )
        for name in ("tokens", "decoder_tokens", "token_types"):
            self.put(name, _token_rows(name, getattr(self, name)))
        n = len(self.rows)
        for name, given in (("decoder_tokens", self.decoder_tokens), ("types", self.token_types)):
            require(
                given is None or len(given) == n,
                f"a reference's {name} must have a row for each of its {n} prompts. "
                f"Received {0 if given is None else len(given)}",
            )
        if self.token_types is not None:
            require(
                list(map(len, self.token_types)) == list(map(len, self.rows)),
                "a reference's token_types must be as long as its tokens",
            )
        if self.activations is not None:
            self.put("activations", _checked_activations(self.activations))

    @classmethod
    def of(
        cls,
        tokens: Int[Tensor, "row pos"],
        attention_mask: Int[Tensor, "row pos"] | None = None,
        decoder_tokens: Int[Tensor, "row pos"] | None = None,
        decoder_attention_mask: Int[Tensor, "row pos"] | None = None,
    ) -> Reference:
        """A batch of prompts, without the padding that its masks (0 for padding) say there is.

        Raises:
            InputError: for a mask of a decoder without its tokens, and as the class.
        """
        rows = _without_padding(tokens, attention_mask)
        if decoder_tokens is None:
            require(
                decoder_attention_mask is None,
                "decoder_attention_mask belongs to decoder_tokens. Received none",
            )
            return cls(rows)
        return cls(rows, _without_padding(decoder_tokens, decoder_attention_mask))

    @property
    def rows(self) -> Rows:
        """The prompts' tokens; none where activations were given."""
        return () if self.tokens is None else self.tokens  # type: ignore[return-value]

    def describe(self) -> str:
        """How many prompts of what length."""
        if self.activations is not None:
            n = max(tensor.shape[0] for tensor in self.activations.values())
            return f"given activations ({n} row{'s' if n > 1 else ''})"
        lengths = sorted({len(row) for row in self.rows})
        size = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
        n = len(self.rows)
        return f"{n} reference prompt{'s' if n > 1 else ''} of {size} tokens"

    def record(self, model: HookedTransformer, hooks: Sequence[str]) -> Recorded:
        """Its activations at these hooks, of the model with the hooks that are on it now.

        Raises:
            InputError: for hooks that given activations lack, tokens that the model does not know,
                and as `forward`.
        """
        if self.activations is not None:
            for hook in hooks:
                require(hook in self.activations, f"the reference must hold {hook}. It does not")
            device = model.W_E.device
            return Recorded({hook: self.activations[hook].to(device) for hook in hooks}, None, None)
        crosses = model.cfg.architecture == "encoder-decoder"
        require(
            (self.decoder_tokens is not None) == crosses,
            "a reference has decoder_tokens where the model is an encoder-decoder, and there alone."
            f" This is a {model.cfg.architecture}",
        )
        given = {"input": self.rows}
        if self.decoder_tokens is not None:
            given["decoder_input"] = self.decoder_tokens  # type: ignore[assignment]
        lengths = {name: np.array([len(row) for row in rows]) for name, rows in given.items()}
        inputs: dict[str, Tensor] = {}
        for name, rows in given.items():
            padded, mask = _padded(rows, model.W_E.device)
            inputs[name] = padded
            inputs[name.replace("input", "attention_mask")] = mask
        if self.token_types is not None:
            inputs["token_type_ids"] = _padded(self.token_types, model.W_E.device)[0]  # type: ignore[arg-type]
        found = record(model, hooks, inputs)
        main = lengths.get("decoder_input", lengths["input"])
        return Recorded(found, main, lengths["input"] if crosses else None)


@dataclass(frozen=True)
class Recorded:
    """Activations of a reference.

    Attributes:
        activations: Hook name → `[row, …]`; real tokens first.
        lengths: How many real tokens each row of the stack that gives the logits has; None: all.
        source_lengths: The same of an encoder–decoder's encoder.
        as_run: They are of the very run that is changed, and laid out as it is.
    """

    activations: dict[str, Float[Tensor, "row ..."]]
    lengths: np.ndarray | None
    source_lengths: np.ndarray | None
    as_run: bool = False


@dataclass(frozen=True)
class Sequences:
    """The rows of the run that is to be changed, as far as they are padded.

    Attributes:
        real: `[batch, pos]`: False for padding.
        places: `[batch, pos]`: which of the row's real tokens each is.
        lengths: `[batch]`: how many there are.
    """

    real: np.ndarray
    places: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, mask: Int[Tensor, "row pos"] | None) -> Sequences | None:
        """Of an attention mask; None where nothing is padded."""
        if mask is None:
            return None
        real = mask.bool().cpu().numpy()
        if real.all():
            return None
        return cls(real, np.maximum(real.cumsum(1) - 1, 0), real.sum(1))


def record(
    model: HookedTransformer, hooks: Sequence[str], inputs: Mapping[str, Any]
) -> dict[str, Float[Tensor, "row ..."]]:
    """Activations `[row, …]` of a run at these hooks, some rows at a time, without gradients."""
    if not hooks:
        return {}
    n = inputs["input"].shape[0]
    found: dict[str, list[Tensor]] = {hook: [] for hook in hooks}
    with torch.no_grad():
        for start in range(0, n, _AT_ONCE):
            part: dict[str, Any] = {
                name: None if x is None else x[start : start + _AT_ONCE]
                for name, x in inputs.items()
            }
            _, cache = model.record(**part, names_filter=list(hooks), return_type=None)
            for hook in hooks:
                found[hook].append(cache[hook])
    return {hook: torch.cat(x) if len(x) > 1 else x[0] for hook, x in found.items()}


def _token_rows(name: str, given: Any) -> Rows | None:
    if given is None:
        return None
    if isinstance(given, Tensor):
        require(given.ndim == 2, f"{name} must be [row, pos]. Received {list(given.shape)}")
    require(
        not isinstance(given, str) and len(given) > 0,
        f"a reference's {name} must be rows of token ids. Received {given!r:.80}",
    )
    rows = []
    for row in given:
        require(
            not isinstance(row, int | str), f"{name} must be rows of token ids. Received {row!r}"
        )
        ids = whole_numbers(f"a row of a reference's {name}", row)
        if ids is None:
            raise InputError(f"{name} must be rows of token ids. Received None.")
        require(min(ids) >= 0, f"token ids must not be negative. Received {min(ids)}")
        rows.append(ids)
    return tuple(rows)


def _checked_activations(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    kept = {}
    for hook in given:
        tensor: object = given[hook]
        if not isinstance(tensor, Tensor) or tensor.ndim < 2 or not tensor.is_floating_point():
            raise InputError(f"a reference's {hook} must be a tensor [row, …] of numbers.")
        kept[hook] = tensor.detach().clone()  # what was given may be edited for the next one
    require(bool(kept), "a reference's activations must hold a hook. They are empty")
    return kept


def _without_padding(tokens: Tensor, mask: Tensor | None) -> list[list[int]]:
    if mask is None:
        return tokens.tolist()
    require(
        mask.shape == tokens.shape,
        f"attention_mask must be {tuple(tokens.shape)}. Received {tuple(mask.shape)}",
    )
    return [
        row[keep.bool().to(row.device)].tolist() for row, keep in zip(tokens, mask, strict=True)
    ]


def _padded(rows: Rows, device: torch.device) -> tuple[Tensor, Tensor]:
    """The rows with zeros behind them, and what is real."""
    longest = max(map(len, rows))
    padded = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(longest) < lengths[:, None]).long()
    return padded.to(device), mask.to(device)
