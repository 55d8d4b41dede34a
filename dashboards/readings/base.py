"""Numbers computed once for each model, input and interventions, one run of a model at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import streamlit as st
import torch

from dashboards.page.subject import Subject
from interp import HookedTransformer, InputError
from interp.interventions import applied

R = TypeVar("R")
Args = ParamSpec("Args")

MOST_NUMBERS = 50_000_000  # held at once for one request
MOST_WORK = 2e12  # multiplications for one request: about a minute of two cores


def reading(
    max_entries: int = 32, grad: bool = False, spinner: str = "Reading …"
) -> Callable[
    [Callable[Concatenate[HookedTransformer, Subject, Args], R]],
    Callable[Concatenate[Subject, Args], R],
]:
    """Make `f(model, subject, *args)` into `f(subject, *args)`, computed once for equal arguments.

    The model's lock is held and `subject.plan` is on the model while it computes. What it returns
    is copied for each caller (`st.cache_data`); give arguments by position.

    Args:
        max_entries: How many results are kept.
        grad: Whether it needs gradients.
        spinner: What the page says meanwhile.
    """

    def wrap(compute: Callable[..., R]) -> Callable[..., R]:
        def kept(key: Any, args: tuple[Any, ...], _subject: Subject) -> R:
            model = _subject.loaded.model
            with _subject.loaded.lock, torch.set_grad_enabled(grad):
                on = applied(model, _subject.plan, **inputs_of(_subject))
                with on if _subject.plan else nullcontext():
                    return compute(model, _subject, *args)

        # Streamlit tells cached functions apart by these names.
        kept.__module__, kept.__qualname__ = compute.__module__, compute.__qualname__
        cached = st.cache_data(max_entries=max_entries, show_spinner=spinner)(kept)

        def read(subject: Subject, *args: Any) -> R:
            return cast(R, cached(subject.key, args, subject))

        read.__doc__, read.__name__ = compute.__doc__, compute.__name__
        read.__module__, read.__qualname__ = compute.__module__, compute.__qualname__
        return read

    return cast(Any, wrap)


def inputs_of(subject: Subject) -> dict[str, Any]:
    """What the model is called with: `input` and, of an encoder–decoder, `decoder_input`."""
    device = subject.loaded.model.W_E.device
    inputs = {"input": torch.tensor([subject.tokens], device=device)}
    if subject.decoder is not None:
        inputs["decoder_input"] = torch.tensor([subject.decoder.tokens], device=device)
    return inputs


def require_room(numbers: int, what: str) -> None:
    """Check that a request stays within what one page may hold.

    Raises:
        InputError: If it does not.
    """
    if numbers > MOST_NUMBERS:
        raise InputError(
            f"{what} would hold {numbers:,} numbers at once; a page holds {MOST_NUMBERS:,} at "
            "most. Take a shorter prompt, or fewer layers."
        )


def require_work(multiplications: float, what: str, instead: str) -> None:
    """Check that a request stays within the time that one page may take.

    Args:
        multiplications: How many it takes, about.
        what: What it does.
        instead: What would be less.

    Raises:
        InputError: If it does not.
    """
    if multiplications > MOST_WORK:
        raise InputError(
            f"{what} takes about {multiplications:.1e} multiplications; a request of a page takes "
            f"{MOST_WORK:.0e} at most: {instead}."
        )
