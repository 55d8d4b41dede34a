"""Rows of tokens, all of one length and without padding, to see what position does on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.behaviour.in_context import predicts_next_tokens
from interp.behaviour.repeated import ordinary_tokens, special_tokens_around
from interp.errors import InputError, require, require_one_of, require_whole

if TYPE_CHECKING:
    from interp.transformer import HookedTransformer
    from interp.zoo.tasks import Offsets, Task

RowsKind = Literal["auto", "task", "text", "random", "repeated"]

LENGTH = 64
"""Tokens of a row of a model without a task, where it was made for as many."""

_IN_WORDS = {"random": "random tokens", "repeated": "repeated random tokens", "text": "text"}


@dataclass(frozen=True)
class Rows:
    """Sequences of one length, and what is to be predicted in them.

    Attributes:
        tokens: `[batch, pos]`, on the model's device; no padding.
        targets: `[batch, pos]`: what the logits at each position should say; has no meaning (but is
            a token) where `scored` is False. None: nothing is to be predicted.
        scored: `[batch, pos]`: where the prediction counts; nowhere without targets.
        kind: What rows these are, in words: `task copy`, `text`, `random tokens`, `repeated random
            tokens`.
        begins_with_bos: Whether position 0 of every row holds what the model's texts begin with
            (BOS; an encoder's CLS).
    """

    tokens: Int[Tensor, "batch pos"]
    targets: Int[Tensor, "batch pos"] | None
    scored: Bool[Tensor, "batch pos"]
    kind: str
    begins_with_bos: bool

    @property
    def n(self) -> int:
        """How many rows there are."""
        return self.tokens.shape[0]

    @property
    def length(self) -> int:
        """Tokens of a row, special ones included."""
        return self.tokens.shape[1]


def mask_of_rows(
    model: HookedTransformer, tokens: Int[Tensor, "batch pos"]
) -> Int[Tensor, "batch pos"] | None:
    """The attention mask by which a model sees all of these tokens; None: it does without one.

    Nothing in rows is padding, though a model may take what they begin with for it.
    """
    mistaken = model.mask_of_padding(tokens, None, None, model.main_stack.causal)
    return None if mistaken is None else torch.ones_like(tokens)


def position_rows(
    model: HookedTransformer,
    n: int,
    length: int | None = None,
    seed: int = 0,
    texts: Sequence[str] = (),
    kind: RowsKind = "auto",
    prepend_bos: bool | None = None,
    offsets: Offsets | None = None,
) -> Rows:
    """Rows for a model to read.

    - `task`: rows of the task that the model was trained on, scored where the task says.
    - `text`: each text is tokenised by itself and cut from its beginning into pieces that fill a
      row; what is left at its end is not used, so that no row holds parts of two texts. Of all
      pieces n are drawn, and kept in order.
    - `random`: uniform draws from all tokens that are not special.
    - `repeated`: as many distinct random tokens as half a row takes, then the same again: only the
      second half can be predicted, and is scored.
    - `auto`: the texts, if there are any; else the task, if the model has one; else `random`.

    In all but tasks every token is the target of the position before it, in causal language models;
    other models have nothing to predict there, and nor have those that were trained to say
    something else than the next token (`zoo:count-…`).

    Args:
        model: Who is to read them.
        n: How many.
        length: Of a row, in tokens, special ones included. None: the length that the task was
            trained at; without a task 64, or the model's `n_ctx` if that is less.
        seed: Of all draws, which are the same on every device.
        texts: For `text`.
        kind: One of these.
        prepend_bos: Begin each row with what the model's texts begin with (for an encoder: also end
            it so). None: as `cfg.default_prepend_bos` says. Rows of a task are as the task has
            them.
        offsets: Of a task in rows of another length than in training: whether the distances that
            matter go with the length (`scaled`), or stay what they were (`trained`). None: the
            task's first.

    Raises:
        InputError: for an encoder–decoder, a number that is too small, a length that the model has
            no positions for, texts that are too short or not asked for, a kind that the model has
            nothing for, `prepend_bos` with a task, and `offsets` without one that knows them.
    """
    require_one_of("kind", kind, get_args(RowsKind))
    require_whole("n", n, 1)
    require_whole("seed", seed, 0)
    require(
        model.cfg.architecture != "encoder-decoder",
        "rows are for one stack that reads one sequence. This is an encoder-decoder",
    )
    require(
        not isinstance(texts, str) and all(isinstance(text, str) for text in texts),
        f"texts must be a list of texts. Received {texts!r:.80}",
    )
    if kind == "auto":
        kind = "text" if texts else "random" if _task(model) is None else "task"
    require(bool(texts) == (kind == "text"), _text_rule(kind, len(texts)))
    if kind == "task":
        require(
            prepend_bos is None, "prepend_bos has no meaning for rows of a task, which are as it is"
        )
        return _of_task(model, n, length, seed, offsets)
    require(offsets is None, f"offsets are for rows of a task. Received {offsets!r}")
    before, after = special_tokens_around(model, prepend_bos, None)
    length = min(model.cfg.n_ctx, LENGTH) if length is None else length
    _check_length(model, length, len(before) + len(after) + 1)
    inner = length - len(before) - len(after)
    generator = torch.Generator().manual_seed(seed)
    if kind == "text":
        middle = _of_texts(model, texts, n, inner, generator)
    elif kind == "random":
        symbols = ordinary_tokens(model)
        middle = symbols[torch.randint(len(symbols), (n, inner), generator=generator)]
    else:
        middle = _repeated(model, n, inner, generator)
    ends = [torch.tensor(ids, dtype=torch.long).expand(n, -1) for ids in (before, after)]
    tokens = torch.cat([ends[0], middle, ends[1]], 1).to(model.W_E.device)
    scored = torch.zeros_like(tokens, dtype=torch.bool)
    named = _IN_WORDS[kind]
    if not predicts_next_tokens(model):
        return Rows(tokens, None, scored, named, bool(before))
    # The first token of a repeat follows from nothing.
    first = len(before) + (inner + 1) // 2 if kind == "repeated" else 0
    scored[:, first:-1] = True
    targets = torch.cat([tokens[:, 1:], tokens[:, -1:]], 1)
    return Rows(tokens, targets, scored, named, bool(before))


def _task(model: HookedTransformer) -> Task | None:
    from interp.zoo.tasks import task_of  # its recipes need what only training needs

    return task_of(model)


def _of_task(
    model: HookedTransformer, n: int, length: int | None, seed: int, offsets: Offsets | None
) -> Rows:
    task = _task(model)
    if task is None:
        raise InputError(
            f"rows of kind 'task' need a model with a task. {model.cfg.model_name!r} has none."
        )
    length = task.trained_length if length is None else length
    _check_length(model, length, 2)
    made = task.rows(n, length, seed, offsets)
    device = model.W_E.device
    return Rows(
        made.tokens.to(device),
        made.targets.to(device),
        made.scored.to(device),
        f"task {task.name}",
        begins_with_bos=True,
    )


def _text_rule(kind: str, n_texts: int) -> str:
    if kind == "text":
        return "rows of kind 'text' need texts. Received none"
    return f"texts are for rows of kind 'text'. Received {n_texts} with kind {kind!r}"


def _check_length(model: HookedTransformer, length: int, shortest: int) -> None:
    require_whole("length", length, shortest)
    stack: Any = model.main_stack
    stack.pos_embed.check_length(length)


def _of_texts(
    model: HookedTransformer,
    texts: Sequence[str],
    n: int,
    inner: int,
    generator: torch.Generator,
) -> Int[Tensor, "batch pos"]:
    """Pieces of texts, each within one of them."""
    pieces: list[Tensor] = []
    n_tokens = []
    for text in texts:
        tokens = model.tokenize(text, prepend_bos=False)[0][0].cpu()
        n_tokens.append(len(tokens))
        pieces += tokens[: len(tokens) // inner * inner].view(-1, inner)
    require(
        len(pieces) >= n,
        f"{n} rows of {inner} tokens (beside special ones) need as many pieces that lie within "
        f"one text, {n * inner} tokens at least. The texts have {sum(n_tokens)} tokens, the "
        f"longest {max(n_tokens)}, which make {len(pieces)} rows",
    )
    drawn = torch.randperm(len(pieces), generator=generator)[:n].sort().values
    return torch.stack([pieces[i] for i in drawn.tolist()])


def _repeated(
    model: HookedTransformer, n: int, inner: int, generator: torch.Generator
) -> Int[Tensor, "batch pos"]:
    """Random tokens, distinct where there are enough, and the same again.

    The second time the last one is missing where `inner` is odd.
    """
    require(
        inner >= 4, f"a stretch of 2 tokens must fit twice into a row. There is room for {inner}"
    )
    symbols = ordinary_tokens(model)
    half = (inner + 1) // 2
    if len(symbols) >= half:
        drawn = torch.stack(
            [torch.randperm(len(symbols), generator=generator)[:half] for _ in range(n)]
        )
    else:
        drawn = torch.randint(len(symbols), (n, half), generator=generator)
    return symbols[drawn].repeat(1, 2)[:, :inner]
