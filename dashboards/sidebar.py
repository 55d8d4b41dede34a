"""The side of every page: which model, what it reads, and what is done to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import streamlit as st

from dashboards.drawing.wording import plain
from dashboards.page.address import Choices
from dashboards.page.subject import (
    Line,
    Loaded,
    Subject,
    default_pair,
    default_prompt,
    described,
    open_model,
    origin,
    read,
    read_output,
    read_target,
)
from dashboards.readings.plans import planned
from interp import InterpError, zoo
from interp.interventions import Intervention

FIRST = "zoo:induction"  # the model of the zoo that a newcomer sees


class NothingChosenError(InterpError):
    """There is no model or no prompt yet; the message says what to do."""


@dataclass(frozen=True)
class Side:
    """What was chosen at the side; asking for a part that is amiss raises what is wrong with it.

    Attributes:
        loaded: Gives the model.
        subject: Gives the model with what it reads.
    """

    loaded: Callable[[], Loaded]
    subject: Callable[[], Subject]


def draw(choices: Choices, offered: tuple[str, ...]) -> Side:
    """Draw the side.

    Args:
        choices: Those shared by all pages.
        offered: Models to offer besides the zoo.
    """
    try:
        loaded = _model(choices, offered)
    except InterpError as fault:
        return Side(_raiser(fault), _raiser(fault))
    try:
        subject = _subject(choices, loaded)
    except InterpError as fault:
        return Side(lambda: loaded, _raiser(fault))
    return Side(lambda: loaded, lambda: subject)


def _model(choices: Choices, offered: tuple[str, ...]) -> Loaded:
    entries = zoo.entries()
    first = [name for name in (FIRST,) if name in entries]
    names = list(dict.fromkeys((*offered, *first, *entries)))
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


def _subject(choices: Choices, loaded: Loaded) -> Subject:
    text = loaded.can_read_text
    what = "Source" if loaded.is_seq2seq else "Prompt"
    prompt = choices.text(
        "prompt",
        what if text else "Token ids",
        default_prompt(loaded),
        height=120,
        placeholder="Type what the model reads" if text else "Such as 3 14 15",
        help="Ctrl+Enter reads it.",
    )
    target = _target(choices, text) if loaded.is_seq2seq else ""
    bos = _bos(choices, loaded)
    st.caption(described(loaded))
    with st.expander("Second prompt, answers", expanded=_compares(choices)):
        other, answer, wrong = _measure(choices, loaded)
    given = _edits(choices)
    if not (prompt if text else prompt.strip()):
        raise NothingChosenError("Type a prompt at the side, and the model reads it.")
    line = read(loaded, prompt, bos)
    second = read(loaded, other, bos) if other.strip() else None
    decoder = read_target(loaded, line, target) if loaded.is_seq2seq else None
    return Subject(
        loaded,
        line,
        bos if text else None,
        second,
        decoder,
        read_output(loaded, answer),
        read_output(loaded, wrong),
        given,
        _plan(choices, loaded, line, second, decoder, given),
    )


def _target(choices: Choices, text: bool) -> str:
    return choices.text(
        "decoder",
        "Target so far" if text else "Target's token ids",
        "",
        height=80,
        placeholder="Empty: the model's own greedy answer",
        help="What the decoder reads; its start token is put in front.",
    )


def _bos(choices: Choices, loaded: Loaded) -> bool | None:
    """What to begin with; None where there is no choice."""
    if loaded.has_bos:
        encodes = loaded.model.cfg.architecture != "decoder"
        return choices.toggle(
            "bos",
            "Add special tokens" if encodes else "Begin with BOS",
            bool(loaded.model.cfg.default_prepend_bos),
            help="Those that its tokenizer puts around a text, such as CLS and SEP, or EOS."
            if encodes
            else "Put the beginning-of-sequence token in front.",
        )
    st.toggle("Begin with BOS", disabled=True, help="This model has no such token.")
    return None


def _compares(choices: Choices) -> bool:
    return any(choices.kept.get(name) for name in ("second", "answer", "rival"))


def _measure(choices: Choices, loaded: Loaded) -> tuple[str, str, str]:
    """The second prompt and the two answers, as they were typed."""
    if any(default_pair(loaded)):
        st.button(
            "Take the model's own pair",
            on_click=_take_pair,
            args=(choices, loaded),
            help="The pair of prompts and the two answers that come with this model.",
        )
    other = choices.text(
        "second",
        "Second prompt",
        "",
        height=100,
        placeholder="Such as a corrupted prompt",
        help="Compared with the first by position; interventions take activations from it.",
    )
    answer = choices.line("answer", "Answer", help="One token, or #7 for id 7.")
    wrong = choices.line("rival", "Wrong answer", help="Its logit is taken off.")
    return other, answer, wrong


def _take_pair(choices: Choices, loaded: Loaded) -> None:
    names = ("prompt", "second", "answer", "rival")
    for name, text in zip(names, default_pair(loaded), strict=True):
        choices.keep(name, text)


def _edits(choices: Choices) -> str:
    """The interventions of the address, which the page of interventions makes."""
    given = choices.kept.get("edits", "")
    choices.shown["edits"] = given
    if not given:
        choices.kept.pop("edits", None)
        choices.kept.pop("edited", None)
        del choices.shown["edits"]
        return ""
    choices.toggle(
        "edited",
        "Show the model with interventions",
        False,
        help="On every page; the page of interventions shows before and after by itself.",
    )
    st.caption(plain(given))
    return given


def _plan(
    choices: Choices,
    loaded: Loaded,
    line: Line,
    other: Line | None,
    decoder: Line | None,
    given: str,
) -> tuple[Intervention, ...]:
    if choices.kept.get("edited") != "1":
        return ()
    try:
        return planned(loaded, given, line, other, decoder)
    except InterpError as fault:
        # The page of interventions is where it can be mended, so the pages are drawn all the same.
        st.error(plain(f"The model is shown without interventions: {fault}"))
        return ()


def _raiser(fault: InterpError) -> Callable[[], NoReturn]:
    def asked() -> NoReturn:
        raise fault

    return asked
