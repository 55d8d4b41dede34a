"""What each of several edits does by itself, by the plain restatement of the Transformer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from tests.interp.restatement import SPLIT, Edit, reference


def each_alone(
    model: Any, edits: dict[str, Edit], **given: Tensor
) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
    """Of each edit the hook, and logits and values of a run with no other edit.

    It is one run, where each edit has rows of its own. Inputs of single heads have runs of their
    own: an edit of one shapes other tensors.
    """
    n = len(given["input"])
    together = [hook for hook in edits if not hook.endswith(SPLIT)]
    for hooks in (together, *([hook] for hook in edits if hook not in together)):
        many = {key: x.repeat(len(hooks), 1) for key, x in given.items()}
        rows = {hook: slice(i * n, (i + 1) * n) for i, hook in enumerate(hooks)}

        def of_rows(hook: str, rows: dict[str, slice] = rows) -> Edit:
            def edit(x: Tensor) -> Tensor:
                x = x.clone()
                x[rows[hook]] = edits[hook](x[rows[hook]])
                return x

            return edit

        if hooks:
            logits, values = reference(model, **many, edits={hook: of_rows(hook) for hook in hooks})
            for hook in hooks:
                yield hook, logits[rows[hook]], {k: x[rows[hook]] for k, x in values.items()}
