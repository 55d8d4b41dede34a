"""The side of every page: which model, and what it reads."""

from collections.abc import Callable

import streamlit as st

from dashboards.address import Choices
from dashboards.subject import Loaded, Subject, default_prompt, described, open_model, origin, read
from dashboards.wording import plain
from interp import InterpError, zoo


class NothingChosenError(InterpError):
    """There is no model or no prompt yet; the message says what to do."""


def draw(choices: Choices, offered: tuple[str, ...]) -> Callable[[], Subject]:
    """Draw the side.

    Args:
        choices: Those shared by all pages.
        offered: Models to offer besides the zoo.

    Returns:
        A function that gives what was chosen, or raises what is wrong with it: a page that looks
        at no model never asks.
    """
    try:
        loaded = _model(choices, offered)
        subject = _prompt(choices, loaded)
    except InterpError as fault:
        return _raiser(fault)
    return lambda: subject


def _model(choices: Choices, offered: tuple[str, ...]) -> Loaded:
    entries = zoo.entries()
    names = list(dict.fromkeys((*offered, *entries)))
    if not names:
        raise NothingChosenError(
            "There is no model to look at. Start with `interp dashboard --model NAME`, a directory "
            "or a name on the Hugging Face hub."
        )
    # Only models that the dashboard was started with are opened, whatever an address says.
    name = choices.required_choice("model", "Model", names)
    about = f": {entries[name].description}" if name in entries else "."
    with st.spinner(plain(f"Opening {name} …")):
        loaded = open_model(name)
    st.caption(plain(f"{origin(name).capitalize()}{about}"))
    return loaded


def _prompt(choices: Choices, loaded: Loaded) -> Subject:
    text = loaded.can_read_text
    prompt = choices.text(
        "prompt",
        "Prompt" if text else "Token ids",
        default_prompt(loaded),
        height=120,
        placeholder="Type what the model reads" if text else "Such as 3 14 15",
        help="Ctrl+Enter reads it.",
    )
    if loaded.has_bos:
        bos = choices.toggle(
            "bos",
            "Begin with BOS",
            bool(loaded.model.cfg.default_prepend_bos),
            help="Put the beginning-of-sequence token in front.",
        )
    else:
        bos = False
        st.toggle("Begin with BOS", disabled=True, help="This model has no such token.")
    st.caption(described(loaded))
    if not (prompt if text else prompt.strip()):
        raise NothingChosenError("Type a prompt at the side, and the model reads it.")
    return read(loaded, prompt, bos)


def _raiser(fault: InterpError) -> Callable[[], Subject]:
    def subject() -> Subject:
        raise fault

    return subject
