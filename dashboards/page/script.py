"""The Python that makes what a page shows, with `interp` and `analyses` alone."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING

from dashboards.edits import python_of

if TYPE_CHECKING:
    from dashboards.page.subject import Line, Loaded, Subject


def script(subject: Subject, body: str, grad: bool = False) -> str:
    """A whole script.

    Args:
        subject: What the page looks at.
        body: Lines for which `preamble` has defined all they need; they leave the table behind a
            chart in `table`.
        grad: Whether they need gradients.
    """
    contexts = [] if grad else ["torch.no_grad()"]
    if subject.plan:
        contexts.append("applied(model, plan, **inputs)")
    if not contexts:
        return f"{preamble(subject)}\n{body.strip()}\n"
    return f"{preamble(subject)}\nwith {', '.join(contexts)}:\n{indent(body.strip(), '    ')}\n"


def preamble(subject: Subject) -> str:
    """Lines that define the model and its input.

    They define `model`, `tokens`, `inputs` (what the model is called with) and, where the subject
    has them, `other_tokens`, `decoder_tokens`, `answer`, `wrong` and `plan`.
    """
    loaded = subject.loaded
    lines = ["import torch", "", "from interp import load_model"]
    if subject.plan:
        lines.append("from interp.interventions import applied")
    lines += ["", f"model = load_model({loaded.name!r}).eval()"]
    lines.append(f"tokens = {_tokens(loaded, subject.line, subject.prepend_bos)}")
    inputs = '"input": tokens'
    if subject.other is not None:
        lines.append(f"other_tokens = {_tokens(loaded, subject.other, subject.prepend_bos)}")
    if subject.decoder is not None:
        lines.append(f"decoder_tokens = {_ids(subject.decoder)}")
        inputs += ', "decoder_input": decoder_tokens'
    lines.append(f"inputs = {{{inputs}}}")
    lines += [
        f"{name} = {value}  # the id of an output"
        for name, value in (("answer", subject.answer), ("wrong", subject.wrong))
        if value is not None
    ]
    if subject.plan:
        lines += ["", plan_lines(subject)]
    return "\n".join(lines) + "\n"


def plan_lines(subject: Subject) -> str:
    """Lines that leave the interventions of the address in `plan`, behind `preamble`."""
    decoder = None if subject.decoder is None else subject.decoder.tokens
    both_ways = subject.loaded.model.cfg.attention_dir == "bidirectional"
    return python_of(subject.edits, subject.tokens, decoder, both_ways)


def _tokens(loaded: Loaded, line: Line, prepend_bos: bool | None) -> str:
    if not loaded.can_read_text:
        return _ids(line)
    return f"model.tokenize({line.text!r}, prepend_bos={prepend_bos})[0]"


def _ids(line: Line) -> str:
    return f"torch.tensor([{list(line.tokens)}], device=model.W_E.device)"
